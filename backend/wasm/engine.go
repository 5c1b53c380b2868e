package wasm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/bvisor/bvisor/internal/wasip1"
	"github.com/bvisor/bvisor/internal/wasmmeter"
	"github.com/bvisor/bvisor/spec"
)

// features are what the engine compiles: what internal/wasmmeter reads.
const features = api.CoreFeaturesV2 &^ api.CoreFeatureSIMD

// engine compiles and runs modules. One may serve many runs at a time: all that
// is a run's own travels in its context.
type engine struct {
	runtime wazero.Runtime
	cache   wazero.CompilationCache // nil is none
}

// newEngine makes an engine that keeps compiled modules in cache, or nowhere.
func newEngine(ctx context.Context, cache wazero.CompilationCache) (*engine, error) {
	c := wazero.NewRuntimeConfigCompiler().WithCoreFeatures(features).WithDebugInfoEnabled(false)
	if cache != nil {
		c = c.WithCompilationCache(cache)
	}
	e := &engine{runtime: wazero.NewRuntimeWithConfig(ctx, c)}
	meter := e.runtime.NewHostModuleBuilder(wasmmeter.HostModule)
	meter.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(tick), []api.ValueType{api.ValueTypeI64}, []api.ValueType{api.ValueTypeI64}).Export(wasmmeter.Tick)
	meter.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(grow), []api.ValueType{api.ValueTypeI32}, []api.ValueType{api.ValueTypeI32}).Export(wasmmeter.Grow)
	meter.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(grown), []api.ValueType{api.ValueTypeI32}, []api.ValueType{api.ValueTypeI32}).Export(wasmmeter.Grown)
	meter.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(deeper), nil, nil).Export(wasmmeter.Deeper)
	if _, err := meter.Instantiate(ctx); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	if _, err := wasip1.Instantiate(ctx, e.runtime); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	return e, nil
}

// compile makes a module that has been through the pass ready to run. It can be
// interrupted between any two functions.
func (e *engine) compile(ctx context.Context, metered []byte) (wazero.CompiledModule, error) {
	return e.runtime.CompileModule(experimental.WithCompilationWorkers(ctx, compilers), metered)
}

// compilers work on one module. The engine looks at its context only where
// there is more than one.
const compilers = 2

func (e *engine) close(ctx context.Context) error {
	err := e.runtime.Close(ctx)
	if e.cache != nil { // it has the code, and outlives the runtime
		err = errors.Join(err, e.cache.Close(ctx))
	}
	return err
}

// unfit says why a module cannot be run, judging by what it wants of its host
// and what it shows it.
func unfit(m *wasmmeter.Module) []spec.Unfit {
	var list []spec.Unfit
	for _, i := range m.Imports {
		name := i.Module + "." + i.Name
		no := func(format string, args ...any) {
			list = append(list, spec.Unfit{Code: "import", Subject: printable(name), Fact: fmt.Sprintf(format, args...)})
		}
		params, results, ok := wasip1.Signature(i.Name)
		known := wasmmeter.Type{Params: string(params), Results: string(results)}
		switch {
		case i.Kind != wasmmeter.KindFunction:
			no("the module wants a %s of its host, which has none", []string{"function", "table", "memory", "global"}[i.Kind])
		case i.Module != wasip1.ModuleName:
			no("%q is no module of the host; there is %s alone", i.Module, wasip1.ModuleName)
		case !ok:
			no("WASI preview 1 has no function of this name")
		case known != i.Type:
			no("its type is %s, and that of WASI is %s", typeText(i.Type), typeText(known))
		}
	}
	start := func(x wasmmeter.Export) bool { return x.Name == "_start" && x.Kind == wasmmeter.KindFunction }
	switch i := slices.IndexFunc(m.Exports, start); {
	case i < 0:
		list = append(list, spec.Unfit{Code: "start", Fact: "the module exports no function _start"})
	case m.Exports[i].Type != wasmmeter.Type{}:
		list = append(list, spec.Unfit{Code: "start", Fact: "its function _start has the type " + typeText(m.Exports[i].Type)})
	}
	if len(list) > mostUnfit {
		rest := len(list) - mostUnfit
		list = append(list[:mostUnfit:mostUnfit], spec.Unfit{Code: "import", Fact: fmt.Sprintf("and %d more", rest)})
	}
	return list
}

// mostUnfit bounds what one module can write into a refusal.
const mostUnfit = 64

// printable keeps a name that the module chose fit for a plan.
func printable(name string) string { return clipped(name, 200) }

// clipped is a text with names in it that the module chose, of any length.
func clipped(text string, most int) string {
	if len(text) > most {
		text = text[:most] + "..."
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// mostError is how much is kept of what the engine says of a module.
const mostError = 4096

func typeText(t wasmmeter.Type) string {
	words := func(types string) string {
		list := make([]string, len(types))
		for i := range len(types) {
			list[i] = api.ValueTypeName(types[i])
		}
		return "(" + strings.Join(list, " ") + ")"
	}
	return words(t.Params) + " -> " + words(t.Results)
}
