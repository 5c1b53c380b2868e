package wasmmeter_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/bvisor/bvisor/internal/wasmmeter"
)

// watcher sees every call of a module that counts nothing itself, by way of the
// engine.
type watcher struct{ now, most int }

func (w *watcher) NewFunctionListener(api.FunctionDefinition) experimental.FunctionListener { return w }

func (w *watcher) Before(context.Context, api.Module, api.FunctionDefinition, []uint64, experimental.StackIterator) {
	w.now++
	w.most = max(w.most, w.now)
}

func (w *watcher) After(context.Context, api.Module, api.FunctionDefinition, []uint64) { w.now-- }

func (w *watcher) Abort(context.Context, api.Module, api.FunctionDefinition, error) { w.now-- }

// watched calls function f of a module as it is.
func watched(t *testing.T, binary []byte, args ...uint64) (results []uint64, deepest int, failed error) {
	t.Helper()
	w := &watcher{}
	ctx := experimental.WithFunctionListenerFactory(t.Context(), w)
	inst, err := engine(t, unlimited()).Instantiate(ctx, binary)
	if err != nil {
		t.Fatal(err)
	}
	results, failed = inst.ExportedFunction("f").Call(ctx, args...)
	return results, w.most, failed
}

// leaving are modules whose function f calls another one a times, which is left
// in one way each; then it calls itself, for b times in all. A count that is
// not given back, or given back twice, shows as a depth.
func leaving() [][]byte {
	ways := [][]byte{
		{},                          // at the end
		{0x0f},                      // return
		{0x0c, 0},                   // a branch to the function's own label
		{0x02, 0x40, 0x0c, 1, 0x0b}, // out of a block
		{0x02, 0x40, 0x0f, 0x0b},    // a return out of a block
		{0x20, 0, 0x0d, 0},          // br_if, taken or not
		{0x41, 1, 0x0d, 0, 0x00},    // always taken
		{0x20, 0, 0x0e, 1, 0, 0},    // br_table
		{0x02, 0x40, 0x20, 0, 0x0e, 2, 0, 1, 1, 0x0b},                                                                // into the function, or out of it
		{0x03, 0x40, 0x20, 0, 0x45, 0x0d, 1, 0x20, 0, 0x41, 1, 0x6b, 0x21, 0, 0x0c, 0, 0x0b},                         // out of a loop
		{0x20, 0, 0x04, 0x40, 0x0f, 0x05, 0x02, 0x40, 0x0c, 2, 0x0b, 0x0b, 0x0f, 0x0f},                               // more than once, and behind what is never reached
		{0x20, 0, 0x41, 0xff, 0x01, 0x71, 0x04, 0x40, 0x20, 0, 0x41, 0xff, 0x01, 0x71, 0x41, 1, 0x6b, 0x10, 1, 0x0b}, // deeper by itself first
	}
	two, one := []byte{i32, i32}, []byte{i32}
	var list [][]byte
	for _, way := range ways {
		f := code(noLocals, 0x03, 0x40, 0x20, 0, 0x04, 0x40, 0x20, 0, 0x10, 1, 0x20, 0, 0x41, 1, 0x6b, 0x21, 0, 0x0c, 1, 0x0b, 0x0b,
			0x20, 1, 0x04, i32, 0x41, 3, 0x20, 1, 0x41, 1, 0x6b, 0x10, 0, 0x41, 1, 0x6a, 0x05, 0x41, 0, 0x0b)
		list = append(list, module(section(1, signature(two, one), signature(one, nil)), section(3, u(0), u(1)), section(5, []byte{0, 1}),
			section(7, export("f", 0, 0)), section(10, f, code(noLocals, way...))))
	}
	// Several values are left behind by each way: by the end, return and branches.
	three := signature(one, []byte{i32, i64, i32})
	for _, way := range [][]byte{
		{0x41, 1, 0x42, 2, 0x41, 3},
		{0x41, 1, 0x42, 2, 0x41, 3, 0x0f},
		{0x02, 0x40, 0x42, 9, 0x41, 1, 0x42, 2, 0x41, 3, 0x0c, 1, 0x0b, 0x00},
		{0x41, 1, 0x42, 2, 0x41, 3, 0x20, 0, 0x0e, 0, 0},
	} {
		once := []byte{0x20, 0, 0x10, 1, 0x21, 1, 0x21, 2, 0x20, 1, 0x6a}
		f := code([]byte{1, 1, i64}, slices.Concat(once, []byte{0x21, 0}, once)...)
		list = append(list, module(section(1, signature(two, one), three), section(3, u(0), u(1)), section(5, []byte{0, 1}),
			section(7, export("f", 0, 0)), section(10, f, code(noLocals, way...))))
	}
	return list
}

// Whichever way a function is left, it is not counted any more.
func TestEveryExitIsCounted(t *testing.T) {
	for i, m := range leaving() {
		for _, args := range [][]uint64{{0, 0}, {3, 0}, {7, 5}} {
			want, deepest, failed := watched(t, m, args...)
			if failed != nil || deepest < 2 && (args[0] > 0 || args[1] > 0) {
				t.Fatalf("control: module %d of %v went %d deep (%v)", i, args, deepest, failed)
			}
			h := unlimited()
			got, err := callIn(t, wasmmeter.Depth, h, m, args...)
			if err != nil || !slices.Equal(got, want) || h.depth != deepest {
				t.Errorf("module %d of %v: %v and a depth of %d (%v), expected %v and %d", i, args, got, h.depth, err, want, deepest)
			}
		}
	}
}

// A call that is one too deep does not happen, by whatever way: by name, by a
// table, from the start function, or an exported function that the host calls.
func TestDepthIsBounded(t *testing.T) {
	byTable := module(section(1, signature(nil, nil)), section(3, u(0)), section(4, []byte{0x70, 0, 1}),
		section(7, export("f", 0, 0)), section(9, []byte{0, 0x41, 0, 0x0b, 1, 0}), section(10, code(noLocals, 0x41, 0, 0x11, 0, 0)))
	fromStart := module(section(1, signature(nil, nil)), section(3, u(0)), []byte{8, 1, 0}, section(10, code(noLocals, 0x10, 0)))
	for name, m := range map[string][]byte{"by name": recursion, "by table": byTable, "from the start function": fromStart} {
		for _, deepest := range []int{1, 2, 700} {
			h := unlimited()
			h.deepest = deepest
			out, err := wasmmeter.Instrument(m, wasmmeter.Depth)
			if err != nil {
				t.Fatal(err)
			}
			inst, err := engine(t, h).Instantiate(t.Context(), out.Binary)
			if err == nil {
				_, err = inst.ExportedFunction("f").Call(t.Context())
			}
			if !errors.Is(err, errDepth) || h.depth != deepest+1 {
				t.Errorf("%s: at most %d deep, it was ended at %d (%v)", name, deepest, h.depth, err)
			}
		}
	}
	// What is exactly as deep as it may be runs, as often as it likes.
	for _, deepest := range []int{6, 7} {
		h := unlimited()
		h.deepest = deepest
		_, err := callIn(t, wasmmeter.Depth, h, leaving()[0], 4, 5)
		if deep := h.depth; (err == nil) != (deepest == 7) || deep != 7 {
			t.Errorf("at most %d deep: it went %d deep (%v)", deepest, deep, err)
		}
	}
}
