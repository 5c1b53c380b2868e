package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

type runOptions struct {
	request
	report  string
	force   bool
	steps   bool
	verbose bool
	explain bool
	keep    string // where the checkpoint goes, too
}

func newRun(c *cli) *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use:   "run [flags] [--spec FILE] [--] CMD [ARG...]",
		Short: "Run a program inside a boundary",
		Long: `Run starts CMD only if this host can hold every part of its boundary, and records
a sealed report of what happened.

Without --spec the boundary is: the programs of the system and the working
directory to read and execute, a private /tmp, no network, PATH, HOME, LANG and
TERM, processes allowed. Flags add to that, or to the spec: rights add up, and a
single value replaces the spec's. Relative paths of flags start at the working
directory, those of a spec at its file.

With --tty the program gets a terminal of its own, which is relayed to bvisor's.
Every key is the program's, ctrl-C too.

--quarantine PATH lets the program write below PATH, in a layer of its own: nothing
reaches the host before "bvisor artifacts commit". "bvisor artifacts diff" shows it.

--explain lists, afterwards, what the program asked for and did not get: files,
programs and unix sockets, each with the flag that would allow it. It watches
this one run and changes nothing of what is held; the program runs slower. What
the system call filter refuses, network sockets among it, is not seen.

bvisor is silent on success and when the program fails by itself. With --json it
says one JSON line on standard error instead of anything else.

` + exitCodesInWords,
		Example: `  bvisor run -- make test
  bvisor run --write out --wall 5m --report report.json -- ./build.sh
  bvisor run --quarantine . --deny .git -- ./agent.sh
  bvisor run --spec job.yaml
  bvisor run --lease TOKEN=env:GITHUB_TOKEN --deny .git -- ./publish.sh
  bvisor run --explain -- make test
  bvisor run --fd 3 --stdin none -- ./server 3< socket
  bvisor run --tty -- bash`,
		RunE: func(_ *cobra.Command, args []string) error { return c.run(o, args) },
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows CMD is CMD's
	f.SortFlags = false
	o.request.add(f)
	f.StringVar(&o.report, "report", "", "write the sealed report to `FILE`, which must not exist, and its receipt to FILE"+receiptSuffix)
	f.StringVar(&o.keep, "checkpoint-to", os.Getenv("BVISOR_CHECKPOINT_TO"), checkpointTo+" (default $BVISOR_CHECKPOINT_TO)")
	f.BoolVar(&o.force, "force", false, "let --report replace a regular file")
	f.BoolVar(&c.json, "json", false, "say one JSON line on standard error instead of messages")
	f.BoolVarP(&c.quiet, "quiet", "q", false, "no hints, nothing that is only good to know")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say how the run went even when it went well")
	f.BoolVar(&o.explain, "explain", false, "list what the program asked for and did not get; --evidence denied-attempts")
	f.BoolVar(&o.steps, "steps", false, "show the launcher's phases with their times")
	if completing() {
		complete(cmd)
	}
	return cmd
}

func (c *cli) run(o *runOptions, args []string) error {
	if o.explain {
		o.evidence = with(o.evidence, string(spec.DeniedAttempts))
	}
	sp, err := o.spec(c, args)
	if err != nil {
		return err
	}
	interactive := sp.Controls.Stdin.Mode == spec.StdinTTY
	if interactive && !term.IsTerminal(int(c.stdin.Fd())) {
		return usage("the program is to have a terminal, and standard input is none to relay it to").
			hinted("start bvisor on a terminal, or leave --tty (stdin: tty) out")
	}
	// Before anything is opened here: a number below could then be ours.
	fds, err := inherited(sp.Capabilities.FDs)
	if err != nil {
		return err
	}
	b, err := c.backend(o.backend, sp)
	if err != nil {
		return err
	}
	defer closeBackend(b)
	var ahead backend.Ahead
	if starter, ok := b.(backend.Starter); ok {
		ahead = starter.Ahead() // beside the opening of the state
		defer ahead.Close()
	}
	if err := o.checkReport(); err != nil {
		return err
	}
	state, err := c.openState()
	if err != nil {
		return err
	}
	defer state.Log.Close()
	if err := c.kept(state.Log, o.keep); err != nil {
		return err
	}

	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	defer interruptible(cancel)()
	c.weakened(sp.Accept)
	state.Told = c.recovered
	s := state.Supervisor(b)
	defer s.Wait() // placeholders of carve-outs are removed by then
	s.Protected = append(s.Protected, o.protected()...)
	req := bvisor.Request{Spec: sp, Stdin: c.stdin, FDs: fds, Ahead: ahead,
		Stdout: &relay{"standard output", c.stdout, cancel},
		Stderr: &relay{"standard error", c.stderr, cancel},
	}
	done := func() {}
	if interactive {
		t := newCallerTerminal(c.stdin, cancel)
		defer t.close() // also when this panics
		req.Terminal, done = t.relay(), t.restore
	}
	result, err := s.Run(ctx, req)
	done() // before anything is said
	cause := context.Cause(ctx)
	if result == nil {
		if by, ok := errors.AsType[*interrupted](cause); ok {
			return &failure{code: exitSignal + int(by.signal), err: fmt.Errorf("%w; nothing was started", by)}
		}
		return elsewhere(err)
	}
	return c.finish(o, state, b, result, cause, err)
}

// protected is the spec file: a workload that could write it would choose its
// own next boundary.
func (q *request) protected() []backend.Protected {
	if q.file == "" || q.file == "-" {
		return nil
	}
	path, err := filepath.Abs(q.file)
	if err != nil {
		return nil
	}
	return []backend.Protected{{Path: path, What: "the spec file"}}
}

func (c *cli) weakened(accept []spec.Weakening) {
	for _, w := range accept {
		if lacks, ok := spec.Weakenings[w]; ok && !c.json {
			c.say("WEAKENED %s: %s", w, lacks)
		}
	}
}

// finish tells how an attempt ended. err is what could not be done after it.
func (c *cli) finish(o *runOptions, state *bvisor.State, b backend.Backend, result *bvisor.Result, cause, err error) error {
	r := result.Report
	code := exitCode(r, cause)
	if o.report != "" && result.Envelope != nil {
		if e := o.writeReport(state.Log, result); e != nil {
			err = errors.Join(err, e)
		}
	}
	if o.keep != "" && result.Receipt != nil {
		err = errors.Join(err, c.keepCheckpoint(state.Log, o.keep))
	}
	c.repaired(state.Log)
	stale := r.Outcome.Status == report.SetupFailed && code == exitFault && len(r.Transcript) > 0
	if stale || r.Refusal != nil {
		// The kept profile promised what the launch did not find, or it may
		// refuse what has been put right since.
		err = errors.Join(err, state.Forget(b))
	}
	if err != nil {
		code = exitFault
	}
	if c.json {
		s := summary{Outcome: r.Outcome.Status, Reason: r.Outcome.Reason, Exit: code, Attempt: r.Identity.Attempt, Plan: r.Identity.Plan,
			Accepted: r.Accepted, Missing: missing(r), Denied: r.Denied}
		if result.Receipt != nil {
			s.Entry = &result.Receipt.Index
		}
		if asksForDenials(r) {
			s.Completeness = &r.Completeness
		}
		if r.Refusal != nil {
			s.Refused = r.Refusal.Reasons
		}
		if r.Exit != nil {
			s.Signal = r.Exit.Signal
		}
		for _, a := range r.Artifacts {
			a.Entries, a.Omitted = nil, a.Omitted+int64(len(a.Entries))
			s.Artifacts = append(s.Artifacts, a)
		}
		s.Disposition = result.Disposition
		if err != nil {
			s.Error = err.Error()
		}
		c.sayJSON(s)
		return &failure{code: code}
	}
	c.tell(o, result, code, stale)
	if err != nil {
		return &failure{code: code, err: err}
	}
	return &failure{code: code}
}

// tell says what a person must know about an attempt, and nothing when that is
// nothing.
func (c *cli) tell(o *runOptions, result *bvisor.Result, code int, stale bool) {
	r := result.Report
	if o.steps {
		c.steps(r)
	}
	if o.verbose {
		var text bytes.Buffer
		if err := report.Show(&text, r, report.ShowOptions{Brief: true, Color: colors(c.stderr)}); err == nil {
			c.block(text.Bytes())
		}
	} else {
		c.outcome(r)
		c.denied(r)
	}
	for _, s := range r.Streams {
		if s.Truncated && !c.quiet {
			c.say("%s: the report keeps the first %d of %d bytes", s.Name, s.Kept, s.Bytes)
		}
		if s.Redacted > 0 && !c.quiet {
			c.say("%s: a secret was taken out of what the report keeps, at %d places", s.Name, s.Redacted)
		}
	}
	c.heldBack(r, result.Disposition)
	if lost := missing(r); len(lost) > 0 && code == exitEvidence {
		c.say("required evidence is missing: %s", words(lost))
	}
	switch {
	case r.Refusal != nil:
		c.hint(`"bvisor probe" shows what this host can hold; nothing was started`)
	case code == exitNotFound && r.Outcome.Status == report.SetupFailed:
		// execve(2) names neither: the file itself was looked up before.
		c.hint("the loader or interpreter that the program names is not in the boundary; grant it, for example with presets: [system]")
	case r.Outcome.Status == report.Failed && (code == exitNotFound || code == exitCannotExec):
		c.notStarted(r, slices.Concat(result.Output["stderr"], result.Output[spec.StreamTTY]))
	case r.Exit != nil && r.Exit.Trap != nil && r.Exit.Trap.Kind == report.StackOverflow:
		c.hint("its calls went as deep as the engine has room for; --call-depth makes a budget of how deep they may go")
	case stale:
		c.hint(`"bvisor probe" looks at this host again`)
	}
	if result.Receipt != nil && (r.Outcome.Status != report.Completed && r.Outcome.Status != report.Failed || o.verbose) {
		c.hint(`"bvisor report show %s" tells more`, r.Identity.Attempt[:12])
	}
}

// outcome says how an attempt ended unless it ended by the program's own will.
func (c *cli) outcome(r *report.Report) {
	o := r.Outcome
	switch o.Status {
	case report.Completed:
	case report.Failed:
		if r.Exit != nil && (r.Exit.Signal != 0 || r.Exit.Trap != nil) {
			c.say("the program was ended by %s", r.Exit)
		}
		if r.Exit != nil && r.Exit.Trap != nil && !c.quiet {
			for _, f := range r.Exit.Trap.Stack {
				fmt.Fprintln(c.stderr, "  at "+fit(f))
			}
		}
	case report.Refused:
		var text bytes.Buffer
		if err := r.Refusal.Explain(&text); err == nil {
			c.block(text.Bytes())
		}
	case report.SetupFailed:
		c.say("setup failed: %s; the program never ran", o.Reason)
	case report.Timeout:
		c.say("timeout: the wall deadline of %s", limit(r, spec.Wall))
	case report.BudgetExceeded:
		c.say("budget exceeded: %s, limit %s", o.Reason, limit(r, spec.Dimension(o.Reason)))
	default:
		c.say("%s: %s", o.Status, o.Reason)
	}
}

func limit(r *report.Report, d spec.Dimension) string {
	if r.Plan != nil {
		for _, b := range r.Plan.Budgets {
			switch {
			case b.Dimension != d:
			case d == spec.Wall || d == spec.CPU:
				return time.Duration(b.Limit).String()
			default:
				return fmt.Sprint(b.Limit)
			}
		}
	}
	return "unknown"
}

func (c *cli) steps(r *report.Report) {
	for _, p := range r.Transcript {
		line := fmt.Sprintf("step %-12s %-12s", p.Name, p.Status)
		if p.Elapsed > 0 {
			line += fmt.Sprintf(" %9.3f ms", float64(p.Elapsed)/1e6)
		}
		if p.Status == report.PhaseFailed {
			line += fmt.Sprintf(" %s: %s", p.Call, p.Errno)
		}
		c.say("%s", line)
	}
	t := r.Times
	if len(r.Transcript) > 0 {
		c.say("step times: setup %.3f ms, run %.3f ms, teardown %.3f ms", float64(t.Setup)/1e6, float64(t.Run)/1e6, float64(t.Teardown)/1e6)
	}
}

// block says a text that is fit for a terminal already: its first line as a
// message, the others indented.
func (c *cli) block(text []byte) {
	for i, line := range bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n")) {
		switch {
		case i == 0:
			fmt.Fprintf(c.stderr, "bvisor: %s\n", line)
		case len(line) > 0:
			fmt.Fprintf(c.stderr, "  %s\n", line)
		}
	}
}
