# What a program that nobody looked at might try; nothing here does harm where
# it succeeds. Run it bare, and inside a boundary, and compare:
#
#   sh examples/curious.sh
#   go run ./cmd/bvisor run -- sh examples/curious.sh

try() { # what, command...
	what=$1
	shift
	if out=$("$@" 2>/dev/null); then
		printf '%-36s %s\n' "$what" "yes  $(printf '%s' "$out" | head -n 1 | cut -c 1-40)"
	else
		printf '%-36s no\n' "$what"
	fi
}

# Process 1 is always there: outside the host's, inside the boundary's own.
first() { tr '\0' ' ' </proc/1/cmdline; }
strangers() { ls -d /proc/[0-9]* | wc -l; }

try 'read the password hashes' head -n 1 /etc/shadow
try 'list the home directories' ls -d /home /root
try 'find a network besides loopback' grep -v -e face -e Inter -e lo: /proc/net/dev
try 'change its own source' sh -c ': >>"$1"' sh "$0"
try 'write a temporary file' sh -c 'echo "gone afterwards" >/tmp/curious && cat /tmp/curious && rm /tmp/curious'
try 'make a user namespace' unshare --user echo "and be root in it"
try 'hold a Linux capability' grep '^CapEff:.*[1-9a-f]' /proc/self/status
try 'gain privilege by a set-user-ID bit' grep '^NoNewPrivs:.0' /proc/self/status
try 'see process 1' first
try 'count the processes in sight' strangers
