//go:build amd64 || arm64

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

// The floor is only a floor if it holds something: its program runs as process
// 1 with a filter and without capabilities, and does not see the host's files.
func TestTheFloorConfines(t *testing.T) {
	dir := t.TempDir()
	f := floorIn(t, dir)
	secret := filepath.Join(dir, "secret")
	if err := write(secret, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(secret); err != nil {
		t.Fatalf("control: outside, the file cannot be read: %v", err)
	}
	script := `echo pid=$$; while read -r key value; do case $key in Seccomp:|CapEff:|NoNewPrivs:) echo "$key$value";; esac; done < /proc/self/status; [ -e "$0" ] && echo visible; (: > /usr/floor) 2>/dev/null && echo written; exit 7`
	cmd := f.command("/bin/sh", "-c", script, secret)
	cmd.Stderr = nil
	out, err := cmd.Output()
	if code := cmd.ProcessState.ExitCode(); code != 7 {
		t.Fatalf("the program ended with %d (%v), want its own 7; it said %q", code, err, out)
	}
	for _, want := range []string{"pid=1\n", "Seccomp:2\n", "NoNewPrivs:1\n", "CapEff:0000000000000000\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the program said %q, want %q in it", out, want)
		}
	}
	for _, never := range []string{"visible", "written"} {
		if strings.Contains(string(out), never) {
			t.Errorf("the program said %q", out)
		}
	}
}

// A step that fails must not go unnoticed: the floor would be too low.
func TestTheFloorFailsWhole(t *testing.T) {
	dir := t.TempDir()
	f := floorIn(t, dir)
	if err := os.Remove(filepath.Join(f.root, "proc")); err != nil {
		t.Fatal(err)
	}
	cmd := f.command(truth)
	out, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 125 || !strings.Contains(string(out), "proc") {
		t.Errorf("without a place for /proc the floor ended with %d and said %q, want 125 and the step's name", code, out)
	}
}

// floorIn builds the floor in dir, where it can run.
func floorIn(t *testing.T, dir string) *floor {
	t.Helper()
	need.Program(t, "cc")
	needNamespaces(t)
	filter := filepath.Join(dir, "filter")
	if _, err := exportFilter(filter); err != nil {
		t.Fatal(err)
	}
	f, err := buildFloor("floor", dir, filter)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// needNamespaces skips where the default boundary is refused: the floor needs
// the same.
func needNamespaces(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	b := linux.New()
	profile, err := b.Probe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	res, err := b.Resolve(ctx, spec.Expand(spec.Default("/usr", []string{truth})), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	if _, refusal := plan.Make(res.Resolved(), profile); refusal != nil {
		need.Missing(t, "confine", refusal.Error())
	}
}

func TestUnknownSectionsAreRefused(t *testing.T) {
	err := run([]string{"-only", "launch,everything"}, os.Stdout)
	if err == nil || !strings.Contains(err.Error(), `"everything"`) {
		t.Errorf("error is %v, want one that names the section", err)
	}
	if err := run([]string{"-n", "0"}, os.Stdout); err == nil {
		t.Error("no round was accepted")
	}
}

func TestAWorkerSaysWhatItsTaskLacks(t *testing.T) {
	if err := work([]string{"1"}); err == nil || !strings.Contains(err.Error(), "expected BYTES STATE DIR") {
		t.Errorf("error is %v, want what the task must be", err)
	}
	if err := work([]string{"x", "state", "dir"}); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("error is %v, want that x is no number", err)
	}
}
