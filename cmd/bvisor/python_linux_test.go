package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bvisor/bvisor/internal/need"
)

// The verifier in Python, which shares nothing with ours but the documents,
// accepts what real runs leave, and nothing that was changed of it.
func TestPythonVerifies(t *testing.T) {
	needsConfine(t)
	python := need.Program(t, "python3")
	h := newHome(t)
	do := func(code int, args ...string) string {
		t.Helper()
		cmd := h.command(args...)
		out, err := cmd.Output()
		if cmd.ProcessState.ExitCode() != code {
			t.Fatalf("bvisor %v: %v, expected %d: %s", args, err, code, out)
		}
		return string(out)
	}
	keep := func(name, text string) string {
		path := filepath.Join(h.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := keep("key.pem", do(0, "key", "export"))
	older := keep("older", do(0, "ledger", "checkpoint"))
	do(1, "run", "--report", "r.json", "--explain", "--", "/bin/cat", "/etc/hostname", "/dev/null")
	do(120, "run", "--memory", "1MiB", "--", "/bin/sh")
	do(3, "run", "--", "/bin/sh", "-c", "exit 3")
	do(0, "ledger", "export", "-o", "exported")
	consistency := keep("consistency", do(0, "ledger", "prove", "--since", older))
	dir, r := filepath.Join(h.dir, "exported"), filepath.Join(h.dir, "r.json")
	run := func(args ...string) (string, bool) {
		cmd := exec.Command(python, append([]string{"../../docs/formats/verify.py", "--key", key}, args...)...)
		out, err := cmd.CombinedOutput()
		return string(out), err == nil && strings.HasPrefix(string(out), "verified: ")
	}
	for _, args := range [][]string{{"report", r}, {"receipt", r + receiptSuffix, r}, {"consistency", consistency}, {"log", dir}, {"log", dir, older}} {
		out, ok := run(args...)
		if !ok {
			t.Errorf("%v: %s", args, out)
		}
	}
	for range need.Rounds(t, 40, 300) {
		var names []string
		for _, pattern := range []string{"checkpoint", "entries/*", "tile/0/*/*", "tile/entries/*/*"} {
			list, _ := filepath.Glob(filepath.Join(dir, pattern))
			names = append(names, list...)
		}
		name := append(names, r, r+receiptSuffix, consistency)[rand.IntN(len(names)+3)]
		good, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		data, at := bytes.Clone(good), rand.IntN(len(good))
		data[at] ^= 1 << rand.IntN(8)
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{"log", dir}
		switch name {
		case r, r + receiptSuffix:
			args = []string{"receipt", r + receiptSuffix, r}
		case consistency:
			args = []string{"consistency", consistency}
		}
		if out, ok := run(args...); ok {
			t.Errorf("%s, byte %d was changed, and it says %s", name, at, out)
		}
		if err := os.WriteFile(name, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
