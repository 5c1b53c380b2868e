package wasm_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/internal/wasmmeter"
	"github.com/bvisor/bvisor/report"
)

func imported(module, name string, kind ...byte) []byte {
	return slices.Concat(text(module), text(name), kind)
}

// What is wrong with a module is refused with the plan, by name, and nothing of
// it runs.
func TestModulesThatAreRefused(t *testing.T) {
	start := section(7, export("_start", 0, 0))
	noType := section(1, signature(nil, nil))
	body := section(10, code(noLocals))
	withImport := func(i []byte, index uint32) []byte {
		return module(noType, section(2, i), section(3, u(0)), section(7, export("_start", 0, index)), body)
	}
	h := newHost(t, options(t, "in-process"))
	for name, c := range map[string]struct {
		module        []byte
		code, subject string
	}{
		"host function":   {withImport(imported("env", "host", 0, 0), 1), "wasm.import", "env.host"},
		"unknown in WASI": {withImport(imported("wasi_snapshot_preview1", "sock_open", 0, 0), 1), "wasm.import", "wasi_snapshot_preview1.sock_open"},
		"of another type": {withImport(imported("wasi_snapshot_preview1", "proc_exit", 0, 0), 1), "wasm.import", "wasi_snapshot_preview1.proc_exit"},
		"older WASI":      {withImport(imported("wasi_unstable", "proc_exit", 0, 0), 1), "wasm.import", "wasi_unstable.proc_exit"},
		"the meter's own": {withImport(imported(wasmmeter.HostModule, wasmmeter.Tick, 0, 0), 1), "wasm.import", "bvisor:meter.tick"},
		"memory":          {withImport(imported("env", "memory", 2, 0, 1), 0), "wasm.import", "env.memory"},
		"global":          {withImport(imported("env", "g", 3, 0x7f, 0), 0), "wasm.import", "env.g"},
		"table":           {withImport(imported("env", "t", 1, 0x70, 0, 1), 0), "wasm.import", "env.t"},
		"component":       {[]byte("\x00asm\x0d\x00\x01\x00"), "wasm.component", ""},
		"no module":       {[]byte("#!/bin/sh\n"), "wasm.invalid", ""},
		"vectors":         {module(noType, section(3, u(0)), start, section(10, code(noLocals, 0xfd, 12))), "wasm.feature", ""},
		"threads":         {module(noType, section(3, u(0)), start, section(10, code(noLocals, 0xfe, 3, 0))), "wasm.feature", ""},
		"a library":       {module(noType, section(3, u(0)), section(7, export("_initialize", 0, 0)), body), "wasm.start", ""},
		"another start":   {module(section(1, signature([]byte{0x7f}, nil)), section(3, u(0)), start, body), "wasm.start", ""},
		"too many functions": {module(noType, slices.Concat([]byte{3}, u(uint32(len(u(wasmmeter.MaxFunctions+1))+wasmmeter.MaxFunctions+1)),
			u(wasmmeter.MaxFunctions+1), make([]byte, wasmmeter.MaxFunctions+1))), "wasm.functions", ""},
	} {
		o := h.try(t.Context(), bvisor.Request{Spec: request("in-process", moduleFile(t, c.module), nil)})
		o.ends(report.Refused, c.code)
		if o.Refusal == nil || o.Refusal.Reasons[0].Subject != c.subject || o.Refusal.Reasons[0].Fact == "" {
			t.Errorf("%s: %+v", name, o.Refusal)
		}
	}
	large := filepath.Join(t.TempDir(), "large.wasm")
	must(t, os.WriteFile(large, []byte("\x00asm\x01\x00\x00\x00"), 0o600))
	must(t, os.Truncate(large, wasmmeter.MaxSize+1))
	h.try(t.Context(), bvisor.Request{Spec: request("in-process", large, nil)}).ends(report.Refused, "wasm.size")
}

// What only a type checker finds is found by the engine: the module never runs.
func TestModuleThatDoesNotCheck(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		bad := asModule(t, code(noLocals, 0x6a)) // adds what is not there
		o := h.try(t.Context(), bvisor.Request{Spec: request(wall, moduleFile(t, bad), nil)})
		if o.Outcome.Status != report.SetupFailed || !strings.HasPrefix(o.Outcome.Reason, "compile: ") {
			t.Errorf("outcome %+v", o.Outcome)
		}
	})
}

// What a module chooses to call its functions does not fill reports, nor the
// memory of who writes a stack of them.
func TestNamesOfAnyLength(t *testing.T) {
	long := strings.Repeat("n", 8<<20)
	both(t, func(t *testing.T, h *host, wall string) {
		names := slices.Concat(u(1), u(0), text(long))
		custom := slices.Concat(text("name"), []byte{1}, u(uint32(len(names))), names)
		traps := module(section(1, signature(nil, nil)), section(3, u(0)), section(6, []byte{0x7f, 1, 0x41, 0, 0x0b}), section(7, export("_start", 0, 0)),
			section(10, code(noLocals, 0x23, 0, 0x41, 20, 0x46, 0x04, 0x40, 0x00, 0x0b, 0x23, 0, 0x41, 1, 0x6a, 0x24, 0, 0x10, 0)),
			append(append([]byte{0}, u(uint32(len(custom)))...), custom...))
		o := h.try(t.Context(), bvisor.Request{Spec: request(wall, moduleFile(t, traps), nil)}).ends(report.Failed, "trap: unreachable")
		if o.Exit == nil || o.Exit.Trap == nil || len(o.Exit.Trap.Stack) < 20 || len(strings.Join(o.Exit.Trap.Stack, "")) > 100_000 {
			t.Errorf("exit %.1000v", o.Exit)
		}
		bad := module(section(1, signature(nil, nil)), section(3, u(0)), section(7, export("_start", 0, 0), export(long, 0, 0)), section(10, code(noLocals, 0x6a)))
		o = h.try(t.Context(), bvisor.Request{Spec: request(wall, moduleFile(t, bad), nil)})
		if o.Outcome.Status != report.SetupFailed || !strings.HasPrefix(o.Outcome.Reason, "compile: invalid function") || len(o.Outcome.Reason) > 10_000 {
			t.Errorf("outcome %.1000v", o.Outcome)
		}
	})
}

// The attempts of BUD-14 that are about the shape of a module: they compile and
// end, or are refused; no worker dies of them.
func TestModulesOfOddShape(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		targets := slices.Concat([]byte{0x41, 0, 0x0e}, u(20_000), make([]byte, 20_001))
		for name, m := range map[string][]byte{
			"many locals":   asModule(t, code(slices.Concat(u(1), u(40_000), []byte{0x7e}))),
			"long br_table": asModule(t, code(noLocals, slices.Concat([]byte{0x02, 0x40}, targets, []byte{0x0b})...)),
			"deep blocks":   asModule(t, code(noLocals, slices.Concat(slices.Repeat([]byte{0x02, 0x40}, 5000), slices.Repeat([]byte{0x0b}, 5000))...)),
		} {
			o := h.try(t.Context(), bvisor.Request{Spec: request(wall, moduleFile(t, m), nil)})
			if o.completes(); t.Failed() {
				t.Fatal(name)
			}
		}
	})
}
