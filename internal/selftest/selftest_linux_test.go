//go:build amd64 || arm64

package selftest

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/ledger"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// subject is a tester of a boundary, with the records of its runs.
type subject struct {
	*Tester
	state *bvisor.State
	b     backend.Backend
}

// over is a tester of the default boundary with some weakenings. The host's
// temporary directory is one of its own, so that what is left can be seen.
func over(t *testing.T, accept ...spec.Weakening) subject {
	t.Helper()
	need.MountNamespace(t)
	host := filepath.Join(t.TempDir(), "host")
	work := filepath.Join(t.TempDir(), "work")
	for _, dir := range []string{host, work} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("TMPDIR", host)
	state, err := bvisor.OpenState(filepath.Join(t.TempDir(), "state"))
	if err == nil {
		err = state.Key.Ready()
	}
	if err != nil {
		t.Fatal(err)
	}
	b := linux.New()
	s := state.Supervisor(b)
	t.Cleanup(func() {
		s.Wait()
		state.Log.Close()
		if left, err := os.ReadDir(host); err != nil || len(left) > 0 {
			t.Errorf("%q is left in the temporary directory, %v", left, err)
		}
	})
	sp := spec.Default(work, nil)
	sp.Accept = accept
	return subject{&Tester{Supervisor: s, Spec: sp, Exe: exe, Env: os.Environ(), Key: filepath.Join(state.Dir, "keys", "key.pem")}, state, b}
}

func named(t *testing.T, name string) Attack {
	t.Helper()
	all := Attacks()
	i := slices.IndexFunc(all, func(a Attack) bool { return a.Name == name })
	if i < 0 {
		t.Fatalf("there is no attack %q", name)
	}
	return all[i]
}

// run attacks, and checks that the result says what the sealed report says.
func (s subject) run(t *testing.T, a Attack) Result {
	t.Helper()
	r, err := s.Tester.Run(t.Context(), a)
	if err != nil {
		t.Fatalf("%s: %v", a.Name, err)
	}
	if r.Attempt == "" {
		return r
	}
	kind := ledger.Report
	if r.Outcome.Status == report.Refused {
		kind = ledger.Refusal
	}
	envelope, err := s.state.Log.Read(kind, r.Attempt)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := report.Verify(envelope, []report.PublicKey{s.state.Key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	if sealed.Report.Outcome != r.Outcome {
		t.Errorf("%s: the sealed outcome is %+v, the result's %+v", a.Name, sealed.Report.Outcome, r.Outcome)
	}
	for _, h := range r.Held {
		if held(sealed.Report.Plan, h.Requirement) == nil || !slices.Contains(a.Walls, h.Requirement) {
			t.Errorf("%s: held by %s, which is not in the sealed plan or no wall of the attack", a.Name, h.Requirement)
		}
	}
	for _, p := range sealed.Report.Transcript {
		if p.Status != report.PhaseDone && p.Status != "not-required" {
			t.Errorf("%s: phase %s is %s", a.Name, p.Name, p.Status)
		}
	}
	return r
}

// Every attack that goes through without the boundary is stopped by it.
func TestTheDefaultBoundaryStopsEveryAttack(t *testing.T) {
	s := over(t)
	for _, a := range Attacks() {
		t.Run(a.Name, func(t *testing.T) {
			r := s.run(t, a)
			switch {
			case r.Verdict == NotApplicable:
				need.Missing(t, "attack="+a.Name, r.Why)
			case r.Verdict != Stopped || r.Through:
				t.Errorf("%+v", r)
			case len(r.Held) == 0 || len(r.Held[0].Mechanisms) == 0:
				t.Errorf("nothing is named that stopped it: %+v", r)
			case !strings.HasPrefix(r.Control, "goes through ") && !strings.HasPrefix(r.Control, "none: "):
				t.Errorf("the control %s", r.Control)
			}
		})
	}
	if got := withToken(exe); len(got) > 1 || len(got) == 1 && got[0] != os.Getpid() {
		t.Errorf("processes %v of the victims are left", got)
	}
}

// What a weakening gives up is got, and named so.
func TestWeakeningsLetAttacksThrough(t *testing.T) {
	for name, attacks := range map[spec.Weakening][]string{
		"host-network":       {"connect-by-tcp", "send-by-udp", "open-a-netlink-socket"},
		"host-ipc-namespace": {"attach-shared-memory"},
		"host-devices":       {"open-a-device"},
		"host-proc":          {"see-processes"},
	} {
		t.Run(string(name), func(t *testing.T) {
			s := over(t, name, "unscoped-ipc") // before Landlock ABI 6 the two go together
			for _, attack := range attacks {
				r := s.run(t, named(t, attack))
				if r.Verdict != Allowed || !r.Through || r.Why != "given up with "+string(name) {
					t.Errorf("%+v", r)
				}
			}
			if r := s.run(t, named(t, "read-a-file")); r.Verdict != Stopped {
				t.Errorf("%+v", r)
			}
		})
	}
	s := over(t, "unfiltered-calls", "host-network", "unscoped-ipc")
	for _, attack := range []string{"run-from-memory", "make-a-user-namespace", "keep-a-key"} {
		if r := s.run(t, named(t, attack)); r.Verdict != Allowed || !r.Through || r.Why != "given up with unfiltered-calls" {
			t.Errorf("%+v", r)
		}
	}
}

// What a spec grants is no failure, and no more than that is allowed.
func TestGrantsAllowAttacks(t *testing.T) {
	for _, c := range []struct {
		access  spec.Access
		allowed []string
		stopped []string
	}{
		{"r", []string{"read-a-file", "follow-a-link-out", "climb-out", "connect-to-a-socket-file"}, []string{"write-a-file", "create-a-file", "delete-a-file", "change-a-mode"}},
		{"rw", []string{"read-a-file", "write-a-file", "create-a-file", "delete-a-file", "change-a-mode"}, []string{"write-what-may-be-read", "run-from-memory"}},
		{"rwx", []string{"write-a-file", "run-from-memory"}, []string{"write-what-may-be-read"}},
	} {
		s := over(t)
		grant(c.access, os.Getenv("TMPDIR"))(&s.Spec)
		for _, name := range c.allowed {
			if r := s.run(t, named(t, name)); r.Verdict != Allowed || !r.Through || !strings.Contains(r.Why, os.Getenv("TMPDIR")) {
				t.Errorf("granted %s: %+v", c.access, r)
			}
		}
		for _, name := range c.stopped {
			if r := s.run(t, named(t, name)); r.Verdict != Stopped {
				t.Errorf("granted %s: %+v", c.access, r)
			}
		}
	}
}

func TestCarveOutsAreNoGrants(t *testing.T) {
	s := over(t)
	grant("rw", filepath.Dir(os.Getenv("TMPDIR")))(&s.Spec)
	grant(spec.AccessNone, os.Getenv("TMPDIR"))(&s.Spec)
	for _, name := range []string{"read-a-file", "write-a-file", "connect-to-a-socket-file"} {
		if r := s.run(t, named(t, name)); r.Verdict != Stopped {
			t.Errorf("%+v", r)
		}
	}
}

// liar plans as it is asked to and launches something weaker.
type liar struct {
	backend.Backend
	accept []spec.Weakening
}

func (l liar) Launch(ctx context.Context, run backend.Launch) (report.Observation, func(), error) {
	profile, err := l.Probe(ctx)
	if err != nil {
		return report.Observation{}, func() {}, err
	}
	weaker := run.Plan.Resolved
	weaker.Spec.Accept = l.accept
	p, refusal := plan.Make(weaker, profile)
	if refusal != nil {
		return report.Observation{}, func() {}, refusal
	}
	run.Plan = p
	return l.Backend.Launch(ctx, run)
}

// A boundary that is not what its plan says is found out.
func TestABoundaryThatDoesNotHoldIsFound(t *testing.T) {
	for _, c := range []struct {
		without []spec.Weakening
		attacks []string
	}{
		{[]spec.Weakening{"host-network", "unscoped-ipc"}, []string{"connect-by-tcp", "send-by-udp", "connect-to-an-abstract-socket", "open-a-netlink-socket"}},
		{[]spec.Weakening{"host-ipc-namespace"}, []string{"attach-shared-memory"}},
		{[]spec.Weakening{"host-devices"}, []string{"open-a-device"}},
		{[]spec.Weakening{"host-proc"}, []string{"see-processes"}},
		{[]spec.Weakening{"unfiltered-calls", "host-network", "unscoped-ipc"}, []string{"run-from-memory", "make-a-user-namespace", "keep-a-key"}},
	} {
		s := over(t)
		s.Supervisor.Backend = liar{s.b, c.without}
		for _, name := range c.attacks {
			r := s.run(t, named(t, name))
			if r.Verdict != Through || !r.Failed() || len(r.Held) == 0 {
				t.Errorf("without %v: %+v", c.without, r)
			}
		}
	}
}

// An attack that cannot go through outside proves nothing inside.
func TestWithoutAWorkingControlNothingIsStopped(t *testing.T) {
	s := over(t)
	a := Attack{"x", "open a file that is not there", []plan.Kind{plan.Filesystem}, func(s *scene) (try, error) {
		return try{act: []string{"may-read", s.path("none")}}, nil
	}}
	if r := s.run(t, a); r.Verdict != NotApplicable || !strings.Contains(r.Why, "ENOENT") {
		t.Errorf("%+v", r)
	}
}

// A victim that dies of something else, or says nothing, was not stopped.
func TestAnEndThatTellsNothingIsUnclear(t *testing.T) {
	s := over(t)
	for _, act := range [][]string{{"exit", "13"}, {"no such act"}, {"stay", "x"}} {
		a := Attack{"x", "end without a word", []plan.Kind{plan.Filesystem}, func(s *scene) (try, error) {
			return try{act: act, control: "it is not the point", change: bounded(spec.Wall, 1e8), through: func(ending) bool { return false }}, nil
		}}
		if r := s.run(t, a); r.Verdict != Unclear || !r.Failed() {
			t.Errorf("%q: %+v", act, r)
		}
	}
}

// What an attack needs beside a spec, and the spec does not take, is said.
func TestAnAttackThatTheSpecHasNoPlaceFor(t *testing.T) {
	need.Landlock(t, 3) // without mounts older ones let files be truncated
	s := over(t, "visible-host-paths", "host-devices", "host-proc", "host-sys")
	s.Spec.Controls.Temp = nil
	if r := s.run(t, named(t, "fill-the-storage")); r.Verdict != NotApplicable || !strings.HasSuffix(r.Why, "weakening.conflict") {
		t.Errorf("%+v", r)
	}
	if r := s.run(t, named(t, "read-a-file")); r.Verdict != Stopped {
		t.Errorf("%+v", r)
	}
	if r := s.run(t, named(t, "climb-out")); r.Verdict != Allowed || r.Why != "given up with visible-host-paths" {
		t.Errorf("%+v", r)
	}
	s = over(t)
	grant("rw", filepath.Dir(os.Getenv("TMPDIR")))(&s.Spec)
	grant(spec.AccessNone, os.Getenv("TMPDIR"))(&s.Spec)
	if r := s.run(t, named(t, "write-what-may-be-read")); r.Verdict != NotApplicable || !strings.HasPrefix(r.Why, "the spec does not take") {
		t.Errorf("%+v", r)
	}
}

// Every act belongs to an attack, and every attack to an act and a name.
func TestEveryActHasAnAttack(t *testing.T) {
	s := over(t)
	used := map[string]bool{"bystander": true, "stay": true, "other-user": true} // a second process of an attack
	names := map[string]bool{}
	for _, a := range Attacks() {
		if names[a.Name] || a.Tries == "" || len(a.Walls) == 0 {
			t.Errorf("%+v", a)
		}
		names[a.Name] = true
		scene, err := newScene(s.Tester, true)
		if err != nil {
			t.Fatal(err)
		}
		if attempt, err := a.stage(scene); err == nil && len(attempt.act) > 0 {
			used[attempt.act[0]] = true
		}
		scene.close()
	}
	for name := range acts() {
		if !used[name] {
			t.Errorf("no attack uses the act %q", name)
		}
	}
}
