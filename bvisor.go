package bvisor

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/internal/canonical"
	"github.com/bvisor/bvisor/ledger"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/secret"
	"github.com/bvisor/bvisor/spec"
)

// Supervisor takes specs through the six steps: plan, record the intent,
// launch, observe, seal, record. It is safe for concurrent use.
type Supervisor struct {
	Backend backend.Backend
	Log     ledger.Log       // where intents, refusals and reports go, durably
	Key     *report.Key      // seals
	Secrets *secret.Registry // resolves leases; nil knows no scheme
	Held    string           // directory that keeps what controls.artifacts holds back, for each attempt
	// Decide commits what a run left whose spec says commit: on-success.
	Decide    func(attempt string, d Decision) (*Disposition, error)
	Protected []backend.Protected // what no grant may reach: the state directory, the spec file

	settling  sync.WaitGroup
	reconcile func() // once, beside the first launch; nil without a state directory
	begun     sync.Once
	mu        sync.Mutex
	last      *decision
}

// Wait returns when what finished runs left to be cleared away is gone: bvisor's
// own launchers, never anything of a workload.
func (s *Supervisor) Wait() { s.settling.Wait() }

// Request is one run.
type Request struct {
	Spec   spec.Spec
	Stdin  *os.File  // for stdin: inherit, and what is typed with tty
	Stdout io.Writer // captured output is relayed here as it comes; nil drops it
	Stderr io.Writer
	FDs    map[int]*os.File // the descriptors that the spec's fds name
	Ahead  backend.Ahead    // from the same backend, when it was begun before; Run closes it
	// Terminal is for stdin: tty. The zero value will do for a program that asks
	// for no size.
	Terminal backend.Terminal
}

// Ahead begins what every launch begins with, as Run does by itself; nil where
// the backend has nothing of the kind.
func (s *Supervisor) Ahead() backend.Ahead {
	if st, ok := optional[backend.Starter](s.Backend); ok {
		return st.Ahead()
	}
	return nil
}

// optional returns what only some backends have.
func optional[T any](b backend.Backend) (T, bool) {
	if r, ok := b.(*recalling); ok {
		b = r.Backend
	}
	t, ok := b.(T)
	return t, ok
}

// Result is a sealed and recorded attempt.
type Result struct {
	Report   *report.Report
	Envelope []byte            // the sealed report, a DSSE envelope
	Receipt  *ledger.Receipt   // nil when recording failed
	Output   map[string][]byte // kept bytes of captured streams, leases' values taken out

	Disposition *Disposition // of what the run left, where the spec says commit: on-success
}

// Fault says that bvisor itself could not do a step.
type Fault struct {
	Step string
	Err  error
}

func (f *Fault) Error() string { return f.Step + ": " + f.Err.Error() }
func (f *Fault) Unwrap() error { return f.Err }

// Run takes one request from spec to ledger.
//
// The error is a *spec.Error or *backend.CommandError when nothing was
// planned, or a *Fault. A refusal, a failed setup and everything about the
// workload are results: Result.Report says which. When only the last step, the
// recording, failed, both a result and a *Fault are returned.
func (s *Supervisor) Run(ctx context.Context, req Request) (*Result, error) {
	if req.Ahead == nil {
		req.Ahead = s.Ahead()
	}
	if req.Ahead != nil {
		defer s.settling.Go(func() { req.Ahead.Close() })
	}
	a, err := s.prepare(ctx, req.Spec)
	if err != nil {
		return nil, err
	}
	defer a.resolution.Close()
	if a.refusal != nil {
		return s.finish(a, ledger.Refusal, a.refused())
	}
	env, err := secret.LowerEnv(ctx, s.Secrets, a.plan.Resolved.Spec.Capabilities.Environment)
	if err != nil {
		return s.finish(a, ledger.Report, a.noEnvironment(err))
	}
	observed, settle, err := s.Backend.Launch(ctx, backend.Launch{
		Attempt: a.id, Plan: a.plan, Resolution: a.resolution, Quarantine: filepath.Join(s.Held, a.id), Env: env,
		Stdin: req.Stdin, Stdout: req.Stdout, Stderr: req.Stderr, FDs: req.FDs, Terminal: req.Terminal, Ahead: req.Ahead,
		Commit: func() error {
			defer func() { go report.Warm() }()
			return s.intend(a)
		},
	})
	s.settling.Go(settle)
	if err != nil {
		return s.fault(a, err)
	}
	redact(&observed, env)
	res, err := s.finish(a, ledger.Report, a.observed(observed, env))
	if err == nil {
		err = s.dispose(a, res)
	}
	return res, err
}

// attempt is one way through the pipeline.
type attempt struct {
	id         string
	started    time.Time
	profile    plan.Profile
	resolution backend.Resolution
	plan       plan.Plan
	refusal    *plan.Refusal
	intended   bool
	output     map[string][]byte
}

// prepare is everything before the launch: probe, resolve, plan.
func (s *Supervisor) prepare(ctx context.Context, sp spec.Spec) (*attempt, error) {
	id := make([]byte, 16)
	rand.Read(id) // never fails: crypto/rand ends the program instead
	a := &attempt{id: hex.EncodeToString(id), started: time.Now()}
	if err := spec.Validate(sp); err != nil {
		return nil, err
	}
	var err error
	if a.profile, err = s.Backend.Probe(ctx); err != nil {
		if _, ok := errors.AsType[*Fault](err); !ok {
			err = &Fault{"probe", err}
		}
		return nil, err
	}
	if a.resolution, err = s.Backend.Resolve(ctx, spec.Expand(sp), s.Protected); err != nil {
		return nil, err
	}
	a.plan, a.refusal = s.decide(a.resolution.Resolved(), a.profile)
	return a, nil
}

// decide is plan.Make, which is pure, remembering its last answer: the same
// request is often made again and again.
func (s *Supervisor) decide(r spec.Resolved, p plan.Profile) (plan.Plan, *plan.Refusal) {
	s.mu.Lock()
	last := s.last
	s.mu.Unlock()
	var asked []byte
	err := canonical.Lend(r, func(b []byte) error {
		if last == nil || last.profile != p.Digest() || !bytes.Equal(last.asked, b) {
			asked = bytes.Clone(b)
		}
		return nil
	})
	if err == nil && asked == nil {
		return last.plan, nil
	}
	made, refusal := plan.Make(r, p)
	if refusal == nil && err == nil {
		s.mu.Lock()
		s.last = &decision{asked, p.Digest(), made}
		s.mu.Unlock()
	}
	return made, refusal
}

type decision struct {
	asked   []byte
	profile string
	plan    plan.Plan
}

// Plan decides over a spec without launching anything. Exactly one of plan and
// refusal is set when the error is nil; errors are those of Run.
func (s *Supervisor) Plan(ctx context.Context, sp spec.Spec) (*plan.Plan, *plan.Refusal, error) {
	a, err := s.prepare(ctx, sp)
	if err != nil {
		return nil, nil, err
	}
	defer a.resolution.Close()
	if a.refusal != nil {
		return nil, a.refusal, nil
	}
	return &a.plan, nil, nil
}

// Program lowers a spec's plan and returns it printed, every system call in
// order, without launching anything.
func (s *Supervisor) Program(ctx context.Context, sp spec.Spec, w io.Writer) error {
	a, err := s.prepare(ctx, sp)
	if err != nil {
		return err
	}
	defer a.resolution.Close()
	if a.refusal != nil {
		return a.refusal
	}
	p, ok := optional[interface {
		Print(w io.Writer, p plan.Plan, r backend.Resolution) error
	}](s.Backend)
	if !ok {
		return fmt.Errorf("the %s backend has no program to print", s.Backend.Name())
	}
	return p.Print(w, a.plan, a.resolution)
}

// intend records durably that the plan is about to be launched, once it is
// certain that its report can be sealed.
func (s *Supervisor) intend(a *attempt) error {
	if err := s.Key.Ready(); err != nil {
		return &Fault{"signing key", err}
	}
	b, err := a.intent(s.Held)
	if err == nil {
		_, err = s.Log.Append(ledger.Intent, a.id, b)
	}
	if err != nil {
		return &Fault{"record the intent", err}
	}
	a.intended = true
	if s.reconcile != nil {
		s.begun.Do(func() { s.settling.Go(s.reconcile) })
	}
	return nil
}

// fault ends an attempt whose launch failed on our side. Without an intent
// there is nothing to close.
func (s *Supervisor) fault(a *attempt, err error) (*Result, error) {
	f, ok := errors.AsType[*Fault](err)
	if !ok {
		f = &Fault{"launch", err}
	}
	if !a.intended {
		return nil, f
	}
	r, e := s.finish(a, ledger.Report, a.report(report.Outcome{Status: report.SupervisorFault, Reason: f.Error()}))
	return r, errors.Join(f, e)
}

// finish seals and records.
func (s *Supervisor) finish(a *attempt, kind ledger.Kind, r *report.Report) (*Result, error) {
	if err := s.Key.Ready(); err != nil {
		return nil, &Fault{"signing key", err}
	}
	envelope, err := report.Seal(r, s.Key)
	if err != nil {
		return &Result{Report: r, Output: a.output}, &Fault{"seal", err}
	}
	res := &Result{Report: r, Envelope: envelope, Output: a.output}
	receipt, err := s.Log.Append(kind, a.id, envelope)
	if err != nil {
		return res, &Fault{"record the report", err}
	}
	res.Receipt = &receipt
	return res, nil
}

// Version is the module's version, or "devel".
var Version = func() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range append(info.Deps, &info.Main) {
			if m.Path == "github.com/bvisor/bvisor" && m.Version != "" && m.Version != "(devel)" {
				return m.Version
			}
		}
	}
	return "devel"
}()
