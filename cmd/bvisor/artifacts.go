package main

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/internal/quarantine"
	"github.com/bvisor/bvisor/internal/terminal"
	"github.com/bvisor/bvisor/report"
)

func newArtifacts(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "artifacts",
		Short: "Look at what a run left, and decide over it",
		Long: `What a run writes below the paths of --quarantine or controls.artifacts is held
back: the host's files stay as they are until it is committed. These commands show
it, put it into place, or discard it.

Exit codes: 0; 1 what is held back is not what was sealed, or not all of it could be
committed; 121 there is nothing, or it was decided otherwise; 122 bvisor or the host
failed.`,
		Args: cobra.ArbitraryArgs,
		RunE: group,
	}
	cmd.AddCommand(newArtifactsList(c), newArtifactsDiff(c), newArtifactsCommit(c), newArtifactsDiscard(c))
	return cmd
}

// runArgument is how these commands name a run and a part of what it left.
const runArgument = `RUN is the first digits of an attempt's id; without it, the last attempt that left
something. A PATH chooses a file, or a directory with all that is in it.`

func newArtifactsList(c *cli) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list [--json] [RUN [PATH...]]",
		Short: "List what a run created, changed and deleted",
		Long: `List what a run created, changed and deleted below the paths that were held back,
and what was decided over it.

` + runArgument,
		Example: `  bvisor artifacts list
  bvisor artifacts list 3f2a91 src`,
		RunE: func(_ *cobra.Command, args []string) error { return c.listArtifacts(args, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write one JSON line for each change, as the manifest has it")
	return cmd
}

func newArtifactsDiff(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "diff [RUN [PATH...]]",
		Short: "Show what a run changed, line by line",
		Long: `Show the differences between the host's files and those of a run, as diff -u does.
Of files that are no text, or large, sizes and digests are shown.

` + runArgument,
		Example: `  bvisor artifacts diff
  bvisor artifacts diff 3f2a91 src/main.c`,
		RunE: func(_ *cobra.Command, args []string) error { return c.diffArtifacts(args) },
	}
}

func newArtifactsCommit(c *cli) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "commit [--force] [RUN [PATH...]]",
		Short: "Put what a run left into place",
		Long: `Put what a run created, changed and deleted into place. Each file is exchanged in
one step. If the host has changed anything of it since, nothing is done: the
conflicts are listed. Committing again changes nothing. Set-id bits are not set,
and special files were never kept.

` + runArgument + `

Exit codes: 0 everything is in place, 1 a conflict, or something could not be
committed.`,
		Example: `  bvisor artifacts commit
  bvisor artifacts commit 3f2a91 src README.md`,
		RunE: func(_ *cobra.Command, args []string) error {
			return c.decide(args, bvisor.Decision{Commit: true, Force: force})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "overwrite what the host has changed meanwhile")
	return cmd
}

func newArtifactsDiscard(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "discard [RUN [PATH...]]",
		Short: "Drop what a run left",
		Long: `Drop what a run created, changed and deleted. The report keeps saying what it was.

` + runArgument,
		Example: "  bvisor artifacts discard 3f2a91",
		RunE:    func(_ *cobra.Command, args []string) error { return c.decide(args, bvisor.Decision{}) },
	}
}

// heldRun finds the run that a command is about, and makes paths absolute.
func (c *cli) heldRun(args []string) (state *bvisor.State, attempt string, paths []string, err error) {
	log, err := c.openLog() // makes none
	if err != nil {
		return nil, "", nil, err
	}
	log.Close()
	if state, err = c.openState(); err != nil {
		return nil, "", nil, err
	}
	if len(args) > 0 {
		attempt, err = state.Log.Find(args[0])
		if err != nil {
			state.Log.Close()
			return nil, "", nil, usage("%w", err).hinted(`"bvisor report list" lists the attempts`)
		}
		for _, p := range args[1:] {
			abs, err := filepath.Abs(p)
			if err != nil {
				state.Log.Close()
				return nil, "", nil, usage("%w", err)
			}
			paths = append(paths, abs)
		}
		return state, attempt, paths, nil
	}
	attempt, err = state.LastHeld()
	if err == nil && attempt == "" {
		err = usage("no run has left anything").hinted("bvisor run --quarantine PATH holds back what is written below PATH")
	}
	if err != nil {
		state.Log.Close()
		return nil, "", nil, asFailure(err)
	}
	return state, attempt, nil, nil
}

// eachHeld calls use with what the paths choose of what a run left.
func eachHeld(h *bvisor.Held, paths []string, use func(tree int, m *quarantine.Manifest, rel string, e *quarantine.Entry) error) error {
	found := false
	for n, a := range h.Report.Artifacts {
		if a.Lost != "" {
			continue
		}
		m, err := h.Open(n)
		if err != nil {
			return &failure{code: exitCheck, err: err}
		}
		err = m.Each(func(_ int64, e *quarantine.Entry) error {
			rel, err := quarantine.Unescape(e.Path)
			if err != nil || !chosen(filepath.Join(a.Path, rel), paths) {
				return err
			}
			found = true
			return use(n, m, rel, e)
		})
		m.Close()
		if err != nil {
			return err
		}
	}
	if !found && len(paths) > 0 {
		return usage("nothing was changed there")
	}
	return nil
}

func chosen(path string, paths []string) bool {
	for _, p := range paths {
		if path == p || p == "/" || strings.HasPrefix(path, p+"/") {
			return true
		}
	}
	return len(paths) == 0
}

func (c *cli) held(args []string) (*bvisor.State, *bvisor.Held, []string, error) {
	state, attempt, paths, err := c.heldRun(args)
	if err != nil {
		return nil, nil, nil, err
	}
	h, err := state.HeldBack(attempt)
	if err == nil && !state.Holds(attempt) {
		err = usage("nothing of attempt %s is held back", attempt)
	}
	if err != nil {
		state.Log.Close()
		return nil, nil, nil, asFailure(err)
	}
	return state, h, paths, nil
}

// asFailure gives errors of a quarantine their code: what was asked cannot be
// done, unless it is said to be something else.
func asFailure(err error) error {
	if _, ok := errors.AsType[*report.CheckError](err); ok || errors.Is(err, quarantine.ErrAltered) {
		return &failure{code: exitCheck, err: err}
	}
	if _, ok := errors.AsType[*bvisor.Fault](err); ok {
		return err
	}
	if _, ok := errors.AsType[*failure](err); ok {
		return err
	}
	return usage("%w", err)
}

func (c *cli) listArtifacts(args []string, asJSON bool) error {
	state, h, paths, err := c.held(args)
	if err != nil {
		return err
	}
	defer state.Log.Close()
	last := -1
	return eachHeld(h, paths, func(tree int, _ *quarantine.Manifest, rel string, e *quarantine.Entry) error {
		root := h.Report.Artifacts[tree].Path
		if asJSON {
			return c.writeJSON(listedChange{root, *e, h.Decided(tree, rel, e)})
		}
		var out bytes.Buffer
		if tree != last {
			fmt.Fprintln(&out, terminal.Sanitize(root)+":")
			last = tree
		}
		what := e.After
		if what == nil {
			what = e.Before
		}
		kind, detail := "", e.Why
		if what != nil {
			kind = string(what.Type)
			switch {
			case what.Type == quarantine.File && e.After != nil:
				detail = strconv.FormatInt(what.Size, 10) + " bytes, mode " + what.Mode
			case what.Type == quarantine.Link && e.After != nil:
				detail = "-> " + terminal.Sanitize(raw(what.Target))
				if leadsOut(rel, raw(what.Target)) {
					detail += ", leads out"
				}
			case e.After != nil:
				detail = "mode " + what.Mode
			}
		}
		if decided := h.Decided(tree, rel, e); decided != "" {
			detail += " (" + decided + ")"
		}
		fmt.Fprintf(&out, "  %-8s %-9s %s  %s\n", e.Act, kind, terminal.Sanitize(rel), detail)
		return c.write(out.Bytes())
	})
}

// listedChange is one line of list --json.
type listedChange struct {
	Below   string           `json:"below"`
	Entry   quarantine.Entry `json:"change"`
	Decided string           `json:"decided,omitempty"`
}

// raw is a text of a manifest as it was; what Escape did not make stays.
func raw(text string) string {
	if s, err := quarantine.Unescape(text); err == nil {
		return s
	}
	return text
}

// leadsOut says whether a link's target is outside of the tree, by its text.
func leadsOut(rel, target string) bool {
	return filepath.IsAbs(target) || !filepath.IsLocal(filepath.Join(filepath.Dir(rel), target)) && filepath.Join(filepath.Dir(rel), target) != "."
}

func (c *cli) decide(args []string, d bvisor.Decision) error {
	state, attempt, paths, err := c.heldRun(args)
	if err != nil {
		return err
	}
	defer state.Log.Close()
	d.Paths = paths
	done, err := state.Decide(attempt, d)
	if conflict, ok := errors.AsType[*bvisor.Conflict](err); ok {
		c.problems(conflict.Result.Problems, conflict.Result.Conflicts+conflict.Result.Failed)
		return (&failure{code: exitCheck, err: err}).hinted("commit the other paths by name, or overwrite these with --force")
	}
	if err != nil {
		return asFailure(err)
	}
	text := "discarded"
	if done.Action == bvisor.Commit {
		text = fmt.Sprintf("committed: %d in place", done.Done+done.Already)
		if done.Already > 0 {
			text += fmt.Sprintf(", %d of them already", done.Already)
		}
		if done.Refused > 0 {
			text += fmt.Sprintf("; %d were never kept", done.Refused)
		}
	}
	if err := c.write([]byte(fit(text+" (attempt "+attempt[:12]+")") + "\n")); err != nil {
		return err
	}
	if done.Phase == bvisor.Failed {
		c.problems(done.Problems, done.Problem)
		err := fmt.Errorf("%d changes were not committed", done.Problem)
		if done.Fault != "" {
			err = errors.New(done.Fault)
		}
		return &failure{code: exitCheck, err: err}
	}
	return nil
}

func (c *cli) problems(list []quarantine.Problem, all int64) {
	for _, p := range list {
		c.say("%s: %s", terminal.Sanitize(raw(p.Path)), p.Why)
	}
	if more := all - int64(len(list)); more > 0 {
		c.say("and %d more", more)
	}
}

// heldBack says after a run what it left.
func (c *cli) heldBack(r *report.Report, d *bvisor.Disposition) {
	var total int64
	for _, a := range r.Artifacts {
		n := a.Created + a.Changed + a.Deleted + a.Refused
		total += n
		if n == 0 && a.Lost == "" && !c.quiet {
			c.say("nothing was changed below %s", a.Path)
		}
		if n == 0 || d != nil {
			continue
		}
		text := fmt.Sprintf("held back below %s: %d created, %d changed, %d deleted", a.Path, a.Created, a.Changed, a.Deleted)
		if a.Refused > 0 {
			text += fmt.Sprintf("; %d not kept", a.Refused)
		}
		c.say("%s", text)
	}
	id := r.Identity.Attempt[:12]
	switch {
	case total == 0:
	case d == nil:
		c.hint(`"bvisor artifacts diff %s" shows it, "bvisor artifacts commit %s" puts it into place`, id, id)
	case d.Phase == bvisor.Applied && !c.quiet:
		c.say("committed: %d changes", d.Done+d.Already)
	default:
		c.problems(d.Problems, d.Problem)
	}
}
