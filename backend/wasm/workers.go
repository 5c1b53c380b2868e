package wasm

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/internal/canonical"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// Places inside a worker's boundary, and the descriptors that it is handed. The
// program's comes behind all others in their order: it may lie in a granted
// directory, and is executed by way of the last place that shows it.
const (
	workerProgram = "/~/bvisor"
	workerScratch = "/~/scratch"
	WorkerIn      = 3
	WorkerOut     = 4
)

// workerGrace is what a worker has between SIGTERM and its end: as good as
// nothing. It was asked to end before, and has nothing to clear away.
const workerGrace = time.Millisecond

// boundary is the spec of a worker: what the plan grants to the module is all
// that the worker can reach, besides its own program and a place for code.
func (b *Backend) boundary(r *spec.Resolved) spec.Spec {
	s := spec.Spec{
		Version:  spec.Version,
		Workload: spec.Workload{Command: append([]string{workerProgram}, b.options.Worker[1:]...)},
		Capabilities: spec.Capabilities{
			Spawn: spec.SpawnThreads,
			FDs:   []int{WorkerIn, WorkerOut},
		},
		Controls: spec.Controls{
			Expose: []spec.Expose{{Source: b.options.Worker[0], Dest: workerProgram, Access: "rx"}},
			Temp:   []spec.Temp{{Path: workerScratch, Access: "rw"}},
			Kill:   spec.Kill{Grace: workerGrace},
		},
		Budgets: map[spec.Dimension]spec.Budget{spec.Storage: {Limit: mostBytes + memoryOf(r), Guarantee: spec.Enforced, Origin: spec.FromDefault}},
	}
	s.Controls.Temp = append(s.Controls.Temp, r.Spec.Controls.Temp...)
	s.Controls.Artifacts = r.Spec.Controls.Artifacts
	s.Capabilities.Filesystem = reach(r.Roots)
	return spec.Expand(s)
}

// reach is what a worker is granted for the roots of its module. A place that
// the module sees more than once is there once, with all that any name gives:
// which name gives what is for the module's view to say.
func reach(roots []spec.Root) []spec.Grant {
	var list []spec.Grant
	for i := range roots {
		o := &roots[i]
		if slices.ContainsFunc(list, func(g spec.Grant) bool { return g.Paths[0] == o.Path }) {
			continue
		}
		g := spec.Grant{Access: o.Access, Paths: []string{o.Path}, NonRecursive: o.NonRecursive, Origin: spec.FromSpec}
		if o.Role != spec.RoleCarveOut {
			g.Access, g.NonRecursive = rightsAt(roots, o.Path)
		}
		list = append(list, g)
	}
	return list
}

// rightsAt is the sum of what the innermost grant and everything exposed give
// at a path. Nothing is executed there.
func rightsAt(roots []spec.Root, at string) (sum spec.Access, flat bool) {
	var inner *spec.Root
	flat = true
	var all []*spec.Root
	for i := range roots {
		switch o := &roots[i]; {
		case o.Role == spec.RoleCarveOut || o.Path != at && (o.NonRecursive || !within(at, o.Path)):
		case o.Role == spec.RoleExpose:
			all = append(all, o)
		case inner == nil || len(o.Path) > len(inner.Path):
			inner = o
		}
	}
	if inner != nil {
		all = append(all, inner)
	}
	for _, right := range []spec.Access{"r", "w"} {
		if slices.ContainsFunc(all, func(o *spec.Root) bool { return strings.Contains(string(o.Access), string(right)) }) {
			sum += right
		}
	}
	for _, o := range all {
		flat = flat && o.NonRecursive
	}
	return sum, flat
}

// memoryOf is what the module may have in the memory of the worker's boundary:
// as much as it may write, which the view counts.
func memoryOf(r *spec.Resolved) int64 {
	if c := &r.Spec.Controls; len(c.Temp) == 0 && c.Artifacts == nil {
		return 0
	}
	limit, ok := r.Spec.Budgets[spec.Storage]
	if !ok {
		return spec.DefaultStorage
	}
	return min(limit.Limit, spec.MaxLimit-mostBytes)
}

// remote is the supervisor's side of a worker.
type remote struct {
	*conn
	key   string
	to    *os.File
	from  *os.File
	end   context.CancelFunc
	gone  chan struct{}      // closed when nothing is left of it
	ended error              // why, then
	left  []report.Artifacts // what its boundary held back, then
	roots []os.FileInfo      // what its boundary was built from
	idle  *time.Timer
	warm  bool // it has compiled its module
}

// start begins a worker that can be used for any number of runs.
func (b *Backend) start(ctx context.Context, r *spec.Resolved, protected []backend.Protected) (*remote, error) {
	if !b.hasWorkers() {
		return nil, errors.New("this program was given no worker and no backend for its boundary")
	}
	res, err := b.options.Outer.Resolve(ctx, b.boundary(r), protected)
	if err != nil {
		return nil, fmt.Errorf("the worker's boundary: %w", err)
	}
	return b.begin(ctx, backend.Launch{Attempt: "worker", Resolution: res})
}

func (b *Backend) hasWorkers() bool { return b.options.Outer != nil && len(b.options.Worker) > 0 }

// begin starts a worker in a boundary that is resolved, and waits for its first
// word. The resolution is closed in any case.
func (b *Backend) begin(ctx context.Context, l backend.Launch) (*remote, error) {
	outer := b.options.Outer
	profile, err := outer.Probe(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the worker's boundary: %w", err), l.Resolution.Close())
	}
	var refusal *plan.Refusal
	if l.Plan, refusal = plan.Make(l.Resolution.Resolved(), profile); refusal != nil {
		return nil, errors.Join(fmt.Errorf("the worker's boundary: %w", refusal), l.Resolution.Close())
	}
	w, err := launchWorker(ctx, outer, l)
	if err != nil {
		return nil, err
	}
	if err := w.within(ctx, func() error { _, err := w.expect(frameHello); return err }); err != nil {
		w.kill()
		return nil, fmt.Errorf("the worker did not begin: %w", errors.Join(err, w.ended))
	}
	return w, nil
}

func launchWorker(ctx context.Context, outer backend.Backend, l backend.Launch) (*remote, error) {
	in, to, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, l.Resolution.Close())
	}
	from, out, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, in.Close(), to.Close(), l.Resolution.Close())
	}
	l.FDs = map[int]*os.File{WorkerIn: in, WorkerOut: out}
	l.Commit = func() error { return nil } // the intent of its run is durable
	// It outlives the run that it is started for.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	w := &remote{conn: newConn(from, to), to: to, from: from, end: end, gone: make(chan struct{})}
	go func() {
		defer close(w.gone)
		o, settle, err := outer.Launch(life, l)
		settle()
		ours := life.Err() != nil && o.Outcome.Status == report.Killed
		if err == nil && o.Outcome.Status != report.Completed && !ours {
			err = fmt.Errorf("it ended: %s %s", o.Outcome.Status, o.Outcome.Reason)
		}
		w.ended, w.left = err, o.Artifacts
		// What the worker said last may still have to be read: from stays.
		for _, c := range []io.Closer{in, out, to, l.Resolution} {
			c.Close()
		}
	}()
	return w, nil
}

// within does something that waits for the worker; the worker is killed when the
// context ends first.
func (w *remote) within(ctx context.Context, act func() error) error {
	stop := context.AfterFunc(ctx, w.end)
	defer stop()
	err := act()
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// kill ends the worker's boundary and returns when nothing is left of it. It is
// how every worker ends: one that was taken over would not end when it is asked to.
func (w *remote) kill() {
	w.end()
	<-w.gone
	w.from.Close()
}

func (w *remote) alive() bool {
	select {
	case <-w.gone:
		return false
	default:
		return true
	}
}

// prepare has a new worker make the module ready.
func (w *remote) prepare(ctx context.Context, m *module, c *cache) error {
	return w.within(ctx, func() error {
		kept, code, err := m.compiled(ctx, c)
		if err != nil {
			return err
		}
		s := setup{Elements: m.elements, Scratch: workerScratch}
		if kept == nil {
			err = w.set(s, m.metered, nil)
		} else {
			s.File = kept.File
			err = w.set(s, kept.stub, code)
		}
		if err != nil {
			return err
		}
		return w.ready(ctx, m, c, kept == nil)
	})
}

func (w *remote) set(s setup, module, code []byte) error {
	if err := w.sendJSON(frameSetup, s); err != nil {
		return err
	}
	if err := w.send(frameModule, module); err != nil {
		return err
	}
	if code != nil {
		return w.send(frameCode, code)
	}
	return nil
}

// mostSaid bounds what a worker can have written into a report.
const mostSaid = 4096

// ready waits until the module is compiled, and keeps the code of one that was
// not before. It comes from before the module ran.
func (w *remote) ready(ctx context.Context, m *module, c *cache, compiles bool) error {
	kinds := []byte{frameReady, frameFailed}
	if compiles {
		kinds = append(kinds, frameCode)
	}
	for {
		kind, contents, err := w.receive(kinds...)
		switch {
		case err != nil:
			return err
		case kind == frameFailed:
			return errors.New(strings.ToValidUTF8(string(contents[:min(len(contents), mostSaid)]), "\uFFFD"))
		case kind == frameReady:
			return nil
		}
		if c != nil {
			_ = c.put(ctx, m, contents) // the next worker compiles again
		}
		kinds = kinds[:2] // once
	}
}

// run has the worker carry out one job. Afterwards the worker can be used again
// if again says so.
//
// The worker may read nothing of what it is sent. So whatever waits here for it
// ends with its boundary, and that does not wait for anything.
func (w *remote) run(ctx context.Context, j *job, s streams, grace time.Duration) (_ result, again bool, _ error) {
	over := spec.Dimension("")
	unknown := func(err error) (result, bool, error) { return result{Exceeded: over, CPU: -1, lost: true}, false, err }
	// First it is asked to end, then its boundary is.
	enough := sync.OnceFunc(func() {
		end := time.AfterFunc(grace, w.end)
		go func() {
			_ = w.send(frameCancel, nil) // it may be gone
			<-w.gone
			end.Stop()
		}()
	})
	stop := context.AfterFunc(ctx, enough)
	defer stop()
	if err := w.sendJSON(frameJob, j); err != nil {
		return unknown(err)
	}
	reading := make(chan struct{}, 1) // full while standard input is read
	var asked, answered atomic.Int64
	for {
		kind, contents, err := w.receive(frameStdout, frameStderr, frameWant, frameResult)
		if err != nil {
			return unknown(err)
		}
		switch kind {
		case frameStdout, frameStderr:
			out := s.stdout
			if kind == frameStderr {
				out = s.stderr
			}
			if b := breachOf(func() { _, _ = out.Write(contents) }); b != nil { // it never fails otherwise
				over = b.dimension
				enough()
			}
		case frameWant:
			if len(contents) != 4 {
				return unknown(errors.New("a frame that is cut short"))
			}
			select {
			case reading <- struct{}{}:
			default:
				return unknown(errors.New("it asks for input again before it has any"))
			}
			asked.Add(1)
			go func() {
				defer answered.Add(1)
				b := take(s.stdin, min(binary.BigEndian.Uint32(contents), largest(frameData)))
				<-reading                // whoever has the answer may ask again
				_ = w.send(frameData, b) // it may be gone
			}()
		case frameResult:
			var res result
			if err := json.Unmarshal(contents, &res); err != nil {
				return unknown(err)
			}
			if !res.credible(j, ctx.Err() != nil || over != "") || over == "" && res.Exceeded == spec.Output {
				return unknown(errors.New("a result that cannot be"))
			}
			if over != "" {
				res.Exceeded, res.Exited, res.Trap = over, false, nil
			}
			err := w.send(frameReady, nil)
			// Once asked to end it is not used again: the frame may still be on its way.
			again = stop() && over == "" && asked.Load() == answered.Load() && res.Fault == ""
			return res, again, err
		}
	}
}

// take reads what there is of standard input, none at its end.
func take(stdin io.Reader, n uint32) []byte {
	b := make([]byte, n)
	got := 0
	for got == 0 && n > 0 && stdin != nil {
		m, err := stdin.Read(b)
		if got = m; err != nil {
			break
		}
	}
	return b[:got]
}

// breachOf calls what may end a run in the way in which everything does that a
// guest calls.
func breachOf(act func()) (b *breach) {
	defer func() {
		if p := recover(); p != nil {
			err, ok := p.(error)
			if b, _ = errors.AsType[*breach](err); !ok || b == nil {
				panic(p)
			}
		}
	}()
	act()
	return nil
}

// inWorker runs the module in a worker: one that is kept for this module and
// this policy, or a new one.
func (x *launch) inWorker(m *module, s streams) (settle func()) {
	c := x.backend.modules.cache
	w, err := x.worker()
	if err != nil {
		x.fail(phaseBegin, err)
		return func() {}
	}
	x.done(phaseBegin)
	if !w.warm {
		if err := w.prepare(x.ctx, m, c); err != nil {
			x.fail(phaseCompile, err)
			return w.kill
		}
		w.warm = true
	}
	x.done(phaseCompile)
	j := x.job
	for _, t := range x.plan.Resolved.Spec.Controls.Temp {
		j.Roots = append(slices.Clip(j.Roots), root{Path: t.Path, Dest: t.Path, Access: t.Access})
	}
	if deadline, ok := x.ctx.Deadline(); ok {
		j.Limits = maps.Clone(j.Limits)
		j.Limits[spec.Wall] = max(int64(time.Until(deadline)), 1)
	}
	began := time.Now()
	res, again, err := w.run(x.ctx, &j, s, x.plan.Resolved.Spec.Controls.Kill.Grace)
	if err != nil && x.ctx.Err() == nil && res.Exceeded == "" {
		w.kill()
		res.Fault = errors.Join(errors.New("the worker is gone"), err, w.ended).Error()
	}
	res.Run = max(int64(time.Since(began)), 1)
	x.ran(res)
	if !again || err != nil {
		return w.kill
	}
	if w == x.own {
		w.kill() // with what its boundary holds on the host
	} else {
		x.backend.workers.keep(w)
	}
	return func() {}
}

// worker is the one for this run. The boundary of one that is the run's own is
// resolved already, and leaves what it leaves under the attempt's name.
func (x *launch) worker() (w *remote, err error) {
	if !alone(&x.plan.Resolved) {
		return x.backend.workers.take(x.ctx, x.plan, x.res)
	}
	outer := x.res.outer
	if outer == nil {
		return nil, errors.Join(errors.New("the worker's boundary could not be resolved"), x.res.noOuter)
	}
	x.res.outer = nil // it is the worker's
	x.own, err = x.backend.begin(x.ctx, backend.Launch{Attempt: x.asked.Attempt, Quarantine: x.asked.Quarantine, Resolution: outer})
	return x.own, err
}

// pool keeps workers that have nothing to do. Each has one module and one
// policy, and is given to nobody else.
type pool struct {
	backend *Backend

	mu     sync.Mutex
	idle   []*remote // the last used one first
	closed bool
}

// Bounds of a pool.
const (
	mostIdle = 8
	idleTime = time.Minute
)

// policy names what a worker must have in common with a run: the module, what it
// counts, and all that its boundary is made of.
func (b *Backend) policy(r *spec.Resolved, protected []backend.Protected) (string, error) {
	text, err := canonical.Marshal(b.boundary(r))
	if err != nil {
		return "", err
	}
	return sumOf(fmt.Appendf(text, "\n%s\n%s\n%+v", r.Executable.SHA256, formOf(&r.Spec), protected)), nil
}

func (p *pool) take(ctx context.Context, of *plan.Plan, res *resolution) (*remote, error) {
	key, err := p.backend.policy(&of.Resolved, res.protected)
	if err != nil {
		return nil, err
	}
	var roots []os.FileInfo
	for _, f := range res.files {
		if f == nil {
			continue
		}
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		roots = append(roots, info)
	}
	if w := p.find(key, roots); w != nil {
		return w, nil
	}
	w, err := p.backend.start(ctx, &of.Resolved, res.protected)
	if err != nil {
		return nil, err
	}
	w.key, w.roots = key, roots
	return w, nil
}

func (p *pool) find(key string, roots []os.FileInfo) *remote {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, w := range p.idle {
		if w.key == key && w.alive() && slices.EqualFunc(w.roots, roots, os.SameFile) {
			p.idle = slices.Delete(p.idle, i, i+1)
			w.idle.Stop()
			return w
		}
	}
	return nil
}

// keep takes a worker back.
func (p *pool) keep(w *remote) {
	p.mu.Lock()
	var surplus *remote
	if p.closed {
		surplus = w
	} else {
		w.idle = time.AfterFunc(idleTime, func() { p.expire(w) })
		p.idle = append([]*remote{w}, p.idle...)
		if len(p.idle) > mostIdle {
			surplus = p.idle[mostIdle]
			p.idle = p.idle[:mostIdle]
		}
	}
	p.mu.Unlock()
	if surplus != nil {
		surplus.kill()
	}
}

func (p *pool) expire(w *remote) {
	p.mu.Lock()
	i := slices.Index(p.idle, w)
	if i >= 0 {
		p.idle = slices.Delete(p.idle, i, i+1)
	}
	p.mu.Unlock()
	if i >= 0 {
		w.kill()
	}
}

func (p *pool) close() error {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, w := range idle {
		w.idle.Stop()
		w.end()
	}
	var errs []error
	for _, w := range idle {
		<-w.gone
		errs = append(errs, w.ended)
	}
	return errors.Join(errs...)
}
