package wasm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/internal/wasmmeter"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// launch is one launch under way.
type launch struct {
	backend *Backend
	asked   backend.Launch
	res     *resolution
	plan    *plan.Plan
	began   time.Time

	ctx     context.Context // ends with the deadline, or with the caller's
	output  output
	streams []*stream
	job     job

	phases []report.Phase
	result result
	failed error              // what kept the module from running
	took   int64              // nanoseconds, all of it
	own    *remote            // the worker that is this run's alone
	left   []report.Artifacts // what was held back
}

// phases of a launch, in their order.
const (
	phaseModule  = "module"  // its digest is that of the plan
	phaseBegin   = "begin"   // the worker, or the engine
	phaseCompile = "compile" // or taken from where compiled ones are kept
	phaseRun     = "run"
)

var phaseNames = []string{phaseModule, phaseBegin, phaseCompile, phaseRun}

// Launch implements backend.Backend. The deadline holds from its beginning: a
// module is compiled within it.
func (b *Backend) Launch(ctx context.Context, l backend.Launch) (report.Observation, func(), error) {
	res, ok := l.Resolution.(*resolution)
	if !ok {
		return report.Observation{}, func() {}, errors.New("bug: the resolution is another backend's")
	}
	if err := l.Commit(); err != nil {
		return report.Observation{}, func() {}, err
	}
	x := &launch{backend: b, asked: l, res: res, plan: &l.Plan, began: time.Now()}
	x.job = jobOf(x.plan, l)
	x.output.limit = -1
	if n, ok := x.job.Limits[spec.Output]; ok {
		x.output.limit = n
	}
	var end context.CancelFunc = func() {}
	if wall, ok := x.job.Limits[spec.Wall]; ok {
		x.ctx, end = context.WithTimeoutCause(ctx, time.Duration(wall), &breach{spec.Wall})
	} else {
		x.ctx = ctx
	}
	defer end()
	settle := x.carryOut()
	x.took = max(int64(time.Since(x.began)), 1)
	if x.own != nil && holdsBack(&x.plan.Resolved) {
		x.harvest(x.own)
	}
	return x.observe(), settle, nil
}

// jobOf is the plan and the environment as a run needs them.
func jobOf(p *plan.Plan, l backend.Launch) job {
	s := &p.Resolved.Spec
	j := job{Args: append([]string{s.Workload.Wasm}, s.Workload.Args...), Clock: s.Capabilities.Clock, Random: s.Capabilities.Random,
		Seed: p.Resolved.Executable.SHA256, Limits: map[spec.Dimension]int64{}}
	j.Dir = s.Workload.Dir
	for _, r := range p.Resolved.Roots {
		j.Roots = append(j.Roots, root{Path: r.Path, Dest: r.Dest, Access: r.Access, NonRecursive: r.NonRecursive, Held: r.Held})
	}
	captured := func(name string) bool {
		return slices.ContainsFunc(s.Controls.Capture, func(c spec.Capture) bool { return c.Stream == name })
	}
	j.Stdout, j.Stderr = captured("stdout"), captured("stderr")
	for _, v := range l.Env {
		j.Env = append(j.Env, []byte(v.Name+"="+v.Value))
	}
	for _, b := range p.Budgets {
		j.Limits[b.Dimension] = b.Limit
	}
	return j
}

func (x *launch) done(phase string) {
	x.phases = append(x.phases, report.Phase{Name: phase, Status: report.PhaseDone, Elapsed: max(int64(time.Since(x.began)), 1)})
}

// fail ends the launch in a phase.
func (x *launch) fail(phase string, err error) {
	x.failed = errors.New(clipped(err.Error(), mostError))
	x.phases = append(x.phases, report.Phase{Name: phase, Status: report.PhaseFailed, Call: x.failed.Error()})
}

func (x *launch) carryOut() (settle func()) {
	m := x.res.module
	if m == nil || !m.fit() || m.digest != x.plan.Resolved.Executable.SHA256 || m.form != formOf(&x.plan.Resolved.Spec) {
		x.fail(phaseModule, errors.New("it is not the module of the plan"))
		return func() {}
	}
	x.done(phaseModule)
	s := x.openStreams()
	if inProcess(x.plan) {
		x.here(m, s)
		settle = func() {}
	} else {
		settle = x.inWorker(m, s)
	}
	for _, one := range x.streams {
		one.finish(x.ctx.Err() != nil || x.result.Exceeded != "")
	}
	return settle
}

// inProcess says what the plan says: where the spec gives the worker up, there
// is none.
func inProcess(p *plan.Plan) bool {
	return !slices.ContainsFunc(p.Requirements, func(r plan.Requirement) bool { return r.Kind == plan.OwnProcess })
}

func (x *launch) openStreams() streams {
	s := streams{stdin: x.input(), stdout: io.Discard, stderr: io.Discard}
	for _, c := range x.plan.Resolved.Spec.Controls.Capture {
		out := map[string]io.Writer{"stdout": x.asked.Stdout, "stderr": x.asked.Stderr}[c.Stream]
		one := newStream(x.ctx, c, &x.output, out)
		x.streams = append(x.streams, one)
		if c.Stream == "stdout" {
			s.stdout = one
		} else {
			s.stderr = one
		}
	}
	return s
}

// input is the module's standard input. A read that is under way when the run
// ends is not interrupted: whoever reads on competes with it for one piece.
func (x *launch) input() io.Reader {
	switch in := x.plan.Resolved.Spec.Controls.Stdin; {
	case in.Mode == spec.StdinFile:
		return x.res.stdin
	case in.Mode == spec.StdinInherit && x.asked.Stdin != nil:
		return x.asked.Stdin
	}
	return nil
}

// here runs the module in this process.
func (x *launch) here(m *module, s streams) {
	x.done(phaseBegin)
	e, code, err := m.ready(x.ctx, x.backend.modules.cache)
	if err != nil {
		x.fail(phaseCompile, err)
		return
	}
	x.done(phaseCompile)
	x.ran(e.execute(x.ctx, code, m.elements, &x.job, x.res.files, s))
}

// ran takes the result of a run, or of one that never began.
func (x *launch) ran(r result) {
	x.result = r
	if r.Unmade != "" {
		x.fail(phaseRun, errors.New(r.Unmade))
	} else {
		x.done(phaseRun)
	}
}

// observe puts together what was seen.
func (x *launch) observe() report.Observation {
	o := report.Observation{Kept: map[string][]byte{}, Denied: x.result.Denied, Artifacts: x.left}
	o.Completeness = report.Completeness{Level: report.LevelComplete, Why: "a module reaches its host through functions that see every attempt"}
	if x.result.lost {
		o.Completeness = report.Completeness{Level: report.LevelPartial, Why: "the worker ended before it said what was refused"}
	}
	for _, name := range phaseNames {
		at := slices.IndexFunc(x.phases, func(p report.Phase) bool { return p.Name == name })
		if at < 0 {
			o.Transcript = append(o.Transcript, report.Phase{Name: name, Status: report.PhaseNotReached})
		} else {
			o.Transcript = append(o.Transcript, x.phases[at])
		}
	}
	for _, s := range x.streams {
		o.Streams = append(o.Streams, s.result())
		o.Kept[s.name] = s.kept
	}
	slices.SortFunc(o.Streams, func(a, b report.Stream) int { return strings.Compare(a.Name, b.Name) })
	o.Outcome, o.Exit = x.outcome()
	ran := x.failed == nil
	if ran {
		o.Run = x.result.Run
		o.Setup = max(x.took-o.Run, 0)
		if x.result.CPU >= 0 {
			o.Usage = &report.Usage{UserTime: x.result.CPU, MaxRSS: x.result.Memory}
		}
	}
	o.Budgets = x.budgets(ran, o)
	o.Facts = x.facts(ran, o)
	return o
}

func (x *launch) outcome() (report.Outcome, *report.Exit) {
	r := &x.result
	switch {
	case x.failed != nil && x.ctx.Err() != nil, x.failed == nil && !r.Exited && r.Trap == nil && r.Fault == "" && r.Exceeded == "":
		if _, late := errors.AsType[*breach](whyOf(x.ctx)); late {
			return report.Outcome{Status: report.Timeout, Reason: string(spec.Wall)}, nil
		}
		return report.Outcome{Status: report.Killed, Reason: "cancelled: " + fmt.Sprint(context.Cause(x.ctx))}, nil
	case x.failed != nil:
		return report.Outcome{Status: report.SetupFailed, Reason: x.phases[len(x.phases)-1].Name + ": " + x.failed.Error()}, nil
	case r.Fault != "":
		return report.Outcome{Status: report.SupervisorFault, Reason: "engine: " + r.Fault}, nil
	case r.Exceeded == spec.Wall:
		return report.Outcome{Status: report.Timeout, Reason: string(spec.Wall)}, nil
	case r.Exceeded != "":
		var exit *report.Exit
		if r.Exited { // it was refused what is over the budget, and ended by itself
			exit = &report.Exit{Code: int(r.Code)}
		}
		return report.Outcome{Status: report.BudgetExceeded, Reason: string(r.Exceeded)}, exit
	case r.Trap != nil:
		return report.Outcome{Status: report.Failed, Reason: "trap: " + r.Trap.Kind}, &report.Exit{Trap: r.Trap}
	case r.Code != 0:
		return report.Outcome{Status: report.Failed, Reason: "exit status " + strconv.FormatUint(uint64(r.Code), 10)}, &report.Exit{Code: int(r.Code)}
	}
	return report.Outcome{Status: report.Completed}, &report.Exit{}
}

// budgets says what was used of each, where that was seen.
func (x *launch) budgets(ran bool, o report.Observation) []report.BudgetResult {
	var list []report.BudgetResult
	for _, b := range x.plan.Budgets {
		res := report.BudgetResult{Dimension: b.Dimension, Requested: b.Limit, Set: b.Limit, Finding: report.NotObserved}
		if used, ok := x.used(b.Dimension, o); ok && (ran || b.Dimension == spec.Wall) {
			res.Used, res.Finding = &used, report.Within
		}
		late := o.Outcome.Status == report.Timeout && b.Dimension == spec.Wall
		if late || o.Outcome.Status == report.BudgetExceeded && o.Outcome.Reason == string(b.Dimension) {
			res.Finding = report.Exceeded
		}
		list = append(list, res)
	}
	return list
}

func (x *launch) used(d spec.Dimension, o report.Observation) (int64, bool) {
	switch d {
	case spec.Wall:
		return x.took, true
	case spec.Output:
		return x.output.written.Load(), true
	case spec.Processes:
		return 1, true
	}
	if x.result.lost {
		return 0, false
	}
	switch d {
	case spec.CPU:
		return x.result.CPU, x.result.CPU >= 0
	case spec.Fuel:
		return x.result.Fuel, true
	case spec.Memory:
		return x.result.Memory, true
	case spec.Storage:
		return x.result.Storage, true
	case spec.Handles:
		return x.result.Handles, true
	case spec.CallDepth:
		return x.result.Depth, true
	}
	return 0, false
}

func (x *launch) facts(ran bool, o report.Observation) []report.Fact {
	var facts []report.Fact
	add := func(kind string, fields ...plan.Param) {
		facts = append(facts, report.Fact{Kind: kind, Fields: fields})
	}
	field := func(name string, value any) plan.Param { return plan.Param{Name: name, Value: fmt.Sprint(value)} }
	if ran {
		where := "worker"
		if inProcess(x.plan) {
			where = "in-process"
		}
		leases := 0
		for _, v := range x.asked.Env {
			if v.Reference != "" {
				leases++
			}
		}
		add(report.WorkloadLaunched, field("executable", x.plan.Resolved.Executable.Path), field("where", where))
		add(report.EnvironmentLowered, field("leases", leases), field("variables", len(x.asked.Env)))
		add(report.FilesystemLowered, field("roots", len(x.plan.Resolved.Roots)))
	}
	if ran && !x.result.lost {
		add(report.FuelCounted, field("cost-model", wasmmeter.Version), field("units", x.result.Fuel))
	}
	for _, s := range o.Streams {
		add(report.StreamCaptured, field("bytes", s.Bytes), field("stream", s.Name))
	}
	return facts
}
