package bvisor

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/internal/canonical"
	"github.com/bvisor/bvisor/internal/durable"
	"github.com/bvisor/bvisor/internal/recovery"
	"github.com/bvisor/bvisor/ledger"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/secret"
	"github.com/bvisor/bvisor/spec"
)

// State is an open state directory: the key, the entries, and what is known
// of this host until it boots again.
type State struct {
	Dir string
	Log *ledger.Dir
	Key *report.Key

	// Told hears what a supervisor's first run found of attempts without an end;
	// nil does not want to know.
	Told func([]Recovered, error)
}

// DefaultStateDir is BVISOR_STATE_DIR, or bvisor below XDG_STATE_HOME, or
// .local/state/bvisor below the home directory (XDG Base Directory
// Specification 0.8).
func DefaultStateDir() (string, error) {
	if dir := os.Getenv("BVISOR_STATE_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "bvisor"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", errors.New("no state directory: neither BVISOR_STATE_DIR nor XDG_STATE_HOME nor a home directory is set; set one of them")
	}
	return filepath.Join(home, ".local", "state", "bvisor"), nil
}

// OpenState opens a state directory, making it and its key on first use, and
// proves that it can take entries. The key is read when it is needed: Key.Ready has its
// error. The caller closes the Log.
func OpenState(dir string) (*State, error) {
	if err := durable.MkdirAll(dir); err != nil {
		return nil, &Fault{"state directory", err}
	}
	key := report.KeyIn(filepath.Join(dir, "keys"))
	log, err := ledger.OpenDir(filepath.Join(dir, "ledger"))
	if err == nil {
		err = log.Preflight()
	}
	if err != nil {
		return nil, &Fault{"state directory", err}
	}
	log.Signer = checkpoints{key}
	log.Trusted = func() ([]ed25519.PublicKey, error) { return CheckpointKeys(dir) }
	return &State{Dir: dir, Log: log, Key: key}, nil
}

// checkpoints signs them with the key that seals reports.
type checkpoints struct{ *report.Key }

func (c checkpoints) Public() (ed25519.PublicKey, error) {
	return c.Key.Public().Ed25519(), c.Ready()
}

// CheckpointKeys are the keys whose checkpoints a state directory believes: its
// own and those it had before.
func CheckpointKeys(dir string) ([]ed25519.PublicKey, error) {
	trusted, err := report.TrustedKeys(filepath.Join(dir, "keys"))
	if err != nil {
		return nil, err
	}
	var keys []ed25519.PublicKey
	for _, k := range trusted {
		keys = append(keys, k.Ed25519())
	}
	return keys, nil
}

// Supervisor returns a supervisor that keeps its records here. No grant may
// reach the directory: it holds the key.
func (s *State) Supervisor(b backend.Backend) *Supervisor {
	sup := &Supervisor{Backend: &recalling{Backend: b, state: s}, Log: s.Log, Key: s.Key, Secrets: secret.NewRegistry(), Held: s.held(), Decide: s.Decide,
		Protected: []backend.Protected{{Path: s.Dir, What: "the state directory", Read: true}}}
	if on, ok := b.(outer); ok && on.Outer() != nil {
		b = on.Outer() // whose are the processes
	}
	if p, ok := b.(recovery.Prober); ok {
		sup.reconcile = func() { s.reconcile(p) }
	}
	return sup
}

func (s *State) held() string { return filepath.Join(s.Dir, "quarantine") }

func (s *State) quarantine(attempt string) string { return filepath.Join(s.held(), attempt) }

// recalling is a backend whose first Probe returns what the state remembers.
type recalling struct {
	backend.Backend
	state *State
	once  sync.Once
	err   error
}

// outer is a backend that runs its workloads in boundaries of another one.
type outer interface{ Outer() backend.Backend }

func (r *recalling) Probe(ctx context.Context) (plan.Profile, error) {
	r.once.Do(func() {
		if on, ok := r.Backend.(outer); ok && on.Outer() != nil {
			r.err = r.state.Recall(ctx, on.Outer())
		}
		if r.err == nil {
			r.err = r.state.Recall(ctx, r.Backend)
		}
	})
	if r.err != nil {
		return plan.Profile{}, r.err
	}
	return r.Backend.Probe(ctx)
}

// probed is a profile with what it is true for.
type probed struct {
	Version string       `json:"version"`
	Boot    string       `json:"boot"`
	Where   string       `json:"where"` // what else it is true for, by the backend's own words
	Profile plan.Profile `json:"profile"`
}

func (s *State) profileName(b backend.Backend) string {
	return fmt.Sprintf("profile-%s-%d.json", b.Name(), os.Geteuid())
}

// Recall hands the backend the profile that was taken since this host booted,
// by this version, so that a run need not probe anew; if there is none, it
// probes and keeps the result. A stale profile cannot weaken a run: each step
// of a launch must succeed, and the posture is read back before the workload
// runs. Forget drops it.
func (s *State) Recall(ctx context.Context, b backend.Backend) error {
	assumer, ok := b.(interface{ Assume(plan.Profile) })
	if !ok || durable.BootID() == "" {
		return nil
	}
	where := ""
	if c, ok := b.(interface{ Circumstances() string }); ok {
		where = c.Circumstances()
	}
	name := s.profileName(b)
	if data, err := os.ReadFile(filepath.Join(s.Dir, name)); err == nil {
		var known probed
		if canonical.Unmarshal(data, &known) == nil && known.Boot == durable.BootID() && known.Version == Version && known.Where == where {
			if p, err := known.Profile.Seal(); err == nil {
				assumer.Assume(p)
				return nil
			}
		}
	}
	p, err := b.Probe(ctx)
	if err != nil {
		return &Fault{"probe", err}
	}
	data, err := canonical.Marshal(probed{Version, durable.BootID(), where, p})
	if err != nil {
		return &Fault{"probe", err}
	}
	d, err := durable.OpenDir(s.Dir)
	if err != nil {
		return &Fault{"state directory", err}
	}
	defer d.Close()
	if err := d.WriteFile(name, data, 0o600); err != nil {
		return &Fault{"state directory", err}
	}
	return nil
}

// Forget drops the kept profile of a backend, and of the one it runs in.
func (s *State) Forget(b backend.Backend) error {
	if on, ok := b.(outer); ok && on.Outer() != nil {
		if err := s.Forget(on.Outer()); err != nil {
			return err
		}
	}
	err := os.Remove(filepath.Join(s.Dir, s.profileName(b)))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// RunConfined runs one spec and returns its sealed report, with key and
// records in the default state directory. It is the short form of OpenState
// and Supervisor.Run; captured output is in Result.Output.
func RunConfined(ctx context.Context, sp spec.Spec, b backend.Backend) (*Result, error) {
	dir, err := DefaultStateDir()
	if err != nil {
		return nil, &Fault{"state directory", err}
	}
	state, err := OpenState(dir)
	if err != nil {
		return nil, err
	}
	defer state.Log.Close()
	s := state.Supervisor(b)
	defer s.Wait()
	return s.Run(ctx, Request{Spec: sp})
}
