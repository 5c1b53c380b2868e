//go:build linux && (amd64 || arm64)

package linux_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// work is what an ordinary program is asked to do. It writes into TMPDIR, and
// what it prints is the same each time.
type work struct {
	needs  []string
	change mods   // beyond the default
	as     string // the interpreter of the script
	script string
	want   string // somewhere in what it prints
}

// executableTemp lets programs be executed from the private /tmp.
func executableTemp(s *spec.Spec) { s.Controls.Temp[0].Access = "rwx" }

// works are by name; their order means nothing. Vim, less and other programs
// of a terminal are not among them.
var works = map[string]work{
	"sh": {as: "sh", want: "0123456789", script: `
set -eu
trap 'echo trapped' EXIT
for i in 0 1 2 3 4 5 6 7 8 9; do printf $i; done; echo
f=$(mktemp); cat >"$f" <<END
here $((6 * 7))
END
tr a-z A-Z <"$f" | sed 's/HERE/there/' | { read -r a b; echo "$b $a"; }
(exit 3) || echo "ended with $?"
sleep 0 & wait $! && echo waited
mkfifo "$TMPDIR/fifo"; echo through >"$TMPDIR/fifo" & cat "$TMPDIR/fifo"
echo x | cat /dev/stdin /dev/fd/0 -; echo err >/dev/stderr; echo lost >/dev/null
head -c 4 /dev/zero | od -An -tx1; head -c 8 /dev/urandom | wc -c
`},
	"bash": {needs: []string{"bash"}, as: "bash", want: "same", script: `
set -euo pipefail; shopt -s extglob
diff <(seq 3) <(printf '1\n2\n3\n') && echo same
mapfile -t lines < <(seq 5); echo "${#lines[@]} ${lines[4]}"
coproc up { tr a-z A-Z; }; in=${up[1]} out=${up[0]}; echo hey >&"$in"; exec {in}>&-; cat <&"$out"
declare -A m=([a]=1 [b]=2); echo "${m[b]}"; [[ foobar == foo@(bar|baz) ]] && echo matched
tee >(wc -c >"$TMPDIR/n") <<<twelve-bytes >/dev/null; until [ -s "$TMPDIR/n" ]; do :; done; cat "$TMPDIR/n"
printf '%s\n' {a..c}{1..2} | paste -sd, -; ulimit -n 64; ulimit -n
`},
	"python3": {needs: []string{"python3"}, as: "python3", want: "[0, 1, 4, 9]", script: `
import asyncio, concurrent.futures, mmap, multiprocessing, os, select, signal, sqlite3, socket, subprocess, tempfile, threading
from multiprocessing import shared_memory

def square(n): return n * n

async def serve():
    path = os.path.join(tempfile.gettempdir(), "s")
    async def answer(r, w):
        w.write((await r.readline()).upper()); await w.drain(); w.close()
    server = await asyncio.start_unix_server(answer, path)
    r, w = await asyncio.open_unix_connection(path)
    w.write(b"asked\n")
    print((await r.read()).decode().strip())
    server.close()
    p = await asyncio.create_subprocess_shell("echo child; exit 3", stdout=asyncio.subprocess.PIPE)
    out, _ = await p.communicate()
    print(out.decode().strip(), p.returncode)
    print(await asyncio.gather(*(asyncio.sleep(0, n) for n in range(3))))

if __name__ == "__main__":
    asyncio.run(serve())
    with multiprocessing.get_context("fork").Pool(2) as pool: print(pool.map(square, range(4)))
    with multiprocessing.get_context("spawn").Pool(1) as pool: print(pool.apply(square, (5,)))
    with concurrent.futures.ThreadPoolExecutor() as ex: print(list(ex.map(square, [6])))
    shared = shared_memory.SharedMemory(create=True, size=16); shared.buf[0] = 7; print(shared.buf[0]); shared.close(); shared.unlink()
    print(subprocess.run(["sort", "-r"], input="a\nb\n", text=True, capture_output=True).stdout.split())
    signal.signal(signal.SIGUSR1, lambda *_: print("signalled")); os.kill(os.getpid(), signal.SIGUSR1)
    a, b = socket.socketpair(); a.sendall(b"pair"); print(b.recv(9)); print(select.select([a], [], [], 0)[0])
    m = mmap.mmap(-1, 4096); m.write(b"mapped"); print(m[:6])
    db = sqlite3.connect(os.path.join(tempfile.gettempdir(), "db")); print(db.execute("pragma journal_mode = wal").fetchone())
    db.execute("create table t (a)"); db.executemany("insert into t values (?)", ((n,) for n in range(1000))); db.commit()
    print(db.execute("select count(*), sum(a) from t").fetchone(), db.execute("pragma integrity_check").fetchone())
`},
	"node": {needs: []string{"node"}, as: "node", want: "42", script: `
const fs = require("fs"), os = require("os"), path = require("path"), zlib = require("zlib"), crypto = require("crypto");
const { execFileSync, fork, spawnSync } = require("child_process");
const { Worker } = require("worker_threads");
if (process.send) { process.send("from a fork"); process.disconnect(); return; }
const file = path.join(os.tmpdir(), "f");
fs.writeFileSync(file, zlib.gzipSync("packed".repeat(1000)));
console.log(zlib.gunzipSync(fs.readFileSync(file)).length, crypto.createHash("sha256").update("a").digest("hex").slice(0, 8));
console.log(execFileSync("echo", ["child"]).toString().trim(), spawnSync("sh", ["-c", "exit 3"]).status);
(async () => {
  await new Promise((done) => new Worker('require("worker_threads").parentPort.postMessage(6 * 7)', { eval: true }).on("message", (m) => console.log(m)).on("exit", done));
  await new Promise((done) => fork(__filename).on("message", (m) => console.log(m)).on("exit", done));
  const net = require("net"), sock = path.join(os.tmpdir(), "s");
  await new Promise((done) => { const s = net.createServer((c) => c.end("by unix socket")).listen(sock, () => net.connect(sock).on("data", (d) => console.log(d.toString())).on("close", () => s.close(done))); });
})();
`},
	"perl": {needs: []string{"perl"}, as: "perl", want: "child 3", script: `
use strict; use warnings; use File::Temp qw(tempfile); use IPC::Open3; use Socket; use POSIX ();
$| = 1;
my $pid = fork // die; POSIX::_exit(3) unless $pid; waitpid $pid, 0; print "child ", $? >> 8, "\n";
my ($fh, $name) = tempfile(UNLINK => 1); print $fh "b\na\n"; close $fh;
open my $in, "-|", "sort", $name or die; print <$in>; close $in;
my $p = open3(my $to, my $from, undef, "tr", "a-z", "A-Z"); print $to "upper\n"; close $to; print <$from>; waitpid $p, 0;
socketpair my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC or die; syswrite $a, "pair"; sysread $b, my $got, 9; print "$got\n";
print POSIX::strftime("%Y-%m-%d", gmtime 0), "\n"; local $SIG{ALRM} = sub { print "alarm\n" }; kill ALRM => $$;
`},
	"git": {needs: []string{"git"}, as: "sh", want: "nothing to commit", script: `
set -eu
export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.com GIT_AUTHOR_DATE='2026-01-02T03:04:05Z'
export GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@example.com GIT_COMMITTER_DATE='2026-01-02T03:04:05Z'
cd tree
git init -q -b main .
seq 100 >numbers; git add numbers; git commit -qm one; git status
git checkout -qb side; seq 99 >numbers; git commit -qam two; git checkout -q main
seq 2 101 >numbers; git stash -q; git merge -q --no-edit side; git stash pop 2>&1 | tail -n 1
git checkout -q --theirs numbers 2>/dev/null || git checkout -q stash@{0} -- numbers; git add numbers; git commit -qm three
git clone -q . "$TMPDIR/clone"; git -C "$TMPDIR/clone" log --format='%H %s'; git gc -q; git fsck --strict
git worktree add -q "$TMPDIR/other" side; git archive main | sha256sum; git grep -c 50
`, change: mods{func(s *spec.Spec) {
		s.Capabilities.Filesystem = append(s.Capabilities.Filesystem, spec.Grant{Access: "rw", Paths: []string{filepath.Join(s.Workload.Dir, "tree")}, Origin: spec.FromSpec})
	}}},
	"cc": {needs: []string{"gcc", "make"}, as: "sh", change: mods{executableTemp}, want: "product 42", script: `
set -eu
cd "$TMPDIR"
cat >a.c <<'END'
#include <pthread.h>
#include <stdio.h>
int times(int, int);
static void *run(void *p) { *(int *)p = times(6, 7); return 0; }
int main(void) { int n = 0; pthread_t t; pthread_create(&t, 0, run, &n); pthread_join(t, 0); printf("product %d\n", n); }
END
echo 'int times(int a, int b) { return a * b; }' >b.c
printf 'all: prog shared\nprog: a.o libb.a\n\tgcc -pthread -o $@ a.o libb.a\nlibb.a: b.o\n\tar rcs $@ $<\nshared: a.o libb.so\n\tgcc -pthread -o $@ a.o ./libb.so\nlibb.so: b.c\n\tgcc -shared -fPIC -o $@ $<\n%%.o: %%.c\n\tgcc -O2 -g -pipe -c -o $@ $<\n' >Makefile
make -s -j2 all
./prog; ./shared
`},
	"tar": {needs: []string{"tar"}, as: "sh", want: "identical", script: `
set -eu
cd "$TMPDIR"
mkdir -p in/a/b out; for i in $(seq 200); do echo $i >in/a/$i; done
ln in/a/1 in/hard; ln -s a/2 in/soft; chmod 700 in/a/b; touch -d 2026-01-02T03:04:05Z in/a/3
tar -czf t.gz in; tar -xzpf t.gz -C out; diff -r in out/in && echo identical
stat -c '%a %Y' out/in/a/3; stat -c %h out/in/hard; readlink out/in/soft; tar -tf t.gz | wc -l
`},
	"find": {needs: []string{"find"}, as: "sh", want: "100", script: `
set -eu
cd "$TMPDIR"
mkdir -p d/e; for i in $(seq 100); do echo $i >d/e/f$i; done
find d -type f | wc -l; find d -name 'f1?' -printf '%f\n' | sort | paste -sd, -
find d -name 'f9*' -delete; find d -type f -print0 | xargs -0 -P 2 -n 10 cat | sort -n | tail -n 1
find d -type f -exec sha256sum {} + | sort | sha256sum; find / -maxdepth 1 -name usr
`},
	"sort": {needs: []string{"sort"}, as: "sh", want: "1000000", script: `
set -eu
seq 1000000 -1 1 >"$TMPDIR/backwards"
sort -n -S 1M --parallel=2 "$TMPDIR/backwards" | sha256sum; sort -n -c <"$TMPDIR/backwards" 2>/dev/null || echo unsorted
sort -u -n -S 1M "$TMPDIR/backwards" "$TMPDIR/backwards" | wc -l; find "$TMPDIR" -name 'sort*'
`},
	"openssl": {needs: []string{"openssl"}, as: "sh", want: "text", script: `
set -eu
cd "$TMPDIR"
echo text >text; openssl dgst -sha256 text; openssl enc -aes-256-cbc -pbkdf2 -pass pass:x -in text -out sealed
openssl enc -d -aes-256-cbc -pbkdf2 -pass pass:x -in sealed; openssl rand 16 | wc -c
openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -subj /CN=ca -days 1 2>/dev/null
openssl verify -CAfile cert cert; openssl dgst -sha256 -sign key -out s text; openssl x509 -in cert -pubkey -noout >pub; openssl dgst -sha256 -verify pub -signature s text
`},
	"sqlite3": {needs: []string{"sqlite3"}, as: "sh", want: "400", script: `
set -eu
cd "$TMPDIR"
sqlite3 x.db 'pragma journal_mode=wal; create table t(a integer);'
for w in 1 2 3 4; do
	(for n in $(seq 100); do echo "insert into t values ($n);"; done | sqlite3 -cmd '.timeout 60000' x.db) &
done
wait
sqlite3 x.db 'select count(*), sum(a) from t; pragma integrity_check;' '.backup copy.db'
sqlite3 copy.db 'select count(*) from t; create index i on t(a); vacuum; explain query plan select * from t where a = 5;'
`},
}

// Ordinary programs give the same result within a boundary as without one.
func TestPrograms(t *testing.T) {
	for name, w := range works {
		t.Run(name, func(t *testing.T) {
			for _, p := range append(w.needs, w.as) {
				need.Program(t, p)
			}
			outside := w.outside(t)
			o := w.inside(t)
			if o.Code != 0 || o.Report.Outcome.Status != report.Completed {
				t.Fatalf("ended with %+v\n%s%s", o.Report.Outcome, o.Stdout, o.Stderr)
			}
			if o.Stdout != outside || !strings.Contains(o.Stdout, w.want) {
				t.Errorf("within the boundary it printed\n%s\nwithout one\n%s\nexpected %q; stderr: %s", o.Stdout, outside, w.want, o.Stderr)
			}
		})
	}
}

// place puts the script into a directory of its own.
func (w work) place(t testing.TB) (dir, script string) {
	t.Helper()
	dir = tree(t, "tree/")
	script = filepath.Join(dir, "script.js") // Node.js takes the kind from the name, the others do not mind
	must(t, os.WriteFile(script, []byte(w.script), 0o644))
	return dir, script
}

func (w work) outside(t testing.TB) string {
	t.Helper()
	dir, script := w.place(t)
	cmd := exec.CommandContext(t.Context(), w.as, script)
	temp := t.TempDir()
	cmd.Dir, cmd.Env = dir, []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + temp, "TMPDIR=" + temp, "LANG=C.UTF-8"}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("control: %v\n%s%s", err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String()
}

func (w work) inside(t testing.TB) outcome {
	t.Helper()
	dir, script := w.place(t)
	return ordinary(t, dir, w.change, w.as, script)
}

// ordinary runs a program as "bvisor run" does without a spec.
func ordinary(t testing.TB, dir string, change mods, argv ...string) outcome {
	t.Helper()
	need.MountNamespace(t)
	s := spec.Default(dir, argv)
	s.Controls.Stdin.Mode = spec.StdinNone
	for _, f := range change {
		f(&s)
	}
	o := ran(t, bvisor.Request{Spec: s})
	o.Act = argv[0]
	return o
}

// Programs that need a network fail by themselves, with an error of their own,
// and the server of the host hears nothing of them. The control is heard.
func TestProgramsWithoutNetwork(t *testing.T) {
	var heard atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		heard.Add(1)
		io.WriteString(w, "from the host\n")
	}))
	defer server.Close()
	for name, c := range map[string]struct {
		script string // gets the server's URL
		denied string // what the program says without a network
	}{
		"curl": {`exec curl -sS "$1/"`, "curl: (7) "},
		"python3": {`exec python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read())' "$1/"`,
			"Permission denied"},
		"apt-get": {`mkdir -p "$TMPDIR/lists/partial" "$TMPDIR/archives/partial"
echo "deb [trusted=yes] $1/debian stable main" >"$TMPDIR/sources.list"
exec apt-get -q -o Dir::State="$TMPDIR" -o Dir::Cache="$TMPDIR" -o Dir::Etc::sourcelist="$TMPDIR/sources.list" -o Dir::Etc::sourceparts=- \
	-o Acquire::Retries=0 -o Acquire::http::Proxy=false -o APT::Update::Error-Mode=any -o APT::Sandbox::User= update`, "Failed to fetch "},
	} {
		t.Run(name, func(t *testing.T) {
			need.Program(t, name)
			dir := tree(t)
			before := heard.Load()
			for change, kind := range map[string]plan.Kind{"none": plan.NetworkDenyAll, "loopback": plan.NetworkLoopback} {
				m := mods{}
				denied := c.denied
				if change == "loopback" {
					m = mods{loopback}
					denied = strings.Replace(denied, "Permission denied", "Connection refused", 1)
				}
				o := ordinary(t, dir, m, "sh", "-c", c.script, "sh", server.URL)
				if o.Code <= 0 || !strings.Contains(o.Stdout+o.Stderr, denied) {
					t.Errorf("network %s: it ended with %+v and said\n%s%s\nexpected %q", change, o.Report.Outcome, o.Stdout, o.Stderr, denied)
				}
				o.heldBy(t, kind)
			}
			if n := heard.Load() - before; n != 0 {
				t.Errorf("the host's server heard %d requests", n)
			}
			cmd := exec.CommandContext(t.Context(), "sh", "-c", c.script, "sh", server.URL)
			cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "TMPDIR=" + t.TempDir(), "no_proxy=*"}
			out, _ := cmd.CombinedOutput() // apt finds no archive there, which is an error
			if heard.Load() == before {
				t.Errorf("control: the host's server heard nothing: %s", out)
			}
		})
	}
}
