package report

import (
	"crypto/ed25519"
	"slices"
	"strings"
	"testing"

	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

// fixedKey is the key of the vectors: its seed is n 32 times over.
func fixedKey(t testing.TB, n byte) *Key {
	t.Helper()
	return keyOf(ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(n)), ed25519.SeedSize))))
}

func hash(s string) string { return digest([]byte(s)) }

// sampleProfile offers every kind by one mechanism that holds and shows everything.
func sampleProfile(t testing.TB) plan.Profile {
	t.Helper()
	kinds := []plan.Kind{
		plan.Filesystem, plan.NetworkDenyAll, plan.SpawnNone, plan.Environment, plan.FDsNone,
		plan.Launch, plan.CaptureStreams, plan.StdinControl, plan.KillTree,
	}
	for _, b := range plan.Baseline {
		kinds = append(kinds, b.Kind)
	}
	for _, d := range spec.Dimensions {
		kinds = append(kinds, plan.BudgetKind(d))
	}
	slices.Sort(kinds)
	p := plan.Profile{
		Version: plan.ProfileVersion,
		Backend: "linux",
		Host:    plan.Host{OS: "linux", Arch: "amd64", Kernel: "6.18.0", UID: 1000},
		Facts:   []plan.Fact{{Name: "landlock.abi", Value: "7", Learned: "exercised: landlock_create_ruleset"}},
		Offers:  []plan.Offer{},
		Evidence: []plan.EvidenceSource{
			{Claim: spec.CapturedStreams, By: "relay"},
			{Claim: spec.TerminalOutcome, By: "wait4 in pid 1"},
		},
	}
	for _, k := range kinds {
		p.Offers = append(p.Offers, plan.Offer{Kind: k, Ways: []plan.Way{{Mechanisms: []plan.Mechanism{{
			Name: "sample-" + string(k), Enforcement: spec.Enforced, Evidence: []spec.Claim{spec.TerminalOutcome},
			Params: []plan.Param{{Name: "abi", Value: "7"}},
		}}}}})
	}
	p, err := p.Seal()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func sampleResolved() spec.Resolved {
	return spec.Resolved{
		Spec: spec.Spec{
			Version:  spec.Version,
			Workload: spec.Workload{Command: []string{"build", "--all", "a b"}, Dir: "/work"},
			Capabilities: spec.Capabilities{
				Environment: []spec.EnvEntry{{Name: "API_TOKEN", Lease: "env:API_TOKEN"}, {Name: "PATH", Value: "/usr/bin"}},
				Spawn:       spec.SpawnNone,
			},
			Controls: spec.Controls{
				Capture: []spec.Capture{{Stream: "stdout", Limit: 1 << 20}, {Stream: "stderr", Limit: 4}},
				Stdin:   spec.Stdin{Mode: spec.StdinNone},
				Kill:    spec.Kill{Tree: "atomic", Grace: spec.DefaultGrace},
			},
			Budgets: map[spec.Dimension]spec.Budget{
				spec.Wall:      {Limit: 30e9, Guarantee: spec.Enforced, Origin: spec.FromSpec},
				spec.Memory:    {Limit: 256 << 20, Guarantee: spec.Enforced, Origin: spec.FromSpec},
				spec.Processes: {Limit: 64, Guarantee: spec.Enforced, Origin: spec.FromSpec},
			},
			Evidence: []spec.Claim{spec.TerminalOutcome, spec.CapturedStreams},
			Accept:   []spec.Weakening{"host-uts-namespace", "host-sys"},
		},
		Executable: spec.Executable{Named: "build", Path: "/usr/bin/build", SHA256: hash("build"), Size: 5},
		UID:        1000,
		GID:        1000,
	}
}

// sample is a report of a run that went well.
func sample(t testing.TB) *Report {
	t.Helper()
	profile := sampleProfile(t)
	p, refusal := plan.Make(sampleResolved(), profile)
	if refusal != nil {
		t.Fatalf("the sample's plan is refused: %+v", refusal.Reasons)
	}
	used, peak := int64(1_234_567_890), int64(12<<20)
	table := []Descriptor{{0, "stdin", "device", false}, {1, "stdout", "pipe", true}, {2, "stderr", "pipe", true}}
	tableDigest, err := DescriptorsDigest(table)
	if err != nil {
		t.Fatal(err)
	}
	return &Report{
		Version: Version,
		Identity: Identity{
			Attempt: "0123456789abcdef0123456789abcdef", Plan: p.ID(), Profile: profile.Digest(),
			Program: hash("program"), Descriptors: tableDigest, Executable: hash("build"),
		},
		Outcome: Outcome{Status: Completed},
		Exit:    &Exit{},
		Plan:    &p,
		Profile: profile,
		Transcript: []Phase{
			{Name: "namespaces", Status: PhaseDone, Elapsed: 210_000}, {Name: "mounts", Status: PhaseDone, Elapsed: 400_000},
			{Name: "limits", Status: PhaseNotRequired}, {Name: "exec", Status: PhaseDone, Elapsed: 1_300_000},
		},
		Posture: &Posture{
			NoNewPrivs: 1, Seccomp: 2, SeccompFilters: 1,
			Capabilities:   Capabilities{"0", "0", "0", "0", "0"},
			Namespaces:     []Namespace{{"mnt", "4026532001", true}, {"uts", "4026531838", false}},
			UID:            1000,
			GID:            1000,
			Umask:          "0022",
			SignalsIgnored: "0", SignalsBlocked: "0",
			Session:     true,
			Limits:      []Limit{{"core", 0, 0}, {"nofile", 256, 256}, {"stack", 8 << 20, -1}},
			Descriptors: []PostureDescriptor{{0, "device", true}, {1, "pipe", true}, {2, "pipe", true}, {3, "memfd", false}},
		},
		Descriptors: table,
		Facts: []Fact{
			{WorkloadLaunched, []plan.Param{{Name: "pid", Value: "4711"}}},
			{Unobserved, []plan.Param{{Name: "what", Value: "filesystem delta"}}},
		},
		Denied: []DeniedAct{{Act: "read /etc/machine-id", Mechanism: "mount-namespace", At: "2026-01-02T03:04:05Z", Allow: "--read /etc/machine-id",
			Observed: true, Path: "/etc/machine-id", Access: "r", Program: "/usr/bin/build", Times: 2}},
		Completeness: Completeness{LevelPartial, "attempts on paths were judged against the plan"},
		Budgets: []BudgetResult{
			{Dimension: spec.Wall, Requested: 30e9, Set: 30e9, Used: &used, Finding: Within},
			{Dimension: spec.Memory, Requested: 256 << 20, Set: 256 << 20, ReadBack: new(int64(256 << 20)), Used: &peak, Finding: Within},
			{Dimension: spec.Processes, Requested: 64, Set: 64, ReadBack: new(int64(64)), Finding: NotObserved},
		},
		Usage: &Usage{UserTime: 900e6, SystemTime: 50e6, MaxRSS: peak},
		Streams: []Stream{
			{Name: "stdout", Bytes: 12, Kept: 12, SHA256: hash("hello world\n"), KeptSHA: hash("hello world\n")},
			{Name: "stderr", Bytes: 9, Kept: 4, SHA256: hash("warning!\n"), KeptSHA: hash("warn"), Truncated: true},
		},
		Leases:   []Lease{{Variable: "API_TOKEN", Reference: "env:API_TOKEN", Resolved: "2026-01-02T03:04:05.000000001Z"}},
		Accepted: []spec.Weakening{"host-sys", "host-uts-namespace"},
		Times:    Times{"2026-01-02T03:04:05.000000001Z", "2026-01-02T03:04:06.5Z", 2_000_000, 1_234_567_890, 300_000, nil},
		Tool:     Tool{"bvisor", "0.1.0"},
	}
}

// sampleRefused is a report of a spec that nothing can hold.
func sampleRefused(t testing.TB) *Report {
	t.Helper()
	profile := sampleProfile(t)
	i := slices.IndexFunc(profile.Offers, func(o plan.Offer) bool { return o.Kind == plan.NetworkDenyAll })
	profile.Offers[i] = plan.Offer{Kind: plan.NetworkDenyAll, Need: "network-namespace", Fact: "user.max_user_namespaces is 0", Remedy: "sysctl -w user.max_user_namespaces=15000"}
	profile = plan.Profile{Version: profile.Version, Backend: profile.Backend, Host: profile.Host, Facts: profile.Facts, Offers: profile.Offers, Evidence: profile.Evidence}
	profile, err := profile.Seal()
	if err != nil {
		t.Fatal(err)
	}
	_, refusal := plan.Make(sampleResolved(), profile)
	if refusal == nil {
		t.Fatal("the sample is not refused")
	}
	return &Report{
		Version:      Version,
		Identity:     Identity{Attempt: "fedcba9876543210", Profile: profile.Digest(), Executable: hash("build")},
		Outcome:      Outcome{Status: Refused, Reason: "1 requirement cannot be held"},
		Refusal:      refusal,
		Profile:      profile,
		Completeness: Completeness{LevelNone, "nothing was started"},
		Accepted:     []spec.Weakening{"host-sys", "host-uts-namespace"},
		Times:        Times{Started: "2026-01-02T03:04:05Z", Ended: "2026-01-02T03:04:05.25Z"},
		Tool:         Tool{"bvisor", "0.1.0"},
	}
}

// small is a report of few bytes: one whose every byte is tried.
func small(t testing.TB) *Report {
	t.Helper()
	r := sampleRefused(t)
	p, err := plan.Profile{Version: 1, Backend: "inert", Host: plan.Host{OS: "linux", Arch: "amd64"}}.Seal()
	if err != nil {
		t.Fatal(err)
	}
	r.Profile, r.Identity.Profile, r.Identity.Executable = p, p.Digest(), ""
	r.Refusal = &plan.Refusal{Version: 1, Backend: "inert", Profile: p.Digest(), Total: 1, Reasons: []plan.Reason{{Code: "x"}}}
	r.Accepted = nil
	return r
}

// compact has every member and little in each: a seed that can be mutated fast.
func compact(t testing.TB) *Report {
	t.Helper()
	r := sample(t)
	p := *r.Plan
	r.Plan = &plan.Plan{
		Version: p.Version, Backend: p.Backend, Profile: p.Profile, Requirements: p.Requirements[:1],
		Budgets: p.Budgets[:1], Evidence: []plan.EvidencePlan{{Claim: spec.TerminalOutcome, By: []string{"x"}}}, Accepted: p.Accepted,
		Resolved: spec.Resolved{Executable: spec.Executable{SHA256: hash("build")}, Roots: []spec.Root{{}}, Links: []spec.Link{{}}, Spec: spec.Spec{
			Accept: p.Accepted, Controls: spec.Controls{Capture: []spec.Capture{{Stream: "stdout", Limit: 12}}},
			Capabilities: spec.Capabilities{Environment: []spec.EnvEntry{{Name: "API_TOKEN", Lease: "env:API_TOKEN"}}},
		}},
	}
	q, err := plan.Profile{Version: 1, Backend: p.Backend, Host: r.Profile.Host, Facts: r.Profile.Facts, Offers: r.Profile.Offers[:1], Evidence: r.Profile.Evidence[:1]}.Seal()
	if err != nil {
		t.Fatal(err)
	}
	r.Profile, r.Plan.Profile, r.Identity.Profile = q, q.Digest(), q.Digest()
	r.Identity.Plan = r.Plan.ID()
	r.Budgets, r.Streams, r.Posture.Namespaces, r.Posture.Limits = r.Budgets[:1], r.Streams[:1], r.Posture.Namespaces[:1], r.Posture.Limits[:1]
	return r
}

func seal(t testing.TB, r *Report, k *Key) []byte {
	t.Helper()
	b, err := Seal(r, k)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
