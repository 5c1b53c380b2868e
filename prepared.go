package bvisor

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/secret"
	"github.com/bvisor/bvisor/spec"
)

// Prepared keeps boundaries armed for one spec: namespaces made, root built,
// the posture read back, the workload's process waiting for the word to execute
// its program. Each serves one run and nothing is shared between runs. They end
// with the Supervisor's process, however that ends. It is safe for concurrent
// use.
//
// Decided again at every run: the plan, whether its paths still lead to the
// files that the boundary was built from, and under the same mounts of the
// host. Leases are resolved then, too, and the intent is durable before the
// program is executed.
type Prepared struct {
	s    *Supervisor
	spec spec.Spec
	size int

	mu     sync.Mutex
	armed  *sync.Cond // coming went down
	ready  []backend.Ahead
	coming int   // being armed
	failed error // why the last arming failed; tried again at the next run
	closed bool
}

// Prepare arms size boundaries for a spec, the first one before it returns. The
// error is that of Run, a *plan.Refusal, or a *backend.NotArmable for a spec
// that only Run can carry out.
func (s *Supervisor) Prepare(ctx context.Context, sp spec.Spec, size int) (*Prepared, error) {
	if size < 1 {
		return nil, fmt.Errorf("prepare: the size is %d, expected at least 1", size)
	}
	p := &Prepared{s: s, spec: sp, size: size}
	p.armed = sync.NewCond(&p.mu)
	first, err := s.arm(ctx, sp)
	if err != nil {
		return nil, err
	}
	p.ready = append(p.ready, first)
	p.fill()
	return p, nil
}

// arm takes a spec up to the barrier of a launch.
func (s *Supervisor) arm(ctx context.Context, sp spec.Spec) (backend.Ahead, error) {
	st, ok := optional[backend.Starter](s.Backend)
	if !ok {
		return nil, &backend.NotArmable{Why: "the " + s.Backend.Name() + " backend has no launcher that could wait"}
	}
	a, err := s.prepare(ctx, sp)
	if err != nil {
		return nil, err
	}
	if a.refusal != nil {
		return nil, errors.Join(a.refusal, a.resolution.Close())
	}
	return st.Arm(ctx, backend.Launch{Plan: a.plan, Resolution: a.resolution, Env: unresolved(a.plan)})
}

// unresolved is a plan's environment with references in the place of values.
func unresolved(p plan.Plan) []secret.Value {
	var env []secret.Value
	for _, e := range p.Resolved.Spec.Capabilities.Environment {
		env = append(env, secret.Value{Name: e.Name, Value: e.Value, Reference: e.Lease})
	}
	return env
}

// fill arms what is missing, without anybody waiting for it.
func (p *Prepared) fill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed && len(p.ready)+p.coming < p.size {
		p.coming++
		go func() {
			a, err := p.s.arm(context.Background(), p.spec)
			p.mu.Lock()
			defer p.mu.Unlock()
			p.failed = err
			switch {
			case err != nil:
			case p.closed:
				a.Close()
			default:
				p.ready = append(p.ready, a)
			}
			p.coming--
			p.armed.Broadcast()
		}()
	}
}

// Wait returns when every boundary that is being armed is ready, with the error
// of one that could not be armed. The next Run tries again.
func (p *Prepared) Wait() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.coming > 0 {
		p.armed.Wait()
	}
	return p.failed
}

// Run is Supervisor.Run with an armed boundary, if one is ready and still fits;
// otherwise it launches one of its own. Times.Prepared in the report says which.
// The request's spec is the prepared one, whatever it says.
func (p *Prepared) Run(ctx context.Context, req Request) (*Result, error) {
	req.Spec = p.spec
	p.mu.Lock()
	if len(p.ready) > 0 {
		req.Ahead, p.ready = p.ready[0], p.ready[1:]
	}
	empty := len(p.ready) == 0
	p.mu.Unlock()
	if empty && p.size > 1 {
		p.fill() // others may be about to ask
	}
	defer p.fill()
	return p.s.Run(ctx, req)
}

// Close ends the boundaries that wait. Runs that are under way go on.
func (p *Prepared) Close() error {
	p.mu.Lock()
	p.closed = true
	ready := p.ready
	p.ready = nil
	p.mu.Unlock()
	var errs []error
	for _, a := range ready {
		errs = append(errs, a.Close())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.coming > 0 {
		p.armed.Wait()
	}
	return errors.Join(errs...)
}
