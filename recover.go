package bvisor

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/bvisor/bvisor/internal/canonical"
	"github.com/bvisor/bvisor/internal/durable"
	"github.com/bvisor/bvisor/internal/quarantine"
	"github.com/bvisor/bvisor/internal/recovery"
	"github.com/bvisor/bvisor/ledger"
)

// Recovered is what became of an attempt without an end.
type Recovered struct {
	Attempt string
	Outcome recovery.Outcome
	Swept   []recovery.Trace // what it had left, gone now
	Why     string           // it was refused, or what of a decision could not be done
}

// Recover reconciles the attempts that have an intent and no end with what is
// found on this host. What crashes left is taken away, and each of these
// attempts gets its end in the ledger. A run of another process that lives is
// not touched. Decisions over what runs left that were cut short are carried
// out. It may be called at any time, by any number of processes.
func (s *State) Recover(p recovery.Prober) ([]Recovered, error) {
	list, err := s.recoverAttempts(p)
	finished, e := s.finishCut(true)
	return append(list, finished...), errors.Join(err, e)
}

func (s *State) recoverAttempts(p recovery.Prober) ([]Recovered, error) {
	open, err := s.Log.Open()
	if err != nil {
		return nil, &Fault{"recover", err}
	}
	var list []Recovered
	var errs []error
	for _, e := range open {
		r, err := s.recover(p, e)
		if err != nil {
			errs = append(errs, &Fault{"recover " + e.Attempt, err})
			continue
		}
		list = append(list, r)
	}
	return list, errors.Join(errs...)
}

func (s *State) recover(p recovery.Prober, e ledger.Entry) (Recovered, error) {
	_, body, err := s.Log.ReadAt(e.Index)
	if err != nil {
		return Recovered{}, err
	}
	var said recovery.Said
	if said.Intent, said.Bad = recovery.ParseIntent(body); said.Bad == nil && said.Intent.Attempt != e.Attempt {
		said.Bad = fmt.Errorf("intent: it is of attempt %s", said.Intent.Attempt)
	}
	found := recovery.Found{Boot: durable.BootID()}
	if said.Bad == nil {
		if found.Life, found.Why = p.Supervisor(said.Intent); found.Life != recovery.Alive {
			if found.Traces, err = s.find(p, said.Intent); err != nil {
				return Recovered{}, err
			}
			// It may have ended in good order just before.
			if said.Ended, err = s.ended(e.Attempt); err != nil {
				return Recovered{}, err
			}
		}
	}
	d := recovery.Decide(said, found)
	r := Recovered{Attempt: e.Attempt, Outcome: d.Outcome, Swept: d.Sweep, Why: d.Why}
	if d.Outcome != recovery.Absent && d.Outcome != recovery.RolledBack {
		return r, nil
	}
	if r.Swept, err = s.sweepAll(p, said.Intent, d.Sweep); err != nil {
		return Recovered{}, err
	}
	entry, err := canonical.Marshal(recovery.Record{Version: recovery.RecordVersion, Attempt: e.Attempt, Outcome: d.Outcome, Swept: r.Swept, By: recovery.Self()})
	if err != nil {
		return Recovered{}, err
	}
	if _, err = s.Log.Append(ledger.Recovery, e.Attempt, entry); errors.Is(err, fs.ErrExist) {
		return Recovered{Attempt: e.Attempt, Outcome: recovery.Completed}, nil // another one was quicker
	}
	return r, err
}

// sweepAll takes away what was found, and what is found then: a launcher may have
// forked init before it was killed, and init the workload. It returns all that is
// gone.
func (s *State) sweepAll(p recovery.Prober, i recovery.Intent, left []recovery.Trace) (swept []recovery.Trace, err error) {
	const generations = 3
	for n := 0; len(left) > 0; n++ {
		if n > generations {
			return nil, fmt.Errorf("%s %s came while the others were taken away, as often as that can be", left[0].Kind, left[0].Name)
		}
		for _, t := range left {
			if slices.Contains(swept, t) {
				return nil, fmt.Errorf("%s %s is there again after it was taken away", t.Kind, t.Name)
			}
			if err := s.sweep(p, i, t); err != nil {
				return nil, err
			}
		}
		swept = append(swept, left...)
		if left, err = s.find(p, i); err != nil {
			return nil, err
		}
	}
	return swept, nil
}

func (s *State) ended(attempt string) (bool, error) {
	list, err := s.Log.Attempt(attempt)
	for _, e := range list {
		if e.Kind.Ends() {
			return true, err
		}
	}
	return false, err
}

// find is what the prober finds, and what is held back of an attempt that has no
// report: nobody can decide over it, since nothing says what it should be.
func (s *State) find(p recovery.Prober, i recovery.Intent) ([]recovery.Trace, error) {
	list, err := p.Find(i)
	if err == nil && i.Quarantine != "" && s.Holds(i.Attempt) {
		list = append(list, recovery.Trace{Kind: recovery.TraceQuarantine, Name: text(s.quarantine(i.Attempt))})
	}
	return list, err
}

func (s *State) sweep(p recovery.Prober, i recovery.Intent, t recovery.Trace) error {
	if t.Kind == recovery.TraceQuarantine {
		return os.RemoveAll(s.quarantine(i.Attempt))
	}
	return p.Sweep(i, t)
}

// finishCut carries out the decisions over what runs left that were cut short:
// all of them, or those that are marked and that nobody is working on.
func (s *State) finishCut(all bool) ([]Recovered, error) {
	held, err := os.ReadDir(s.held())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &Fault{"quarantine", err}
	}
	var list []Recovered
	var errs []error
	for _, e := range held {
		attempt := e.Name()
		if id, err := hex.DecodeString(attempt); err != nil || len(id) != 16 {
			continue // somebody else's
		}
		if _, err := os.Lstat(filepath.Join(s.quarantine(attempt), quarantine.Deciding)); err != nil {
			if !all {
				continue
			}
			if done, err := s.settled(attempt); err != nil || done {
				errs = append(errs, err) // there may be many
				continue
			}
		}
		if ended, err := s.ended(attempt); err != nil || !ended {
			errs = append(errs, err) // one that runs now
			continue
		}
		n, why, err := s.finishDispositions(attempt, all)
		switch {
		case err != nil && !errors.Is(err, quarantine.ErrBusy):
			errs = append(errs, &Fault{"finish " + attempt, err})
		case n > 0:
			list = append(list, Recovered{Attempt: attempt, Outcome: recovery.Finished, Why: why})
		}
	}
	return list, errors.Join(errs...)
}

// reconcile is what a start does, beside its first run: nothing, when nothing
// is open but that.
func (s *State) reconcile(p recovery.Prober) {
	var list []Recovered
	var err error
	if s.Log.Waiting() >= 2 {
		list, err = s.recoverAttempts(p)
	}
	finished, e := s.finishCut(false)
	if list, err = append(list, finished...), errors.Join(err, e); s.Told != nil && (len(list) > 0 || err != nil) {
		s.Told(list, err)
	}
}
