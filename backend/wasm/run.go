package wasm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"

	"github.com/bvisor/bvisor/internal/wasip1"
	"github.com/bvisor/bvisor/internal/wasmfs"
	"github.com/bvisor/bvisor/internal/wasmmeter"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// job is one run of a module, as plain data: a worker is handed it as it is.
type job struct {
	Args   []string                 `json:"args"`
	Env    [][]byte                 `json:"env"` // NAME=value; a secret may be any bytes
	Clock  spec.Clock               `json:"clock"`
	Random spec.Random              `json:"random"`
	Seed   string                   `json:"seed"` // of seeded random numbers
	Roots  []root                   `json:"roots"`
	Dir    string                   `json:"dir"`    // in the guest's view; empty is none
	Stdout bool                     `json:"stdout"` // somebody wants to see it
	Stderr bool                     `json:"stderr"`
	Limits map[spec.Dimension]int64 `json:"limits"`
}

// root is a place of the guest's view.
type root struct {
	Path         string      `json:"path"` // where it is for whoever runs the guest
	Dest         string      `json:"dest"`
	Access       spec.Access `json:"access"`
	NonRecursive bool        `json:"non_recursive,omitempty"`
	Held         bool        `json:"held,omitempty"`
}

// limit is what a run may use of a dimension; without one, as good as all.
func (j *job) limit(d spec.Dimension) int64 {
	if n, ok := j.Limits[d]; ok {
		return n
	}
	return math.MaxInt64
}

// result is how a run ended and what it used.
type result struct {
	Code     uint32             `json:"code"`
	Exited   bool               `json:"exited"` // of its own will, with Code
	Trap     *report.Trap       `json:"trap,omitempty"`
	Exceeded spec.Dimension     `json:"exceeded,omitempty"`
	Fault    string             `json:"fault,omitempty"`  // of the engine
	Unmade   string             `json:"unmade,omitempty"` // why it never began
	Fuel     int64              `json:"fuel"`
	CPU      int64              `json:"cpu"`    // nanoseconds; less than 0 where it cannot be had
	Memory   int64              `json:"memory"` // the most at one time: memories and tables
	Storage  int64              `json:"storage"`
	Handles  int64              `json:"handles"` // open at one time, at the most
	Depth    int64              `json:"depth"`   // of calls, at the most; 0 where it was not counted
	Denied   []report.DeniedAct `json:"denied,omitempty"`
	Run      int64              `json:"run"` // nanoseconds

	lost bool // nobody is left who knows what was used and refused
}

// ended says whether there is a reason for which a run ended by itself.
func (r *result) ended() bool {
	return r.Exited || r.Trap != nil || r.Exceeded != "" || r.Fault != "" || r.Unmade != ""
}

// credible says whether a worker can have come to a result. What a worker that
// was taken over makes up must at least be something that can happen, and that a
// report can hold. Only a run that was asked to end may have none of its own.
func (r *result) credible(j *job, asked bool) bool {
	counts := func(n int64) bool { return n >= 0 && n <= spec.MaxLimit }
	_, bounded := j.Limits[r.Exceeded]
	if r.Exceeded != "" && !bounded || r.Trap != nil && (r.Trap.Kind == "" || r.Exited) || r.Exited && (r.Fault != "" || r.Unmade != "") ||
		!asked && !r.ended() || r.CPU < -1 || r.CPU > spec.MaxLimit || len(r.Denied) > mostDenials+1 {
		return false
	}
	for _, n := range []int64{r.Fuel, r.Memory, r.Storage, r.Handles, r.Depth} {
		if !counts(n) {
			return false
		}
	}
	size := len(r.Fault) + len(r.Unmade)
	if r.Trap != nil {
		size += len(r.Trap.Kind) + len(strings.Join(r.Trap.Stack, ""))
	}
	for _, d := range r.Denied {
		if incredible(d) || !counts(d.Times) {
			return false
		}
		size += len(d.Act) + len(d.Path) + len(d.Allow)
	}
	return size <= 2*mostDenied
}

// quantum is after how many units of fuel a guest calls its host: some tens of
// microseconds of most code, and not much more than a millisecond of the worst.
const quantum = 1 << 16

// breach ends a run: it goes up through the guest's code as a panic, which the
// engine hands back as an error.
type breach struct{ dimension spec.Dimension }

func (b *breach) Error() string { return "budget: " + string(b.dimension) }

// cancelled ends a run that is not wanted any more.
type cancelled struct{}

func (cancelled) Error() string { return "cancelled" }

// run is one run under way. Everything but its context belongs to the one
// goroutine that the guest runs on.
type run struct {
	ctx    context.Context
	job    *job
	clock  clock
	denied denials
	files  *wasmfs.Budget

	process *wasip1.Process // the guest's side

	granted int64 // fuel in the guest's global when it was last set
	fuel    int64 // used before that
	cpu     threadTime
	memory  int64 // in use
	most    int64
	tables  uint64 // elements of them
	wanted  uint32 // elements that a table is about to grow by
	depth   int64  // of calls, at the most
}

type runKey struct{}

func runOf(ctx context.Context) *run { return ctx.Value(runKey{}).(*run) }

// streams are the guest's standard streams.
type streams struct {
	stdin          io.Reader
	stdout, stderr io.Writer
}

// execute runs a compiled module once. Its context ends it: context.Cause says
// whether by the deadline (a *breach) or for another reason. files are the open
// roots of the job.
func (e *engine) execute(ctx context.Context, code wazero.CompiledModule, tables uint64, j *job, files []*os.File, io streams) (res result) {
	// Its time is that of the thread it runs on.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	started := time.Now()
	r := &run{job: j, clock: newClock(j, started), cpu: startThreadTime(), files: wasmfs.NewBudget(j.limit(spec.Storage))}
	r.ctx = context.WithValue(ctx, runKey{}, r)
	defer func() {
		if p := recover(); p != nil { // outside of the guest's code, e.g. where its memory is made
			err, ok := p.(error)
			if !ok || !r.ended(err) {
				panic(p)
			}
			res = r.result(err, nil)
		}
		res.Run = int64(time.Since(started))
	}()
	view, process, err := r.open(files, io)
	if err != nil {
		return result{Unmade: err.Error(), CPU: r.cpu.elapsed()}
	}
	defer view.Close()
	defer process.Close()
	r.process = process
	r.tables = tables
	r.hold(int64(tables) * elementSize)
	r.ctx = process.Context(r.ctx)
	m, err := e.runtime.InstantiateModule(experimental.WithMemoryAllocator(r.ctx, r), code, instance)
	if err == nil {
		defer m.Close(context.WithoutCancel(ctx))
		_, err = m.ExportedFunction("_start").Call(r.ctx)
	}
	return r.result(err, m)
}

// instance is how every module is started. Nothing reads the engine's own source
// of random numbers, but without a given one it seeds one for each run.
var instance = wazero.NewModuleConfig().WithName("").WithStartFunctions().WithRandSource(rand.Reader)

// ended says whether err is one of those that end a run from our side.
func (r *run) ended(err error) bool {
	_, over := errors.AsType[*breach](err)
	return over || errors.Is(err, cancelled{}) || r.ctx.Err() != nil && errors.Is(err, context.Cause(r.ctx))
}

// open makes what the guest sees.
func (r *run) open(files []*os.File, io streams) (*wasmfs.FS, *wasip1.Process, error) {
	c := wasmfs.Config{Dir: r.job.Dir, Denied: r.deny}
	for i, at := range r.job.Roots {
		if at.Access == spec.AccessNone {
			c.CarveOuts = append(c.CarveOuts, at.Dest)
			continue
		}
		c.Roots = append(c.Roots, wasmfs.Root{Path: at.Dest, File: files[i], Read: at.Access.Read(), Write: at.Access.Write(),
			NonRecursive: at.NonRecursive, Storage: r.files, Held: at.Held})
	}
	view, err := wasmfs.New(c)
	if err != nil {
		return nil, nil, fmt.Errorf("the module's view of files: %w", err)
	}
	w := wasip1.Config{Args: r.job.Args, Stdin: io.stdin, Stdout: io.stdout, Stderr: io.stderr, FS: view,
		Realtime: r.clock.wall, Monotonic: r.clock.monotonic, Random: randomness(r.job), Denied: r.deny,
		HideTimes: r.clock.hidden()}
	if n, ok := r.job.Limits[spec.Handles]; ok {
		w.Handles = int(min(n, math.MaxInt32))
	}
	if r.clock.kind == spec.ClockFixed {
		w.Resolution, w.Sleep = step, r.clock.sleep
	}
	for _, e := range r.job.Env {
		w.Env = append(w.Env, string(e))
	}
	process, err := wasip1.New(w)
	if err != nil {
		view.Close()
		return nil, nil, err
	}
	return view, process, nil
}

// result says how the guest ended.
func (r *run) result(err error, m api.Module) result {
	res := result{Fuel: r.fuel, CPU: r.cpu.elapsed(), Memory: r.most, Storage: r.files.Used(), Handles: int64(r.process.Most()), Depth: r.depth, Denied: r.denied.acts()}
	if m != nil {
		if g := m.ExportedGlobal(wasmmeter.Fuel); g != nil {
			res.Fuel += r.granted - int64(g.Get())
		}
	}
	exit, exited := errors.AsType[*sys.ExitError](err)
	over, exceeded := errors.AsType[*breach](err)
	switch {
	case err == nil:
		res.Exited = true
	case exceeded:
		res.Exceeded = over.dimension
	case r.ended(err):
	case exited:
		res.Exited, res.Code = true, exit.ExitCode()
	default:
		res.Trap, res.Fault = trapOf(err)
	}
	if r.files.Exceeded() && !exceeded {
		res.Exceeded = spec.Storage // the guest was told, and went on
	}
	return res
}

// outOfBounds is how the engine reports a data segment that does not fit: nothing
// runs yet, so there is no stack.
const outOfBounds = "out of bounds memory access"

// trapOf reads what the engine says of a trap. What is none is a fault. That of
// a start function comes wrapped, and a stack overflow without its stack.
func trapOf(err error) (trap *report.Trap, fault string) {
	for e := err; e != nil; e = errors.Unwrap(e) {
		text := e.Error()
		switch {
		case text == report.StackOverflow:
			return &report.Trap{Kind: report.StackOverflow}, ""
		case strings.HasPrefix(text, "data[") && strings.HasSuffix(text, "]: "+outOfBounds):
			return &report.Trap{Kind: outOfBounds}, ""
		}
		kind, stack, _ := strings.Cut(text, "\nwasm stack trace:\n")
		kind, ok := strings.CutPrefix(kind, "wasm error: ")
		if !ok {
			continue
		}
		trap = &report.Trap{Kind: kind}
		for line := range strings.SplitSeq(stack, "\n") {
			if line = strings.TrimPrefix(strings.TrimSpace(line), "."); line != "" {
				trap.Stack = append(trap.Stack, printable(line))
			}
		}
		return trap, ""
	}
	return nil, clipped(err.Error(), mostError)
}

// tick is what a guest calls every quantum: it is where a deadline and
// cancelling take effect, where the collector can stop this goroutine, and where
// use is looked at.
func tick(ctx context.Context, _ api.Module, stack []uint64) {
	stack[0] = uint64(runOf(ctx).tick(int64(stack[0])))
}

func (r *run) tick(left int64) int64 {
	r.fuel += r.granted - left
	r.granted = left // what the guest has, should this be its end
	limit := r.job.limit(spec.Fuel)
	if r.fuel > limit {
		panic(&breach{spec.Fuel})
	}
	r.look()
	r.granted = min(quantum, limit-r.fuel)
	return r.granted
}

// look ends a run that has used up its time.
func (r *run) look() {
	if r.ctx.Err() != nil {
		panic(r.why())
	}
	if limit, ok := r.job.Limits[spec.CPU]; ok && r.cpu.elapsed() > limit {
		panic(&breach{spec.CPU})
	}
}

func (r *run) why() error { return whyOf(r.ctx) }

// whyOf is the reason for which a context ended.
func whyOf(ctx context.Context) error {
	if b, ok := errors.AsType[*breach](context.Cause(ctx)); ok {
		return b
	}
	return cancelled{}
}

// deeper is what a guest calls where one more of its functions is under way than
// ever before.
func deeper(ctx context.Context, _ api.Module, _ []uint64) {
	r := runOf(ctx)
	if r.depth++; r.depth > r.job.limit(spec.CallDepth) {
		panic(&breach{spec.CallDepth})
	}
}

// elementSize is what an element of a table takes.
const elementSize = 8

// failed is what table.grow answers where it did nothing, and what it always
// fails with as the number of elements.
const failed = 1<<32 - 1

// grow is called before a table grows, and says by how much. The engine's own
// bound is 32 GiB of elements, which it asks Go for: that ends the process.
func grow(ctx context.Context, _ api.Module, stack []uint64) {
	r := runOf(ctx)
	r.look()
	r.wanted = uint32(stack[0])
	if r.tables+uint64(r.wanted) > wasmmeter.MaxElements {
		stack[0] = failed
		return
	}
	r.room(int64(r.wanted) * elementSize)
}

// grown is called with what table.grow answered.
func grown(ctx context.Context, _ api.Module, stack []uint64) {
	if r := runOf(ctx); uint32(stack[0]) != failed {
		r.tables += uint64(r.wanted)
		r.hold(int64(r.wanted) * elementSize)
	}
}

// room ends a run that is about to have more memory than it may.
func (r *run) room(more int64) {
	if r.memory+more > r.job.limit(spec.Memory) {
		r.most = max(r.most, r.memory+more)
		panic(&breach{spec.Memory})
	}
}

// hold accounts for memory that the guest is about to have, or gives back.
func (r *run) hold(more int64) {
	r.room(more)
	r.memory += more
	r.most = max(r.most, r.memory)
}

// Allocate implements experimental.MemoryAllocator.
func (r *run) Allocate(_, _ uint64) experimental.LinearMemory { return &memory{run: r} }

// memory is one linear memory, in the Go heap.
type memory struct {
	run   *run
	bytes []byte
}

// Reallocate implements experimental.LinearMemory. The engine never makes a
// memory smaller.
func (m *memory) Reallocate(size uint64) []byte {
	m.run.hold(int64(size) - int64(len(m.bytes)))
	if size > uint64(cap(m.bytes)) {
		larger := make([]byte, size, max(size, min(size+size/4, size+16<<20)))
		copy(larger, m.bytes)
		m.bytes = larger
	}
	m.bytes = m.bytes[:size]
	return m.bytes
}

// Free implements experimental.LinearMemory.
func (m *memory) Free() { m.bytes = nil }
