package wasm_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/backend/wasm"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// planned is a spec that was looked up and planned, by the backend alone.
func planned(t *testing.T, b *wasm.Backend, s spec.Spec) (plan.Plan, backend.Resolution) {
	t.Helper()
	res, err := b.Resolve(t.Context(), spec.Expand(s), nil)
	must(t, err)
	profile, err := b.Probe(t.Context())
	must(t, err)
	p, refusal := plan.Make(res.Resolved(), profile)
	if refusal != nil {
		t.Fatal(refusal)
	}
	return p, res
}

// launched runs what was planned and gives back all of it.
func launched(t *testing.T, b *wasm.Backend, p plan.Plan, res backend.Resolution, stdout *bytes.Buffer) report.Observation {
	t.Helper()
	o, settle, err := b.Launch(t.Context(), backend.Launch{Attempt: "test", Plan: p, Resolution: res, Stdout: stdout, Stderr: stdout, Commit: func() error { return nil }})
	must(t, err)
	settle()
	must(t, res.Close())
	return o
}

// What runs is what was planned: a file that is another one by then is not read
// again, and the module of another plan, or another form of it, never runs.
func TestModuleOfThePlanRuns(t *testing.T) {
	for _, wall := range walls {
		t.Run(wall, func(t *testing.T) {
			b := wasm.New(options(t, wall))
			defer b.Close()
			name := answers(t)
			other := moduleFile(t, asModule(t, code(noLocals, 0x00)))
			s := request(wall, name, nil)

			p, res := planned(t, b, s)
			bad, err := os.ReadFile(other)
			must(t, err)
			must(t, os.WriteFile(name, bad, 0o644))
			if o := launched(t, b, p, res, nil); o.Outcome.Reason != "exit status 42" {
				t.Errorf("after its file was replaced: %+v", o.Outcome)
			}
			q, res := planned(t, b, s) // the control
			if o := launched(t, b, q, res, nil); o.Outcome.Reason != "trap: unreachable" || q.Resolved.Executable.SHA256 == p.Resolved.Executable.SHA256 {
				t.Errorf("planned again: %+v", o.Outcome)
			}
			for what, with := range map[string]spec.Spec{
				"the module of another plan":       s,
				"a form that does not count calls": request(wall, answers(t), nil),
			} {
				p, mine := planned(t, b, request(wall, answers(t), nil, budget(spec.CallDepth, 100)))
				must(t, mine.Close())
				_, res := planned(t, b, with)
				o := launched(t, b, p, res, nil)
				if o.Outcome.Status != report.SetupFailed || o.Outcome.Reason != "module: it is not the module of the plan" {
					t.Errorf("%s: %+v", what, o.Outcome)
				}
			}
		})
	}
}
