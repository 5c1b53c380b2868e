package main

import (
	"testing"
	"time"

	"github.com/bvisor/bvisor/spec"
)

// What is written is what is read, for everything that a spec can say.
func TestSpecTextReadsBack(t *testing.T) {
	full := spec.Spec{
		Version:  spec.Version,
		Workload: spec.Workload{Command: []string{"/bin/sh", "-c", "echo \"$0\" 'x' # y\n\ttab"}, Dir: "/a b"},
		Presets:  []string{"system"},
		Capabilities: spec.Capabilities{
			Filesystem: []spec.Grant{
				{Access: "rwx", Paths: []string{"/a b", "/c: d"}, Origin: spec.FromSpec},
				{Access: "r", Paths: []string{"/e"}, NonRecursive: true, Optional: true, Origin: spec.FromSpec},
				{Access: spec.AccessNone, Paths: []string{"/a b/.git"}, Origin: spec.FromSpec},
			},
			Network:     spec.Network{Allow: []string{"example.com:443", "10.0.0.0/8:5432/tcp"}},
			Environment: []spec.EnvEntry{{Name: "EMPTY"}, {Name: "NO", Value: "no"}, {Name: "SECRET", Lease: "env:SECRET"}, {Name: "T", Value: "a: {b} #c \\"}},
			Spawn:       spec.SpawnThreads, FDs: []int{3, 5},
		},
		Controls: spec.Controls{
			Capture: []spec.Capture{{Stream: "stdout", Limit: 5}, {Stream: "stderr", Limit: 1 << 20}},
			Stdin:   spec.Stdin{Mode: spec.StdinFile, File: "/in put"},
			Temp:    []spec.Temp{{Path: "/tmp", Access: "rw"}, {Path: "/build", Access: "rwx"}},
			Expose:  []spec.Expose{{Source: "/src", Dest: "/dst", Access: "rx"}},
			Kill:    spec.Kill{Tree: "atomic", Grace: 1500 * time.Microsecond},
		},
		Budgets: map[spec.Dimension]spec.Budget{
			spec.Wall:    {Limit: 1_500_000_001, Guarantee: spec.Enforced, Origin: spec.FromSpec},
			spec.Handles: {Limit: 64, Guarantee: spec.Mediated, Evidence: []spec.Claim{spec.ResourceUsage}, Origin: spec.FromSpec},
			spec.Storage: {Limit: 12345, Guarantee: spec.Enforced, Origin: spec.FromSpec},
		},
		Evidence: []spec.Claim{spec.TerminalOutcome, spec.DeniedAttempts},
		Accept:   []spec.Weakening{"host-sys"},
	}
	wasm := full
	wasm.Workload = spec.Workload{Wasm: "/m.wasm", Args: []string{"-x", ""}, Dir: "/a b"}
	wasm.Controls.Artifacts = &spec.Artifacts{Paths: []string{"/a b"}, Commit: "never", Durability: "durable"}
	tty := full
	tty.Controls.Stdin = spec.Stdin{Mode: spec.StdinTTY}
	tty.Controls.Capture = []spec.Capture{{Stream: spec.StreamTTY, Limit: 9}}
	loop := full
	loop.Capabilities.Network = spec.Network{Loopback: true}
	for name, s := range map[string]spec.Spec{"full": full, "loopback": loop, "tty": tty, "wasm": wasm, "empty": {Version: spec.Version, Workload: spec.Workload{Command: []string{"x"}}},
		"default": spec.Default("/somewhere", []string{"make"})} {
		text := specText(s, func(spec.Grant) string { return "asked\nby \x1b[2J somebody" })
		back, err := spec.Parse(name, []byte(text))
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
			continue
		}
		if !sameSpec(s, back) {
			t.Errorf("%s reads differently:\n%s\n%+v\n%+v", name, text, s, back)
		}
	}
	other := full
	other.Controls.Stdin = spec.Stdin{Mode: spec.StdinNone}
	if sameSpec(full, other) {
		t.Error("two specs that differ count as the same")
	}
}

// What is never granted, by name.
func TestWithheldNames(t *testing.T) {
	for name, held := range map[string]bool{
		"/home/me/.ssh/id_rsa": true, "/home/me/.ssh": true, "/home/me/project/.env": true, "/etc/shadow": true, "/home": true, "/home/me": true, "/home/other": true,
		"/": true, "/etc": true, "/usr": true, "/proc/self/environ": true, "/run/docker.sock": true, "/dev/sda": true, "/sys/kernel": true, "/var/lib/dpkg": true,
		"/srv/tls/server.key": true, "/etc/resolv.conf": true, "/home/me/.cargo/credentials.toml": true, "/home/me/.config/gh/hosts.yml": true,
		"/etc/machine-id": false, "/opt/tool/bin": false, "/home/me/project/ssh.c": false, "/usr/share/x": false, "/home/me/.cargo/registry": false, "/srv/keys.txt": false,
	} {
		if got := withheldName(name, "/home/me"); (got != "") != held {
			t.Errorf("%s: %q, expected withheld: %v", name, got, held)
		}
	}
}
