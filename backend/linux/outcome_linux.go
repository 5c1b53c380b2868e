//go:build amd64 || arm64

package linux

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// base is what every observation holds.
func (r *run) base() report.Observation {
	o := report.Observation{Program: r.digest, Descriptors: r.table, Posture: r.posture, Kept: map[string][]byte{}}
	o.Completeness = report.Completeness{Level: "none", Why: "the kernel's denials are not recorded; only a fatal one is seen in the exit status"}
	o.Setup, o.Prepared = max(r.opened-r.asked, 0), r.prepared
	if r.witness != nil {
		o.Denied, o.Completeness = r.witness.acts(), r.witness.completeness()
	}
	return o
}

// observe puts together what was seen.
func (r *run) observe() report.Observation {
	r.removePlaceholders() // nobody is left whom they would stop
	o := r.base()
	o.Transcript = r.transcript()
	for _, s := range r.streams {
		o.Streams = append(o.Streams, s.result())
		o.Kept[s.name] = s.kept
	}
	slices.SortFunc(o.Streams, func(a, b report.Stream) int { return strings.Compare(a.Name, b.Name) })
	if e := r.ended; e != nil && e.Executed {
		o.Exit = exit(e.WaitStatus)
		o.Usage = &report.Usage{UserTime: int64(e.Tree.User), SystemTime: int64(e.Tree.System), MaxRSS: e.Tree.MaxRSS}
		o.Run = max(e.EndedAt-r.opened, 0)
		o.Teardown = max(monotonic()-e.EndedAt, 0)
	} else if r.opened != 0 {
		o.Run = max(r.gone-r.opened, 0) // by the supervisor's clock: init was killed with the rest
	}
	o.Artifacts = r.collect()
	o.Outcome = r.outcome(o.Exit)
	o.Budgets = r.budgets(o)
	o.Facts = r.facts(o)
	if o.Outcome.Status == report.Denied {
		o.Denied = append(o.Denied, report.DeniedAct{Act: "a system call of another architecture", Mechanism: "seccomp", Allow: ""})
		if r.witness == nil {
			o.Completeness = report.Completeness{Level: report.LevelPartial, Why: "a denial is recorded when it ends the workload"}
		}
	}
	return o
}

func exit(status uint32) *report.Exit {
	ws := unix.WaitStatus(status)
	if ws.Signaled() {
		return &report.Exit{Signal: int(ws.Signal()), Name: unix.SignalName(ws.Signal()), Core: ws.CoreDump()}
	}
	return &report.Exit{Code: ws.ExitStatus()}
}

// outcome names how the attempt ended. The kernel's word, by init's wait4,
// goes before what the supervisor wanted.
func (r *run) outcome(e *report.Exit) report.Outcome {
	r.watch.mu.Lock()
	wanted := r.watch.reason
	r.watch.mu.Unlock()
	failed := func(format string, args ...any) report.Outcome {
		return report.Outcome{Status: report.SetupFailed, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case r.failed != nil && (wanted.Status == "" || r.opened != 0):
		op := r.program.Op(r.failed.Failed)
		o := failed("%s: step %d, %s: %s", op.Phase, r.failed.Failed, op, errno(r.failed.Errno))
		if r.opened != 0 && op.Role != launcher.RoleWorkload {
			o.Status = report.SupervisorFault // beside the workload, which may have run
		}
		return o
	case r.mismatch != "":
		return failed("posture: %s", r.mismatch)
	case wanted.Status != "":
		return wanted
	case r.accounts.killedByHost():
		return report.Outcome{Status: report.Killed, Reason: "the host, or a group above the workload's, ran out of memory"}
	case r.exceeded() != "" && r.executed():
		return report.Outcome{Status: report.BudgetExceeded, Reason: string(r.exceeded())}
	case r.exceeded() != "":
		return failed("budgets: the limit on %s was reached before the workload ran", r.exceeded())
	case r.ended != nil && !r.ended.Executed && unix.WaitStatus(r.ended.WaitStatus).Signaled():
		// Also where the supervisor met it half read, or at the barrier.
		return failed("exec: the workload was killed before it became the program")
	case r.fault != nil:
		return report.Outcome{Status: report.SupervisorFault, Reason: r.fault.Error()}
	case !r.confined():
		return failed("launcher: it ended before the workload was confined")
	case r.ended == nil:
		return report.Outcome{Status: report.Killed, Reason: "the launcher was killed from outside"}
	case !r.ended.Executed:
		return failed("exec: the workload ended before it became the program")
	case e.Signal == int(unix.SIGSYS):
		return report.Outcome{Status: report.Denied, Reason: "system-call-filter"}
	case e.Signal != 0:
		return report.Outcome{Status: report.Failed, Reason: "signal " + e.Name}
	case e.Code != 0:
		return report.Outcome{Status: report.Failed, Reason: "exit status " + strconv.Itoa(e.Code)}
	}
	return report.Outcome{Status: report.Completed}
}

func errno(n int) string {
	if name := unix.ErrnoName(unix.Errno(n)); name != "" {
		return name
	}
	return "errno " + strconv.Itoa(n)
}

// executed says whether the workload became its program: by init's word, or by
// what was seen of it before all was killed. Output is the program's: nobody
// before it writes to a captured stream.
func (r *run) executed() bool {
	if r.ended != nil {
		return r.ended.Executed
	}
	return r.became.Load() || r.watch.total() > 0
}

// transcript is the launcher's account: a phase is done when a process said
// when, and failed where the failing step stands.
func (r *run) transcript() []report.Phase {
	// Each process knows the phases up to its own fork and then its own.
	at := make([]int64, len(launcher.Phases))
	for _, m := range []*launcher.Message{r.ready, r.ended, r.last, r.failed} {
		if m != nil {
			for i, t := range m.Phases {
				at[i] = max(at[i], t)
			}
		}
	}
	failedPhase := ""
	if r.failed != nil {
		failedPhase = r.program.Op(r.failed.Failed).Phase
	}
	has := map[string]bool{}
	for i := range r.program.Len() {
		has[r.program.Op(i).Phase] = true
	}
	list := make([]report.Phase, 0, len(launcher.Phases))
	for i, name := range launcher.Phases {
		p := report.Phase{Name: name, Status: "not-reached"}
		switch {
		case name == failedPhase:
			op := r.program.Op(r.failed.Failed)
			p.Status, p.Step, p.Call, p.Errno = "failed", r.failed.Failed, op.String(), errno(r.failed.Errno)
		case at[i] != 0:
			p.Status, p.Elapsed = "done", max(at[i]-r.launcher.started, 0)
		case !has[name]:
			p.Status = "not-required"
		case name == "exec" && r.executed():
			p.Status = "done"
		}
		list = append(list, p)
	}
	return list
}

func (r *run) budgets(o report.Observation) []report.BudgetResult {
	var list []report.BudgetResult
	for _, b := range r.launch.Plan.Budgets {
		res := report.BudgetResult{Dimension: b.Dimension, Requested: b.Limit, Set: b.Limit, Finding: "not-observed"}
		if v, ok := r.readBack[b.Dimension]; ok {
			res.ReadBack = &v
		}
		if r.ended != nil && r.ended.Executed || o.Outcome.Status == report.Timeout || o.Outcome.Status == report.BudgetExceeded {
			switch b.Dimension {
			case spec.Wall:
				if o.Run > 0 {
					res.Used = &o.Run
				}
				res.Finding = "within"
				if o.Outcome.Status == report.Timeout {
					res.Finding = "exceeded"
				}
			case spec.Output:
				used := r.watch.total()
				res.Used, res.Finding = &used, "within"
				if used > b.Limit {
					res.Finding = "exceeded"
				}
			case spec.Handles, spec.Storage, spec.Processes:
				// The kernel refuses what is over the limit (EMFILE, ENOSPC, EAGAIN).
				if res.ReadBack != nil {
					res.Finding = "within"
					if b.Dimension == spec.Storage {
						res.Used = r.stored // no peak: what was removed again is not counted
					}
				}
			}
			r.accounts.finding(b, &res)
		}
		list = append(list, res)
	}
	return list
}

func (r *run) facts(o report.Observation) []report.Fact {
	var facts []report.Fact
	add := func(kind string, fields ...plan.Param) {
		facts = append(facts, report.Fact{Kind: kind, Fields: fields})
	}
	field := func(name string, value any) plan.Param { return plan.Param{Name: name, Value: fmt.Sprint(value)} }
	reached := func(phase string) bool {
		return slices.ContainsFunc(o.Transcript, func(p report.Phase) bool { return p.Name == phase && p.Status == "done" })
	}
	p := r.launch.Plan
	if reached("namespaces") && o.Posture != nil {
		var own []string
		for _, n := range o.Posture.Namespaces {
			if n.Own {
				own = append(own, n.Name)
			}
		}
		add(report.NamespacesEntered, field("own", strings.Join(own, ",")))
	}
	if reached("mounts") {
		add(report.FilesystemLowered, field("roots", len(p.Resolved.Roots)))
	}
	if reached("landlock") {
		add(report.LandlockEntered)
	}
	if reached("seccomp") {
		add(report.FilterInstalled)
	}
	if r.witness != nil {
		add(report.DenialsObserved, r.witness.counts()...)
	}
	if o.Posture != nil {
		for _, n := range o.Posture.Namespaces {
			if n.Name == "net" {
				add(report.NetworkLowered, field("namespace", n.ID), field("own", n.Own))
			}
		}
	}
	if r.executed() {
		leases := 0
		for _, v := range r.launch.Env {
			if v.Reference != "" {
				leases++
			}
		}
		add(report.WorkloadLaunched, field("executable", p.Resolved.Executable.Path))
		add(report.EnvironmentLowered, field("leases", leases), field("variables", len(r.launch.Env)))
	}
	for _, s := range o.Streams {
		add(report.StreamCaptured, field("bytes", s.Bytes), field("stream", s.Name))
	}
	for _, name := range r.placed {
		add(report.PlaceholderMade, field("path", name))
	}
	for _, name := range r.cleared {
		add(report.PlaceholderRemoved, field("path", name))
	}
	if len(r.files) > 0 {
		add(report.GroupLimited, r.files...)
	}
	if r.accounts != nil {
		add(report.GroupEmptied, field("by", "cgroup.events: populated"), field("group", r.group), field("survivors", r.survivors))
	}
	reaped := r.last != nil && r.last.InitReaped
	switch {
	case r.watch.killed || r.ended == nil && (reaped || r.stuck):
		emptied := r.survivors == 0 && (reaped || r.ended != nil && r.ended.Empty)
		add(report.TreeKilled, field("emptied", emptied), field("survivors", r.survivors))
	case r.ended != nil && r.ended.Empty && r.survivors == 0:
		add(report.TreeEmptied, field("by", "wait4: ECHILD"))
	}
	if r.ready != nil && r.opened != 0 && (r.ended == nil || !r.ended.Ended) {
		add(report.Unobserved, field("what", "how the workload's first process ended"))
	}
	return facts
}
