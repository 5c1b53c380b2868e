package wasm_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// nested is a module whose _start calls itself until depth functions of it are
// under way, by name or by way of a table.
func nested(depth uint32, byTable bool) []byte {
	call := []byte{0x10, 0}
	if byTable {
		call = []byte{0x41, 0, 0x11, 0, 0}
	}
	count := slices.Concat([]byte{0x23, 0, 0x41, 1, 0x6a, 0x24, 0, 0x23, 0, 0x41}, signed(depth), []byte{0x49, 0x04, 0x40}, call, []byte{0x0b})
	return module(section(1, signature(nil, nil)), section(3, u(0)), section(4, []byte{0x70, 0, 1}), section(6, []byte{0x7f, 1, 0x41, 0, 0x0b}),
		section(7, export("_start", 0, 0)), section(9, []byte{0, 0x41, 0, 0x0b, 1, 0}), section(10, code(noLocals, count...)))
}

// signed is a number as an instruction has it.
func signed(v uint32) []byte {
	var b []byte
	for n := int32(v); ; n >>= 7 {
		if c := byte(n & 0x7f); n>>6 == 0 || n>>6 == -1 {
			return append(b, c)
		} else {
			b = append(b, c|0x80)
		}
	}
}

// Calls go exactly as deep as they may, and the report says how deep they went;
// one more ends the run. Equal runs are ended at the same call, in a worker as
// in process, with the fuel of a run whose calls nobody counts.
func TestCallDepth(t *testing.T) {
	fuels := map[string]bool{}
	both(t, func(t *testing.T, h *host, wall string) {
		const depth = 5000
		for _, byTable := range []bool{false, true} {
			name := moduleFile(t, nested(depth, byTable))
			run := func(change ...func(*spec.Spec)) outcome {
				return h.try(context.Background(), bvisor.Request{Spec: request(wall, name, nil, change...)})
			}
			control := run().completes()
			if byTable {
				fuels[control.fuel()] = true
			}
			for _, limit := range []int64{depth, depth + 1, spec.MaxLimit} {
				o := run(budget(spec.CallDepth, limit)).completes()
				if b := o.used(spec.CallDepth); b.Finding != report.Within || b.Used == nil || *b.Used != depth || b.Requested != limit || b.Set != limit {
					t.Errorf("at most %d deep: %+v", limit, b)
				}
				if o.fuel() != control.fuel() {
					t.Errorf("it used %s units of fuel, and %s without a count of its calls", o.fuel(), control.fuel())
				}
			}
			for _, limit := range []int64{1, 2, depth - 1} {
				o := run(budget(spec.CallDepth, limit)).exceeds(spec.CallDepth)
				if used := *o.used(spec.CallDepth).Used; used != limit+1 || o.Exit != nil {
					t.Errorf("at most %d deep: it was ended at %d (exit %s)", limit, used, o.Exit)
				}
				if byTable {
					fuels[o.fuel()] = true
				}
			}
		}
		// The start function, too.
		start := module(section(1, signature(nil, nil)), section(3, u(0), u(0)), section(7, export("_start", 0, 1)), []byte{8, 1, 0},
			section(10, code(noLocals, 0x10, 0), code(noLocals)))
		o := h.try(context.Background(), bvisor.Request{Spec: request(wall, moduleFile(t, start), nil, budget(spec.CallDepth, 100))})
		if used := *o.exceeds(spec.CallDepth).used(spec.CallDepth).Used; used != 101 {
			t.Errorf("the start function was ended at %d", used)
		}
		// A budget beyond what the engine has room for leaves its bound as it is.
		endless := moduleFile(t, asModule(t, code(noLocals, 0x10, 0)))
		o = h.try(context.Background(), bvisor.Request{Spec: request(wall, endless, nil, budget(spec.CallDepth, spec.MaxLimit))})
		o.ends(report.Failed, "trap: stack overflow")
		if b := o.used(spec.CallDepth); b.Finding != report.Within || *b.Used < 100_000 {
			t.Errorf("an endless recursion: %+v", b)
		}
	})
	if len(fuels) != 4 {
		t.Errorf("equal runs used %v units", fuels)
	}
}

// A program of a compiler does the same, whether its calls are counted or not,
// and runs with exactly the depth that it has. Go's runtime leaves the functions
// of a stack that grows and enters them again: they are fewer than in the source.
func TestCallDepthOfAProgram(t *testing.T) {
	var depths []int64
	both(t, func(t *testing.T, h *host, wall string) {
		want := native(t, "/", "deep", "2000")
		steady := func(s *spec.Spec) { s.Capabilities.Clock, s.Capabilities.Random = spec.ClockFixed, spec.RandomSeeded }
		counted := h.run(wall, []string{"deep", "2000"}, steady, budget(spec.CallDepth, 100_000)).completes()
		plain := h.run(wall, []string{"deep", "2000"}, steady).completes()
		if counted.stdout != want || plain.stdout != want || counted.fuel() != plain.fuel() {
			t.Errorf("it said %q with %s units and %q with %s, expected %q", counted.stdout, counted.fuel(), plain.stdout, plain.fuel(), want)
		}
		used := *counted.used(spec.CallDepth).Used
		depths = append(depths, used)
		h.run(wall, []string{"deep", "2000"}, steady, budget(spec.CallDepth, used)).completes()
		h.run(wall, []string{"deep", "2000"}, steady, budget(spec.CallDepth, used-1)).exceeds(spec.CallDepth)
	})
	if slices.Max(depths) != slices.Min(depths) || depths[0] < 100 {
		t.Errorf("equal runs were %v calls deep", depths)
	}
}

// A module that counts its calls and one that does not are compiled and kept
// apart: neither is taken for the other.
func TestFormsAreKeptApart(t *testing.T) {
	for _, wall := range walls {
		t.Run(wall, func(t *testing.T) {
			o := options(t, wall)
			o.Cache = filepath.Join(t.TempDir(), "cache")
			name := moduleFile(t, nested(10, false))
			for range 2 { // the second time they come from the cache
				h := newHost(t, o)
				plain, counted := request(wall, name, nil), request(wall, name, nil, budget(spec.CallDepth, 9))
				for range 2 { // the second time from memory, or a worker that is kept
					h.try(t.Context(), bvisor.Request{Spec: plain}).completes()
					h.try(t.Context(), bvisor.Request{Spec: counted}).exceeds(spec.CallDepth)
				}
			}
			if files := kept(t, o.Cache); len(files) != 6 {
				t.Errorf("%d files are kept, expected 3 of each form", len(files))
			}
		})
	}
}
