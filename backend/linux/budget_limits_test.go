//go:build linux && (amd64 || arm64)

package linux_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

var _ = victim.Register(map[string]victim.Act{
	// Maps so many MiB and touches none of it.
	"reserve": eat(func(int) error {
		_, err := unix.Mmap(-1, 0, mib, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		return err
	}),
})

// ungrouped is a supervisor whose host has no group for it.
func ungrouped(t *testing.T) *bvisor.Supervisor {
	t.Helper()
	need.MountNamespace(t)
	s := another(t)
	s.Backend = linux.Below("/")
	return s
}

func mediated(d spec.Dimension, limit int64) func(*spec.Spec) {
	return func(s *spec.Spec) {
		budget(d, limit)(s)
		b := s.Budgets[d]
		b.Guarantee = spec.Mediated
		s.Budgets[d] = b
	}
}

// held is the one mechanism that holds a budget.
func (o outcome) held(t *testing.T, d spec.Dimension) plan.Mechanism {
	t.Helper()
	for _, b := range o.Report.Plan.Budgets {
		if b.Dimension == d && len(b.Mechanisms) == 1 {
			return b.Mechanisms[0]
		}
	}
	t.Fatalf("the plan holds %s by no mechanism, or by several", d)
	return plan.Mechanism{}
}

// Without a group what resource limits hold is given to who asks for no more,
// under their names, and to nobody else.
func TestLimitsOfEachProcess(t *testing.T) {
	sup := ungrouped(t)
	for _, c := range []struct {
		dimension spec.Dimension
		limit     int64
		mechanism string
		act, args string
		code      int
		outcome   report.Outcome
	}{
		{spec.Memory, 1 << 30, "rlimit.as", "reserve", "2000", int(unix.ENOMEM), report.Outcome{Status: report.Failed, Reason: "exit status 12"}},
		{spec.CPU, int64(time.Second), "rlimit.cpu", "burn-one", "1700", -1, report.Outcome{Status: report.Failed, Reason: "signal SIGKILL"}},
	} {
		t.Run(string(c.dimension), func(t *testing.T) {
			if o := control(t, c.act, c.args); o.Code != 0 {
				t.Fatalf("without a boundary: %s", o.Stderr)
			}
			o, err := attemptWith(t, sup, t.Context(), request(mods{budget(c.dimension, c.limit)}, c.act, c.args))
			if err != nil || o.Report.Outcome != (report.Outcome{Status: report.Refused, Reason: "budget." + string(c.dimension) + ".guarantee"}) {
				t.Fatalf("enforced: %+v, %v", o.Report.Outcome, err)
			}
			if r := o.Report.Refusal.Reasons[0]; !strings.Contains(r.Fact, "; cgroup.parent is ") || !strings.Contains(r.Remedy, "guarantee to mediated") {
				t.Errorf("the reason: %+v", r)
			}
			o, err = attemptWith(t, sup, t.Context(), request(mods{mediated(c.dimension, c.limit)}, c.act, c.args))
			if err != nil || o.Report.Outcome != c.outcome || o.Code != c.code {
				t.Fatalf("mediated: %d, %+v, %v; %s", o.Code, o.Report.Outcome, err, o.Stderr)
			}
			if m := o.held(t, c.dimension); m.Name != c.mechanism || m.Enforcement != spec.Mediated {
				t.Errorf("held by %+v", m)
			}
			if b := o.bounded(t, c.dimension); b.ReadBack == nil || *b.ReadBack != c.limit || b.Finding != report.NotObserved {
				t.Errorf("the report says %+v", b)
			}
		})
	}
	o, err := attemptWith(t, sup, t.Context(), request(mods{mediated(spec.CPU, 1.5e9)}, "burn-one", "1"))
	if err != nil || o.Report.Outcome.Reason != "feature.sub-second" {
		t.Errorf("one and a half seconds: %+v, %v", o.Report.Outcome, err)
	}
}

// An ordinary user's processes are counted for the user namespace alone, so the
// limit is one on the whole tree. The superuser has none.
func TestProcessLimitOfTheNamespace(t *testing.T) {
	sup := ungrouped(t)
	const limit = 20
	for _, act := range []string{"start-forks", "start-threads"} {
		req := request(mods{spawn(spec.SpawnProcesses), budget(spec.Processes, limit)}, act, "30")
		o, err := attemptWith(t, sup, t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if os.Geteuid() == 0 {
			if o.Report.Outcome.Reason != "budget.processes.unsupported" {
				t.Errorf("the superuser: %+v", o.Report.Outcome)
			}
			continue
		}
		if c := controlApart(t, act, "30"); c.Code != 0 || strings.Count(c.Stdout, "\n") != 30 {
			t.Fatalf("without a boundary: %s", c.Stderr)
		}
		// A Go program does not survive that it gets no thread.
		if started := strings.Count(o.Stdout, "\n"); o.Code == 0 || started >= limit || started < limit-15 || !strings.Contains(strings.ToLower(o.Stderr), "resource temporarily unavailable") && !strings.Contains(o.Stderr, "errno=11") {
			t.Errorf("%s: %d were started with a limit of %d: %d, %s", act, started, limit, o.Code, o.Stderr)
		}
		if m := o.held(t, spec.Processes); m.Name != "rlimit.nproc" || m.Enforcement != spec.Enforced {
			t.Errorf("held by %+v", m)
		}
		if b := o.bounded(t, spec.Processes); b.ReadBack == nil || *b.ReadBack != limit {
			t.Errorf("the report says %+v", b)
		}
		for _, l := range o.Report.Posture.Limits {
			if want := strconv.Itoa(limit + 2); l.Name == "nproc" && strconv.FormatInt(l.Hard, 10) != want { // launcher and init
				t.Errorf("the posture has %d, expected %s", l.Hard, want)
			}
		}
	}
	// Other processes of the same user count for nothing.
	if os.Geteuid() != 0 {
		for range 2 * limit {
			req := request(mods{budget(spec.Processes, limit)}, "exit", "0")
			if o, err := attemptWith(t, sup, t.Context(), req); err != nil || o.Report.Outcome.Status != report.Completed {
				t.Fatalf("%+v, %v", o.Report.Outcome, err)
			}
		}
	}
}
