//go:build amd64 || arm64

package linux

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

// host is what the probe learnt.
type host struct {
	uid   int
	facts []plan.Fact
}

func (h *host) add(f plan.Fact) { h.facts = append(h.facts, f) }

// read notes a value, or why it could not be had.
func (h *host) read(name, value, learned string, err error) {
	f := plan.Fact{Name: name, Value: value, Learned: learned}
	if err != nil {
		f.Value, f.Detail = "unavailable", err.Error()
		if e, ok := err.(unix.Errno); ok {
			f.Detail = errno(int(e))
		}
	}
	h.add(f)
}

// unavailable notes what lacks, by a word of its own.
func (h *host) unavailable(name, value, learned, detail string) {
	h.add(plan.Fact{Name: name, Value: value, Learned: learned, Detail: detail})
}

// fact returns one by name; what is not known is not available.
func (h *host) fact(name string) plan.Fact {
	for _, f := range h.facts {
		if f.Name == name {
			return f
		}
	}
	return plan.Fact{Name: name, Value: "unknown", Learned: "not exercised"}
}

func (h *host) has(names ...string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return h.fact(n).Value != "available" })
}

func (h *host) abi() int {
	n, err := strconv.Atoi(h.fact("landlock.abi").Value)
	if err != nil || !h.has("landlock.restrict", "landlock.effect") {
		return 0
	}
	return n
}

// because words the first of the facts that is not available.
func (h *host) because(names ...string) string {
	for _, n := range names {
		if f := h.fact(n); f.Value != "available" {
			text := f.Name + " is " + f.Value
			if f.Detail != "" {
				text += " (" + f.Detail + ")"
			}
			return text + ", " + f.Learned
		}
	}
	return ""
}

// evidence is what the backend itself can show of any run.
func (h *host) evidence() []plan.EvidenceSource {
	list := []plan.EvidenceSource{{Claim: spec.CapturedStreams, By: "pipe", Needs: []plan.Kind{plan.CaptureStreams}}}
	if by := h.observerName(); by != "" {
		list = append(list, plan.EvidenceSource{Claim: spec.DeniedAttempts, By: by, Needs: []plan.Kind{plan.NoNewPrivileges}}) // seccomp(2)
	}
	return append(list,
		plan.EvidenceSource{Claim: spec.MechanismAttestation, By: "procfs before exec"},
		plan.EvidenceSource{Claim: spec.ResourceUsage, By: "getrusage in process 1", Needs: []plan.Kind{plan.PIDNamespace}},
		plan.EvidenceSource{Claim: spec.TerminalOutcome, By: "wait4 in process 1"},
	)
}

func mechanism(name string, params ...plan.Param) plan.Mechanism {
	return plan.Mechanism{Name: name, Enforcement: spec.Enforced, Params: params}
}

func param(name string, value any) plan.Param {
	return plan.Param{Name: name, Value: fmt.Sprint(value)}
}

// offers says, for every requirement kind, how this host can hold it. It is a
// function of the facts alone.
func (h *host) offers() []plan.Offer {
	var list []plan.Offer
	offer := func(k plan.Kind, need, remedy string, facts []string, ways ...plan.Way) {
		o := plan.Offer{Kind: k}
		if h.has(facts...) && len(ways) > 0 {
			o.Ways = ways
		} else {
			o.Need, o.Fact, o.Remedy = need, h.because(facts...), h.remedy(remedy, facts...)
		}
		list = append(list, o)
	}
	way := func(requires []plan.Kind, m ...plan.Mechanism) plan.Way {
		return plan.Way{Mechanisms: m, Requires: requires}
	}
	kinds := func(k ...plan.Kind) []plan.Kind { return k }
	// Without privilege every other namespace belongs to the user namespace.
	owner := kinds()
	if h.uid != 0 {
		owner = kinds(plan.UserNamespace)
	}
	run := []string{"launcher"}

	offer(plan.UserNamespace, "user namespace", namespaceRemedy, []string{"launcher", "namespace.user", "namespace.user.uid_map", "namespace.user.gid_map"}, way(nil, mechanism("user-namespace")))
	for _, n := range namespaceFlags[1:] {
		facts := []string{"launcher", "namespace." + namespaceOf[n.kind]}
		m := mechanism(string(n.kind))
		switch n.kind {
		case plan.PIDNamespace:
			facts = append(facts, "namespace.pid.init")
		case plan.MountNamespace:
			facts = append(facts, mountFacts...)
		}
		offer(n.kind, string(n.kind), namespaceRemedy, facts, way(owner, m))
	}
	offer(plan.NoCapabilities, "capset(2) and an empty bounding set", "", []string{"launcher", "capabilities.drop"},
		way(owner, mechanism("capset", param("last", h.fact("capabilities.last").Value)))) // PR_CAPBSET_DROP needs CAP_SETPCAP
	offer(plan.NoNewPrivileges, "prctl(PR_SET_NO_NEW_PRIVS)", "", []string{"launcher", "no-new-privileges"}, way(nil, mechanism("no-new-privileges")))
	filter := mechanism("seccomp")
	filterFacts := []string{"launcher", "seccomp.filter", "seccomp.effect"}
	offer(plan.CallFilter, "seccomp filter", "", filterFacts, way(kinds(plan.NoNewPrivileges), filter)) // seccomp(2)
	abi := h.abi()
	domain := mechanism("landlock", param("abi", abi))
	domainFacts := []string{"launcher", "landlock.restrict", "landlock.effect"}
	offer(plan.LandlockDomain, "Landlock", domainRemedy, domainFacts, way(kinds(plan.NoNewPrivileges), domain)) // landlock_restrict_self(2)
	scopes := []plan.Way{way(kinds(plan.PIDNamespace, plan.NetworkNamespace), mechanism("pid-namespace"), mechanism("network-namespace"))}
	if abi >= 6 {
		scopes = append([]plan.Way{way(kinds(plan.LandlockDomain), domain)}, scopes...)
	}
	offer(plan.LandlockScopes, "Landlock ABI 6, or own pid and network namespaces", domainRemedy, run, scopes...)
	offer(plan.NewSession, "setsid(2)", "", run, way(nil, mechanism("setsid")))
	offer(plan.NotDumpable, "prctl(PR_SET_DUMPABLE)", "", run, way(nil, mechanism("dumpable")))
	offer(plan.DeathSignal, "prctl(PR_SET_PDEATHSIG)", "", run, way(nil, mechanism("parent-death-signal")))
	offer(plan.NoCoreDumps, "RLIMIT_CORE", "", run, way(nil, mechanism("rlimit.core", param("limit", coreLimit))))
	offer(plan.FixedUmask, "umask(2)", "", run, way(nil, mechanism("umask", param("mask", "022"))))
	offer(plan.DefaultSignals, "rt_sigaction(2)", "", run, way(nil, mechanism("sigaction")))
	mounted := append([]string{"launcher", "namespace.mnt"}, mountFacts...)
	inMounts := kinds(plan.MountNamespace)
	offer(plan.MinimalDev, "mount namespace", namespaceRemedy, append(slices.Clone(mounted), "mount.device.move_mount"), way(inMounts, mechanism("mount-namespace")))
	offer(plan.PrivateProc, "mount namespace and pid namespace", namespaceRemedy, append([]string{"launcher", "namespace.pid", "namespace.pid.init"}, append(slices.Clone(mounted[1:]), "mount.proc")...), way(kinds(plan.MountNamespace, plan.PIDNamespace), mechanism("mount-namespace"), mechanism("pid-namespace")))
	offer(plan.NoSys, "mount namespace", namespaceRemedy, mounted, way(inMounts, mechanism("mount-namespace")))

	h.files(offer, mounted, domain, abi)

	silent := []string{"launcher", "namespace.net", "seccomp.filter", "seccomp.effect"}
	offer(plan.NetworkDenyAll, "network namespace and seccomp filter", namespaceRemedy, silent,
		way(kinds(plan.NetworkNamespace, plan.CallFilter), mechanism("network-namespace"), filter))
	offer(plan.NetworkLoopback, "network namespace, a loopback interface in it, and seccomp filter", loopbackRemedy, loopbackFacts,
		way(kinds(plan.NetworkNamespace, plan.CallFilter), mechanism("network-namespace"), mechanism("loopback-interface", h.loopback()...), filter))
	for _, k := range kinds(plan.SpawnNone, plan.SpawnThreads) {
		offer(k, "seccomp filter", "", filterFacts, way(kinds(plan.CallFilter), filter))
	}
	tree := []string{"launcher", "namespace.pid", "namespace.pid.init"}
	ownTree := way(kinds(plan.PIDNamespace), mechanism("pid-namespace"))
	single := way(kinds(plan.DeathSignal, plan.CallFilter), mechanism("parent-death-signal"))
	single.Lacks = []string{plan.FeatureDescendants}
	var alive, ended []plan.Way
	if h.has(tree...) {
		alive, ended = append(alive, ownTree), append(ended, ownTree)
	}
	if h.has(filterFacts...) {
		ended = append(ended, single)
	}
	if h.has(leafFacts...) {
		group := way(nil, mechanism(mechanismKill))
		alive = append(alive, group)
		group.Lacks = []string{plan.FeatureWithSupervisor}
		ended = append(ended, group)
	}
	for k, ways := range map[plan.Kind][]plan.Way{plan.SpawnProcesses: alive, plan.KillTree: ended} {
		facts := tree // each way has its own; where there is none, the first one's are named
		if len(ways) > 0 {
			facts = run
		}
		offer(k, "pid namespace", namespaceRemedy, facts, ways...)
	}
	for k, m := range map[plan.Kind]string{plan.Environment: "execve", plan.FDsNone: "close-range", plan.FDsOnly: "close-range",
		plan.Launch: "sealed-launcher", plan.CaptureStreams: "pipe", plan.StdinControl: "descriptor"} {
		mech := mechanism(m)
		if k == plan.CaptureStreams {
			mech.Evidence = []spec.Claim{spec.CapturedStreams}
		}
		offer(k, m, "", run, way(nil, mech))
	}
	offer(plan.Terminal, "pseudo-terminal", "mount devpts at /dev/pts, with /dev/ptmx and /dev/tty for everybody", h.terminalFacts(),
		way(kinds(plan.NewSession), mechanism("pty"), mechanism("controlling-terminal"))) // a session's leader alone can take one (tty_jobctrl.c)
	h.budgets(offer, mounted)
	h.groups(&list)
	h.artifactOffers(offer, mounted)
	h.notYet(&list)
	slices.SortFunc(list, func(a, b plan.Offer) int { return strings.Compare(string(a.Kind), string(b.Kind)) })
	return list
}

var mountFacts = []string{"mount.private", "mount.tmpfs", "mount.bind.open_tree", "mount.bind.mount_setattr", "mount.bind.move_mount", "mount.pivot_root"}

type offerFunc = func(k plan.Kind, need, remedy string, facts []string, ways ...plan.Way)

// files offers what mounts and Landlock hold together, and what each holds
// alone where the other is given up by name.
func (h *host) files(offer offerFunc, mounted []string, domain plan.Mechanism, abi int) {
	mounts := mechanism("mount-namespace")
	both := plan.Way{Mechanisms: []plan.Mechanism{mounts, domain}, Requires: []plan.Kind{plan.MountNamespace, plan.LandlockDomain},
		Lacks: []string{plan.FeatureExecWithoutRead}}
	alone := plan.Way{Mechanisms: []plan.Mechanism{mechanism("landlock", append(slices.Clone(domain.Params), param("not-held", "execution by way of ld.so"))...)}, Requires: []plan.Kind{plan.LandlockDomain},
		Lacks: []string{plan.FeatureExecWithoutRead, plan.FeatureNonRecursive}}
	view := plan.Way{Mechanisms: []plan.Mechanism{mounts}, Requires: []plan.Kind{plan.MountNamespace},
		Lacks: []string{plan.FeatureExecWithoutRead, plan.FeatureWriteWithoutRead, plan.FeatureNonRecursive}}
	var ways []plan.Way
	if h.has(mounted...) && abi > 0 {
		ways = append(ways, both)
	}
	if abi >= 3 { // before it truncate(2) was not held
		ways = append(ways, alone)
	}
	if h.has(mounted...) {
		ways = append(ways, view)
	}
	facts := append(slices.Clone(mounted), "landlock.restrict")
	if len(ways) > 0 {
		facts = []string{"launcher"}
	}
	offer(plan.Filesystem, "mount namespace and Landlock", namespaceRemedy, facts, ways...)
	inMounts := []plan.Kind{plan.MountNamespace}
	mask := plan.Way{Mechanisms: []plan.Mechanism{mechanism("mount-namespace", param("replaced-on-host", "the run is killed"))}, Requires: inMounts}
	offer(plan.FilesystemCarveOut, "mount namespace: Landlock cannot take away", namespaceRemedy, mounted, mask)
	offer(plan.TempRoot, "mount namespace", namespaceRemedy, mounted, plan.Way{Mechanisms: []plan.Mechanism{mounts, mechanism("tmpfs")}, Requires: inMounts})
	expose := plan.Way{Mechanisms: []plan.Mechanism{mounts}, Requires: inMounts, Lacks: []string{plan.FeatureExecWithoutRead, plan.FeatureWriteWithoutRead}}
	if abi > 0 {
		withDomain := both
		offer(plan.ExposePath, "mount namespace", namespaceRemedy, mounted, withDomain, expose)
	} else {
		offer(plan.ExposePath, "mount namespace", namespaceRemedy, mounted, expose)
	}
}

// shown is what the report can say of a budget that the supervisor or a group
// of the workload's own holds.
var shown = []spec.Claim{spec.TerminalOutcome, spec.ResourceUsage, spec.MechanismAttestation}

func (h *host) budgets(offer offerFunc, mounted []string) {
	budget := func(d spec.Dimension, facts []string, capacity int64, m plan.Mechanism, requires ...plan.Kind) {
		m.Evidence = shown
		offer(plan.BudgetKind(d), m.Name, namespaceRemedy, facts, plan.Way{Mechanisms: []plan.Mechanism{m}, Requires: requires, Capacity: capacity})
	}
	run := []string{"launcher"}
	budget(spec.Wall, run, 0, mechanism("deadline", param("then", "SIGTERM, grace, kill of the tree")), plan.KillTree)
	budget(spec.Handles, run, capacityOf(mechanismFiles), mechanism(mechanismFiles, param("scope", "each process")))
	budget(spec.Output, run, 0, mechanism("relay", param("then", "kill of the tree")), plan.KillTree)
	budget(spec.Storage, mounted, 0, mechanism("tmpfs", param("scope", "temp, /dev/shm and what is held back together")), plan.MountNamespace)
}

// mostTasks is the largest number that pids.max takes, beside "max"
// (PID_MAX_LIMIT in linux/threads.h).
const mostTasks = 4 << 20

// groups offers what a group of the workload's own holds for all of its
// processes together, and behind that what setrlimit(2) holds, under its own
// name and no stronger than it is.
func (h *host) groups(list *[]plan.Offer) {
	measured := func(name string, params ...plan.Param) plan.Mechanism {
		m := mechanism(name, params...)
		m.Evidence = shown
		return m
	}
	each := func(name string, params ...plan.Param) plan.Mechanism {
		m := mechanism(name, append(params, param("scope", "each process"))...)
		m.Enforcement, m.Evidence = spec.Mediated, []spec.Claim{spec.MechanismAttestation}
		return m
	}
	kill := param("then", "kill of the tree")
	one := func(m plan.Mechanism, requires ...plan.Kind) plan.Way {
		return plan.Way{Mechanisms: []plan.Mechanism{m}, Requires: requires}
	}
	add := func(d spec.Dimension, need string, facts []string, inGroup, otherwise []plan.Way) {
		o := plan.Offer{Kind: plan.BudgetKind(d), Ways: otherwise}
		if facts = append(slices.Clone(leafFacts), facts...); h.has(facts...) {
			o.Ways = append(inGroup, otherwise...)
		} else {
			o.Need, o.Fact, o.Remedy = need, h.because(facts...), h.groupRemedy(facts...)
		}
		*list = append(*list, o)
	}
	var nproc []plan.Way
	if h.has("launcher", "rlimit.nproc.refuses", "rlimit.nproc.per-namespace") {
		m := mechanism(mechanismNproc, param("scope", "the user namespace"))
		m.Evidence = []spec.Claim{spec.MechanismAttestation}
		way := one(m, plan.UserNamespace, plan.CallFilter) // the filter keeps the workload from a namespace of its own
		way.Capacity = capacityOf(mechanismNproc)
		nproc = append(nproc, way)
	}
	tasks := one(measured(mechanismPids, kill), plan.KillTree)
	tasks.Capacity = mostTasks
	add(spec.Processes, mechanismPids, []string{"cgroup.pids.max"}, []plan.Way{tasks}, nproc)
	space := one(each(mechanismAS, param("bounds", "address space")))
	space.Capacity = capacityOf(mechanismAS)
	add(spec.Memory, mechanismMemory, []string{"cgroup.memory.max", "cgroup.memory.swap.max", "cgroup.memory.oom.group", "cgroup.huge-pages"},
		[]plan.Way{one(measured(mechanismMemory, param("swap", 0), kill), plan.KillTree)}, []plan.Way{space})

	interval := param("interval", cpuInterval)
	timed := one(measured(mechanismCPU, interval, kill), plan.KillTree)
	timed.Lacks = []string{plan.FeatureRate}
	times := []plan.Way{timed}
	if h.has("cgroup.cpu.max") {
		times = append(times, plan.Way{Mechanisms: []plan.Mechanism{measured(mechanismCPU, interval, kill), measured(mechanismRate)}, Requires: []plan.Kind{plan.KillTree}})
	}
	seconds := one(each(mechanismSecs))
	seconds.Capacity = capacityOf(mechanismSecs)
	seconds.Lacks = []string{plan.FeatureRate, plan.FeatureSubSecond}
	add(spec.CPU, mechanismCPU, []string{"cgroup.cpu.stat"}, times, []plan.Way{seconds})
}

// notYet names what this backend does not hold on any host so far, so that a
// refusal says the truth about it.
func (h *host) notYet(list *[]plan.Offer) {
	none := func(k plan.Kind, need, fact, remedy string) {
		*list = append(*list, plan.Offer{Kind: k, Need: need, Fact: fact, Remedy: remedy})
	}
	none(plan.BudgetKind(spec.Network_), "userspace network stack", "the linux backend of this version has no network stack of its own", "drop the budget: without a grant there is no network")
	none(plan.NetworkAllowList, "userspace network stack", "the linux backend of this version has no network stack of its own", "accept: [host-network] to give the workload the host's whole network")
	none(plan.BudgetKind(spec.Fuel), "counted instructions", "the linux backend does not count instructions of programs", "use budgets.cpu, or a WebAssembly module")
	none(plan.BudgetKind(spec.CallDepth), "counted calls", "the linux backend does not count calls within programs", "use budgets.memory, or a WebAssembly module")
	for _, k := range []plan.Kind{plan.Clock, plan.Random} {
		none(k, "host functions that a program has to call", "the linux backend's programs read clocks and random numbers by themselves", "use a WebAssembly module")
	}
	none(plan.OwnProcess, "a WebAssembly module", "what the linux backend executes is a process of its own by nature", "")
}
