//go:build linux && (amd64 || arm64)

package linux_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// What a group above the workload's refuses is not the workload's budget, and
// the report does not say so.
func TestLimitsOfGroupsAbove(t *testing.T) {
	grouped(t)
	need.Root(t)
	above := groupsBeside(t)[0]
	sup := another(t)
	sup.Backend = linux.Below(above)
	set := func(file, value string) { must(t, os.WriteFile(filepath.Join(above, file), []byte(value), 0)) }
	try := func(change mods, act string, args ...string) outcome {
		o, err := attemptWith(t, sup, t.Context(), request(change, act, args...))
		must(t, err)
		sup.Wait()
		return o
	}
	memory := mods{budget(spec.Memory, 128*mib)}
	set("memory.max", strconv.Itoa(64*mib))
	set("memory.swap.max", "0")
	o := try(memory, "eat-anon", "100")
	if o.Report.Outcome.Status != report.Killed || o.Report.Exit == nil || o.Report.Exit.Name != "SIGKILL" {
		t.Errorf("memory: %+v, %+v", o.Report.Outcome, o.Report.Exit)
	}
	if b := o.bounded(t, spec.Memory); b.Finding != report.Within || event(b, "memory.events.oom") != 0 || event(b, "memory.events.oom_kill") < 1 {
		t.Errorf("memory: %+v", b)
	}
	set("memory.max", "max")
	if o := try(memory, "eat-anon", "100"); o.Code != 0 {
		t.Errorf("the control: without that limit: %d, %s", o.Code, o.why())
	}

	tasks := mods{budget(spec.Processes, 60)}
	set("pids.max", "25")
	o = try(tasks, "start-threads", "40")
	if b := o.bounded(t, spec.Processes); o.Code == 0 || b.Peak != nil && (b.Finding != report.Within || o.Report.Outcome.Status != report.Failed) {
		t.Errorf("processes: %d, %+v, %+v", o.Code, o.Report.Outcome, b)
	}
	set("pids.max", "max")
	if o := try(tasks, "start-threads", "40"); o.Code != 0 {
		t.Errorf("the control: without that limit: %d, %s", o.Code, o.why())
	}
}

// What each file said when it was read back stands in the report, word for word,
// and a limit that the kernel would not take is refused before anything starts.
func TestReadBackOfGroups(t *testing.T) {
	grouped(t)
	o := run(t, mods{func(s *spec.Spec) {
		s.Budgets = map[spec.Dimension]spec.Budget{
			spec.CPU:       {Limit: 60e9, Rate: 500, Guarantee: spec.Enforced, Origin: spec.FromSpec},
			spec.Memory:    {Limit: 64*mib + 1, Guarantee: spec.Enforced, Origin: spec.FromSpec},
			spec.Processes: {Limit: 50, Guarantee: spec.Enforced, Origin: spec.FromSpec},
		}
	}}, "exit", "0").succeeds(t)
	got := fact(o, report.GroupLimited)
	for file, want := range map[string]string{"cpu.max": "50000 100000", "memory.max": strconv.Itoa(64 * mib), "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": "50"} {
		if got[file] != want {
			t.Errorf("%s is %q, expected %q", file, got[file], want)
		}
	}
	o, err := attempt(t, request(mods{budget(spec.Processes, 5e6)}, "exit", "0"))
	if err != nil || o.Report.Outcome.Status != report.Refused || o.Report.Outcome.Reason != string(plan.BudgetKind(spec.Processes))+".capacity" {
		t.Errorf("more than pids.max takes: %+v, %v", o.Report.Outcome, err)
	}
}
