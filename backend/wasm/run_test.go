package wasm_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/secret"
	"github.com/bvisor/bvisor/spec"
)

func TestStreamsArgumentsEnvironment(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		o := h.run(wall, []string{"say", "a b", "", "ü"}).completes()
		if o.stdout != "a b  ü\n" || o.stderr != "" || string(o.result.Output["stdout"]) != o.stdout {
			t.Errorf("said %q and %q, kept %q", o.stdout, o.stderr, o.result.Output["stdout"])
		}
		o = h.run(wall, []string{"environment"}, func(s *spec.Spec) {
			s.Capabilities.Environment = []spec.EnvEntry{{Name: "A", Value: "1"}, {Name: "B", Value: "x=y"}}
		}).completes()
		if o.stdout != "A=1\nB=x=y\n" {
			t.Errorf("its environment is %q", o.stdout)
		}
		must(t, h.Secrets.Register("test", secret.Map{"x": "\xffsecret"}))
		o = h.run(wall, []string{"environment"}, func(s *spec.Spec) {
			s.Capabilities.Environment = []spec.EnvEntry{{Name: "SECRET", Lease: "test:x"}}
		}).completes()
		if o.stdout != "SECRET=\xffsecret\n" || strings.Contains(string(o.result.Output["stdout"]), "\xffsecret") {
			t.Errorf("a secret of any bytes came as %q", o.stdout)
		}
		name := filepath.Join(t.TempDir(), "in")
		text := strings.Repeat("all of it\n", 20_000)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		o = h.run(wall, []string{"copy"}, func(s *spec.Spec) { s.Controls.Stdin = spec.Stdin{Mode: spec.StdinFile, File: name} }).completes()
		if o.stdout != text {
			t.Errorf("%d of %d bytes of standard input came back", len(o.stdout), len(text))
		}
		if o = h.run(wall, []string{"copy"}).completes(); o.stdout != "" {
			t.Errorf("without standard input it read %q", o.stdout)
		}
	})
}

func TestExitStatus(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		h.run(wall, []string{"exit", "0"}).completes()
		for _, code := range []string{"1", "7", "255", "256", "300"} {
			o := h.run(wall, []string{"exit", code}).ends(report.Failed, "exit status "+code)
			if o.Exit == nil || o.Exit.String() != "exit status "+code {
				t.Errorf("exit %s, expected %s", o.Exit, code)
			}
		}
	})
}

// Every outcome can be sealed and verified, and says which wall the plan had.
func TestPlanSaysWhere(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		o := h.run(wall, []string{"nothing"}).completes()
		want := []string{"worker-boundary"}
		if wall == "in-process" {
			want = nil
		}
		if got := heldBy(o.Plan, plan.OwnProcess); !slices.Equal(got, want) {
			t.Errorf("own-process is held by %q, expected %q", got, want)
		}
		if accepted := slices.Contains(o.Accepted, "in-process"); accepted != (wall == "in-process") {
			t.Errorf("accepted %v", o.Accepted)
		}
		if o.Completeness.Level != report.LevelComplete {
			t.Errorf("the list of denied attempts is %s", o.Completeness.Level)
		}
		if o.Plan.Resolved.Executable.SHA256 == "" || o.Identity.Executable != o.Plan.Resolved.Executable.SHA256 {
			t.Error("the report does not name the module by its digest")
		}
		if _, err := report.Parse(o.result.Envelope); err != nil {
			t.Error(err)
		}
	})
}

// Without a worker nothing runs, unless the spec gives it up by name.
func TestNoWorkerIsRefused(t *testing.T) {
	h := newHost(t, options(t, "in-process"))
	o := h.run("worker", []string{"nothing"})
	o.ends(report.Refused, "unsupported.own-process")
	if !strings.Contains(o.Refusal.Reasons[0].Remedy, `"in-process"`) {
		t.Errorf("the remedy is %q", o.Refusal.Reasons[0].Remedy)
	}
	h.run("in-process", []string{"nothing"}).completes()
}

// What WebAssembly cannot hold is refused by its code.
func TestWhatCannotBeHeldIsRefused(t *testing.T) {
	h := newHost(t, options(t, "in-process"))
	for code, change := range map[string]func(*spec.Spec){
		"unsupported.network-loopback":   func(s *spec.Spec) { s.Capabilities.Network.Loopback = true },
		"unsupported.network-allow-list": func(s *spec.Spec) { s.Capabilities.Network.Allow = []string{"example.com:443"} },
		"unsupported.spawn-threads":      func(s *spec.Spec) { s.Capabilities.Spawn = spec.SpawnThreads },
		"unsupported.spawn-processes":    func(s *spec.Spec) { s.Capabilities.Spawn = spec.SpawnProcesses },
		"unsupported.fds-only":           func(s *spec.Spec) { s.Capabilities.FDs = []int{3} },
		"unsupported.temp-root":          func(s *spec.Spec) { s.Controls.Temp = []spec.Temp{{Path: "/tmp"}} },
		"unsupported.terminal": func(s *spec.Spec) {
			s.Controls.Stdin.Mode, s.Controls.Capture = spec.StdinTTY, []spec.Capture{{Stream: "tty"}}
		},
		"budget.network.unsupported": budget(spec.Network_, 1000),
	} {
		o := h.run("in-process", []string{"nothing"}, change)
		o.ends(report.Refused, code)
	}
	o := h.run("in-process", []string{"nothing"}, func(s *spec.Spec) { s.Evidence = append(s.Evidence, spec.MechanismAttestation) })
	o.ends(report.Refused, "evidence.mechanism-attestation")
}

// A trap is no exit: it has a kind, and a stack of functions by their names.
func TestTrap(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		for kind, m := range map[string][]byte{
			"unreachable":                 asModule(t, code(noLocals, 0x00)),
			"integer divide by zero":      asModule(t, code(noLocals, 0x41, 1, 0x41, 0, 0x6d, 0x1a)),
			"out of bounds memory access": asModule(t, code(noLocals, 0x41, 0x7f, 0x28, 2, 0, 0x1a)),
			"invalid table access":        asModule(t, code(noLocals, 0x41, 9, 0x11, 0, 0)),
			"stack overflow":              asModule(t, code(noLocals, 0x10, 0)),
		} {
			o := h.try(context.Background(), bvisor.Request{Spec: request(wall, moduleFile(t, m), nil)})
			o.ends(report.Failed, "trap: "+kind)
			if o.Exit == nil || o.Exit.Trap == nil || o.Exit.Trap.Kind != kind {
				t.Errorf("%s: exit %+v", kind, o.Exit)
			} else if kind != "stack overflow" && !slices.ContainsFunc(o.Exit.Trap.Stack, func(s string) bool { return strings.HasPrefix(s, "culprit(") }) {
				t.Errorf("%s: the stack is %q", kind, o.Exit.Trap.Stack)
			}
		}
	})
}

// A spinning guest does not keep the collector of its host from ending: the
// guest is still spinning when a collection is over, since it is our cancelling
// that ends it.
func TestCollectorRunsBesideASpinningGuest(t *testing.T) {
	h := newHost(t, options(t, "in-process"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	collected := uint32(0)
	said := writer(func(p []byte) (int, error) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before) // stops the world once by itself
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&after)
		collected = after.NumGC - before.NumGC
		cancel()
		return len(p), nil
	})
	o := h.try(ctx, bvisor.Request{Spec: request("in-process", place.guest, []string{"spin"}), Stdout: said, Stderr: io.Discard})
	if o.Outcome.Status != report.Killed || collected < 2 {
		t.Errorf("outcome %+v, %d collections", o.Outcome, collected)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// Files: what is granted is reached, what is not is denied, and every attempt is
// in the report.
func TestFiles(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		dir, err := filepath.EvalSymlinks(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"open/in": "inside", "closed/in": "outside", "open/taken/in": "taken"} {
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
			must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
		}
		open, closed, taken := filepath.Join(dir, "open"), filepath.Join(dir, "closed"), filepath.Join(dir, "open", "taken")
		reading := []func(*spec.Spec){grant("r", open), grant(spec.AccessNone, taken), in(open)}

		if o := h.run(wall, []string{"read", "in"}, reading...).completes(); o.stdout != "inside" || len(o.Denied) != 0 {
			t.Errorf("read %q, denied %v", o.stdout, o.Denied)
		}
		for _, c := range []struct {
			args  []string
			path  string
			allow string
		}{
			{[]string{"read", filepath.Join(closed, "in")}, filepath.Join(closed, "in"), "--read"},
			{[]string{"read", "taken/in"}, filepath.Join(taken, "in"), ""},
			{[]string{"write", "in", "inside"}, filepath.Join(open, "in"), "--write"},
			{[]string{"write", "new", "x"}, filepath.Join(open, "new"), "--write"},
		} {
			native(t, open, c.args...)
			_ = os.Remove(filepath.Join(open, "new"))
			o := h.run(wall, c.args, reading...).ends(report.Failed, "exit status 1")
			if len(o.Denied) != 1 || o.Denied[0].Path != c.path || o.Denied[0].Mechanism != "wasi" || o.Denied[0].Times < 1 ||
				!strings.HasPrefix(o.Denied[0].Allow, c.allow) {
				t.Errorf("%v: denied %+v", c.args, o.Denied)
			}
		}
		if b, err := os.ReadFile(filepath.Join(open, "in")); err != nil || string(b) != "inside" {
			t.Errorf("the file holds %q (%v)", b, err)
		}
		if _, err := os.Stat(filepath.Join(open, "new")); err == nil {
			t.Error("a file was made in a directory that is granted for reading")
		}
		h.run(wall, []string{"write", "new", "made"}, grant("rw", open), in(open)).completes()
		if b, err := os.ReadFile(filepath.Join(open, "new")); err != nil || string(b) != "made" {
			t.Errorf("the file that was granted holds %q (%v)", b, err)
		}
	})
}

func TestTemp(t *testing.T) {
	h := newHost(t, options(t, "worker"))
	private := func(s *spec.Spec) { s.Controls.Temp = []spec.Temp{{Path: "/var/private"}} }
	h.run("worker", []string{"write", "/var/private/x", "text"}, private).completes()
	if o := h.run("worker", []string{"read", "/var/private/x"}, private); o.Outcome.Status != report.Failed {
		t.Errorf("what one run left, another read: %+v %q", o.Outcome, o.stdout)
	}
	if _, err := os.Stat("/var/private"); err == nil {
		t.Error("it is on the host")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
