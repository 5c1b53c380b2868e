//go:build amd64 || arm64

package linux

import (
	"context"
	"sync"

	"github.com/bvisor/bvisor/internal/cgroup"
	"github.com/bvisor/bvisor/plan"
)

// Backend is the Linux backend. It is safe for concurrent use.
type Backend struct {
	digests digests
	images  images
	boots   bootImages

	mu      sync.Mutex
	profile *plan.Profile

	parent   string // where groups are made; empty is found
	groups   sync.Once
	below    *cgroup.Place
	belowErr error
}

// New returns the Linux backend.
func New() *Backend { return &Backend{} }

// Below returns the Linux backend that makes its groups below parent, a directory
// of a cgroup2 file system that is delegated to the caller.
func Below(parent string) *Backend { return &Backend{parent: parent} }

// Circumstances is what a profile depends on that differs between processes of
// one user: which group they are in, and which one they were told to use.
func (b *Backend) Circumstances() string { return cgroup.Own() + " " + b.parent }

// Name implements backend.Backend.
func (b *Backend) Name() string { return "linux" }

// Probe implements backend.Backend: the first call exercises every mechanism
// in throwaway children, later ones return what that found.
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
// stale one cannot weaken a run: every step of a launch must succeed, and the
// posture is read back before the workload runs.
func (b *Backend) Assume(p plan.Profile) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.profile = &p
}
