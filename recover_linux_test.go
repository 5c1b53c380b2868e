//go:build amd64 || arm64

package bvisor_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/internal/canonical"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/recovery"
	"github.com/bvisor/bvisor/ledger"
	"github.com/bvisor/bvisor/spec"
)

// A decision that was cut short, and that meets what the host changed meanwhile,
// is finished as far as it can be; whoever recovers is told of the rest.
func TestRecoveryTellsOfConflicts(t *testing.T) {
	state := open(t)
	dir, attempt := leaves(t, state)
	decided, err := json.Marshal(map[string]any{"version": 1, "attempt": attempt, "number": 0, "phase": bvisor.Decided, "action": bvisor.Commit, "time": "2026-01-02T03:04:05Z"})
	if err == nil {
		_, err = state.Log.Append(ledger.Disposition, attempt, decided)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "a"), []byte("mine"), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	list, err := state.Recover(linux.New())
	if err != nil || len(list) != 1 || list[0].Outcome != recovery.Finished || !strings.HasPrefix(list[0].Why, "1 of the changes could not be committed; ") {
		t.Errorf("recovered %+v, %v", list, err)
	}
	if got := has(t, dir); got != "a=mine c=new" {
		t.Errorf("the host has %s", got)
	}
	if got := phases(t, state, attempt); got != "commit decided, commit failed" {
		t.Errorf("the ledger has %s", got)
	}
	if list, err := state.Recover(linux.New()); err != nil || len(list) != 0 {
		t.Errorf("once more: %+v, %v", list, err)
	}
}

// What a supervisor held back, and had no time to take away after it had reported
// that there was nothing, is taken away; what is no quarantine stays.
func TestRecoveryTakesAwayWhatIsEmpty(t *testing.T) {
	state := open(t)
	s := state.Supervisor(linux.New())
	res, err := s.Run(t.Context(), bvisor.Request{Spec: spec.Default("/usr", []string{"/bin/true"})})
	s.Wait()
	if err != nil || res.Report.Refusal != nil {
		need.Missing(t, "confine", fmt.Sprint(err))
	}
	held := filepath.Join(state.Dir, "quarantine", res.Report.Identity.Attempt)
	for _, dir := range []string{held, filepath.Join(state.Dir, "quarantine", "mine")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "0.data"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := state.Recover(linux.New()); err != nil || len(list) != 0 {
		t.Errorf("recovered %+v, %v", list, err)
	}
	if left, err := filepath.Glob(filepath.Join(state.Dir, "quarantine", "*")); err != nil || len(left) != 1 || filepath.Base(left[0]) != "mine" {
		t.Errorf("left %q, %v", left, err)
	}
}

// What is discarded may have lost its place on the host, or have been altered.
func TestDiscardNeedsNothing(t *testing.T) {
	state := open(t)
	dir, attempt := leaves(t, state)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Decide(attempt, bvisor.Decision{Commit: true}); err == nil {
		t.Error("it was committed to a directory that is not there")
	}
	if _, err := state.Decide(attempt, bvisor.Decision{Paths: []string{filepath.Join(dir, "none")}}); err == nil || !strings.Contains(err.Error(), "nothing was changed there") {
		t.Errorf("of nothing: %v", err)
	}
	if _, err := state.Decide(attempt, bvisor.Decision{Paths: []string{filepath.Join(dir, "c")}}); err != nil {
		t.Errorf("a part: %v", err)
	}
	held := filepath.Join(state.Dir, "quarantine", attempt)
	if err := os.WriteFile(filepath.Join(held, "0.manifest"), []byte("altered"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Decide(attempt, bvisor.Decision{}); err != nil {
		t.Errorf("all: %v", err)
	}
	if data, _ := filepath.Glob(filepath.Join(held, "*.data")); len(data) > 0 {
		t.Errorf("%q are left", data)
	}
}

// Contents that were left after everything was recorded are dropped later.
func TestRecoveryDropsContents(t *testing.T) {
	state := open(t)
	_, attempt := leaves(t, state)
	if _, err := state.Decide(attempt, bvisor.Decision{Commit: true}); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(state.Dir, "quarantine", attempt, "0.data")
	if err := os.WriteFile(data, []byte("left"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if list, err := state.Recover(linux.New()); err != nil || len(list) != 0 {
			t.Errorf("recovered %+v, %v", list, err)
		}
		if _, err := os.Lstat(data); !os.IsNotExist(err) {
			t.Errorf("the contents are left: %v", err)
		}
	}
}

// scripted finds what is left, which grows by what the first of it had started.
type scripted struct {
	left  []recovery.Trace
	born  map[recovery.Trace]recovery.Trace
	stays bool // nothing can be taken away
}

func (p *scripted) Supervisor(recovery.Intent) (recovery.Life, string) { return recovery.Gone, "" }

func (p *scripted) Find(recovery.Intent) ([]recovery.Trace, error) { return slices.Clone(p.left), nil }

func (p *scripted) Sweep(_ recovery.Intent, t recovery.Trace) error {
	if p.stays {
		return nil
	}
	p.left = slices.DeleteFunc(p.left, func(o recovery.Trace) bool { return o == t })
	if child, ok := p.born[t]; ok {
		p.left = append(p.left, child)
	}
	return nil
}

// What a launcher forked after it was found, and before it was killed, is taken
// away, too; what is there again after it was taken away is an error, and the
// attempt stays open.
func TestRecoveryTakesAwayWhatComesLate(t *testing.T) {
	state := open(t)
	launcher, child := recovery.Trace{Kind: recovery.TraceProcess, Name: "7"}, recovery.Trace{Kind: recovery.TraceProcess, Name: "8"}
	attempt := strings.Repeat("ab", 16)
	intent, err := canonical.Marshal(recovery.Intent{Version: recovery.IntentVersion, Attempt: attempt, Supervisor: recovery.Self()})
	if err == nil {
		_, err = state.Log.Append(ledger.Intent, attempt, intent)
	}
	if err != nil {
		t.Fatal(err)
	}
	if list, err := state.Recover(&scripted{left: []recovery.Trace{launcher}, stays: true}); err == nil || !strings.Contains(err.Error(), "process 7 is there again") {
		t.Errorf("what stays: %+v, %v", list, err)
	}
	endless := &scripted{left: []recovery.Trace{launcher}, born: map[recovery.Trace]recovery.Trace{}}
	for i, last := 9, launcher; i < 20; i++ {
		next := recovery.Trace{Kind: recovery.TraceProcess, Name: strconv.Itoa(i)}
		endless.born[last], last = next, next
	}
	if list, err := state.Recover(endless); err == nil || !strings.Contains(err.Error(), "as often as that can be") {
		t.Errorf("what always comes again: %+v, %v", list, err)
	}
	list, err := state.Recover(&scripted{left: []recovery.Trace{launcher}, born: map[recovery.Trace]recovery.Trace{launcher: child}})
	if err != nil || len(list) != 1 || list[0].Outcome != recovery.RolledBack || !slices.Equal(list[0].Swept, []recovery.Trace{launcher, child}) {
		t.Errorf("recovered %+v, %v", list, err)
	}
	if list, err := state.Recover(&scripted{}); err != nil || len(list) != 0 {
		t.Errorf("once more: %+v, %v", list, err)
	}
}
