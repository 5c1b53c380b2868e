package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

type learnOptions struct {
	request
	out    string
	rounds int
	writes bool
}

func newLearn(c *cli) *cobra.Command {
	o := &learnOptions{}
	cmd := &cobra.Command{
		Use:   "learn [flags] [--spec FILE] [--] CMD [ARG...]",
		Short: "Propose a spec from what a program asks for",
		Long: `Learn runs CMD inside a boundary, sees what it asked for and did not get, grants
the narrowest part of that and runs it again, until nothing more is asked for,
nothing more can be granted, or the rounds are over. Then it writes the spec, with
a comment at each grant that says who asked for it.

What it grants was asked for by a program that you do not trust: read the spec
before you use it. Credentials, sockets, devices, home directories as a whole and
the host's own state are never granted, and writing only below the working
directory with --writes; the spec lists them as asked for and not granted. The
network is never granted, and what the system call filter refuses is not seen.

Each round really runs the program: what it writes where it may write stays
written, and each round is recorded like any run. The program has no standard
input, and what it writes goes to standard error.

Flags are those of run: they are granted from the beginning.

Exit codes: 0 a spec was written; otherwise as with run.`,
		Example: `  bvisor learn --out job.yaml -- make test
  bvisor learn --writes --wall 5m -- ./build.sh > job.yaml
  bvisor run --spec job.yaml`,
		RunE: func(_ *cobra.Command, args []string) error { return c.learn(o, args) },
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.SortFlags = false
	o.request.add(f)
	f.StringVar(&o.out, "out", "", "write the spec to `FILE`, which must not exist, instead of standard output")
	f.IntVar(&o.rounds, "rounds", 10, "run the program at most `N` times")
	f.BoolVar(&o.writes, "writes", false, "grant writing below the working directory when it is asked for")
	f.BoolVarP(&c.quiet, "quiet", "q", false, "no hints, nothing that is only good to know")
	if completing() {
		complete(cmd)
	}
	return cmd
}

// lesson is what was learnt so far.
type lesson struct {
	spec     spec.Spec
	cwd      string
	home     string
	writes   bool
	why      map[string]string // of grants, by path
	withheld []string          // what was asked for and not granted
	known    map[string]bool   // paths and rights that were decided
	round    int
	last     *report.Report
	stopped  string // why there was no further round
}

func (c *cli) learn(o *learnOptions, args []string) error {
	if o.rounds < 1 {
		return usage("--rounds: %d rounds teach nothing, expected 1 or more", o.rounds)
	}
	sp, err := o.spec(c, args)
	if err != nil {
		return err
	}
	if len(sp.Capabilities.FDs) > 0 {
		return usage("--fd: a descriptor cannot be handed over more than once")
	}
	if sp.Controls.Stdin.Mode == spec.StdinTTY {
		return usage("--tty: nobody is there to use a terminal again and again").hinted("learn without a terminal; run --tty --spec FILE adds one")
	}
	cwd, err := os.Getwd()
	if err != nil {
		return usage("working directory: %w", err)
	}
	home, _ := os.UserHomeDir() // "": none to keep
	b, err := c.backend(o.backend, sp)
	if err != nil {
		return err
	}
	state, err := c.openState()
	if err != nil {
		return err
	}
	defer state.Log.Close()
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	defer interruptible(cancel)()
	c.weakened(sp.Accept)
	s := state.Supervisor(b)
	defer s.Wait()
	s.Protected = append(s.Protected, o.protected()...)
	l := &lesson{spec: asWritten(sp.Rebase(cwd)), cwd: cwd, home: home, writes: o.writes, why: map[string]string{}, known: map[string]bool{}}
	if err := l.rounds(ctx, c, s, cancel, o.rounds, func() error { return state.Forget(b) }); err != nil {
		return err
	}
	text, err := l.text()
	if err != nil {
		return err
	}
	if !c.quiet {
		c.say("learnt in %d rounds: %d grants, %d things asked for and not granted; %s", l.round, len(l.why), len(l.withheld), l.stopped)
		c.say("an untrusted program asked for these grants: read them before you use them")
	}
	if o.out == "" {
		return c.write([]byte(text))
	}
	if err := writeNew(o.out, []byte(text)); err != nil {
		return usage("--out: %w", err).hinted("name a file that does not exist")
	}
	return nil
}

// rounds runs the program again and again, with more each time.
func (l *lesson) rounds(ctx context.Context, c *cli, s *bvisor.Supervisor, cancel context.CancelCauseFunc, most int, forget func() error) error {
	for l.round = 1; ; l.round++ {
		result, err := s.Run(ctx, bvisor.Request{Spec: l.confined(),
			Stdout: &relay{"standard error", c.stderr, cancel}, Stderr: &relay{"standard error", c.stderr, cancel}})
		if by, ok := errors.AsType[*interrupted](context.Cause(ctx)); ok {
			return &failure{code: exitSignal + int(by.signal), err: fmt.Errorf("%w; nothing was learnt", by)}
		}
		var more bool
		if e, ok := errors.AsType[*backend.CommandError](err); ok && e.Grant != "" {
			more = l.take(ctx, s, report.DeniedAct{Path: e.Grant, Access: "rx", Program: "the command itself"})
			if !more {
				if n := len(l.withheld); n > 0 {
					err = errors.Join(err, errors.New("not granted: "+l.withheld[n-1]))
				}
				return err
			}
		} else if result == nil || err != nil {
			return err
		} else {
			l.last = result.Report
			if r := l.last; r.Refusal != nil || r.Outcome.Status == report.SetupFailed || r.Outcome.Status == report.SupervisorFault {
				c.outcome(r)
				return errors.Join(forget(), &failure{code: exitCode(r, context.Cause(ctx))})
			}
			for _, d := range l.last.Denied {
				if d.Observed {
					more = l.take(ctx, s, d) || more
				}
			}
		}
		switch {
		case !more:
			l.stopped = "the last round asked for nothing more that can be granted"
			return nil
		case l.round == most:
			l.stopped = "the rounds were over: there may be more"
			return nil
		}
	}
}

// confined is the spec of a round.
func (l *lesson) confined() spec.Spec {
	s := l.spec
	s.Evidence = with(s.Evidence, spec.DeniedAttempts)
	if s.Controls.Stdin.Mode == spec.StdinInherit {
		s.Controls.Stdin = spec.Stdin{Mode: spec.StdinNone}
	}
	return s
}

// take grants what a denial asks for, or notes why not. It says whether there
// is something new.
func (l *lesson) take(ctx context.Context, s *bvisor.Supervisor, d report.DeniedAct) bool {
	key := d.Access + " " + d.Path
	if l.known[key] {
		return false
	}
	l.known[key] = true
	if d.Path == "" || !strings.HasPrefix(d.Path, "/") {
		l.refuse(d, "it has no path that could be granted")
		return false
	}
	why := withheld(d.Path, l.cwd, l.home)
	if fit(d.Path) != d.Path {
		why = "its name has characters that a reader of the spec would not see"
	}
	writing := strings.Contains(d.Access, "w")
	switch {
	case why == "" && writing && !l.writes:
		why = "writing is granted only with --writes"
	case why == "" && writing && !below(d.Path, l.cwd):
		why = "writing is granted only below the working directory"
	case strings.HasPrefix(d.Allow, "--temp"):
		why = "use " + d.Allow
	}
	if why != "" {
		l.refuse(d, why)
		return false
	}
	access := union("r", spec.Access(d.Access))
	if isELF(d.Path) {
		access = union(access, "x")
	}
	next := l.spec
	var have spec.Access
	next.Capabilities.Filesystem, have = without(next.Capabilities.Filesystem, d.Path)
	access = union(union(union(access, have), l.around(d.Path)), preset(next.Presets, d.Path))
	next.Capabilities.Filesystem = append(slices.Clone(next.Capabilities.Filesystem), spec.Grant{Access: access, Paths: []string{d.Path}, Origin: spec.FromSpec})
	before := l.spec
	l.spec = next
	if p, refusal, err := s.Plan(ctx, l.confined()); p == nil {
		l.spec = before
		if _, missing := errors.AsType[*backend.CommandError](err); !missing || refusal != nil {
			l.refuse(d, "the boundary cannot have it: "+problemText(err, refusal != nil))
			return false
		}
		l.spec = next // one of several things that the command needs
	}
	l.why[d.Path] = fmt.Sprintf("%s; round %d", cmp.Or(d.Program, "somebody")+" asked to "+cmp.Or(actOf(d), "use it"), l.round)
	return true
}

// around is what the innermost granted directory gives at a path: a grant
// inside it must not take that away.
func (l *lesson) around(path string) spec.Access {
	var have spec.Access
	deepest := -1
	if l.last == nil || l.last.Plan == nil {
		return ""
	}
	for _, r := range l.last.Plan.Resolved.Roots {
		if r.Role == spec.RoleGrant && r.Kind == spec.KindDirectory && below(path, r.Dest) && len(r.Dest) > deepest {
			have, deepest = r.Access, len(r.Dest)
		}
	}
	return have
}

func (l *lesson) refuse(d report.DeniedAct, why string) {
	l.withheld = append(l.withheld, fmt.Sprintf("%s (%s): %s", cmp.Or(d.Act, d.Path), cmp.Or(d.Program, "by nobody known"), why))
}

// actOf is the verb of a denial.
func actOf(d report.DeniedAct) string {
	verb, _, found := strings.Cut(d.Act, " /")
	if !found {
		return ""
	}
	return verb + " it"
}

func problemText(err error, refused bool) string {
	switch {
	case refused:
		return "this host cannot hold it"
	case problems(err) != nil:
		return problems(err)[0].Message
	case err != nil:
		return err.Error()
	}
	return "no plan"
}

// text is the proposal. It is read back: what is written must be what was learnt.
func (l *lesson) text() (string, error) {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "# "+format+"\n", args...) }
	line("Proposed by bvisor learn after %d rounds: %s.", l.round, l.stopped)
	if l.last != nil {
		end := string(l.last.Outcome.Status)
		if l.last.Outcome.Reason != "" {
			end += ", " + l.last.Outcome.Reason
		}
		line("The last round ended: %s.", comment(end))
	}
	line("Each grant with a comment was asked for by an untrusted program. Read them.")
	if len(l.withheld) > 0 {
		b.WriteString("#\n")
		line("Asked for and not granted:")
		for _, w := range l.withheld {
			line("  %s", comment(w))
		}
	}
	body := specText(l.spec, func(g spec.Grant) string {
		if len(g.Paths) == 1 {
			return l.why[g.Paths[0]]
		}
		return ""
	})
	b.WriteString("\n" + body)
	back, err := spec.Parse("the proposal", []byte(b.String()))
	if err == nil {
		err = spec.Validate(back)
	}
	if err == nil && !sameSpec(back, l.spec) {
		err = errors.New("it reads differently")
	}
	if err != nil {
		return "", fault("bug: the proposed spec: %w", err)
	}
	return b.String(), nil
}
