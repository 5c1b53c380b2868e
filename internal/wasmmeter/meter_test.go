package wasmmeter_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/bvisor/bvisor/internal/wasmmeter"
)

const features = api.CoreFeaturesV2 &^ api.CoreFeatureSIMD

// host counts what a module uses, and stops it at a limit.
type host struct {
	quantum, limit int64
	granted, used  int64
	ticks          int
	depth, deepest int      // the deepest so far, and how deep it may be; 0 is any depth
	grown          []uint64 // what tables were to grow by, and what came of it
	may            uint64   // grow by; 0 is as much as they like
}

var errLimit = errors.New("limit")

func (h *host) tick(_ context.Context, _ api.Module, stack []uint64) {
	h.ticks++
	h.used += h.granted - int64(stack[0])
	h.granted = int64(stack[0])
	if h.used > h.limit {
		panic(errLimit)
	}
	h.granted = min(h.quantum, h.limit-h.used)
	stack[0] = uint64(h.granted)
}

var errDepth = errors.New("depth")

func (h *host) deeper(context.Context, api.Module, []uint64) {
	if h.depth++; h.deepest > 0 && h.depth > h.deepest {
		panic(errDepth)
	}
}

// engine runs modules with and without the pass, by the interpreter: what it
// shows is the binary's meaning.
func engine(t testing.TB, h *host) wazero.Runtime {
	t.Helper()
	r := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(features))
	t.Cleanup(func() { r.Close(context.Background()) })
	b := r.NewHostModuleBuilder(wasmmeter.HostModule)
	b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(h.tick), []api.ValueType{api.ValueTypeI64}, []api.ValueType{api.ValueTypeI64}).Export(wasmmeter.Tick)
	for _, name := range []string{wasmmeter.Grow, wasmmeter.Grown} {
		b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(_ context.Context, _ api.Module, stack []uint64) {
			h.grown = append(h.grown, stack[0])
			if name == wasmmeter.Grow && h.may > 0 {
				stack[0] = h.may
			}
		}), []api.ValueType{api.ValueTypeI32}, []api.ValueType{api.ValueTypeI32}).Export(name)
	}
	b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(h.deeper), nil, nil).Export(wasmmeter.Deeper)
	if _, err := b.Instantiate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

var forms = []wasmmeter.Form{wasmmeter.Units, wasmmeter.Depth}

func unlimited() *host { return &host{quantum: 1 << 16, limit: 1 << 62} }

// call instruments a module, calls its function f and returns what it returned
// and used.
func call(t *testing.T, h *host, binary []byte, args ...uint64) ([]uint64, error) {
	t.Helper()
	return callIn(t, wasmmeter.Units, h, binary, args...)
}

func callIn(t *testing.T, form wasmmeter.Form, h *host, binary []byte, args ...uint64) ([]uint64, error) {
	t.Helper()
	m, err := wasmmeter.Instrument(binary, form)
	if err != nil {
		t.Fatal(err)
	}
	r := engine(t, h)
	inst, err := r.Instantiate(t.Context(), m.Binary)
	if err != nil {
		t.Fatal(err)
	}
	got, err := inst.ExportedFunction("f").Call(t.Context(), args...)
	h.used += h.granted - int64(inst.ExportedGlobal(wasmmeter.Fuel).Get())
	return got, err
}

// Each region costs what its instructions do, and block, loop, else, end and
// nop cost nothing.
func TestCosts(t *testing.T) {
	for name, c := range map[string]struct {
		module []byte
		args   []uint64
		cost   int64
	}{
		"nothing":  {function(nil, nil, noLocals), nil, 0},
		"two":      {function(nil, nil, noLocals, 0x41, 0, 0x1a), nil, 2},
		"no cost":  {function(nil, nil, noLocals, 0x01, 0x02, 0x40, 0x0b, 0x03, 0x40, 0x0b), nil, 0},
		"division": {function(nil, []byte{i32}, noLocals, 0x41, 9, 0x41, 3, 0x6d), nil, 2 + 8},
		// local.get, if; then const+drop, or nothing
		"if taken":     {function([]byte{i32}, nil, noLocals, 0x20, 0, 0x04, 0x40, 0x41, 0, 0x1a, 0x0b), []uint64{1}, 4},
		"if not taken": {function([]byte{i32}, nil, noLocals, 0x20, 0, 0x04, 0x40, 0x41, 0, 0x1a, 0x0b), []uint64{0}, 2},
		// loop: get, const, sub, tee, br_if: five, ten times
		"loop":        {function([]byte{i32}, nil, noLocals, 0x03, 0x40, 0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, 0x0b), []uint64{10}, 50},
		"memory.fill": {function(nil, nil, noLocals, 0x41, 0, 0x41, 0, 0x41, 0x80, 0x08, 0xfc, 11, 0), nil, 3 + 1 + 1024/8},
		"memory.grow": {function(nil, nil, noLocals, 0x41, 0, 0x40, 0, 0x1a), nil, 3 + 1000},
	} {
		h := unlimited()
		if _, err := call(t, h, c.module, c.args...); err != nil || h.used != c.cost {
			t.Errorf("%s: used %d (%v), expected %d", name, h.used, err, c.cost)
		}
	}
}

var (
	spin      = function(nil, nil, noLocals, 0x03, 0x40, 0x0c, 0, 0x0b)
	recursion = function(nil, nil, noLocals, 0x10, 0)
)

// The same limit stops the same module at the same unit, whatever the quantum.
func TestSpinStopsAtItsLimit(t *testing.T) {
	for _, quantum := range []int64{1, 7, 1000, 1 << 16} {
		h := &host{quantum: quantum, limit: 100_000}
		if _, err := call(t, h, spin); !errors.Is(err, errLimit) {
			t.Fatalf("quantum %d: %v", quantum, err)
		}
		if h.used != 100_001 { // a region of one instruction
			t.Errorf("quantum %d: used %d, expected 100001", quantum, h.used)
		}
	}
}

func TestRecursionCosts(t *testing.T) {
	h := &host{quantum: 10, limit: 1000}
	if _, err := call(t, h, recursion); !errors.Is(err, errLimit) {
		t.Errorf("%v", err)
	}
}

// table.grow tells the host how many elements it wants, before it has them, and
// what came of it afterwards. The host may have it grow by another number.
func TestTableGrowIsAnnounced(t *testing.T) {
	m := module(section(1, signature(nil, []byte{i32})), section(3, u(0)), section(4, []byte{0x70, 0, 1}),
		section(7, export("f", 0, 0)), section(10, code(noLocals, 0xd0, 0x70, 0x41, 5, 0xfc, 15, 0)))
	const failed = 1<<32 - 1
	for may, answer := range map[uint64]uint64{0: 1, 2: 1, failed: failed} {
		for _, form := range forms {
			h := unlimited()
			h.may = may
			got, err := callIn(t, form, h, m)
			if err != nil || !slices.Equal(got, []uint64{answer}) || !slices.Equal(h.grown, []uint64{5, answer}) {
				t.Errorf("%s, by %d: table.grow gave %v (%v), announced %v", form, int32(may), got, err, h.grown)
			}
		}
	}
}

// Indices that only the pass makes valid are refused: with them a guest could
// write its own fuel.
func TestAddedIndicesAreOutOfReach(t *testing.T) {
	typed := func(body []byte) []byte {
		return module(section(1, signature(nil, nil)), section(3, u(0)), section(4, []byte{0x70, 0, 1}), section(10, body))
	}
	for name, m := range map[string][]byte{
		"global.set":       function(nil, nil, noLocals, 0x42, 0, 0x24, 0),
		"global.set depth": function(nil, nil, noLocals, 0x41, 0, 0x24, 1),
		"label":            function(nil, nil, noLocals, 0x0c, 1),
		"label of some":    function(nil, nil, noLocals, 0x41, 0, 0x0d, 1),
		"label in a table": function(nil, nil, noLocals, 0x41, 0, 0x0e, 1, 0, 1),
		"label in a block": function(nil, nil, noLocals, 0x02, 0x40, 0x0c, 2, 0x0b),
		"call the meter":   function(nil, nil, noLocals, 0x10, 4),
		"global.get":       function(nil, nil, noLocals, 0x23, 0, 0x1a),
		"local of the own": function(nil, nil, noLocals, 0x20, 0, 0x1a),
		"call of a host's": function(nil, nil, noLocals, 0x10, 1),
		"type":             typed(code(noLocals, 0x42, 0, 0x41, 0, 0x11, 1, 0, 0x1a)),
		"block type":       typed(code(noLocals, 0x42, 0, 0x02, 1, 0x0b, 0x1a)),
		"export a global":  module(section(7, export("g", 3, 0))),
		"export the name":  module(section(6, []byte{i64, 1, 0x42, 0, 0x0b}), section(7, export(wasmmeter.Fuel, 3, 0))),
		"global in data":   module(section(5, []byte{0, 1}), section(11, []byte{0, 0x23, 0, 0x0b, 0})),
		"start":            module(section(1, signature(nil, nil)), []byte{8, 1, 0}),
		"element":          module(section(4, []byte{0x70, 0, 1}), section(9, []byte{0, 0x41, 0, 0x0b, 1, 0})),
	} {
		for _, form := range forms {
			if _, err := wasmmeter.Instrument(m, form); !wasmmeter.Is(err, wasmmeter.Invalid) {
				t.Errorf("%s, %s: %v, expected that it is invalid", form, name, err)
			}
		}
	}
}

func TestWhatIsNotKnownIsRefused(t *testing.T) {
	list := append(u(wasmmeter.MaxFunctions+1), make([]byte, wasmmeter.MaxFunctions+1)...)
	tooMany := slices.Concat([]byte{3}, u(uint32(len(list))), list)
	for name, c := range map[string]struct {
		why    wasmmeter.Why
		module []byte
	}{
		"empty":         {wasmmeter.Invalid, nil},
		"no module":     {wasmmeter.Invalid, []byte("#!/bin/sh\n")},
		"component":     {wasmmeter.Component, []byte("\x00asm\x0d\x00\x01\x00")},
		"version":       {wasmmeter.Invalid, []byte("\x00asm\x02\x00\x00\x00")},
		"vectors":       {wasmmeter.Feature, function(nil, nil, noLocals, 0xfd, 12)},
		"vector type":   {wasmmeter.Feature, function([]byte{0x7b}, nil, noLocals)},
		"atomics":       {wasmmeter.Feature, function(nil, nil, noLocals, 0xfe, 0)},
		"tail call":     {wasmmeter.Feature, function(nil, nil, noLocals, 0x12, 0)},
		"exceptions":    {wasmmeter.Feature, function(nil, nil, noLocals, 0x08, 0)},
		"tags":          {wasmmeter.Feature, module(section(13))},
		"two memories":  {wasmmeter.Feature, function(nil, nil, noLocals, 0x3f, 1, 0x1a)},
		"shared memory": {wasmmeter.Feature, module(section(2, slices.Concat(text("a"), text("b"), []byte{2, 3, 1, 1})))},
		"64 bit memory": {wasmmeter.Feature, module(section(2, slices.Concat(text("a"), text("b"), []byte{2, 4, 1})))},
		"twice":         {wasmmeter.Invalid, module(section(1), section(1))},
		"out of order":  {wasmmeter.Invalid, module(section(3), section(1))},
		"locals":        {wasmmeter.TooLarge, function(nil, nil, []byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f, i32})},
		"tables":        {wasmmeter.TooLarge, module(section(4, slices.Concat([]byte{0x70, 0}, u(wasmmeter.MaxElements)), []byte{0x70, 0, 1}))},
		"functions":     {wasmmeter.TooMany, module(section(1, signature(nil, nil)), tooMany)},
		"cut short":     {wasmmeter.Invalid, spin[:len(spin)-2]},
		"behind an end": {wasmmeter.Invalid, function(nil, nil, noLocals, 0x0b, 0x01)},
	} {
		if _, err := wasmmeter.Instrument(c.module, wasmmeter.Units); !wasmmeter.Is(err, c.why) {
			t.Errorf("%s: %v, expected %s", name, err, c.why)
		}
	}
}

// Imports move the functions of the module; whoever names one must follow:
// calls, references, elements, exports, the start function and the names.
func TestFunctionsMove(t *testing.T) {
	imported := section(2, slices.Concat(text("env"), text("h"), []byte{0, 0}))
	m := module(
		section(1, signature(nil, []byte{i32})),
		imported,
		section(3, u(0), u(0)),
		section(4, []byte{0x70, 0, 2}),
		section(7, export("f", 0, 2)),
		section(9, slices.Concat([]byte{0, 0x41, 1, 0x0b, 1}, u(1))),
		section(10,
			code(noLocals, 0x41, 40),
			code(noLocals, 0x10, 0, 0x41, 1, 0x11, 0, 0, 0x6a)), // h() + table[1]()
		[]byte{0, 15, 4, 'n', 'a', 'm', 'e', 1, 8, 1, 1, 5, 'f', 'o', 'r', 't', 'y'},
	)
	h := unlimited()
	out, err := wasmmeter.Instrument(m, wasmmeter.Units)
	if err != nil {
		t.Fatal(err)
	}
	r := engine(t, h)
	if _, err := r.NewHostModuleBuilder("env").NewFunctionBuilder().WithFunc(func() uint32 { return 2 }).Export("h").Instantiate(t.Context()); err != nil {
		t.Fatal(err)
	}
	inst, err := r.Instantiate(t.Context(), out.Binary)
	if err != nil {
		t.Fatal(err)
	}
	got, err := inst.ExportedFunction("f").Call(t.Context())
	if err != nil || got[0] != 42 {
		t.Errorf("f() is %v (%v), expected 42", got, err)
	}
	if want := (wasmmeter.Import{Module: "env", Name: "h", Type: wasmmeter.Type{Results: "\x7f"}}); !slices.Equal(out.Imports, []wasmmeter.Import{want}) {
		t.Errorf("imports %+v", out.Imports)
	}
	if !strings.Contains(string(out.Binary), "\x04\x05forty") {
		t.Error("the name of function 1 is not that of function 4 now")
	}
}

// A stub has everything but the code, and takes little of it.
func TestStub(t *testing.T) {
	m, err := wasmmeter.Instrument(function(nil, []byte{i32}, noLocals, 0x41, 7), wasmmeter.Units)
	if err != nil {
		t.Fatal(err)
	}
	stub, err := wasmmeter.Stub(m.Binary)
	if err != nil {
		t.Fatal(err)
	}
	inst, err := engine(t, unlimited()).Instantiate(t.Context(), stub)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := inst.ExportedFunction("f").Call(t.Context()); err == nil || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("a function of a stub gave %v", err)
	}
}

// A whole program of a compiler goes through, and stays valid.
func TestProgramOfACompiler(t *testing.T) {
	binary := goModule(t)
	for _, form := range forms {
		m, err := wasmmeter.Instrument(binary, form)
		if err != nil {
			t.Fatal(err)
		}
		r := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(features))
		defer r.Close(t.Context())
		if _, err := r.CompileModule(t.Context(), m.Binary); err != nil {
			t.Errorf("%s: %v", form, err)
		}
		again, err := wasmmeter.Instrument(binary, form)
		if err != nil || string(again.Binary) != string(m.Binary) {
			t.Errorf("%s: the same module came out differently (%v)", form, err)
		}
	}
}

func goModule(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	source := "package main\n\nfunc main() { println(\"hello\") }\n"
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("go", "build", "-o", "out.wasm", "main.go")
	c.Dir = dir
	c.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	binary, err := os.ReadFile(filepath.Join(dir, "out.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return binary
}
