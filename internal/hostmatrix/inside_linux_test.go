//go:build amd64 || arm64

package hostmatrix

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/internal/selftest"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// answer is what is found on one host.
type answer struct {
	Profile   plan.Profile
	Specs     []result
	Exercised map[string]string // for each fact behind a refusal what the kernel said to somebody else
}

// result is what becomes of one spec.
type result struct {
	Spec  string
	Asked trial
	// Without what a refusal's remedies say to do without; nil where it is
	// admitted as asked, or where no remedy is about the spec.
	Changed *trial
}

// trial is one spec that was planned and, if admitted, run.
type trial struct {
	Changes []string      // made to it by remedies
	Reasons []plan.Reason // nil: admitted
	Stopped int           // attacks that failed inside and succeed outside
	Wrong   []string      // what did not hold
}

// tester is a supervisor on the host that this process is on.
type tester struct {
	dir   string
	state *bvisor.State
	sup   *bvisor.Supervisor
	made  int // places

	planOnly    bool // what is admitted is not run
	refusedOnce bool // one refusal was run, which every other would be like
}

// inside finds out what holds on this host.
func inside(args []string) int {
	a, err := look(hostNamed(args[0]), args[1] == "true", args[2])
	if err == nil {
		err = json.NewEncoder(os.NewFile(answerFD, "answer")).Encode(a)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// look tries every spec. Of a cured host it is enough to know that it admits
// them all again, and that one holds.
func look(h host, cured bool, dir string) (answer, error) {
	state, err := bvisor.OpenState(filepath.Join(dir, "state"))
	if err == nil {
		err = state.Key.Ready()
	}
	if err != nil {
		return answer{}, err
	}
	defer state.Log.Close()
	b := linux.New()
	t := &tester{dir: dir, state: state, sup: state.Supervisor(b)}
	defer t.sup.Wait()
	a := answer{Exercised: map[string]string{}}
	if a.Profile, err = b.Probe(context.Background()); err != nil {
		return a, err
	}
	for i, c := range specs() {
		if c.cgroups != (h.hierarchies != "") {
			continue
		}
		r := result{Spec: c.name}
		p, err := t.place()
		if err != nil {
			return a, err
		}
		t.planOnly = cured && i > 0
		if r.Asked, err = t.try(c, p, c.spec(p)); err != nil {
			return a, fmt.Errorf("%s: %w", c.name, err)
		}
		t.planOnly = false
		for _, reason := range r.Asked.Reasons {
			if name, _, ok := factOf(reason.Fact); ok && a.Exercised[name] == "" {
				a.Exercised[name] = exerciseApart(name)
			}
		}
		if r.Changed, err = t.follow(c, r.Asked.Reasons); err != nil {
			return a, fmt.Errorf("%s, changed: %w", c.name, err)
		}
		a.Specs = append(a.Specs, r)
	}
	return a, nil
}

func (t *tester) place() (*place, error) {
	t.made++
	return newPlace(t.dir, t.made)
}

// follow does what the remedies of a refusal say about the spec, until it is
// admitted or no remedy is about the spec any more.
func (t *tester) follow(c specCase, reasons []plan.Reason) (*trial, error) {
	if len(reasons) == 0 {
		return nil, nil
	}
	p, err := t.place()
	if err != nil {
		return nil, err
	}
	sp := c.spec(p)
	var changes []string
	for {
		more := slices.DeleteFunc(remedy(&sp, reasons), func(m string) bool { return slices.Contains(changes, m) })
		if len(more) == 0 {
			if len(changes) == 0 {
				return nil, nil
			}
			return &trial{Changes: changes, Reasons: reasons}, nil
		}
		changes = append(changes, more...)
		tr, err := t.try(c, p, sp)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", changes, err)
		}
		if tr.Reasons == nil {
			tr.Changes = changes
			return &tr, nil
		}
		reasons = tr.Reasons
	}
}

// try plans a spec and, where it is admitted, attacks what it becomes.
func (t *tester) try(c specCase, p *place, sp spec.Spec) (trial, error) {
	ctx := context.Background()
	var tr trial
	var tries []try
	sp.Workload.Command = act("say", "x")
	if c.tries != nil {
		tries = c.tries(p)
		sp.Workload.Command = tries[0].command
	}
	made, refusal, err := t.sup.Plan(ctx, sp)
	if err != nil {
		return tr, err
	}
	if refusal != nil {
		tr.Reasons = refusal.Reasons
		if t.refusedOnce {
			return tr, nil
		}
		t.refusedOnce = true
		return tr, t.refused(ctx, sp, refusal)
	}
	if t.planOnly {
		return tr, nil
	}
	wrong := func(format string, args ...any) { tr.Wrong = append(tr.Wrong, fmt.Sprintf(format, args...)) }
	if accepted := slices.Sorted(slices.Values(sp.Accept)); !slices.Equal(made.Accepted, accepted) {
		wrong("the plan says that %v was accepted, expected %v", made.Accepted, accepted)
	}
	for _, y := range tries {
		if !has(made, y.kind) {
			continue
		}
		why, err := t.carryOut(ctx, y, sp)
		if err != nil {
			return tr, fmt.Errorf("%s: %w", y.name, err)
		}
		switch {
		case why != "":
			wrong("%s: %s", y.name, why)
		case !y.passes:
			tr.Stopped++
		}
	}
	s := &selftest.Tester{Supervisor: t.sup, Spec: sp, Exe: exeOf(), Env: os.Environ(), Key: filepath.Join(t.state.Dir, "keys", "key.pem")}
	for _, a := range selftest.Attacks() {
		if !slices.Contains(c.attacks, a.Name) {
			continue
		}
		r, err := s.Run(ctx, a)
		switch {
		case err != nil:
			return tr, fmt.Errorf("%s: %w", a.Name, err)
		case r.Failed(), r.Verdict == selftest.Allowed && len(sp.Accept) == 0:
			wrong("%s: %s: %s %s", a.Name, r.Verdict, r.Answer, r.Why)
		case r.Verdict == selftest.Stopped:
			tr.Stopped++
		}
	}
	if tr.Stopped == 0 {
		wrong("no attack was stopped: nothing is shown")
	}
	return tr, nil
}

func has(p *plan.Plan, k plan.Kind) bool {
	return slices.ContainsFunc(p.Requirements, func(r plan.Requirement) bool { return r.Kind == k })
}

// refused runs a spec that is refused: nothing may start, and the sealed answer
// is the same refusal.
func (t *tester) refused(ctx context.Context, sp spec.Spec, want *plan.Refusal) error {
	r, e, err := t.run(ctx, sp)
	switch {
	case err != nil:
		return err
	case r.Outcome.Status != report.Refused || r.Refusal == nil || r.Exit != nil || e.stdout != "":
		return fmt.Errorf("refused when planned, and then %+v", r.Outcome)
	case !slices.Equal(r.Refusal.Reasons, want.Reasons):
		return fmt.Errorf("planned: refused for %+v; run: %+v", want.Reasons, r.Refusal.Reasons)
	}
	return nil
}

// run runs a spec and verifies its report.
func (t *tester) run(ctx context.Context, sp spec.Spec) (*report.Report, ended, error) {
	res, err := t.sup.Run(ctx, bvisor.Request{Spec: sp})
	if err != nil {
		return nil, ended{}, err
	}
	v, err := report.Verify(res.Envelope, []report.PublicKey{t.state.Key.Public()})
	if err != nil {
		return nil, ended{}, err
	}
	e := ended{code: -1, stdout: string(res.Output["stdout"]) + string(res.Output["tty"])}
	if x := v.Report.Exit; x != nil && x.Signal == 0 {
		e.code = x.Code
	}
	return v.Report, e, nil
}

// carryOut makes an attempt inside and outside, and says what is wrong with how
// they went.
func (t *tester) carryOut(ctx context.Context, y try, sp spec.Spec) (wrong string, err error) {
	sp.Workload.Command = y.command
	r, e, err := t.run(ctx, sp)
	if err != nil {
		return "", err
	}
	if o := r.Outcome; o.Status != report.Completed && o.Status != report.Failed || r.Exit == nil || r.Exit.Signal != 0 {
		return fmt.Sprintf("it did not run to its end: %+v", o), nil
	}
	accepted := slices.Sorted(slices.Values(sp.Accept))
	if !slices.Equal(r.Accepted, accepted) {
		return fmt.Sprintf("the report says that %v was accepted, expected %v", r.Accepted, accepted), nil
	}
	for _, phase := range r.Transcript {
		if phase.Status != report.PhaseDone && phase.Status != "not-required" {
			return fmt.Sprintf("phase %s is %s", phase.Name, phase.Status), nil
		}
	}
	inside := y.through(e)
	if y.also != nil {
		if why := y.also(r); why != "" {
			return why, nil
		}
	}
	if inside != y.passes {
		return fmt.Sprintf("inside it goes through: %v; it ended with %d and %.100q", inside, e.code, e.stdout), nil
	}
	command := y.control
	if command == nil {
		command = y.command
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Env = &out, []string{}
	err = cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		return "", err
	}
	if outside := y.through(ended{cmd.ProcessState.ExitCode(), out.String()}); !outside {
		return fmt.Sprintf("the control does not go through: it ended with %d", cmd.ProcessState.ExitCode()), nil
	}
	return "", nil
}
