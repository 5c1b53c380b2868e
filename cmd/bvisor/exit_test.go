package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

func ended(status report.Status, reason string, exit *report.Exit) *report.Report {
	return &report.Report{Outcome: report.Outcome{Status: status, Reason: reason}, Exit: exit,
		Plan: &plan.Plan{Evidence: []plan.EvidencePlan{{Claim: spec.TerminalOutcome}}}}
}

func TestExitCodeOfAReport(t *testing.T) {
	execFailed := func(errno string) *report.Report {
		r := ended(report.SetupFailed, "exec", nil)
		r.Transcript = []report.Phase{{Name: "seccomp", Status: report.PhaseDone}, {Name: "exec", Status: report.PhaseFailed, Errno: errno}}
		return r
	}
	promised := func(claims ...spec.Claim) *report.Report {
		r := ended(report.Completed, "", &report.Exit{})
		for _, c := range claims {
			r.Plan.Evidence = append(r.Plan.Evidence, plan.EvidencePlan{Claim: c})
		}
		return r
	}
	cut := promised(spec.CapturedStreams)
	cut.Plan.Resolved.Spec.Controls.Capture = []spec.Capture{{Stream: "stdout", Limit: 1}}
	shown := promised(spec.CapturedStreams, spec.ResourceUsage, spec.MechanismAttestation)
	shown.Usage, shown.Posture = &report.Usage{}, &report.Posture{}

	for _, c := range []struct {
		name  string
		r     *report.Report
		cause error
		want  int
	}{
		{"success", ended(report.Completed, "", &report.Exit{}), nil, 0},
		{"its own code", ended(report.Failed, "", &report.Exit{Code: 42}), nil, 42},
		{"its own signal", ended(report.Failed, "", &report.Exit{Signal: 11}), nil, 139},
		{"denied", ended(report.Denied, "", &report.Exit{Signal: 31}), nil, 159},
		{"refused", ended(report.Refused, "", nil), nil, 120},
		{"fault", ended(report.SupervisorFault, "", nil), nil, 122},
		{"timeout", ended(report.Timeout, "wall", nil), nil, 124},
		{"timeout as a budget", ended(report.BudgetExceeded, "wall", nil), nil, 124},
		{"budget", ended(report.BudgetExceeded, "output", &report.Exit{Signal: 9}), nil, 125},
		{"setup", ended(report.SetupFailed, "mounts", nil), nil, 122},
		{"exec: not found", execFailed("ENOENT"), nil, 127},
		{"exec: not executable", execFailed("ENOEXEC"), nil, 126},
		{"exec: not allowed", execFailed("EACCES"), nil, 126},
		{"exec: out of memory", execFailed("ENOMEM"), nil, 122},
		{"interrupted", ended(report.Killed, "cancelled", &report.Exit{Signal: 9}), &interrupted{syscall.SIGINT}, 130},
		{"terminated, ended by itself", ended(report.Killed, "cancelled", &report.Exit{}), &interrupted{syscall.SIGTERM}, 143},
		{"output closed", ended(report.Killed, "cancelled", nil), &outputLost{"standard output", syscall.EPIPE}, 141},
		{"output full", ended(report.Killed, "cancelled", nil), &outputLost{"standard output", syscall.ENOSPC}, 122},
		{"killed from outside", ended(report.Killed, "from outside", nil), nil, 137},
		{"a late interrupt changes nothing", ended(report.Failed, "", &report.Exit{Code: 7}), &interrupted{syscall.SIGINT}, 7},
		{"no end seen", ended(report.Completed, "", nil), nil, 123},
		{"no streams", cut, nil, 123},
		{"no usage", promised(spec.ResourceUsage), nil, 123},
		{"no posture", promised(spec.MechanismAttestation), nil, 123},
		{"all shown", shown, nil, 0},
	} {
		if got := exitCode(c.r, c.cause); got != c.want {
			t.Errorf("%s: exit code %d, want %d", c.name, got, c.want)
		}
	}
}

func TestExitCodeOfAnError(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{&spec.Error{Problems: []spec.Problem{{Message: "bad"}}}, 121},
		{fmt.Errorf("wrapped: %w", &spec.Error{Problems: []spec.Problem{{Message: "bad"}}}), 121},
		{&backend.CommandError{Command: "x", NotFound: true}, 127},
		{&backend.CommandError{Command: "x"}, 126},
		{&bvisor.Fault{Step: "probe", Err: context.Canceled}, 122},
		{&bvisor.Fault{Step: "state directory", Err: errors.New("full")}, 122},
		{errors.New("what cobra says of a command line"), 121},
	} {
		if got := classify(c.err).code; got != c.want {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.want)
		}
	}
}
