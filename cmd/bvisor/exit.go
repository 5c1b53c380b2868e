package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// Exit codes. A workload that ran to its end gives its own; the report is
// authoritative.
const (
	exitCheck        = 1   // verify, replay, selftest: a check failed; spec diff: more is allowed
	exitRefused      = 120 // no plan; nothing was started
	exitUsage        = 121 // spec or command line
	exitFault        = 122 // bvisor or the host failed
	exitEvidence     = 123 // required evidence is missing
	exitTimeout      = 124 // wall deadline, as with timeout(1)
	exitBudget       = 125 // another budget
	exitCannotExec   = 126 // as in a shell
	exitNotFound     = 127
	exitSignal       = 128 // and the signal's number
	exitCodesInWords = `Exit codes: the workload's own when it ran to its end; 120 refused, 121 spec or
usage error, 122 supervisor fault, 123 required evidence missing, 124 wall
deadline, 125 another budget exceeded, 126 cannot execute, 127 command not
found, 128+n killed by signal n. The report is authoritative.`
)

// failure ends a command.
type failure struct {
	code  int
	err   error // nil when everything was said
	hints []string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func (f *failure) hinted(format string, args ...any) *failure {
	f.hints = append(f.hints, fmt.Sprintf(format, args...))
	return f
}

func usage(format string, args ...any) *failure {
	return &failure{code: exitUsage, err: fmt.Errorf(format, args...)}
}

func fault(format string, args ...any) *failure {
	return &failure{code: exitFault, err: fmt.Errorf(format, args...)}
}

// end says what went wrong, if something did, and returns the exit code.
func (c *cli) end(err error) int {
	if err == nil {
		return 0
	}
	f := classify(err)
	if f.err == nil {
		return f.code
	}
	if c.json {
		c.sayJSON(summary{Error: f.Error(), Problems: problems(f.err), Hints: f.hints, Exit: f.code})
		return f.code
	}
	if list := problems(f.err); list != nil {
		for _, p := range list {
			hint := p.Hint
			p.Hint = ""
			c.say("%s", p)
			if hint != "" {
				c.hint("%s", hint)
			}
		}
	} else {
		c.say("%s", f)
	}
	for _, h := range f.hints {
		c.hint("%s", h)
	}
	return f.code
}

// classify gives the errors of the pipeline their codes.
func classify(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if e, ok := errors.AsType[*backend.CommandError](err); ok {
		f := &failure{code: exitCannotExec, err: err}
		if e.NotFound {
			f.code = exitNotFound
		}
		if e.Hint != "" {
			return f.hinted("%s", e.Hint)
		}
		return f
	}
	if problems(err) != nil {
		return &failure{code: exitUsage, err: err}
	}
	if _, ok := errors.AsType[*bvisor.Fault](err); ok {
		return &failure{code: exitFault, err: err}
	}
	// What is left comes from cobra: the command line.
	return &failure{code: exitUsage, err: err}
}

func problems(err error) []spec.Problem {
	if e, ok := errors.AsType[*spec.Error](err); ok {
		return e.Problems
	}
	return nil
}

// summary is the one line of --json about an attempt or an error.
type summary struct {
	Outcome  report.Status    `json:"outcome,omitempty"`
	Reason   string           `json:"reason,omitempty"`
	Exit     int              `json:"exit"`
	Signal   int              `json:"signal,omitempty"`
	Attempt  string           `json:"attempt,omitempty"`
	Plan     string           `json:"plan,omitempty"`
	Entry    *int64           `json:"entry,omitempty"` // of the report in the ledger
	Accepted []spec.Weakening `json:"accepted,omitempty"`
	Refused  []plan.Reason    `json:"refused,omitempty"`
	Missing  []spec.Claim     `json:"missing_evidence,omitempty"`

	Artifacts    []report.Artifacts   `json:"artifacts,omitempty"` // without their entries: "bvisor artifacts list --json" has them
	Disposition  *bvisor.Disposition  `json:"disposition,omitempty"`
	Denied       []report.DeniedAct   `json:"denied,omitempty"`
	Completeness *report.Completeness `json:"denied_completeness,omitempty"` // with --explain
	Error        string               `json:"error,omitempty"`
	Problems     []spec.Problem       `json:"problems,omitempty"`
	Hints        []string             `json:"hints,omitempty"`
}

func (c *cli) sayJSON(s summary) {
	line, err := json.Marshal(s)
	if err != nil {
		c.say("bug: %s", err)
		return
	}
	fmt.Fprintf(c.stderr, "%s\n", onTerminal(c.stderr, line))
}

// exitCode is what a report means to a shell. cause is why the run was
// cancelled, nil when it was not.
func exitCode(r *report.Report, cause error) int {
	switch r.Outcome.Status {
	case report.Refused:
		return exitRefused
	case report.SetupFailed:
		return setupCode(r)
	case report.SupervisorFault:
		return exitFault
	case report.Timeout:
		return exitTimeout
	case report.BudgetExceeded:
		if r.Outcome.Reason == string(spec.Wall) {
			return exitTimeout
		}
		return exitBudget
	case report.Killed:
		return killedCode(r, cause)
	}
	switch e := r.Exit; {
	case len(missing(r)) > 0:
		return exitEvidence
	case e == nil:
		return exitFault
	case e.Signal != 0:
		return exitSignal + e.Signal
	case e.Trap != nil:
		return exitSignal + int(syscall.SIGABRT) // as a program that gives itself up
	default:
		return min(e.Code, 255) // a module's status has 32 bits, of which a shell sees eight
	}
}

func killedCode(r *report.Report, cause error) int {
	if by, ok := errors.AsType[*interrupted](cause); ok {
		return exitSignal + int(by.signal)
	}
	if lost, ok := errors.AsType[*outputLost](cause); ok {
		if errors.Is(lost.err, syscall.EPIPE) {
			return exitSignal + int(syscall.SIGPIPE)
		}
		return exitFault
	}
	if r.Exit != nil && r.Exit.Signal != 0 {
		return exitSignal + r.Exit.Signal
	}
	return exitSignal + int(syscall.SIGKILL)
}

// setupCode tells a program that the kernel would not execute from every other
// failure of a setup, as a shell does.
func setupCode(r *report.Report) int {
	for _, p := range r.Transcript {
		if p.Name == "exec" && p.Status == report.PhaseFailed {
			switch p.Errno {
			case "ENOENT":
				return exitNotFound
			case "EACCES", "EPERM", "ENOEXEC", "E2BIG", "EISDIR", "ELIBBAD", "ETXTBSY", "EINVAL":
				return exitCannotExec
			}
		}
	}
	return exitFault
}

// missing compares the evidence that the plan promised with what the report
// holds. A claim that nothing here can look for is not judged.
func missing(r *report.Report) []spec.Claim {
	if r.Plan == nil {
		return nil
	}
	var list []spec.Claim
	for _, e := range r.Plan.Evidence {
		held := true
		switch e.Claim {
		case spec.TerminalOutcome:
			held = r.Exit != nil
		case spec.CapturedStreams:
			held = len(r.Streams) >= len(r.Plan.Resolved.Spec.Controls.Capture)
		case spec.ResourceUsage:
			held = r.Usage != nil
		case spec.MechanismAttestation:
			held = r.Posture != nil
		case spec.DeniedAttempts:
			held = r.Completeness.Level != report.LevelNone
		case spec.FilesystemDelta, spec.ArtifactLineage:
			held = r.HasArtifacts()
		}
		if !held {
			list = append(list, e.Claim)
		}
	}
	return list
}

func words[S ~string](list []S) string {
	parts := make([]string, len(list))
	for i, w := range list {
		parts[i] = string(w)
	}
	return strings.Join(parts, ", ")
}
