package selftest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// dynamic says whether this program was put together by a loader, which its
// boundary must then have: the auxiliary vector names the loader's address
// (AT_BASE in getauxval(3)).
func dynamic() bool {
	const base = 7
	vector, err := unix.Auxv()
	return err == nil && slices.ContainsFunc(vector, func(v [2]uintptr) bool { return v[0] == base && v[1] != 0 })
}

// longest is how long one attempt may take: more means that the boundary, or
// the act, hangs.
const longest = time.Minute

// Run carries out one attack. The error is one of the supervisor's or of the
// host's, not of the attack.
func (t *Tester) Run(ctx context.Context, a Attack) (Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, longest, errors.New("the attack takes too long"))
	defer cancel()
	r := Result{Name: a.Name, Tries: a.Tries}
	worked, err := t.control(ctx, a, &r)
	if err != nil {
		return r, err
	}
	s, err := newScene(t, false)
	if err != nil {
		return r, err
	}
	defer s.close()
	attempt, err := a.stage(s)
	if absent, ok := errors.AsType[*notHere](err); ok {
		r.Verdict, r.Why = NotApplicable, absent.why
		return r, nil
	} else if err != nil {
		return r, err
	}
	e, p, err := s.inside(ctx, attempt, &r)
	if err != nil || p == nil {
		return r, err
	}
	s.judge(a, attempt, e, p, worked, &r)
	return r, t.letGo(e)
}

// control carries an attack out without a boundary and says whether it worked.
func (t *Tester) control(ctx context.Context, a Attack, r *Result) (worked bool, err error) {
	s, err := newScene(t, true)
	if err != nil {
		return false, err
	}
	defer s.close()
	attempt, err := a.stage(s)
	if _, ok := errors.AsType[*notHere](err); ok {
		return false, nil // said by the second scene
	} else if err != nil {
		return false, err
	}
	if attempt.control != "" {
		r.Control = "none: " + attempt.control
		return true, nil
	}
	e, err := s.start(ctx, attempt)
	if err != nil {
		r.Control = "cannot be tried: " + err.Error() // in namespaces that this user cannot have
		return false, nil
	}
	where := "on the host"
	if attempt.apart {
		where = "in throwaway namespaces"
	}
	if attempt.went(e) {
		r.Control = "goes through " + where
		return true, nil
	}
	r.Control = "fails " + where + ": " + e.answer()
	return false, nil
}

func (a try) went(e ending) bool {
	if a.through == nil {
		return e.succeeded()
	}
	return a.through(e)
}

// inside carries an attack out in the boundary. Without a plan the result says
// why there is none.
func (s *scene) inside(ctx context.Context, a try, r *Result) (ending, *plan.Plan, error) {
	command := append([]string{s.Exe, victim.Word}, a.act...)
	if a.program != "" {
		command = []string{a.program}
	}
	sp := s.Boundary(command...)
	if a.change != nil {
		a.change(&sp)
	}
	var out, errs tally
	req := bvisor.Request{Spec: sp, Stdout: &out, Stderr: &errs, FDs: s.FDs, Stdin: a.stdin}
	if a.stdin != nil {
		req.Spec.Controls.Stdin = spec.Stdin{Mode: spec.StdinInherit}
	}
	res, err := s.Supervisor.Run(ctx, req)
	if e, ok := errors.AsType[*spec.Error](err); ok && a.change != nil {
		r.Verdict, r.Why = NotApplicable, "the spec does not take what this attack needs beside it: "+e.Problems[0].Message
		return ending{}, nil, nil
	}
	if err != nil {
		return ending{}, nil, err
	}
	rep := res.Report
	r.Attempt, r.Outcome = rep.Identity.Attempt, rep.Outcome
	if rep.Refusal != nil {
		r.Verdict, r.Why = NotApplicable, "refused with what this attack needs beside the spec: "+rep.Refusal.Reasons[0].Code
		return ending{}, nil, nil
	}
	e := ending{stdout: string(res.Output["stdout"]), stderr: string(res.Output["stderr"]), relayed: out.n, report: rep}
	if rep.Exit != nil {
		e.ran, e.code, e.signal = true, rep.Exit.Code, syscall.Signal(rep.Exit.Signal)
	}
	return e, rep.Plan, nil
}

// judge compares what happened with what the plan says.
func (s *scene) judge(a Attack, attempt try, e ending, p *plan.Plan, worked bool, r *Result) {
	r.Through, r.Answer, r.Held = attempt.went(e), e.answer(), holding(p, a.Walls)
	r.Witness = attempt.witness
	if attempt.through == nil {
		r.Witness = "the victim's exit status alone"
	}
	lawful := ""
	if attempt.allowed != nil {
		lawful = attempt.allowed(p)
	}
	if names := waived(p, a.Walls); len(r.Held) == 0 && len(names) > 0 {
		lawful = "given up with " + strings.Join(names, ", ")
	}
	switch {
	case lawful != "":
		r.Verdict, r.Why = Allowed, lawful
	case r.Through:
		r.Verdict = Through
	case !worked:
		r.Verdict, r.Why = NotApplicable, "without the boundary it "+r.Control
	case !e.telling(a.Walls):
		r.Verdict, r.Why = Unclear, "the victim ended in a way that is not its own account: "+e.last()
	default:
		r.Verdict = Stopped
	}
}

// waived are the weakenings in a plan that took the walls away.
func waived(p *plan.Plan, walls []plan.Kind) []string {
	var names []string
	for _, b := range plan.Baseline {
		if slices.Contains(walls, b.Kind) && slices.Contains(p.Accepted, b.Weakening) {
			names = append(names, string(b.Weakening))
		}
	}
	return names
}

// ending is how a victim ended.
type ending struct {
	ran            bool
	code           int
	signal         syscall.Signal
	stdout, stderr string
	relayed        int64          // bytes of standard output that arrived
	report         *report.Report // nil without a boundary
}

func (e ending) succeeded() bool { return e.ran && e.code == 0 && e.signal == 0 }

// answer is what the attempt met.
func (e ending) answer() string {
	switch {
	case e.report != nil && e.report.Outcome.Status != report.Completed && e.report.Outcome.Status != report.Failed:
		return strings.TrimSuffix(string(e.report.Outcome.Status)+": "+e.report.Outcome.Reason, ": ")
	case e.signal != 0:
		return unix.SignalName(e.signal)
	case e.code == 0:
		return "no error"
	case e.code == victim.ExitSilence:
		return "no effect"
	}
	if name := unix.ErrnoName(syscall.Errno(e.code)); name != "" {
		return name
	}
	return fmt.Sprint("exit status ", e.code)
}

// telling says whether an attempt that had no effect was made, and failed for
// its own reason: a victim that crashed or was cut short shows nothing.
func (e ending) telling(walls []plan.Kind) bool {
	switch o := e.report.Outcome; o.Status {
	case report.Completed:
		return true
	case report.Failed:
		return e.signal == 0 && e.code != victim.ExitOther && e.code != victim.ExitUsage && strings.Contains(e.stderr, victim.Failure)
	case report.Denied: // ended by the filter
		return slices.Contains(walls, plan.CallFilter)
	case report.Timeout:
		return slices.Contains(walls, plan.BudgetKind(spec.Wall))
	case report.BudgetExceeded:
		return slices.Contains(walls, plan.BudgetKind(spec.Dimension(o.Reason)))
	}
	return false
}

// last is the end of what the victim said, for people.
func (e ending) last() string {
	lines := strings.Split(strings.TrimSpace(e.stderr), "\n")
	return strings.TrimSpace(e.answer() + " " + lines[len(lines)-1])
}

// tally counts what it is given.
type tally struct{ n int64 }

func (t *tally) Write(b []byte) (int, error) {
	t.n += int64(len(b))
	return len(b), nil
}

// start carries an act out without a boundary.
func (s *scene) start(ctx context.Context, a try) (ending, error) {
	command := append([]string{s.Exe, victim.Word}, a.act...)
	if a.program != "" {
		command = []string{a.program}
	}
	var sys *syscall.SysProcAttr
	switch {
	case a.apart:
		sys = apart()
	case a.stdin != nil: // a terminal: let it be the victim's own, as in a shell
		sys = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	}
	// Files, not pipes: what a victim leaves behind may keep its streams open.
	var streams [2]*os.File
	for i, name := range []string{"control-stdout", "control-stderr"} {
		f, err := os.OpenFile(s.path(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return ending{}, err
		}
		defer f.Close()
		streams[i] = f
	}
	p, err := os.StartProcess(command[0], command, &os.ProcAttr{Dir: "/", Env: s.Env, Files: []*os.File{a.stdin, streams[0], streams[1]}, Sys: sys})
	if err != nil {
		return ending{}, err
	}
	stop := context.AfterFunc(ctx, func() { p.Kill() })
	defer stop()
	state, err := p.Wait()
	if err != nil {
		return ending{}, err
	}
	e := ending{ran: true}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		e.signal = status.Signal()
	} else {
		e.code = state.ExitCode()
	}
	stdout, err := os.ReadFile(streams[0].Name())
	if err != nil {
		return e, err
	}
	stderr, err := os.ReadFile(streams[1].Name())
	e.stdout, e.stderr, e.relayed = string(stdout), string(stderr), int64(len(stdout))
	return e, err
}

// apart are namespaces in which a victim has every Linux capability and
// nothing of the host to use it on.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
}
