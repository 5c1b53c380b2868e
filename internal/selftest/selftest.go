package selftest

import (
	"os"
	"slices"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// Attack is one thing a workload might try.
type Attack struct {
	Name  string
	Tries string // what is attempted, in words
	// Walls are the requirements of which each one alone stops it. Where a plan
	// has none of them, the user gave them up.
	Walls []plan.Kind

	stage func(s *scene) (try, error)
}

// Tester carries attacks out against one boundary.
type Tester struct {
	Supervisor *bvisor.Supervisor
	Spec       spec.Spec        // the boundary; its command is replaced
	FDs        map[int]*os.File // what the spec's fds name
	Key        string           // file of the key that seals
	Exe        string           // program that is a victim if its first argument is victim.Word
	Env        []string         // this process's environment
}

// Boundary is the spec under test with what every victim needs: its own
// program to execute, threads, because a Go program does not start without
// them, and captured streams. Leases are left out: no victim needs a secret.
func (t *Tester) Boundary(command ...string) spec.Spec {
	s := t.Spec
	s.Workload = spec.Workload{Command: command, Dir: s.Workload.Dir}
	caps, controls := &s.Capabilities, &s.Controls
	caps.Filesystem = append(slices.Clone(caps.Filesystem), spec.Grant{Access: "rx", Paths: []string{t.Exe}, Origin: spec.FromSpec})
	if caps.Spawn != spec.SpawnProcesses {
		caps.Spawn = spec.SpawnThreads
	}
	caps.Environment = slices.DeleteFunc(slices.Clone(caps.Environment), func(e spec.EnvEntry) bool { return e.Lease != "" })
	controls.Capture = []spec.Capture{{Stream: "stdout", Limit: spec.DefaultCapture}, {Stream: "stderr", Limit: spec.DefaultCapture}}
	controls.Stdin = spec.Stdin{Mode: spec.StdinNone}
	if dynamic() && !slices.Contains(s.Presets, "system") {
		s.Presets = append(slices.Clone(s.Presets), "system")
	}
	s.Evidence = slices.Clone(s.Evidence)
	for _, c := range []spec.Claim{spec.TerminalOutcome, spec.CapturedStreams, spec.MechanismAttestation} {
		if !slices.Contains(s.Evidence, c) {
			s.Evidence = append(s.Evidence, c)
		}
	}
	return s
}

// Verdict says how an attack ended.
type Verdict string

// Verdicts. Through and Unclear are failures of the boundary or of the test.
const (
	Stopped       Verdict = "stopped"
	Through       Verdict = "went-through"   // though the plan says that it is held
	Allowed       Verdict = "allowed"        // the spec grants it, or gives up what stops it
	NotApplicable Verdict = "not-applicable" // it would prove nothing here
	Unclear       Verdict = "unclear"        // it ended in a way that says neither
)

// Verdicts in the order in which people read them.
var Verdicts = []Verdict{Stopped, Allowed, NotApplicable, Unclear, Through}

// Result is what one attack came to.
type Result struct {
	Name    string         `json:"name"`
	Tries   string         `json:"tries"`
	Verdict Verdict        `json:"verdict"`
	Why     string         `json:"why,omitempty"`     // of every verdict but stopped and went-through
	Answer  string         `json:"answer,omitempty"`  // what the attempt met: an errno, a signal, an outcome
	Through bool           `json:"through"`           // it had its effect
	Witness string         `json:"witness,omitempty"` // who says so
	Held    []Held         `json:"held,omitempty"`    // what the plan has against it
	Control string         `json:"control,omitempty"` // how the same act went without the boundary
	Attempt string         `json:"attempt,omitempty"` // of the sealed report
	Outcome report.Outcome `json:"outcome"`           // in the sealed report
}

// Failed says whether the result is one that a user must look at.
func (r Result) Failed() bool { return r.Verdict == Through || r.Verdict == Unclear }

// Held is a requirement of the plan and what holds it.
type Held struct {
	Requirement plan.Kind `json:"requirement"`
	Mechanisms  []string  `json:"mechanisms"`
}

// holding lists which of the walls a plan has.
func holding(p *plan.Plan, walls []plan.Kind) []Held {
	var list []Held
	for _, w := range walls {
		if mechanisms := held(p, w); mechanisms != nil {
			h := Held{Requirement: w}
			for _, m := range mechanisms {
				h.Mechanisms = append(h.Mechanisms, m.Name)
			}
			list = append(list, h)
		}
	}
	return list
}

func held(p *plan.Plan, k plan.Kind) []plan.Mechanism {
	for _, r := range p.Requirements {
		if r.Kind == k {
			return r.Mechanisms
		}
	}
	for _, b := range p.Budgets {
		if plan.BudgetKind(b.Dimension) == k {
			return b.Mechanisms
		}
	}
	return nil
}
