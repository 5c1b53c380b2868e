package inert

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

var (
	_ backend.Backend = (*Backend)(nil)
	_ backend.Backend = (*ScriptedBackend)(nil)
)

// admit takes a spec as far as a plan.
func admit(t *testing.T, b backend.Backend, s spec.Spec) (plan.Plan, *plan.Refusal) {
	t.Helper()
	p, err := b.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	enc, err := p.MarshalCanonical()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plan.ParseProfile(enc); err != nil {
		t.Fatalf("the profile is not one: %v", err)
	}
	res, err := b.Resolve(t.Context(), spec.Expand(s), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	return plan.Make(res.Resolved(), p)
}

func everyWeakening() []spec.Weakening {
	var all []spec.Weakening
	for w := range spec.Weakenings {
		all = append(all, w)
	}
	slices.Sort(all)
	return all
}

func TestInertRefusesEverySpec(t *testing.T) {
	for name, accept := range map[string][]spec.Weakening{"normal": nil, "every weakening": everyWeakening()} {
		s := spec.Default("/work", []string{"true"})
		s.Accept = accept
		_, refusal := admit(t, New(), s)
		if refusal == nil {
			t.Fatalf("%s: admitted", name)
		}
		var refused []plan.Kind
		for _, r := range refusal.Reasons {
			refused = append(refused, r.Requirement)
			if r.Fact == "" || r.Need == "" || r.Remedy == "" {
				t.Errorf("%s: reason says too little: %+v", name, r)
			}
		}
		for _, kind := range []plan.Kind{plan.Filesystem, plan.SpawnProcesses, plan.Environment, plan.FDsNone, plan.KillTree, plan.TempRoot} {
			if !slices.Contains(refused, kind) {
				t.Errorf("%s: no reason for %s in %q", name, kind, refused)
			}
		}
		for _, kind := range []plan.Kind{plan.Launch, plan.CaptureStreams} {
			if slices.Contains(refused, kind) {
				t.Errorf("%s: %s is refused although it is offered", name, kind)
			}
		}
		// Accepting host-network waives this one, too.
		if got, want := slices.Contains(refused, plan.NetworkDenyAll), accept == nil; got != want {
			t.Errorf("%s: network-deny-all refused: %v, want %v", name, got, want)
		}
		for _, b := range plan.Baseline {
			if got, want := slices.Contains(refused, b.Kind), accept == nil; got != want {
				t.Errorf("%s: %s refused: %v, want %v", name, b.Kind, got, want)
			}
		}
	}
}

func TestInertNeverLaunches(t *testing.T) {
	if _, _, err := New().Launch(t.Context(), backend.Launch{Commit: func() error { t.Error("committed"); return nil }}); err == nil {
		t.Error("Launch succeeded")
	}
}

func TestScriptedAdmitsAndFollows(t *testing.T) {
	b := Scripted(Script{Observe: func(_ context.Context, l backend.Launch) (report.Observation, error) {
		return Exited(7), Relay(l, "hello")
	}})
	p, refusal := admit(t, b, spec.Default("/work", []string{"true"}))
	if refusal != nil {
		t.Fatalf("refused: %+v", refusal.Reasons)
	}
	committed := false
	var out bytes.Buffer
	o, _, err := b.Launch(t.Context(), backend.Launch{Attempt: "a", Plan: p, Stdout: &out, Commit: func() error { committed = true; return nil }})
	if err != nil || o.Outcome.Status != report.Failed || o.Exit.Code != 7 || out.String() != "hello" || !committed {
		t.Errorf("observation %+v, %v, output %q, committed %v", o, err, out.String(), committed)
	}
	if got := b.Launches(); len(got) != 1 || got[0].Attempt != "a" || b.Closed() != 1 {
		t.Errorf("launches %v, closed %d", got, b.Closed())
	}
}

func TestScriptedObservesNothingWithoutIntent(t *testing.T) {
	full := errors.New("full")
	b := Scripted(Script{Observe: func(context.Context, backend.Launch) (report.Observation, error) {
		t.Error("observed without a durable intent")
		return report.Observation{}, nil
	}})
	if _, _, err := b.Launch(t.Context(), backend.Launch{Commit: func() error { return full }}); !errors.Is(err, full) {
		t.Errorf("%v, want the error of Commit", err)
	}
}

func TestScriptedFaults(t *testing.T) {
	want := errors.New("scripted")
	b := Scripted(Script{ProbeErr: want, ResolveErr: want})
	if _, err := b.Probe(t.Context()); err != want {
		t.Errorf("Probe: %v", err)
	}
	if _, err := b.Resolve(t.Context(), spec.Spec{}, nil); err != want {
		t.Errorf("Resolve: %v", err)
	}
	narrow := New()
	p, err := narrow.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, refusal := admit(t, Scripted(Script{Profile: &p}), spec.Default("/work", []string{"true"})); refusal == nil {
		t.Error("a profile that offers nothing admitted a spec")
	}
}
