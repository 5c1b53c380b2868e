package wasm_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// What is exposed is at its new place, with its own rights, and not at its old
// one.
func TestExpose(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		dir, err := filepath.EvalSymlinks(t.TempDir())
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o644))
		must(t, os.Mkdir(filepath.Join(dir, "out"), 0o755))
		shown := func(s *spec.Spec) {
			s.Controls.Expose = []spec.Expose{{Source: filepath.Join(dir, "file"), Dest: "/data/file", Access: "r"},
				{Source: filepath.Join(dir, "out"), Dest: "/out", Access: "rw"}}
		}
		if o := h.run(wall, []string{"read", "/data/file"}, shown).completes(); o.stdout != "text" {
			t.Errorf("read %q", o.stdout)
		}
		h.run(wall, []string{"write", "/out/new", "made"}, shown).completes()
		if b, err := os.ReadFile(filepath.Join(dir, "out/new")); err != nil || string(b) != "made" {
			t.Errorf("the file holds %q (%v)", b, err)
		}
		native(t, dir, "write", filepath.Join(dir, "file"), "text")
		o := h.run(wall, []string{"write", "/data/file", "other"}, shown).ends(report.Failed, "exit status 1")
		if len(o.Denied) != 1 || o.Denied[0].Path != "/data/file" {
			t.Errorf("denied %+v", o.Denied)
		}
		native(t, dir, "read", filepath.Join(dir, "file"))
		h.run(wall, []string{"read", filepath.Join(dir, "file")}, shown).ends(report.Failed, "exit status 1")
		if b, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(b) != "text" {
			t.Errorf("the file that is shown for reading holds %q (%v)", b, err)
		}
	})
}

// caller is a command that makes calls of WASI and exits with the sum of what
// they answered.
func caller(functions map[string][]byte, calls ...[]byte) []byte {
	types, imports := [][]byte{signature(nil, nil), signature([]byte{0x7f}, nil)}, [][]byte{imported(wasi, "proc_exit", 0, 1)}
	for _, name := range slices.Sorted(maps.Keys(functions)) {
		imports = append(imports, imported(wasi, name, 0, byte(len(types))))
		types = append(types, signature(functions[name], []byte{0x7f}))
	}
	body := []byte{0x41, 0}
	for _, c := range calls {
		body = append(append(body, c...), 0x6a)
	}
	return module(section(1, types...), section(2, imports...), section(3, u(0)), section(5, []byte{0, 1}),
		section(7, export("_start", 0, uint32(len(imports))), export("memory", 2, 0)), section(10, code(noLocals, append(body, 0x10, 0)...)))
}

const wasi = "wasi_snapshot_preview1"

// Every attempt to use a socket is in the report, as often as it was made.
func TestSocketsAreDeniedAndRecorded(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		number := func(n int) []byte { return bytes.Repeat([]byte{0x7f}, n) }
		zeros := func(n int) []byte { return bytes.Repeat([]byte{0x41, 0}, n) }
		// In the order of their names they are functions 1 to 4.
		m := caller(map[string][]byte{"sock_accept": number(3), "sock_recv": number(6), "sock_send": number(5), "sock_shutdown": number(2)},
			append(zeros(3), 0x10, 1), append(zeros(6), 0x10, 2), append(zeros(5), 0x10, 3), append(zeros(5), 0x10, 3), append(zeros(2), 0x10, 4))
		const notsock = 57 // typenames.witx
		o := h.try(t.Context(), bvisor.Request{Spec: request(wall, moduleFile(t, m), nil)}).ends(report.Failed, fmt.Sprintf("exit status %d", 5*notsock))
		var acts []string
		for _, d := range o.Denied {
			acts = append(acts, fmt.Sprintf("%s %dx %s", d.Mechanism, d.Times, strings.Split(d.Act, ":")[0]))
		}
		if want := []string{"wasi 1x sock_accept", "wasi 1x sock_recv", "wasi 2x sock_send", "wasi 1x sock_shutdown"}; !slices.Equal(acts, want) {
			t.Errorf("denied %q, expected %q", acts, want)
		}
	})
}

// Denied attempts that are more, or longer, than a report lists are counted all
// the same, and their list is bounded.
func TestManyLongDenials(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		o := h.run(wall, []string{"ask", "/no"}).completes()
		times, size := int64(0), 0
		for _, d := range o.Denied {
			times += d.Times
			size += len(d.Act) + len(d.Path) + len(d.Allow)
		}
		if times != 400 || len(o.Denied) < 10 || size > 300<<10 || o.Completeness.Level != report.LevelComplete {
			t.Errorf("%d denials of %d attempts in %d bytes, %s", len(o.Denied), times, size, o.Completeness.Level)
		}
		if last := o.Denied[max(len(o.Denied)-1, 0)]; last.Path != "" || last.Times < 100 {
			t.Errorf("the last entry is %+v", last)
		}
	})
}

// A budget of handles is how many descriptors may be open; the report has how
// many were.
func TestHandles(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		dir, err := filepath.EvalSymlinks(t.TempDir())
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o644))
		const limit = 20
		opens := h.run(wall, []string{"open", "f"}, grant("r", dir), in(dir), budget(spec.Handles, limit)).ends(report.Failed, "exit status 1")
		lines := strings.Split(strings.TrimSpace(opens.stdout), "\n")
		const before = 6 // streams, the directory, the root of the view, and the directory as "."
		if lines[len(lines)-2] != fmt.Sprint(limit-before) || !strings.Contains(lines[len(lines)-1], "Too many open files") {
			t.Errorf("it said %q", lines[max(len(lines)-2, 0):])
		}
		if b := opens.used(spec.Handles); b.Used == nil || *b.Used != limit || b.Finding != report.Within {
			t.Errorf("handles %+v", b)
		}
		if b := h.run(wall, []string{"nothing"}, grant("r", dir), in(dir), budget(spec.Handles, limit)).completes().used(spec.Handles); b.Used == nil || *b.Used != before {
			t.Errorf("handles %+v, expected %d", b, before)
		}
	})
}

// Each clock tells what the plan says, by itself and by the times of files.
func TestClocks(t *testing.T) {
	both(t, func(t *testing.T, h *host, wall string) {
		dir, err := filepath.EvalSymlinks(t.TempDir())
		must(t, err)
		for _, clock := range []spec.Clock{spec.ClockReal, spec.ClockMonotonic, spec.ClockFixed} {
			o := h.run(wall, []string{"times", "."}, grant("r", dir), in(dir), func(s *spec.Spec) { s.Capabilities.Clock = clock }).completes()
			if hidden := o.stdout == "2000 1970\n"; hidden != (clock != spec.ClockReal) {
				t.Errorf("%s: the years of the clock and of a file are %s", clock, o.stdout)
			}
		}
	})
}
