package wasmmeter_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/bvisor/bvisor/internal/wasmmeter"
)

// Whatever the bytes: no panic, no endless work, and what comes out valid came
// in valid. The engine is the judge.
func FuzzInstrument(f *testing.F) {
	for _, m := range append(corpus(), function(nil, nil, noLocals, 0x24, 0), []byte("\x00asm\x0d\x00\x01\x00")) {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, binary []byte) {
		if len(binary) > 1<<16 {
			return
		}
		for _, form := range forms {
			m, err := wasmmeter.Instrument(binary, form)
			if err != nil {
				if _, ok := errors.AsType[*wasmmeter.Error](err); !ok {
					t.Errorf("%s: %v is no *Error", form, err)
				}
				return
			}
			before, after := valid(t, binary), valid(t, m.Binary)
			if before == nil && after != nil {
				t.Errorf("%s: it was valid, and is not any more: %v", form, after)
			}
			// The pass leaves custom sections out, which mean nothing to a run.
			if before != nil && after == nil && !strings.Contains(before.Error(), "custom section") {
				t.Errorf("%s: it is valid only with what was added: %v", form, before)
			}
			if _, err := wasmmeter.Stub(m.Binary); err != nil {
				t.Errorf("%s: no stub: %v", form, err)
			}
		}
	})
}

func valid(t *testing.T, binary []byte) error {
	r := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(features).WithMemoryLimitPages(16))
	defer r.Close(context.Background())
	_, err := r.CompileModule(t.Context(), binary)
	return err
}

// corpus are modules with a function f of two numbers, made of many
// instructions.
func corpus() [][]byte {
	two := []byte{i32, i32}
	one := []byte{i32}
	return [][]byte{
		// the greatest common divisor
		function(two, one, noLocals, 0x03, 0x40, 0x20, 1, 0x04, 0x40, 0x20, 1, 0x20, 0, 0x20, 1, 0x70, 0x21, 1, 0x21, 0, 0x0c, 1, 0x0b, 0x0b, 0x20, 0),
		// a switch
		function(two, one, noLocals, 0x02, 0x40, 0x02, 0x40, 0x02, 0x40, 0x20, 0, 0x0e, 2, 0, 1, 2, 0x0b, 0x41, 10, 0x0f, 0x0b, 0x41, 20, 0x0f, 0x0b, 0x20, 1),
		// fill memory, copy it, read it back
		function(two, one, noLocals, 0x41, 0, 0x20, 0, 0x41, 64, 0xfc, 11, 0, 0x41, 0xc0, 0, 0x41, 0, 0x41, 64, 0xfc, 10, 0, 0, 0x41, 0xc0, 0, 0x28, 2, 4),
		// a loop that sums, with an else
		function(two, one, []byte{1, 1, i32}, 0x03, 0x40, 0x20, 0, 0x41, 1, 0x71, 0x04, 0x40, 0x20, 2, 0x20, 0, 0x6a, 0x21, 2, 0x05, 0x20, 2, 0x41, 1, 0x6a, 0x21, 2, 0x0b,
			0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x41, 0, 0x4a, 0x0d, 0, 0x0b, 0x20, 2),
		// division, which traps for 0
		function(two, one, noLocals, 0x20, 0, 0x20, 1, 0x6d),
		// a block that leaves two values, and what follows it
		module(section(1, signature(two, one), signature(nil, two)), section(3, u(0)), section(5, []byte{0, 1}), section(7, export("f", 0, 0)),
			section(10, code(noLocals, 0x02, 1, 0x20, 0, 0x20, 1, 0x0b, 0x6b))),
		// recursion by way of a table
		module(section(1, signature(two, one)), section(3, u(0)), section(4, []byte{0x70, 0, 1}), section(5, []byte{0, 1}), section(7, export("f", 0, 0)),
			section(9, []byte{0, 0x41, 0, 0x0b, 1, 0}),
			section(10, code(noLocals, 0x20, 0, 0x45, 0x04, i32, 0x20, 1, 0x05, 0x20, 0, 0x41, 1, 0x6b, 0x20, 1, 0x20, 0, 0x6a, 0x41, 0, 0x11, 0, 0, 0x0b))),
	}
}

// A module computes the same with the pass as without, costs the same each time
// and in each form, and goes as deep as somebody else sees it go.
func FuzzResultsAreEqual(f *testing.F) {
	for i := range append(corpus(), leaving()...) {
		f.Add(uint8(i), uint32(1071), uint32(462))
		f.Add(uint8(i), uint32(2), uint32(0))
	}
	f.Fuzz(func(t *testing.T, which uint8, a, b uint32) {
		all := append(corpus(), leaving()...)
		binary := all[int(which)%len(all)]
		args := []uint64{uint64(a % 1500), uint64(b % 1500)}
		want, deepest, failed := watched(t, binary, args...)
		var used []int64
		for _, form := range forms {
			for _, quantum := range []int64{1, 1 << 16} {
				h := &host{quantum: quantum, limit: 1 << 62}
				got, err := callIn(t, form, h, binary, args...)
				if (err == nil) != (failed == nil) || !slices.Equal(got, want) {
					t.Errorf("module %d of %v: %v (%v) with %s, %v (%v) without", int(which)%len(all), args, got, err, form, want, failed)
				}
				if form == wasmmeter.Depth && h.depth != deepest {
					t.Errorf("module %d of %v: it counted a depth of %d, and went %d deep", int(which)%len(all), args, h.depth, deepest)
				}
				used = append(used, h.used)
			}
		}
		if slices.Min(used) != slices.Max(used) {
			t.Errorf("module %d of %v used %v units", int(which)%len(all), args, used)
		}
	})
}
