//go:build amd64 || arm64

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/tetratelabs/wazero"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend/wasm"
	"github.com/bvisor/bvisor/ledger"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// moduleWorker is the argument that makes this program a worker for modules.
const moduleWorker = "wasm-worker"

// tiny is a module that ends at once.
const tiny = "\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x07\x0a\x01\x06_start\x00\x00\x0a\x04\x01\x02\x00\x0b"

// loop is a module that multiplies and adds, a hundred million times.
var loop = func() string {
	body := "\x02\x01\x7f\x01\x7e" + // i, x
		"\x03\x40\x20\x01\x42\xad\xfe\xd5\xe4\xd4\x85\xfd\xa8\xd8\x00\x7e\x42\xcf\x82\x9e\xbb\xef\xef\xde\x82\x14\x7c\x21\x01" + // x = x*a + c
		"\x20\x00\x41\x01\x6a\x22\x00\x41\x80\xc2\xd7\x2f\x48\x0d\x00\x0b" + // until i reaches 10^8
		"\x20\x01\x24\x00\x0b" // kept in a global, so that it is used
	code := "\x01" + string(rune(len(body))) + body
	return "\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x06\x06\x01\x7e\x01\x42\x00\x0b" +
		"\x07\x0a\x01\x06_start\x00\x00\x0a" + string(rune(len(code))) + code
}()

// loops is loop as a program of this host.
const loops = `package main

import "os"

func main() {
	x := uint64(len(os.Args)) - 1
	for range 100_000_000 {
		x = x*6364136223846793005 + 1442695040888963407
	}
	if x == 1 {
		println(x)
	}
}
`

// modules is what a run of a WebAssembly module costs.
type modules struct {
	b       *bench
	dir     string
	guest   string
	options wasm.Options
}

// forgetful is a log that keeps nothing.
type forgetful struct{}

func (forgetful) Append(ledger.Kind, string, []byte) (ledger.Receipt, error) {
	return ledger.Receipt{}, nil
}

// how a module is run.
type how int

const (
	warm     how = iota
	anew         // by a backend of its own, which finds the compiled module on disk
	unlogged     // without a ledger
)

// call is a subject that runs a module.
func (m *modules) call(name string, h how, accept []spec.Weakening, module string, args ...string) (*subject, func(), error) {
	if m.b.noShm != nil {
		return &subject{name: name, skip: m.b.noShm.Error()}, func() {}, nil
	}
	dir, err := os.MkdirTemp(m.b.memory, "wasm-")
	if err != nil {
		return nil, nil, err
	}
	state, err := bvisor.OpenState(filepath.Join(dir, "state"))
	if err != nil {
		return nil, nil, err
	}
	shared := wasm.New(m.options)
	s := spec.Spec{Version: spec.Version, Workload: spec.Workload{Wasm: module, Args: args}, Accept: accept}
	run := func(b *wasm.Backend) error {
		res, err := state.Supervisor(b).Run(context.Background(), bvisor.Request{Spec: s})
		if err != nil {
			return err
		}
		if o := res.Report.Outcome; o.Status != report.Completed {
			return fmt.Errorf("%s: %s", o.Status, o.Reason)
		}
		return nil
	}
	supervised := state.Supervisor(shared)
	if h == unlogged {
		supervised.Log = forgetful{}
	}
	once := func() error {
		if h == anew {
			b := wasm.New(m.options)
			return errors.Join(run(b), b.Close())
		}
		res, err := supervised.Run(context.Background(), bvisor.Request{Spec: s})
		if err == nil && res.Report.Outcome.Status != report.Completed {
			err = fmt.Errorf("%s: %s", res.Report.Outcome.Status, res.Report.Outcome.Reason)
		}
		return err
	}
	return &subject{name: name, block: repeat(once)}, func() { shared.Close(); state.Log.Close() }, nil
}

// bare runs a module by the engine alone.
func bare(name, module string) (*subject, func(), error) {
	ctx := context.Background()
	binary, err := os.ReadFile(module)
	if err != nil {
		return nil, nil, err
	}
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	code, err := r.CompileModule(ctx, binary)
	if err != nil {
		return nil, nil, errors.Join(err, r.Close(ctx))
	}
	once := func() error {
		i, err := r.InstantiateModule(ctx, code, wazero.NewModuleConfig().WithName(""))
		if err != nil {
			return err
		}
		return i.Close(ctx)
	}
	return &subject{name: name, block: repeat(once)}, func() { r.Close(ctx) }, nil
}

// wasm is what modules cost: calls of a tiny one, the start of a large one, a
// loop, each beside what it can be compared with.
func (b *bench) wasm() (*table, error) {
	m, err := b.modules()
	if err != nil {
		return nil, err
	}
	file := func(name, text string) string {
		name = filepath.Join(m.dir, name)
		err = errors.Join(err, write(name, []byte(text)))
		return name
	}
	small, looping, source := file("tiny.wasm", tiny), file("loop.wasm", loop), file("loop.go", loops)
	if err != nil {
		return nil, err
	}
	native := filepath.Join(m.dir, "loop")
	if err := goBuild(native, source); err != nil {
		return nil, err
	}
	inProcess := []spec.Weakening{"in-process"}
	var done []func()
	defer func() {
		for _, f := range done {
			f()
		}
	}()
	add := func(s *subject, end func(), e error) *subject {
		if e != nil {
			err = errors.Join(err, e)
			return nil
		}
		done = append(done, end)
		return s
	}
	plain := b.plainly("plain start of a program", truth)
	calls := []*subject{plain,
		add(bare("tiny module, the engine alone", small)),
		add(m.call("tiny module, in process, sealed and recorded", warm, inProcess, small)),
		add(m.call("tiny module, in process, sealed", unlogged, inProcess, small)),
		add(m.call("tiny module, warm worker, sealed and recorded", warm, nil, small)),
		add(m.call("Go module, in process, compiled on disk, new backend", anew, inProcess, m.guest, "nothing")),
		add(m.call("Go module, in process, again", warm, inProcess, m.guest, "nothing")),
	}
	alone := add(bare("loop, the engine alone", looping))
	work := []*subject{b.plainly("loop, native Go", native), alone,
		add(m.call("loop, in process, counted", warm, inProcess, looping)),
		add(m.call("loop, warm worker, counted", warm, nil, looping)),
	}
	if err != nil {
		return nil, err
	}
	busy := interleave(calls, b.rounds, block, b.patience)
	t := comparison("WebAssembly", calls, []*subject{plain}, []string{"plain start"})
	t.disturbed(busy, b.rounds)
	busy = interleave(work, b.rounds, 1, b.patience)
	more := comparison("", work, []*subject{alone}, []string{"the engine alone"})
	more.disturbed(busy, b.rounds)
	for _, r := range more.rows {
		t.row(r[0], r[1], r[2], r[3]+" of the engine alone")
	}
	t.notes = append(t.notes, more.notes...)
	info, err := os.Stat(m.guest)
	if err != nil {
		return nil, err
	}
	t.note("records in memory; the Go module has %.1f MB; the loop multiplies and adds 100,000,000 times", float64(info.Size())/1e6)
	return t, m.grow(t, small)
}

// grow runs the tiny module ten thousand times and says what is left of it.
func (m *modules) grow(t *table, module string) error {
	const runs = 10_000
	s, done, err := m.call("", warm, []spec.Weakening{"in-process"}, module)
	if err != nil || s.skip != "" {
		return err
	}
	defer done()
	if _, err := s.block(100); err != nil {
		return err
	}
	before, memory := open(), heap()
	if _, err := s.block(runs); err != nil {
		return err
	}
	t.note("after %d more runs in process: %+d descriptors, %+.1f MB in use", runs, open()-before, float64(heap()-memory)/1e6)
	return nil
}

func open() int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(list)
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers let go of
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

func (b *bench) modules() (*modules, error) {
	dir, err := os.MkdirTemp(b.dir, "wasm-")
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	m := &modules{b: b, dir: dir, guest: filepath.Join(dir, "guest.wasm"),
		options: wasm.Options{Outer: b.backend, Worker: []string{self, moduleWorker}, Cache: filepath.Join(dir, "cache")}}
	return m, goBuild(m.guest, filepath.Join(b.module, "backend", "wasm", "testdata", "guest"), "GOOS=wasip1", "GOARCH=wasm")
}

func goBuild(out, source string, env ...string) error {
	c := exec.Command("go", "build", "-trimpath", "-o", out, source)
	c.Env = append(append(c.Environ(), "CGO_ENABLED=0"), env...)
	if text, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", source, err, text)
	}
	return nil
}
