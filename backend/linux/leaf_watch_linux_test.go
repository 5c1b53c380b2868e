//go:build amd64 || arm64

package linux

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

func TestProcessorsAreCounted(t *testing.T) {
	for list, want := range map[string]int64{"0\n": 1, "0-3\n": 4, "0-3,8,10-11\n": 7, "": 0, "x": 0, "3-1": 0, "0,": 0, "-1": 0} {
		if got, err := countProcessors(list); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v; expected %d", list, got, err, want)
		}
	}
}

// A fork that was refused is the budget's only where that was the leaf's limit.
func TestWhoRefusedAFork(t *testing.T) {
	b := plan.BudgetPlan{Dimension: spec.Processes, Limit: 30, Mechanisms: []plan.Mechanism{{Name: mechanismPids}}}
	most := func(n int64) *int64 { return &n }
	refused := map[string]int64{"max": 1}
	for _, tt := range []struct {
		name string
		a    *accounts
		want bool
	}{
		{"no group", nil, false},
		{"nothing refused", &accounts{pids: map[string]int64{"max": 0}, ownForks: true, full: true, peakProcesses: most(30)}, false},
		{"by the leaf alone, and the peak lost", &accounts{pids: refused, ownForks: true, peakProcesses: most(29)}, true},
		{"by somebody, and the leaf was full", &accounts{pids: refused, peakProcesses: most(30)}, true},
		{"likewise, and the peak lost", &accounts{pids: refused, full: true, peakProcesses: most(29)}, true},
		{"by a group above", &accounts{pids: refused, peakProcesses: most(20)}, false},
		{"by nobody knows whom", &accounts{pids: refused}, true},
	} {
		if got := tt.a.exceeds(b); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestCapacityOfLimits(t *testing.T) {
	const second = 1e9
	for _, tt := range []struct {
		limit rlimit
		hard  uint64
		want  int64
	}{
		{rlimit{unit: 1}, unix.RLIM_INFINITY, 0},
		{rlimit{unit: 1}, 1 << 20, 1 << 20},
		{rlimit{unit: 1, ours: 2}, 1000, 998},
		{rlimit{unit: 1, ours: 2}, 2, 1}, // 0 would be no bound
		{rlimit{unit: 1}, 0, 1},
		{rlimit{unit: second}, 60, 60 * second},
		{rlimit{unit: second}, 1 << 40, 0},
	} {
		if got := tt.limit.capacity(tt.hard); got != tt.want {
			t.Errorf("%+v with a hard limit of %d: %d, expected %d", tt.limit, tt.hard, got, tt.want)
		}
	}
}

// A supervisor that may use one processor does not take the workload for bound
// to it: until the next look at its time that could use all of them.
func TestProcessorsOfTheMachine(t *testing.T) {
	const variable = "BVISOR_TEST_ONE_PROCESSOR"
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	online := int64(strings.Count(string(text), "\ncpu"))
	if os.Getenv(variable) != "" {
		if n := runtime.NumCPU(); n != 1 {
			t.Fatalf("control: this process may use %d processors", n)
		}
		if n := processors(); n < online {
			t.Errorf("%d processors, and %d are at work", n, online)
		}
		return
	}
	if online < 2 {
		need.Missing(t, "processors:2", "this machine has one")
	}
	defer runtime.UnlockOSThread()
	runtime.LockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	one.Set(allowed()[0])
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestProcessorsOfTheMachine$")
	cmd.Env = append(os.Environ(), variable+"=1")
	out, err := cmd.CombinedOutput()
	if e := unix.SchedSetaffinity(0, &before); e != nil {
		t.Error(e)
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
