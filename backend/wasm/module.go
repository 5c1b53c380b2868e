package wasm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/tetratelabs/wazero"

	"github.com/bvisor/bvisor/internal/wasmmeter"
	"github.com/bvisor/bvisor/spec"
)

// module is a module as it was found: judged, counted or already compiled.
type module struct {
	digest   string // of what the file holds
	form     wasmmeter.Form
	size     int64
	unfit    []spec.Unfit
	metered  []byte // nil if it is unfit, or was compiled before
	kept     *entry // where it was
	raw      []byte // what the file holds, should kept turn out to be of no use
	elements uint64 // of its tables, to begin with

	making  chan struct{} // full while somebody makes it ready; then metered, kept and raw may change
	mu      sync.Mutex
	engine  *engine // with code, once it was made ready in this process
	code    wazero.CompiledModule
	uses    int
	dropped bool
}

// fit says whether there is something that can be run.
func (m *module) fit() bool { return len(m.unfit) == 0 }

// formOf is what a module has to count to be held to a spec.
func formOf(s *spec.Spec) wasmmeter.Form {
	if _, asked := s.Budgets[spec.CallDepth]; asked {
		return wasmmeter.Depth
	}
	return wasmmeter.Units
}

// modules are those that were used lately, by digest and form.
type modules struct {
	cache *cache

	mu   sync.Mutex
	list []*module // the last used one first
}

// mostModules is how many modules stay in memory.
const mostModules = 8

// load reads a module and judges it. What is wrong with it is not an error. The
// caller releases it.
func (m *modules) load(f *os.File, form wasmmeter.Form) (*module, error) {
	var data bytes.Buffer
	if info, err := f.Stat(); err == nil && info.Size() <= wasmmeter.MaxSize {
		data.Grow(int(info.Size()) + bytes.MinRead) // or it is copied again and again as it grows
	}
	if _, err := data.ReadFrom(io.LimitReader(f, wasmmeter.MaxSize+1)); err != nil {
		return nil, err
	}
	digest := sumOf(data.Bytes())
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, known := range m.list {
		if known.digest == digest && known.form == form {
			copy(m.list[1:i+1], m.list[:i])
			m.list[0] = known
			known.use()
			return known, nil
		}
	}
	found := &module{digest: digest, form: form, size: int64(data.Len()), making: make(chan struct{}, 1)}
	if found.kept = m.cache.get(key(digest, form)); found.kept != nil { // only what is fit was kept
		found.raw, found.elements = data.Bytes(), found.kept.Elements
	} else {
		found.judge(data.Bytes())
	}
	if len(m.list) == mostModules {
		m.list[mostModules-1].drop()
		m.list = m.list[:mostModules-1]
	}
	found.use()
	m.list = append([]*module{found}, m.list...)
	return found, nil
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (m *module) judge(data []byte) {
	metered, err := wasmmeter.Instrument(data, m.form)
	if bad, ok := errors.AsType[*wasmmeter.Error](err); ok {
		m.unfit = []spec.Unfit{{Code: string(bad.Why), Fact: bad.Error()}}
		return
	}
	if m.unfit = unfit(metered); len(m.unfit) == 0 {
		m.metered, m.elements = metered.Binary, metered.Elements
	}
}

// begin waits until nobody else makes the module ready. Until done is called
// what is kept of it does not change.
func (m *module) begin(ctx context.Context) (done func(), err error) {
	select {
	case m.making <- struct{}{}:
		return func() { <-m.making }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// compiled returns what was kept of the module, with its code; nil where it has
// to be compiled.
func (m *module) compiled(ctx context.Context, c *cache) (kept *entry, code []byte, err error) {
	done, err := m.begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	kept = m.kept
	if kept == nil {
		kept = c.get(key(m.digest, m.form)) // what an earlier worker compiled
	}
	if kept == nil {
		return nil, nil, nil
	}
	if code, err = readWhole(filepath.Join(kept.dir, kept.File), kept.Code); err == nil {
		return kept, code, nil
	}
	if m.kept == nil {
		return nil, nil, nil
	}
	return nil, nil, m.recount(c)
}

// ready returns the module's code in this process, which is made once.
func (m *module) ready(ctx context.Context, c *cache) (*engine, wazero.CompiledModule, error) {
	done, err := m.begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	if m.code != nil {
		return m.engine, m.code, nil
	}
	e, code, err := m.make(ctx, c)
	if err == nil {
		m.mu.Lock()
		m.engine, m.code = e, code
		m.mu.Unlock()
	}
	return e, code, err
}

func (m *module) make(ctx context.Context, c *cache) (*engine, wazero.CompiledModule, error) {
	if m.kept != nil {
		code, e, err := m.kept.load(ctx)
		if err == nil || ctx.Err() != nil {
			return e, code, err
		}
		if err := m.recount(c); err != nil {
			return nil, nil, err
		}
	}
	return m.compile(ctx, c)
}

// recount does without what was kept.
func (m *module) recount(c *cache) error {
	c.drop(key(m.digest, m.form))
	metered, err := wasmmeter.Instrument(m.raw, m.form)
	if err == nil {
		m.metered, m.kept, m.raw = metered.Binary, nil, nil
	}
	return err
}

// compile compiles the module, and keeps what comes of it if it can: a cache
// that cannot be written is no reason not to run.
func (m *module) compile(ctx context.Context, c *cache) (*engine, wazero.CompiledModule, error) {
	if c != nil && c.open() == nil {
		e, code, err := m.compileAndKeep(ctx, c)
		if _, system := errors.AsType[syscall.Errno](err); !system {
			return e, code, err
		}
	}
	e, err := newEngine(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	code, err := e.compile(ctx, m.metered)
	if err != nil {
		return nil, nil, errors.Join(err, e.close(context.WithoutCancel(ctx)))
	}
	return e, code, nil
}

func (m *module) compileAndKeep(ctx context.Context, c *cache) (*engine, wazero.CompiledModule, error) {
	dir, err := os.MkdirTemp(c.dir, "new-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	code, e, err := compileIn(ctx, m.metered, dir)
	if err != nil {
		return nil, nil, err
	}
	if file, err := onlyFile(dir); err == nil {
		if machine, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
			_ = c.put(ctx, m, machine) // the next run compiles again
		}
	}
	return e, code, nil
}

func (m *module) use() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.uses++
}

// release ends one use. The code goes with the last one of a module that was
// dropped: the engine keeps it otherwise.
func (m *module) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.uses--
	m.free()
}

func (m *module) drop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dropped = true
	m.free()
}

func (m *module) free() {
	if m.dropped && m.uses == 0 && m.code != nil {
		m.code.Close(context.Background())
		m.engine.close(context.Background())
		m.code, m.engine = nil, nil
	}
}
