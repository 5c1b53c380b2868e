package bvisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bvisor/bvisor/internal/canonical"
	"github.com/bvisor/bvisor/internal/quarantine"
	"github.com/bvisor/bvisor/ledger"
	"github.com/bvisor/bvisor/report"
)

// Decision is what is to become of what a run left.
type Decision struct {
	Commit bool     // put it into place; otherwise discard it
	Paths  []string // absolute, on the host; none is all of it
	Force  bool     // with Commit: overwrite what the host has changed meanwhile
}

// Disposition is a decision and what came of it, as the ledger has them: one
// entry when it was decided, one when it was carried out. In between nothing
// but carrying it out can happen to the quarantine.
type Disposition struct {
	Version  int                  `json:"version"`
	Attempt  string               `json:"attempt"`
	Number   int                  `json:"number"` // of the decision, from 0
	Phase    string               `json:"phase"`
	Action   string               `json:"action"`
	Paths    []string             `json:"paths,omitempty"` // escaped
	Force    bool                 `json:"force,omitempty"`
	Time     string               `json:"time"`
	Done     int64                `json:"done,omitempty"`     // names that are as the run left them now
	Already  int64                `json:"already,omitempty"`  // that were so before
	Refused  int64                `json:"refused,omitempty"`  // that were never kept
	Problem  int64                `json:"problem,omitempty"`  // that could not be committed
	Problems []quarantine.Problem `json:"problems,omitempty"` // the first of those
	Fault    string               `json:"fault,omitempty"`    // why nothing more was done
}

// Phases and actions of a Disposition.
const (
	Decided = "decided"
	Applied = "applied"
	Failed  = "failed" // something was not committed; the rest was
	Commit  = "commit"
	Discard = "discard"
)

// Conflict says that the host changed what a run had seen. Nothing was done.
type Conflict struct{ Result quarantine.Result }

func (c *Conflict) Error() string {
	return fmt.Sprintf("%d of the changes cannot be committed: the host has changed since; nothing was done", c.Result.Conflicts+c.Result.Failed)
}

// decisions reads what the ledger says was decided, each with its end, if it has
// one. It is a function of the entries alone.
func decisions(entries [][]byte) ([]Disposition, error) {
	var list []Disposition
	for i, b := range entries {
		var d Disposition
		if err := canonical.Unmarshal(b, &d); err != nil {
			return nil, fmt.Errorf("disposition %d: %w", i, err)
		}
		switch {
		case d.Phase == Decided && d.Number == len(list):
			list = append(list, d)
		case d.Phase != Decided && d.Number < len(list) && list[d.Number].Phase == Decided:
			list[d.Number] = d
		case d.Phase != Decided && d.Number < len(list):
			// Two finished the same decision; the first word counts.
		default:
			return nil, fmt.Errorf("disposition %d: decision %d is %s, and %d are known", i, d.Number, d.Phase, len(list))
		}
	}
	return list, nil
}

// Held is what a run left, and what was decided over it.
type Held struct {
	Report    *report.Report
	Dir       string // of the quarantine
	Decisions []Disposition
	state     *State
	trees     []report.Artifacts
}

// HeldBack returns what an attempt left. Its report is believed only if the seal
// holds, and every manifest only if it is the one that the report names.
func (s *State) HeldBack(attempt string) (*Held, error) {
	envelope, err := s.Log.Read(ledger.Report, attempt)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("attempt %s has no report: it is running now, was refused, or a crash ended it", attempt)
	}
	if err != nil {
		return nil, err
	}
	keys, err := report.TrustedKeys(filepath.Join(s.Dir, "keys"))
	if err != nil {
		return nil, err
	}
	v, err := report.Verify(envelope, keys)
	if err != nil {
		return nil, fmt.Errorf("the report of %s: %w", attempt, err)
	}
	entries, err := s.Log.All(ledger.Disposition, attempt)
	if err != nil {
		return nil, err
	}
	h := &Held{Report: v.Report, Dir: s.quarantine(attempt), state: s, trees: v.Report.Artifacts}
	h.Decisions, err = decisions(entries)
	return h, err
}

// Open opens the manifest of the n-th tree.
func (h *Held) Open(n int) (*quarantine.Manifest, error) {
	return quarantine.Open(h.Dir, n, h.trees[n].Manifest)
}

// changes is how many there are in all.
func changes(list []report.Artifacts) int64 {
	n := int64(0)
	for _, a := range list {
		n += a.Created + a.Changed + a.Deleted + a.Refused
	}
	return n
}

// Holds says whether something of an attempt is held back, or was.
func (s *State) Holds(attempt string) bool {
	_, err := os.Stat(s.quarantine(attempt))
	return err == nil
}

// LastHeld is the attempt that was the last to leave something; "" is none.
func (s *State) LastHeld() (string, error) {
	all, err := os.ReadDir(s.held())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", &Fault{"quarantine", err}
	}
	attempt, last := "", time.Time{}
	for _, e := range all {
		info, err := os.Lstat(filepath.Join(s.held(), e.Name(), "0.manifest")) // written once
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since, or cut short
		}
		if err != nil {
			return "", &Fault{"quarantine", err}
		}
		if info.ModTime().After(last) {
			attempt, last = e.Name(), info.ModTime()
		}
	}
	return attempt, nil
}

// Decided says what was decided over one change: "committed", "discarded", "not
// committed", or nothing so far.
func (h *Held) Decided(tree int, rel string, e *quarantine.Entry) string {
	if e.Act == quarantine.Refused {
		return ""
	}
	said := ""
	for _, d := range h.Decisions {
		o := quarantine.Options{Chosen: below(h.trees[tree].Path, d.Paths)}
		switch {
		case said == "discarded" || d.Phase == Decided || !o.Covers(rel, e):
		case d.Action == Discard:
			said = "discarded"
		case d.Phase == Failed && (d.Fault != "" || d.problem(h.trees[tree].Path, e.Path)):
			said = "not committed"
		default:
			said = "committed"
		}
	}
	return said
}

// problem says whether a change is among those that were not committed, as far
// as those are listed.
func (d *Disposition) problem(tree, path string) bool {
	for _, p := range d.Problems {
		if p.Path == quarantine.Escape(tree)+"/"+path {
			return true
		}
	}
	return d.Problem > int64(len(d.Problems))
}

// whole returns the decision over everything that was carried out, if any.
func (h *Held) whole() *Disposition {
	for i := range h.Decisions {
		if d := &h.Decisions[i]; len(d.Paths) == 0 && d.Phase == Applied {
			return d
		}
	}
	return nil
}

// Decide decides over what an attempt left and carries that out. What was
// decided before and cut short is finished first. A commit that would meet
// what the host has changed is a *Conflict, and nothing happens, unless it is
// forced. Deciding the same again changes nothing.
func (s *State) Decide(attempt string, d Decision) (*Disposition, error) {
	h, unlock, err := s.lock(attempt, true)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := h.finish(); err != nil {
		return nil, err
	}
	action := Discard
	if d.Commit {
		action = Commit
	}
	if w := h.whole(); w != nil {
		if w.Action != action {
			return nil, fmt.Errorf("nothing of attempt %s is held any more: the decision of %s was to %s it", attempt, w.Time, w.Action)
		}
		again := *w
		again.Already, again.Done = w.Already+w.Done, 0
		return &again, nil
	}
	n := Disposition{Version: 1, Attempt: attempt, Number: len(h.Decisions), Phase: Decided, Action: action, Force: d.Force, Time: stamp(time.Now())}
	for _, p := range d.Paths {
		n.Paths = append(n.Paths, quarantine.Escape(filepath.Clean(p)))
	}
	if d.Commit && h.Report.Plan.Resolved.Spec.Controls.Artifacts.Commit == "never" {
		return nil, errors.New("the spec of this run says commit: never")
	}
	var would quarantine.Result
	switch {
	case d.Commit:
		would, err = h.each(&n, quarantine.Check)
	case len(d.Paths) > 0: // what the host has there now is no matter, nor is anything to who discards all
		would, err = h.each(&n, quarantine.Chosen)
	}
	switch {
	case err != nil:
		return nil, err
	case d.Commit && !d.Force && would.Conflicts+would.Failed > 0:
		return nil, &Conflict{would}
	case len(d.Paths) > 0 && would.Done+would.Already+would.Refused+would.Conflicts+would.Failed == 0:
		return nil, errors.New("nothing was changed there that is still to be decided over")
	}
	if err := h.mark(); err != nil {
		return nil, err
	}
	if err := h.record(n); err != nil {
		return nil, err
	}
	h.Decisions = append(h.Decisions, n)
	return h.carryOut(n)
}

// FinishDispositions carries out what was decided over an attempt and cut short,
// and says how much that was. It may be called at any time, by several at once.
func (s *State) FinishDispositions(attempt string) (int, error) {
	n, _, err := s.finishDispositions(attempt, true)
	return n, err
}

// finishDispositions also says what of it could not be done.
func (s *State) finishDispositions(attempt string, wait bool) (open int, why string, err error) {
	h, unlock, err := s.lock(attempt, wait)
	if err != nil {
		return 0, "", err
	}
	defer unlock()
	var cut []int
	for i, d := range h.Decisions {
		if d.Phase == Decided {
			cut = append(cut, i)
		}
	}
	err = h.finish()
	for _, i := range cut {
		if d := &h.Decisions[i]; d.Phase == Failed {
			why = d.why()
		}
	}
	return len(cut), why, err
}

// settled says whether all that was decided over an attempt is carried out, with
// nothing left to do, by the ledger's word and without a look at the report.
func (s *State) settled(attempt string) (bool, error) {
	entries, err := s.Log.All(ledger.Disposition, attempt)
	if err != nil {
		return false, err
	}
	h := &Held{}
	if h.Decisions, err = decisions(entries); err != nil {
		return false, err
	}
	for _, d := range h.Decisions {
		if d.Phase == Decided {
			return false, nil
		}
	}
	if h.whole() == nil {
		return len(h.Decisions) > 0, nil
	}
	files, err := os.ReadDir(s.quarantine(attempt))
	kept := slices.ContainsFunc(files, func(f fs.DirEntry) bool { return strings.HasSuffix(f.Name(), ".data") })
	return !kept, err
}

// why says what of a decision is not in place.
func (d *Disposition) why() string {
	if d.Fault != "" {
		return d.Fault
	}
	return fmt.Sprintf("%d of the changes could not be committed; \"bvisor artifacts list %.12s\" shows which", d.Problem, d.Attempt)
}

// lock opens a quarantine for deciding. What was read before others were waited
// for is not looked at.
func (s *State) lock(attempt string, wait bool) (*Held, func(), error) {
	unlock, err := quarantine.Lock(s.quarantine(attempt), wait)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("nothing of attempt %s is held back", attempt)
	}
	if err != nil {
		return nil, nil, err
	}
	h, err := s.HeldBack(attempt)
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return h, unlock, nil
}

func (h *Held) finish() error {
	for i := range h.Decisions {
		if h.Decisions[i].Phase == Decided {
			if _, err := h.carryOut(h.Decisions[i]); err != nil {
				return err
			}
		}
	}
	if err := h.drop(); err != nil {
		return err
	}
	return h.unmark() // one may have been killed before it could record its decision
}

// mark tells later starts that something may have to be finished here.
func (h *Held) mark() error {
	f, err := os.OpenFile(filepath.Join(h.Dir, quarantine.Deciding), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return &Fault{"quarantine", err}
	}
	return nil
}

func (h *Held) unmark() error {
	if err := os.Remove(filepath.Join(h.Dir, quarantine.Deciding)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &Fault{"quarantine", err}
	}
	return nil
}

// carryOut does what was decided, again if need be, and records what came of it.
func (h *Held) carryOut(d Disposition) (*Disposition, error) {
	d.Phase, d.Time = Applied, stamp(time.Now())
	var res quarantine.Result
	var err error
	if d.Action == Commit {
		res, err = h.each(&d, quarantine.Commit)
		// What is said to be applied must not be lost with the machine: there may
		// be no other copy soon.
		if err == nil && !h.durable() && res.Done+res.Already > 0 {
			err = quarantine.Flush(h.paths())
		}
		if err != nil {
			d.Fault = text(err.Error())
		}
	}
	d.Done, d.Already, d.Refused, d.Problem, d.Problems = res.Done, res.Already, res.Refused, res.Conflicts+res.Failed, res.Problems
	if err != nil || d.Problem > 0 {
		d.Phase = Failed
	}
	if err := h.record(d); err != nil {
		return nil, err
	}
	h.Decisions[d.Number] = d
	// Last: with the mark nothing is forgotten.
	if err := h.drop(); err != nil {
		return nil, err
	}
	return &d, h.unmark()
}

// drop removes contents that nobody can ask for any more. It comes behind the
// record: without them nothing that was decided could be carried out again.
func (h *Held) drop() error {
	if changes(h.trees) == 0 {
		// There was nothing, or it was lost; whoever ran it was killed before it
		// could take this away.
		return os.RemoveAll(h.Dir)
	}
	if h.whole() == nil {
		return nil
	}
	return quarantine.Drop(h.Dir, len(h.trees))
}

func (h *Held) paths() []string {
	var paths []string
	for _, t := range h.trees {
		paths = append(paths, t.Path)
	}
	return paths
}

func (h *Held) durable() bool {
	return h.Report.Plan.Resolved.Spec.Controls.Artifacts.Durability == "durable"
}

func (h *Held) record(d Disposition) error {
	b, err := canonical.Marshal(d)
	if err == nil {
		_, err = h.state.Log.Append(ledger.Disposition, d.Attempt, b)
	}
	if err != nil {
		return &Fault{"record the disposition", err}
	}
	return nil
}

// each calls do for every tree that a decision is about.
func (h *Held) each(d *Disposition, do func(dir string, n int, digest string, o quarantine.Options) (quarantine.Result, error)) (quarantine.Result, error) {
	var all quarantine.Result
	for _, p := range d.Paths {
		if !h.covers(p) {
			return all, fmt.Errorf("%s is below none of the directories whose writes were held back", p)
		}
	}
	for n, tree := range h.trees {
		o := quarantine.Options{Chosen: below(tree.Path, d.Paths), Force: d.Force, Durable: h.durable()}
		for _, before := range h.Decisions[:d.Number] {
			if before.Action == Discard {
				o.Without = append(o.Without, below(tree.Path, before.Paths)...)
			}
		}
		if len(o.Chosen) == 0 || tree.Lost != "" {
			continue
		}
		res, err := do(h.Dir, n, tree.Manifest, o)
		for i := range res.Problems {
			res.Problems[i].Path = quarantine.Escape(tree.Path) + "/" + res.Problems[i].Path
		}
		all.Add(res)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

func (h *Held) covers(path string) bool {
	for _, tree := range h.trees {
		if len(below(tree.Path, []string{path})) > 0 {
			return true
		}
	}
	return false
}

// below turns escaped paths of the host into paths below a tree; no paths mean
// the whole tree, and so does a directory around it.
func below(tree string, paths []string) []string {
	if len(paths) == 0 {
		return []string{""}
	}
	var list []string
	for _, p := range paths {
		raw, err := quarantine.Unescape(p)
		if err != nil {
			continue // Escape made it
		}
		switch rest, ok := strings.CutPrefix(raw, strings.TrimSuffix(tree, "/")+"/"); {
		case ok:
			list = append(list, rest)
		case raw == tree || raw == "/" || strings.HasPrefix(tree, raw+"/"):
			list = append(list, "")
		}
	}
	return list
}

// dispose is what a run does about what it left by itself.
func (s *Supervisor) dispose(a *attempt, res *Result) error {
	var lost []error
	for _, t := range res.Report.Artifacts {
		if t.Lost != "" {
			lost = append(lost, fmt.Errorf("%s: %s", t.Path, t.Lost))
		}
	}
	switch {
	case len(lost) > 0:
		return &Fault{"keep what was held back", errors.Join(lost...)}
	case len(res.Report.Artifacts) == 0:
		return nil
	case changes(res.Report.Artifacts) == 0:
		if err := os.RemoveAll(filepath.Join(s.Held, a.id)); err != nil {
			return &Fault{"quarantine", err}
		}
		return nil
	case a.plan.Resolved.Spec.Controls.Artifacts.Commit != "on-success" || res.Report.Outcome.Status != report.Completed:
		return nil
	case s.Decide == nil:
		return &Fault{"commit", errors.New("this supervisor has nothing that decides")}
	}
	var err error
	if res.Disposition, err = s.Decide(a.id, Decision{Commit: true}); err != nil {
		return &Fault{"commit", err}
	}
	if res.Disposition.Phase == Failed {
		return &Fault{"commit", fmt.Errorf("%d of the changes could not be committed", res.Disposition.Problem)}
	}
	return nil
}
