package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/internal/nearest"
	"github.com/bvisor/bvisor/internal/selftest"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

type selftestOptions struct {
	request
	json, list bool
	only       []string
}

func newSelftest(c *cli) *cobra.Command {
	o := &selftestOptions{}
	cmd := &cobra.Command{
		Use:   "selftest [flags] [--spec FILE]",
		Short: "Attack a boundary on this host and say what stopped it",
		Long: `Selftest runs bvisor itself as a hostile program inside a boundary, once for each
attack it knows, and says whether the attack was stopped and by what. The
boundary is the one that run gives without a spec, or that of --spec and the
flags, with what the hostile program needs to start: itself to execute, threads,
captured streams. Leases are left out. A few attacks add a grant or a budget that
they try to get past.

Each attack is tried without a boundary first, where it must go through: on files
and processes made for it, or in throwaway namespaces. None of them changes this
host. What happened is read off the file, the process or the listener that was
attacked wherever there is one. The reports are sealed and kept like all others.

  stopped         it did not go through; the requirements of the plan that are
                  against it are named, each with what holds it
  allowed         the spec grants it, or gives up what would stop it
  not-applicable  it would prove nothing here, and why
  went-through    the plan says that it is held, and it is not
  unclear         it ended in a way that says neither

Exit codes: 0 nothing of what the plan says is held was got past, 1 an attack
went through or ended unclear, 120 the boundary is refused, 121 spec or usage
error, 122 bvisor or the host failed.`,
		Example: `  bvisor selftest
  bvisor selftest --list
  bvisor selftest --spec job.yaml --json
  bvisor selftest --only connect-by-tcp --accept host-network`,
		Args: arguments(0, 0, ""),
		RunE: func(*cobra.Command, []string) error { return c.selftest(o) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&o.list, "list", false, "list the attacks, and attempt none")
	f.StringArrayVar(&o.only, "only", nil, "attempt the attack `NAME` alone; may be given more than once")
	f.BoolVar(&o.json, "json", false, "write the results as one JSON list")
	o.request.add(f)
	if completing() {
		complete(cmd)
		// It fails for a flag that does not exist, which a script would notice.
		_ = cmd.RegisterFlagCompletionFunc("only", cobra.FixedCompletions(attackNames(), cobra.ShellCompDirectiveNoFileComp))
	}
	return cmd
}

func attackNames() []string {
	var names []string
	for _, a := range selftest.Attacks() {
		names = append(names, a.Name)
	}
	return names
}

// chosen are the attacks that --only names, or all.
func (o *selftestOptions) chosen() ([]selftest.Attack, error) {
	all := selftest.Attacks()
	if len(o.only) == 0 {
		return all, nil
	}
	var list []selftest.Attack
	for _, name := range o.only {
		i := slices.IndexFunc(all, func(a selftest.Attack) bool { return a.Name == name })
		if i < 0 {
			f := usage("--only: there is no attack %q", name)
			if near := nearest.Name(name, attackNames(), 3); near != "" {
				return nil, f.hinted("did you mean %q?", near)
			}
			return nil, f.hinted(`"bvisor selftest --list" lists them`)
		}
		list = append(list, all[i])
	}
	return list, nil
}

func (c *cli) selftest(o *selftestOptions) error {
	attacks, err := o.chosen()
	if err != nil {
		return err
	}
	if o.list {
		return c.listAttacks(o, attacks)
	}
	exe, err := os.Executable()
	if err == nil {
		exe, err = filepath.EvalSymlinks(exe)
	}
	if err != nil {
		return fault("bvisor's own program: %w", err)
	}
	sp, err := o.spec(c, []string{exe})
	if err != nil {
		return err
	}
	fds, err := inherited(sp.Capabilities.FDs)
	if err != nil {
		return err
	}
	b, err := c.backend(o.backend, sp)
	if err != nil {
		return err
	}
	state, err := c.openState()
	if err != nil {
		return err
	}
	defer state.Log.Close()
	if err := state.Key.Ready(); err != nil { // it is one of the targets
		return fault("signing key: %w", err)
	}
	s := state.Supervisor(b)
	defer s.Wait()
	s.Protected = append(s.Protected, o.protected()...)
	t := &selftest.Tester{Supervisor: s, Spec: sp, FDs: fds, Key: filepath.Join(state.Dir, "keys", "key.pem"), Exe: exe, Env: os.Environ()}

	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	defer interruptible(cancel)()
	c.weakened(sp.Accept)
	if err := c.standing(ctx, s, t.Boundary(exe)); err != nil {
		return err
	}
	return c.attack(ctx, o, t, attacks)
}

// standing ends a selftest whose boundary does not stand on this host.
func (c *cli) standing(ctx context.Context, s *bvisor.Supervisor, sp spec.Spec) error {
	_, refusal, err := s.Plan(ctx, sp)
	if err != nil || refusal == nil {
		return err
	}
	var text bytes.Buffer
	if err := refusal.Explain(&text); err != nil {
		return err
	}
	c.block(text.Bytes())
	c.hint(`"bvisor probe" shows what this host can hold; nothing was started`)
	return &failure{code: exitRefused}
}

// attack carries out the attacks and answers with how each of them ended.
func (c *cli) attack(ctx context.Context, o *selftestOptions, t *selftest.Tester, attacks []selftest.Attack) error {
	results := []selftest.Result{}
	failed := false
	for _, a := range attacks {
		r, err := t.Run(ctx, a)
		if by, ok := errors.AsType[*interrupted](context.Cause(ctx)); ok {
			return &failure{code: exitSignal + int(by.signal), err: fmt.Errorf("%w; %d of %d attacks were attempted", by, len(results), len(attacks))}
		}
		if problems(err) != nil {
			return err
		} else if err != nil {
			return fault("%s: %w", a.Name, err)
		}
		results = append(results, r)
		failed = failed || r.Failed()
		if !o.json {
			if err := c.write(resultText(r)); err != nil {
				return err
			}
		}
	}
	var err error
	if o.json {
		err = c.writeJSON(results)
	} else {
		err = c.write([]byte(summaryText(results)))
	}
	if err == nil && failed {
		return &failure{code: exitCheck}
	}
	return err
}

// resultText is a result for people: the verdict, and what it rests on.
func resultText(r selftest.Result) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "%-14s  %s: %s\n", r.Verdict, r.Name, fit(r.Tries))
	say := func(what, text string) {
		if text != "" {
			fmt.Fprintf(&out, "%16s%-9s %s\n", "", what, fit(text))
		}
	}
	switch r.Verdict {
	case selftest.Stopped:
		say("answer", r.Answer)
		say("held by", heldText(r.Held))
	case selftest.Through:
		say("held by", heldText(r.Held)+", says the plan")
		say("witness", r.Witness)
	case selftest.Allowed:
		did := "it did not go through all the same: " + r.Answer
		if r.Through {
			did = "it went through"
		}
		say("by", r.Why)
		say("answer", did)
	default:
		say("why", r.Why)
	}
	if strings.HasPrefix(r.Control, "none") && r.Verdict == selftest.Stopped {
		say("control", r.Control)
	}
	if r.Failed() && r.Attempt != "" {
		say("report", r.Attempt)
	}
	return out.Bytes()
}

func heldText(held []selftest.Held) string {
	var parts []string
	for _, h := range held {
		parts = append(parts, fmt.Sprintf("%s (%s)", h.Requirement, strings.Join(h.Mechanisms, " + ")))
	}
	return strings.Join(parts, ", ")
}

func summaryText(results []selftest.Result) string {
	var parts []string
	for _, v := range selftest.Verdicts {
		n := 0
		for _, r := range results {
			if r.Verdict == v {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, v))
		}
	}
	return fmt.Sprintf("\n%d attacks: %s\n", len(results), strings.Join(parts, ", "))
}

func (c *cli) listAttacks(o *selftestOptions, attacks []selftest.Attack) error {
	if o.json {
		list := []listed{}
		for _, a := range attacks {
			list = append(list, listed{a.Name, a.Tries, a.Walls})
		}
		return c.writeJSON(list)
	}
	var out bytes.Buffer
	var rows [][]string
	for _, a := range attacks {
		rows = append(rows, []string{a.Name, a.Tries})
	}
	table(&out, rows)
	return c.write(out.Bytes())
}

// listed is an attack as --list --json writes it.
type listed struct {
	Name      string      `json:"name"`
	Tries     string      `json:"tries"`
	StoppedBy []plan.Kind `json:"stopped_by"`
}
