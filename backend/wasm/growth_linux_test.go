package wasm_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/bvisor/bvisor/backend/wasm"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/spec"
)

// Runs leave nothing behind: neither descriptors, goroutines nor memory, here or
// in the worker that makes all of them.
func TestManyRunsLeaveNothing(t *testing.T) {
	rounds := need.Rounds(t, 10_000, 100_000)
	for _, wall := range walls {
		t.Run(wall, func(t *testing.T) {
			o := options(t, wall)
			if wall == "worker" {
				o.Worker[1] = "worker-kept"
			}
			b := wasm.New(o)
			defer b.Close()
			dir, err := filepath.EvalSymlinks(t.TempDir())
			must(t, err)
			s := request(wall, answers(t), nil, grant("rw", dir), in(dir), budget(spec.Wall, int64(1e11)))
			run := func() {
				p, res := planned(t, b, s)
				var out bytes.Buffer
				if o := launched(t, b, p, res, &out); o.Outcome.Reason != "exit status 42" {
					t.Fatalf("outcome %+v", o.Outcome)
				}
			}
			for range 200 {
				run()
			}
			before, worker := standing(t), processes(t, "worker-kept")
			if wall == "worker" && len(worker) != 1 {
				t.Fatalf("%d workers, expected 1", len(worker))
			}
			for range rounds {
				run()
			}
			after := standing(t)
			if after.files > before.files || after.goroutines > before.goroutines+2 || after.heap > before.heap+4<<20 || after.worker > before.worker+32<<20 {
				t.Errorf("before %+v, after %+v", before, after)
			}
			if again := processes(t, "worker-kept"); fmt.Sprint(again) != fmt.Sprint(worker) {
				t.Errorf("workers %v before, %v after", worker, again)
			}
		})
	}
}

func init() { workers["worker-kept"] = workers["worker"] }

// inventory is what a process has, and the memory of its worker.
type inventory struct {
	files, goroutines int
	heap, worker      uint64
}

func standing(t *testing.T) inventory {
	t.Helper()
	runtime.GC()
	runtime.GC() // what finalizers let go of
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	i := inventory{files: len(list), goroutines: runtime.NumGoroutine(), heap: m.HeapAlloc}
	for _, pid := range processes(t, "worker-kept") {
		text, err := os.ReadFile("/proc/" + pid + "/statm") // proc(5)
		must(t, err)
		var size, resident uint64
		if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
			t.Fatal(err)
		}
		i.worker += resident * uint64(os.Getpagesize())
	}
	return i
}
