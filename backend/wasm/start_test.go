package wasm_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// starting is a module that does something in its start function, before there
// is a _start to be called; in stack traces that is called culprit.
func starting(body ...byte) []byte {
	names := slices.Concat(u(1), u(2), text("culprit"))
	custom := slices.Concat(text("name"), []byte{1}, u(uint32(len(names))), names)
	return module(section(1, signature(nil, nil), signature([]byte{0x7f}, nil), signature([]byte{0x7f, 0x7f, 0x7f, 0x7f}, []byte{0x7f})),
		section(2, imported(wasi, "proc_exit", 0, 1), imported(wasi, "fd_write", 0, 2)), section(3, u(0), u(0)), section(4, []byte{0x70, 0, 1}),
		section(5, []byte{0, 1}), section(7, export("_start", 0, 3), export("memory", 2, 0)), []byte{8, 1, 2},
		section(10, code(noLocals, body...), code(noLocals, 0x00)), append(append([]byte{0}, u(uint32(len(custom)))...), custom...))
}

// A module that begins to work in its start function is held to the same, and
// ends in the same ways.
func TestStartFunction(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		run := func(m []byte, change ...func(*spec.Spec)) outcome {
			return h.try(t.Context(), bvisor.Request{Spec: request(wall, moduleFile(t, m), nil, change...)})
		}
		spin := starting(0x03, 0x40, 0x0c, 0, 0x0b)
		run(spin, budget(spec.Wall, deadline)).exceeds(spec.Wall)
		run(spin, budget(spec.CPU, int64(50*time.Millisecond))).exceeds(spec.CPU)
		run(spin, budget(spec.Fuel, 1_000_000)).exceeds(spec.Fuel)
		run(starting(0x03, 0x40, 0x41, 1, 0x40, 0, 0x1a, 0x0c, 0, 0x0b), budget(spec.Memory, 10<<20)).exceeds(spec.Memory)
		run(starting(0x03, 0x40, 0xd0, 0x70, 0x41, 0x80, 0x08, 0xfc, 15, 0, 0x1a, 0x0c, 0, 0x0b), budget(spec.Memory, 10<<20)).exceeds(spec.Memory)
		run(starting(0x10, 2), budget(spec.CallDepth, 100)).exceeds(spec.CallDepth)
		// One vector of 100 bytes, written for ever.
		flood := starting(0x41, 0, 0x41, 16, 0x36, 2, 0, 0x41, 4, 0x41, 0xe4, 0, 0x36, 2, 0,
			0x03, 0x40, 0x41, 1, 0x41, 0, 0x41, 1, 0x41, 8, 0x10, 1, 0x1a, 0x0c, 0, 0x0b)
		run(flood, budget(spec.Output, 1050)).exceeds(spec.Output)

		run(starting(0x41, 7, 0x10, 0)).ends(report.Failed, "exit status 7")
		run(starting(0x41, 0, 0x10, 0)).completes() // _start would trap
		o := run(starting(0x41, 1, 0x41, 0, 0x6d, 0x1a)).ends(report.Failed, "trap: integer divide by zero")
		if o.Exit == nil || o.Exit.Trap == nil || !slices.ContainsFunc(o.Exit.Trap.Stack, func(s string) bool { return strings.HasPrefix(s, "culprit(") }) {
			t.Errorf("exit %+v", o.Exit)
		}
		run(starting(0x10, 2)).ends(report.Failed, "trap: stack overflow")
	})
}

// A data segment that does not fit is a trap before anything of the module runs.
// One of elements wazero leaves out, with those behind it.
func TestSegmentsThatDoNotFit(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		for want, segment := range map[string][]byte{
			"trap: out of bounds memory access": section(11, []byte{0, 0x41, 0xff, 0xff, 0x03, 0x0b, 2, 'a', 'b'}),
			"":                                  section(9, []byte{0, 0x41, 1, 0x0b, 1, 0}),
		} {
			m := [][]byte{section(1, signature(nil, nil)), section(3, u(0)), section(4, []byte{0x70, 0, 1}), section(5, []byte{0, 1}),
				section(7, export("_start", 0, 0)), section(10, code(noLocals))}
			at := slices.IndexFunc(m, func(s []byte) bool { return s[0] > segment[0] })
			if at < 0 {
				at = len(m)
			}
			o := h.try(t.Context(), bvisor.Request{Spec: request(wall, moduleFile(t, module(slices.Insert(m, at, segment)...)), nil)})
			if o.Outcome.Reason != want || o.Outcome.Status == report.SupervisorFault {
				t.Errorf("outcome %+v, expected %q", o.Outcome, want)
			}
		}
	})
}
