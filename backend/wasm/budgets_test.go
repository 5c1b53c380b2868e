package wasm_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

const deadline = int64(200 * time.Millisecond)

// The deadline holds wherever a module is: in a loop, in its start function, in
// a sleep, waiting for input, writing, and when nobody reads what it writes.
func TestDeadline(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		h.run(wall, []string{"nothing"}) // compiled from here on
		for _, act := range []string{"spin", "sleep", "flood"} {
			h.run(wall, []string{act}, budget(spec.Wall, deadline)).exceeds(spec.Wall)
		}
		read, write, err := os.Pipe()
		must(t, err)
		defer read.Close()
		defer write.Close()
		waiting := request(wall, place.guest, []string{"copy"}, budget(spec.Wall, deadline), func(s *spec.Spec) { s.Controls.Stdin.Mode = spec.StdinInherit })
		h.try(context.Background(), bvisor.Request{Spec: waiting, Stdin: read}).exceeds(spec.Wall)

		stuck, unstick := make(chan struct{}), make(chan struct{})
		deaf := writer(func(p []byte) (int, error) { <-stuck; return len(p), nil })
		go func() { <-unstick; close(stuck) }()
		o := h.try(context.Background(), bvisor.Request{Spec: request(wall, place.guest, []string{"flood"}, budget(spec.Wall, deadline)), Stdout: deaf, Stderr: deaf})
		o.exceeds(spec.Wall)
		close(unstick)

		start := module(section(1, signature(nil, nil)), section(3, u(0), u(0)), section(7, export("_start", 0, 1)), []byte{8, 1, 0},
			section(10, code(noLocals, 0x03, 0x40, 0x0c, 0, 0x0b), code(noLocals)))
		h.try(context.Background(), bvisor.Request{Spec: request(wall, moduleFile(t, start), nil, budget(spec.Wall, deadline))}).exceeds(spec.Wall)
	})
}

// A module that takes long to compile is stopped there, and never runs.
func TestDeadlineInTheCompiler(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		functions, bodies := [][]byte{u(0)}, [][]byte{code(noLocals)}
		for range 40_000 {
			functions = append(functions, u(0))
			bodies = append(bodies, code([]byte{1, 1, 0x7f}, slices.Repeat([]byte{0x20, 0, 0x41, 1, 0x6a, 0x21, 0}, 60)...))
		}
		m := module(section(1, signature(nil, nil)), section(3, functions...), section(7, export("_start", 0, 0)), section(10, bodies...))
		o := h.try(context.Background(), bvisor.Request{Spec: request(wall, moduleFile(t, m), nil, budget(spec.Wall, deadline))})
		o.ends(report.Timeout, "wall")
		if i := slices.IndexFunc(o.Transcript, func(p report.Phase) bool { return p.Name == "run" }); o.Transcript[i].Status != report.PhaseNotReached {
			t.Errorf("transcript %+v", o.Transcript)
		}
	})
}

func TestProcessorTime(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		h.run(wall, []string{"spin"}, budget(spec.CPU, int64(50*time.Millisecond))).exceeds(spec.CPU)
		h.run(wall, []string{"sleep"}, budget(spec.CPU, int64(10*time.Second)), budget(spec.Wall, deadline)).exceeds(spec.Wall)
	})
}

// The same module with the same input uses the same fuel, in a worker as in
// process, and is stopped at the same unit.
func TestFuel(t *testing.T) {
	used := map[string]bool{}
	both(t, func(t *testing.T, h *host, wall string) {
		steady := func(s *spec.Spec) { s.Capabilities.Clock, s.Capabilities.Random = spec.ClockFixed, spec.RandomSeeded }
		for range 2 {
			used[h.run(wall, []string{"work"}, steady).completes().fuel()] = true
		}
		const limit = 50_000_000
		for range 2 {
			o := h.run(wall, []string{"spin"}, steady, budget(spec.Fuel, limit)).exceeds(spec.Fuel)
			if n := *o.used(spec.Fuel).Used; n <= limit || n > limit+1000 {
				t.Errorf("used %d of %d units", n, limit)
			}
			used[fmt.Sprint("spin ", *o.used(spec.Fuel).Used)] = true
		}
		o := h.run(wall, []string{"work"}, budget(spec.Fuel, 1<<50)).completes()
		if b := o.used(spec.Fuel); b.Finding != report.Within || b.Used == nil || *b.Used < 2_000_000 {
			t.Errorf("fuel %+v", b)
		}
	})
	if len(used) != 2 {
		t.Errorf("equal runs used %v units", used)
	}
}

func TestMemory(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		const limit = 64 << 20
		o := h.run(wall, []string{"hog"}, budget(spec.Memory, limit)).exceeds(spec.Memory)
		if n := *o.used(spec.Memory).Used; n <= limit {
			t.Errorf("used %d of %d bytes", n, limit)
		}
		// Tables count, those that are large from the beginning and those that grow.
		for name, m := range map[string][]byte{
			"large memory": module(section(1, signature(nil, nil)), section(3, u(0)), section(5, slices.Concat([]byte{0}, u(2000))), section(7, export("_start", 0, 0)), section(10, code(noLocals))),
			"large table":  module(section(1, signature(nil, nil)), section(3, u(0)), section(4, slices.Concat([]byte{0x70, 0}, u(10_000_000))), section(7, export("_start", 0, 0)), section(10, code(noLocals))),
			"growing table": module(section(1, signature(nil, nil)), section(3, u(0)), section(4, []byte{0x70, 0, 1}), section(7, export("_start", 0, 0)),
				section(10, code(noLocals, 0x03, 0x40, 0xd0, 0x70, 0x41, 0x80, 0x08, 0xfc, 15, 0, 0x1a, 0x0c, 0, 0x0b))),
			"growing memory": module(section(1, signature(nil, nil)), section(3, u(0)), section(5, []byte{0, 1}), section(7, export("_start", 0, 0)),
				section(10, code(noLocals, 0x03, 0x40, 0x41, 1, 0x40, 0, 0x1a, 0x0c, 0, 0x0b))),
		} {
			o := h.try(context.Background(), bvisor.Request{Spec: request(wall, moduleFile(t, m), nil, budget(spec.Memory, limit))})
			if o.exceeds(spec.Memory); t.Failed() {
				t.Fatal(name)
			}
		}
		o = h.run(wall, []string{"nothing"}, budget(spec.Memory, limit)).completes()
		if b := o.used(spec.Memory); b.Used == nil || *b.Used < 1<<16 || b.Finding != report.Within {
			t.Errorf("memory %+v", b)
		}
	})
}

// Tables have a bound of their own, at which growing fails; what failed is not
// counted as used. Without it a few bytes of a module could have the engine ask
// for 32 GiB, which would end the process.
func TestTablesAreBounded(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		grows := func(limits []byte, by uint32) string { // exits with 1 if it could
			body := slices.Concat([]byte{0xd0, 0x70, 0x41}, signed(by), []byte{0xfc, 15, 0, 0x41, 0x7f, 0x47, 0x10, 0})
			return moduleFile(t, module(section(1, signature(nil, nil), signature([]byte{0x7f}, nil)), section(2, imported(wasi, "proc_exit", 0, 1)), section(3, u(0)),
				section(4, append([]byte{0x70}, limits...)), section(7, export("_start", 0, 1)), section(10, code(noLocals, body...))))
		}
		try := func(name string, change ...func(*spec.Spec)) outcome {
			return h.try(context.Background(), bvisor.Request{Spec: request(wall, name, nil, change...)})
		}
		try(grows([]byte{0, 0}, 10_000_000)).ends(report.Failed, "exit status 1") // the control
		for _, by := range []uint32{10_000_001, 1<<31 - 1, 1 << 31, 1<<32 - 2, 1<<32 - 1} {
			try(grows([]byte{0, 0}, by)).completes()
		}
		try(grows([]byte{0, 1}, 10_000_000)).completes()
		try(grows([]byte{0, 1}, 9_999_999)).ends(report.Failed, "exit status 1")
		o := try(grows([]byte{1, 1, 1}, 1_000_000), budget(spec.Memory, 64<<20)).completes()
		if used := *o.used(spec.Memory).Used; used != 8 {
			t.Errorf("a table that did not grow takes %d bytes, expected 8", used)
		}
	})
}

func TestOutput(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		const limit = 10_500
		o := h.run(wall, []string{"flood"}, budget(spec.Output, limit)).exceeds(spec.Output)
		if len(o.stdout) != limit || *o.used(spec.Output).Used <= limit {
			t.Errorf("%d bytes were passed on, %d used, the limit is %d", len(o.stdout), *o.used(spec.Output).Used, limit)
		}
	})
}

func TestStorage(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		dir, err := filepath.EvalSymlinks(t.TempDir())
		must(t, err)
		o := h.run(wall, []string{"fill", "f", "1000000"}, grant("rw", dir), in(dir), budget(spec.Storage, 100_000)).exceeds(spec.Storage)
		if len(o.Denied) == 0 {
			t.Error("nothing was denied")
		}
		info, err := os.Stat(filepath.Join(dir, "f"))
		must(t, err)
		if info.Size() > 100_000 {
			t.Errorf("the file has %d bytes", info.Size())
		}
		if o := h.run(wall, []string{"fill", "g", "1000"}, grant("rw", dir), in(dir), budget(spec.Storage, 100_000)).completes(); *o.used(spec.Storage).Used < 1000 {
			t.Errorf("storage %+v", o.used(spec.Storage))
		}
	})
}

// Same input, same output, same fuel, and the same report but for names of the
// attempt and times.
func TestDeterminism(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		dir, err := filepath.EvalSymlinks(t.TempDir())
		must(t, err)
		steady := func(s *spec.Spec) { s.Capabilities.Clock, s.Capabilities.Random = spec.ClockFixed, spec.RandomSeeded }
		var outputs, fuels, bodies []string
		for range 2 {
			o := h.run(wall, []string{"chance"}, grant("r", dir), in(dir), steady).completes()
			outputs, fuels = append(outputs, o.stdout), append(fuels, o.fuel())
			bodies = append(bodies, timeless(t, *o.Report))
			if heldBy(o.Plan, plan.Clock)[0] != "wasi-clock" || heldBy(o.Plan, plan.Random)[0] != "wasi-random" {
				t.Error("the plan does not say so")
			}
		}
		if bodies[0] != bodies[1] {
			t.Errorf("two equal runs have the reports\n%s\n%s", bodies[0], bodies[1])
		}
		if outputs[0] != outputs[1] || fuels[0] != fuels[1] {
			t.Errorf("two equal runs said %q, with fuel %q", outputs, fuels)
		}
		// The control: without it they differ.
		a, b := h.run(wall, []string{"chance"}, grant("r", dir), in(dir)).completes(), h.run(wall, []string{"chance"}, grant("r", dir), in(dir)).completes()
		if a.stdout == b.stdout {
			t.Errorf("control: two runs with real clocks and numbers said %q", a.stdout)
		}
	})
}

// timeless is a report without the attempt's name and without times.
func timeless(t *testing.T, r report.Report) string {
	t.Helper()
	r.Identity.Attempt, r.Times = "", report.Times{}
	r.Transcript = slices.Clone(r.Transcript)
	for i := range r.Transcript {
		r.Transcript[i].Elapsed = 0
	}
	if r.Usage != nil {
		r.Usage = &report.Usage{MaxRSS: r.Usage.MaxRSS}
	}
	b, err := json.Marshal(r)
	must(t, err)
	return string(b)
}

// What nobody captures is not counted, in a worker as in process.
func TestOutputThatIsNotCaptured(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		o := h.run(wall, []string{"say", strings.Repeat("a", 1000)}, budget(spec.Output, 500), func(s *spec.Spec) {
			s.Controls.Capture, s.Evidence = []spec.Capture{{Stream: "stderr"}}, []spec.Claim{spec.TerminalOutcome}
		}).completes()
		if o.stdout != "" || *o.used(spec.Output).Used != 0 {
			t.Errorf("%q was passed on, %+v", o.stdout, o.used(spec.Output))
		}
	})
}
