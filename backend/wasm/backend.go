package wasm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/plan"
)

// Options are what a Backend is built from. The zero Options run modules in the
// caller's own process and remember no compiled ones.
type Options struct {
	// Outer holds the boundary around a worker. Without one there are no workers,
	// and a spec has to accept in-process.
	Outer backend.Backend
	// Worker is the command of a worker: an absolute path and arguments that make
	// that program call Work.
	Worker []string
	// Cache is a directory for compiled modules. It holds machine code: it must
	// be writable by nobody else. Empty is none.
	Cache string
}

// Backend is the WebAssembly backend. It is safe for concurrent use.
type Backend struct {
	options Options
	modules modules
	workers pool

	mu      sync.Mutex
	profile *plan.Profile
}

// New returns the WebAssembly backend.
func New(o Options) *Backend {
	b := &Backend{options: o}
	b.modules.cache = newCache(o.Cache)
	b.workers.backend = b
	return b
}

// Name implements backend.Backend.
func (*Backend) Name() string { return Name }

// Circumstances is what a profile depends on that differs between processes of
// one user: which program the workers are, and what their boundary depends on.
func (b *Backend) Circumstances() string {
	text := fmt.Sprintf("%q", b.options.Worker)
	if len(b.options.Worker) > 0 {
		if info, err := os.Stat(b.options.Worker[0]); err == nil {
			text += fmt.Sprintf(" %d %d", info.Size(), info.ModTime().UnixNano())
		}
	}
	if c, ok := b.options.Outer.(interface{ Circumstances() string }); ok {
		text += " " + c.Circumstances()
	}
	return text
}

// Outer is the backend that workers run in, or nil.
func (b *Backend) Outer() backend.Backend { return b.options.Outer }

// Probe implements backend.Backend: the first call runs a module, and starts a
// worker if there can be one; later ones return what that found.
func (b *Backend) Probe(ctx context.Context) (plan.Profile, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.profile == nil {
		p, err := b.probe(ctx)
		if err != nil {
			return plan.Profile{}, err
		}
		b.profile = &p
	}
	return *b.profile, nil
}

// Assume makes Probe return a profile that was taken earlier on this host. A
// stale one cannot weaken a run: a worker whose boundary cannot be made does
// not start, and nothing else is tried.
func (b *Backend) Assume(p plan.Profile) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.profile = &p
}

// Close ends the workers that are kept for runs to come.
func (b *Backend) Close() error { return errors.Join(b.workers.close()) }
