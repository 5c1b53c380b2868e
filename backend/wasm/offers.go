package wasm

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/bvisor/bvisor/internal/wasmmeter"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

// probe runs a module, here and in a worker, and says what that makes possible.
func (b *Backend) probe(ctx context.Context) (plan.Profile, error) {
	p := plan.Profile{Version: plan.ProfileVersion, Backend: Name, Host: plan.Host{OS: runtime.GOOS, Arch: runtime.GOARCH, UID: os.Geteuid()}}
	engine := plan.Fact{Name: "engine.run", Value: "available", Learned: "exercised: a module was counted, compiled and run"}
	if err := b.tryEngine(ctx); err != nil {
		engine.Value, engine.Detail = "unavailable", err.Error()
	}
	worker := plan.Fact{Name: "worker", Value: "available", Learned: "exercised: a worker was started and ran a module"}
	if engine.Value != "available" {
		worker.Value, worker.Detail, worker.Learned = "unknown", "the engine does not run", "not exercised"
	} else if err := b.tryWorker(ctx); err != nil {
		worker.Value, worker.Detail = "unavailable", err.Error()
	}
	p.Facts = []plan.Fact{
		{Name: "cpu-time", Value: availability(cpuKnown), Learned: "built for " + runtime.GOOS},
		engine,
		{Name: "engine.stack", Value: "at most 100 MB", Learned: "built in"},
		{Name: "engine.version", Value: "wazero " + engineVersion, Learned: "built in"},
		{Name: "meter.version", Value: fmt.Sprint(wasmmeter.Version), Learned: "built in"},
		worker,
	}
	o := offers{engine: engine, worker: worker}
	if b.hasWorkers() {
		outer, err := b.options.Outer.Probe(ctx)
		if err != nil {
			return p, err
		}
		o.outer = outer.Offers
	}
	o.all()
	p.Offers = o.list
	slices.SortFunc(p.Offers, func(a, b plan.Offer) int { return strings.Compare(string(a.Kind), string(b.Kind)) })
	p.Evidence = []plan.EvidenceSource{
		{Claim: spec.CapturedStreams, By: "relay", Needs: []plan.Kind{plan.CaptureStreams}},
		{Claim: spec.DeniedAttempts, By: "host functions"},
		{Claim: spec.TerminalOutcome, By: "engine"},
	}
	if cpuKnown {
		p.Evidence = slices.Insert(p.Evidence, 2, plan.EvidenceSource{Claim: spec.ResourceUsage, By: "meter"})
	}
	return p.Seal()
}

func availability(yes bool) string {
	if yes {
		return "available"
	}
	return "unavailable"
}

// offers says, for every requirement kind, how it is held. It is a function of
// the facts, and of what the backend of the workers' boundary offers.
type offers struct {
	engine, worker plan.Fact
	outer          []plan.Offer
	list           []plan.Offer
}

func mechanism(name string, params ...plan.Param) plan.Mechanism {
	return plan.Mechanism{Name: name, Enforcement: spec.Enforced, Params: params}
}

// held offers a kind by a mechanism of the engine's host, which holds it in a
// worker and out of one. The worker's boundary, the second wall, is a
// requirement of its own.
func (o *offers) held(k plan.Kind, w plan.Way) {
	if o.engine.Value != "available" {
		o.none(k, "an engine for WebAssembly", o.engine.Name+" is "+o.engine.Value+" ("+o.engine.Detail+")", "use a host whose processor the engine compiles for (amd64, arm64)")
		return
	}
	o.list = append(o.list, plan.Offer{Kind: k, Ways: []plan.Way{w}})
}

func (o *offers) none(k plan.Kind, need, fact, remedy string) {
	o.list = append(o.list, plan.Offer{Kind: k, Need: need, Fact: fact, Remedy: remedy})
}

func workerMechanism() plan.Mechanism { return mechanism("worker-boundary") }

func way(m ...plan.Mechanism) plan.Way { return plan.Way{Mechanisms: m} }

func (o *offers) all() {
	if o.worker.Value == "available" {
		o.list = append(o.list, plan.Offer{Kind: plan.OwnProcess, Ways: []plan.Way{way(workerMechanism())}})
	} else {
		remedy := ""
		if strings.Contains(o.worker.Detail, "needs the interpreter") { // of the host's; the boundary has none
			remedy = "build bvisor without C: CGO_ENABLED=0 go install ./cmd/bvisor"
		}
		o.none(plan.OwnProcess, "a worker process inside a boundary of the linux backend", "worker is "+o.worker.Value+" ("+o.worker.Detail+")", remedy)
	}

	files := way(mechanism("wasi-preopen"))
	files.Lacks = []string{plan.FeatureExecWithoutRead, plan.FeatureOtherRoot}
	for _, k := range []plan.Kind{plan.Filesystem, plan.ExposePath} {
		o.held(k, files)
	}
	o.temp()
	o.artifacts()
	o.held(plan.FilesystemCarveOut, way(mechanism("wasi-preopen")))
	// What a module has no function for it cannot do.
	for _, k := range []plan.Kind{plan.NetworkDenyAll, plan.SpawnNone, plan.FDsNone} {
		o.held(k, way(mechanism("wasi", plan.Param{Name: "functions", Value: "none of the kind"})))
	}
	for k, m := range map[plan.Kind]string{plan.Environment: "wasi-environ", plan.Launch: "module-digest", plan.StdinControl: "relay", plan.KillTree: "meter-call-out"} {
		o.held(k, way(mechanism(m)))
	}
	relay := mechanism("relay")
	relay.Evidence = []spec.Claim{spec.CapturedStreams}
	o.held(plan.CaptureStreams, way(relay))
	o.held(plan.Clock, way(mechanism("wasi-clock")))
	o.held(plan.Random, way(mechanism("wasi-random")))
	for _, b := range plan.Baseline {
		o.held(b.Kind, way(mechanism("wasi", plan.Param{Name: "system-calls", Value: "none"})))
	}
	o.budgets()
	o.never()
}

func (o *offers) budgets() {
	budget := func(d spec.Dimension, m plan.Mechanism, lacks ...string) {
		m.Evidence = []spec.Claim{spec.TerminalOutcome, spec.ResourceUsage}
		w := way(m)
		w.Lacks = lacks
		o.held(plan.BudgetKind(d), w)
	}
	every := plan.Param{Name: "every", Value: fmt.Sprintf("%d units of fuel", quantum)}
	budget(spec.Wall, mechanism("meter-call-out", every))
	budget(spec.Fuel, mechanism("meter", plan.Param{Name: "cost-model", Value: fmt.Sprint(wasmmeter.Version)}))
	budget(spec.CallDepth, mechanism("meter", plan.Param{Name: "scope", Value: "the module's own functions"}))
	budget(spec.Memory, mechanism("allocator", plan.Param{Name: "scope", Value: "memories and tables"}))
	budget(spec.Output, mechanism("relay", plan.Param{Name: "then", Value: "the end of the run"}))
	budget(spec.Storage, mechanism("wasi-preopen", plan.Param{Name: "scope", Value: "bytes written below grants"}))
	budget(spec.Handles, mechanism("wasi-descriptors"))
	if cpuKnown {
		budget(spec.CPU, mechanism("thread-clock", every), plan.FeatureRate)
	} else {
		o.none(plan.BudgetKind(spec.CPU), "the processor time of a thread", "this version does not read it on "+runtime.GOOS, "use budgets.fuel, which is counted everywhere")
	}
	// A module is one thread of one process, by nature.
	budget(spec.Processes, mechanism("wasi", plan.Param{Name: "processes", Value: "1"}))
}

// temp is a private directory in memory: a mount of the worker's boundary.
func (o *offers) temp() {
	if o.worker.Value != "available" {
		o.none(plan.TempRoot, "a worker, whose boundary has memory of its own mounted", "worker is "+o.worker.Value, "")
		return
	}
	w := way(mechanism("wasi-preopen"), workerMechanism())
	w.Requires = []plan.Kind{plan.OwnProcess}
	o.list = append(o.list, plan.Offer{Kind: plan.TempRoot, Ways: []plan.Way{w}})
}

// never names what a module cannot have, or this backend does not hold.
func (o *offers) never() {
	nature := "WASI preview 1 has no function for it"
	o.none(plan.NetworkLoopback, "sockets", nature, "")
	o.none(plan.NetworkAllowList, "sockets", nature, "")
	for _, k := range []plan.Kind{plan.SpawnThreads, plan.SpawnProcesses} {
		o.none(k, "threads or processes of a module", nature, "use spawn: none")
	}
	o.none(plan.FDsOnly, "descriptors that are handed over", "a module has descriptors of its own kind, which the host's are not", "")
	o.none(plan.Terminal, "a terminal", "a module cannot have one: WASI preview 1 has no functions for it", "")
	o.none(plan.BudgetKind(spec.Network_), "a network", "there is none to be counted", "drop the budget: there is no network")
}
