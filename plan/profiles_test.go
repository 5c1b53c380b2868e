package plan

import (
	"slices"

	"github.com/bvisor/bvisor/spec"
)

// Profiles that tests plan against. capable is a host that holds everything,
// shaped like what the linux backend offers.

func mech(name string, show ...spec.Claim) Mechanism {
	return Mechanism{Name: name, Enforcement: spec.Enforced, Evidence: show}
}

func by(mechanisms ...Mechanism) Way { return Way{Mechanisms: mechanisms} }

func (w Way) on(kinds ...Kind) Way { w.Requires = kinds; return w }

func (w Way) without(features ...string) Way { w.Lacks = features; return w }

func (w Way) upTo(capacity int64) Way { w.Capacity = capacity; return w }

func (w Way) mediated() Way {
	w.Mechanisms = slices.Clone(w.Mechanisms)
	for i := range w.Mechanisms {
		w.Mechanisms[i].Enforcement = spec.Mediated
	}
	return w
}

func capable() Profile {
	mounts := mech("mount-namespace", spec.MechanismAttestation)
	landlock := mech("landlock", spec.MechanismAttestation)
	landlock.Params = []Param{{"abi", "7"}}
	netns := mech("network-namespace", spec.MechanismAttestation)
	filter := mech("seccomp", spec.MechanismAttestation)
	pidns := mech("pid-namespace", spec.MechanismAttestation, spec.TerminalOutcome)
	tmpfs := mech("tmpfs", spec.ResourceUsage)
	cgroup := func(file string) Mechanism { return mech("cgroup2."+file, spec.ResourceUsage) }
	overlay := mech("overlayfs", spec.FilesystemDelta, spec.ArtifactLineage)

	p := Profile{
		Version: ProfileVersion,
		Backend: "linux",
		Host:    Host{OS: "linux", Arch: "amd64", Kernel: "6.18.0", UID: 1000},
		Facts: []Fact{
			{Name: "landlock.abi", Value: "7", Learned: "exercised: landlock_create_ruleset(VERSION)"},
			{Name: "user-namespace", Value: "available", Learned: "exercised: unshare(CLONE_NEWUSER)"},
		},
		Evidence: []EvidenceSource{
			{Claim: spec.CapturedStreams, By: "stream relay", Needs: []Kind{CaptureStreams}},
			{Claim: spec.ResourceUsage, By: "wait4 of pid 1"},
			{Claim: spec.TerminalOutcome, By: "wait4 of pid 1", Needs: []Kind{Launch}},
		},
	}
	offer := func(kind Kind, ways ...Way) { p.Offers = append(p.Offers, Offer{Kind: kind, Ways: ways}) }
	offer(Filesystem,
		by(mounts, landlock).on(MountNamespace, LandlockDomain),
		by(landlock).on(LandlockDomain).without(FeatureNonRecursive),
		by(mounts).on(MountNamespace).without(FeatureExecWithoutRead, FeatureWriteWithoutRead))
	offer(FilesystemCarveOut, by(mounts).on(MountNamespace))
	offer(NetworkDenyAll, by(netns, filter).on(NetworkNamespace, CallFilter))
	offer(NetworkLoopback, by(netns, mech("loopback-interface", spec.MechanismAttestation), filter).on(NetworkNamespace, CallFilter))
	offer(NetworkAllowList, by(netns, mech("userspace-netstack", spec.NetworkActivity)).on(NetworkNamespace))
	offer(SpawnNone, by(filter).on(CallFilter))
	offer(SpawnThreads, by(filter).on(CallFilter))
	offer(SpawnProcesses, by(pidns, filter).on(PIDNamespace, CallFilter))
	offer(Environment, by(mech("explicit-environment")))
	offer(FDsNone, by(mech("close-range", spec.MechanismAttestation)))
	offer(FDsOnly, by(mech("close-range", spec.MechanismAttestation)))
	offer(Clock, by(mech("wasi-clock")))
	offer(Random, by(mech("wasi-random")))
	offer(Launch, by(mech("launcher", spec.TerminalOutcome)))
	offer(CaptureStreams, by(mech("pipe")))
	offer(StdinControl, by(mech("descriptor-placement")))
	offer(Terminal, by(mech("pty", spec.MechanismAttestation)).on(NewSession))
	offer(TempRoot, by(tmpfs).on(MountNamespace))
	offer(ExposePath, by(mounts, landlock).on(MountNamespace))
	offer(CommitArtifact, by(overlay).on(MountNamespace))
	offer(DiscardArtifact, by(overlay).on(MountNamespace))
	offer(ListOutputs, by(overlay).on(MountNamespace))
	offer(KillTree, by(pidns).on(PIDNamespace), by(cgroup("kill")))
	for _, b := range Waivable {
		offer(b.Kind, by(mech(string(b.Kind), spec.MechanismAttestation)))
	}
	offer(BudgetKind(spec.Wall), by(mech("deadline")))
	offer(BudgetKind(spec.CPU), by(cgroup("cpu.stat")), by(mech("rlimit.cpu")).mediated())
	offer(BudgetKind(spec.Memory), by(cgroup("memory.max")).upTo(8<<30), by(mech("rlimit.as")).mediated())
	offer(BudgetKind(spec.Processes), by(cgroup("pids.max")).upTo(4096))
	offer(BudgetKind(spec.Handles), by(mech("rlimit.nofile")).upTo(1<<20))
	offer(BudgetKind(spec.Storage), by(tmpfs).on(MountNamespace))
	offer(BudgetKind(spec.Network_), by(mech("userspace-netstack", spec.NetworkActivity)).on(NetworkNamespace))
	offer(BudgetKind(spec.Output), by(mech("stream relay")))
	offer(BudgetKind(spec.Fuel), by(mech("meter")))
	offer(BudgetKind(spec.CallDepth), by(mech("meter")))
	slices.SortFunc(p.Offers, func(a, b Offer) int {
		if a.Kind < b.Kind {
			return -1
		}
		return 1
	})
	return p
}

// replace puts an offer in the place of the one of the same kind.
func (p *Profile) replace(o Offer) {
	for i := range p.Offers {
		if p.Offers[i].Kind == o.Kind {
			p.Offers[i] = o
			return
		}
	}
	p.Offers = append(p.Offers, o)
}

func (p *Profile) remove(kind Kind) {
	p.Offers = slices.DeleteFunc(p.Offers, func(o Offer) bool { return o.Kind == kind })
}

// small is the least a spec can be: a program that may compute and exit.
func small() spec.Resolved {
	return spec.Resolved{Spec: spec.Spec{
		Version:  spec.Version,
		Workload: spec.Workload{Command: []string{"/bin/true"}},
	}}
}

// usual is about what "bvisor run CMD" makes: the system preset and the
// working directory.
func usual() spec.Resolved {
	r := small()
	r.Spec.Presets = []string{"system"}
	r.Spec.Workload = spec.Workload{Command: []string{"python3", "build.py"}, Dir: "/home/u/work"}
	for _, path := range []string{"/bin", "/etc/alternatives", "/etc/group", "/etc/hostname", "/etc/hosts",
		"/etc/ld.so.cache", "/etc/localtime", "/etc/mime.types", "/etc/nsswitch.conf", "/etc/passwd",
		"/etc/protocols", "/etc/services", "/etc/ssl/certs", "/etc/terminfo", "/lib", "/lib64", "/sbin",
		"/usr/bin", "/usr/lib", "/usr/share"} {
		r.Roots = append(r.Roots, spec.Root{Named: path, Path: path, Dest: path, Kind: spec.KindDirectory,
			Access: "rx", Role: spec.RoleGrant, Origin: "preset:system"})
		r.Spec.Capabilities.Filesystem = append(r.Spec.Capabilities.Filesystem, spec.Grant{Access: "rx",
			Paths: []string{path}, Optional: true, Origin: "preset:system"})
	}
	r.Roots = append(r.Roots, spec.Root{Named: "/home/u/work", Path: "/home/u/work", Dest: "/home/u/work",
		Kind: spec.KindDirectory, Access: "rx", Role: spec.RoleGrant, Origin: spec.FromDefault})
	r.Spec.Capabilities.Environment = []spec.EnvEntry{{Name: "HOME", Value: "/tmp"}, {Name: "LANG", Value: "C.UTF-8"},
		{Name: "PATH", Value: "/usr/bin:/bin"}, {Name: "TERM", Value: "xterm"}}
	r.Spec.Capabilities.Spawn = spec.SpawnProcesses
	r.Spec.Controls.Capture = []spec.Capture{{Stream: "stdout", Limit: spec.DefaultCapture}, {Stream: "stderr", Limit: spec.DefaultCapture}}
	r.Spec.Controls.Temp = []spec.Temp{{Path: "/tmp", Access: "rw"}}
	r.Spec.Controls.Kill = spec.Kill{Tree: "atomic", Grace: spec.DefaultGrace}
	r.Spec.Budgets = map[spec.Dimension]spec.Budget{
		spec.Wall:      {Limit: 30e9, Guarantee: spec.Enforced, Origin: spec.FromSpec},
		spec.Memory:    {Limit: 256 << 20, Guarantee: spec.Enforced, Origin: spec.FromSpec},
		spec.Processes: {Limit: 64, Guarantee: spec.Enforced, Origin: spec.FromSpec},
	}
	r.Spec.Evidence = []spec.Claim{spec.TerminalOutcome, spec.CapturedStreams}
	r.Executable = spec.Executable{Named: "python3", Path: "/usr/bin/python3.13",
		SHA256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", Size: 6831736}
	r.UID, r.GID = 1000, 1000
	return r
}
