// Package plan decides, purely, whether one host can hold one spec.
//
// It reads no files, no clock and no environment: equal arguments give
// byte-equal results. See Make.
package plan

import (
	"slices"

	"github.com/bvisor/bvisor/spec"
)

// Kind is a thing a boundary must hold.
type Kind string

// Requirement kinds: the capabilities and controls.
const (
	Filesystem         Kind = "filesystem"
	FilesystemCarveOut Kind = "filesystem-carve-out"
	NetworkDenyAll     Kind = "network-deny-all"
	NetworkLoopback    Kind = "network-loopback"
	NetworkAllowList   Kind = "network-allow-list"
	SpawnNone          Kind = "spawn-none"
	SpawnThreads       Kind = "spawn-threads"
	SpawnProcesses     Kind = "spawn-processes"
	Environment        Kind = "environment"
	FDsNone            Kind = "fds-none"
	FDsOnly            Kind = "fds-only"
	Clock              Kind = "clock"
	Random             Kind = "random"
	Launch             Kind = "launch"
	CaptureStreams     Kind = "capture-streams"
	StdinControl       Kind = "stdin"
	Terminal           Kind = "terminal"
	TempRoot           Kind = "temp-root"
	ExposePath         Kind = "expose-path"
	CommitArtifact     Kind = "commit-artifact"
	DiscardArtifact    Kind = "discard-artifact"
	ListOutputs        Kind = "list-outputs"
	KillTree           Kind = "kill"
)

// Requirement kinds: the baseline, which every run gets unless the named
// weakening (see BaselineWeakening) is accepted.
const (
	UserNamespace    Kind = "user-namespace"
	PIDNamespace     Kind = "pid-namespace"
	MountNamespace   Kind = "mount-namespace"
	IPCNamespace     Kind = "ipc-namespace"
	UTSNamespace     Kind = "uts-namespace"
	CgroupNamespace  Kind = "cgroup-namespace"
	NetworkNamespace Kind = "network-namespace"
	NoCapabilities   Kind = "no-linux-capabilities"
	NoNewPrivileges  Kind = "no-new-privileges"
	CallFilter       Kind = "system-call-filter"
	LandlockDomain   Kind = "landlock-domain"
	LandlockScopes   Kind = "landlock-scopes"
	NewSession       Kind = "new-session"
	NotDumpable      Kind = "non-dumpable-launcher"
	DeathSignal      Kind = "parent-death-signal"
	NoCoreDumps      Kind = "no-core-dumps"
	FixedUmask       Kind = "umask"
	DefaultSignals   Kind = "default-signals"
	MinimalDev       Kind = "minimal-dev"
	PrivateProc      Kind = "private-proc"
	NoSys            Kind = "no-sys"
	OwnProcess       Kind = "own-process" // of WebAssembly alone: a program that is executed is a process by nature
)

// Kinds returns every requirement kind, in order of name.
func Kinds() []Kind {
	all := []Kind{Filesystem, FilesystemCarveOut, NetworkDenyAll, NetworkLoopback, NetworkAllowList, SpawnNone, SpawnThreads, SpawnProcesses,
		Environment, FDsNone, FDsOnly, Clock, Random, Launch, CaptureStreams, StdinControl, Terminal, TempRoot, ExposePath,
		CommitArtifact, DiscardArtifact, ListOutputs, KillTree}
	for _, b := range Waivable {
		all = append(all, b.Kind)
	}
	for _, d := range spec.Dimensions {
		all = append(all, BudgetKind(d))
	}
	slices.Sort(all)
	return all
}

// BudgetKind is the requirement kind of a budget: "budget.wall" and so on.
func BudgetKind(d spec.Dimension) Kind { return Kind("budget." + string(d)) }

// Baseline lists the baseline in its fixed order, each with the weakening that
// waives it.
var Baseline = []struct {
	Kind      Kind
	Weakening spec.Weakening
}{
	{UserNamespace, "host-user-namespace"},
	{PIDNamespace, "host-pid-namespace"},
	{MountNamespace, "visible-host-paths"},
	{IPCNamespace, "host-ipc-namespace"},
	{UTSNamespace, "host-uts-namespace"},
	{CgroupNamespace, "host-cgroup-namespace"},
	{NetworkNamespace, "host-network"},
	{NoCapabilities, "linux-capabilities"},
	{NoNewPrivileges, "new-privileges"},
	{CallFilter, "unfiltered-calls"},
	{LandlockDomain, "no-landlock"},
	{LandlockScopes, "unscoped-ipc"},
	{NewSession, "shared-session"},
	{NotDumpable, "dumpable-launcher"},
	{DeathSignal, "outlives-supervisor"},
	{NoCoreDumps, "core-dumps"},
	{FixedUmask, "inherited-umask"},
	{DefaultSignals, "inherited-signals"},
	{MinimalDev, "host-devices"},
	{PrivateProc, "host-proc"},
	{NoSys, "host-sys"},
}

// Waivable is the baseline and what is wanted of WebAssembly besides.
var Waivable = append(slices.Clone(Baseline), struct {
	Kind      Kind
	Weakening spec.Weakening
}{OwnProcess, "in-process"})

// Param is a named parameter, for people and for the plan's identity.
type Param struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Mechanism is one thing that holds a requirement: a kernel facility with its
// parameters, e.g. landlock with abi=7.
type Mechanism struct {
	Name        string           `json:"name"`
	Enforcement spec.Enforcement `json:"enforcement"`
	Evidence    []spec.Claim     `json:"evidence,omitempty"` // what this mechanism can show
	Params      []Param          `json:"params,omitempty"`
}

// Verdict is how strongly something is held and what can be shown of it. Over
// a conjunction of mechanisms it is the meet: weakest enforcement,
// intersection of evidence.
type Verdict struct {
	Enforcement spec.Enforcement `json:"enforcement"`
	Evidence    []spec.Claim     `json:"evidence,omitempty"` // in spec.Claims order
}

// Profile is what one backend can do on one host now. It is plain data: it can
// be saved, sent and planned against elsewhere.
type Profile struct {
	Version  int              `json:"version"` // ProfileVersion
	Backend  string           `json:"backend"`
	Host     Host             `json:"host"`
	Facts    []Fact           `json:"facts"`    // sorted by name
	Offers   []Offer          `json:"offers"`   // sorted by kind; a kind that is absent is unsupported
	Evidence []EvidenceSource `json:"evidence"` // claims the backend itself can show of any run, sorted by claim

	enc    []byte // canonical encoding, made once by Seal or ParseProfile
	digest string // its digest
}

// ProfileVersion is the version of the profile's encoding.
const ProfileVersion = 1

// Host names where the profile was taken.
type Host struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	Kernel string `json:"kernel,omitempty"` // uname release
	UID    int    `json:"uid"`
}

// Fact is one thing learnt about the host. An unknown fact counts as not available.
type Fact struct {
	Name    string `json:"name"`             // e.g. "landlock.abi"
	Value   string `json:"value"`            // e.g. "7", "available", "unavailable", "unknown"
	Learned string `json:"learned"`          // how: "exercised: unshare(CLONE_NEWNET)" or the file that was read
	Detail  string `json:"detail,omitempty"` // errno or text behind it
}

// Offer is what the backend can do for one requirement kind.
type Offer struct {
	Kind   Kind   `json:"kind"`
	Ways   []Way  `json:"ways,omitempty"`   // in order of preference
	Fact   string `json:"fact,omitempty"`   // when there is no way, or no strong one: the probed fact that rules it out, in words
	Need   string `json:"need,omitempty"`   // then: the mechanism that would hold it
	Remedy string `json:"remedy,omitempty"` // then: what to change
}

// Way holds a requirement by the conjunction of its mechanisms.
type Way struct {
	Mechanisms []Mechanism `json:"mechanisms"`
	Requires   []Kind      `json:"requires,omitempty"` // baseline kinds this way builds on: not usable when one is waived
	Capacity   int64       `json:"capacity,omitempty"` // budgets: the largest limit; 0 is no bound
	Lacks      []string    `json:"lacks,omitempty"`    // features of the kind this way cannot hold (see Features)
}

// EvidenceSource says that a claim can be shown, and by what.
type EvidenceSource struct {
	Claim spec.Claim `json:"claim"`
	By    string     `json:"by"`
	Needs []Kind     `json:"needs,omitempty"` // requirement kinds that must be in the plan and held
}

// Features of requirements that a way may lack.
const (
	FeatureExecWithoutRead  = "execute-without-read" // a grant with x but without r
	FeatureWriteWithoutRead = "write-without-read"   // a grant with w but without r
	FeatureNonRecursive     = "non-recursive"        // recursive: false
	FeatureFileRoot         = "file-root"            // a file, not a directory, as a root
	FeatureOtherRoot        = "fifo-or-socket-root"  // a FIFO or socket as a root
	FeatureDescendants      = "descendants"          // killing more than one process
	FeatureWithSupervisor   = "with-the-supervisor"  // killing them when nobody is left to do it
	FeatureRate             = "rate"                 // a bound on processor time per time
	FeatureSubSecond        = "sub-second"           // a bound that is no whole number of seconds
)

// Plan is a spec bound to a profile. Every requirement in it is held.
type Plan struct {
	Version      int              `json:"version"`
	Backend      string           `json:"backend"`
	Profile      string           `json:"profile"` // digest of the profile
	Resolved     spec.Resolved    `json:"resolved"`
	Requirements []Requirement    `json:"requirements"`
	Budgets      []BudgetPlan     `json:"budgets,omitempty"`  // in spec.Dimensions order
	Evidence     []EvidencePlan   `json:"evidence,omitempty"` // in spec.Claims order
	Accepted     []spec.Weakening `json:"accepted,omitempty"` // sorted

	enc []byte // canonical encoding, made once by Make or Parse
	id  string // its digest
}

// Requirement is one thing the plan holds and what holds it.
type Requirement struct {
	Kind       Kind        `json:"kind"`
	Origin     spec.Origin `json:"origin"`
	Params     []Param     `json:"params,omitempty"`
	Verdict    Verdict     `json:"verdict"`
	Mechanisms []Mechanism `json:"mechanisms"`
}

// BudgetPlan is one budget and what holds it.
type BudgetPlan struct {
	Dimension  spec.Dimension   `json:"dimension"`
	Limit      int64            `json:"limit"`
	Rate       int64            `json:"rate,omitempty"` // of cpu: thousandths of a processor
	Guarantee  spec.Enforcement `json:"guarantee"`      // asked for
	Verdict    Verdict          `json:"verdict"`        // given
	Mechanisms []Mechanism      `json:"mechanisms"`
	Origin     spec.Origin      `json:"origin"`
}

// EvidencePlan is one claim and the mechanisms or backend parts that will show it.
type EvidencePlan struct {
	Claim spec.Claim `json:"claim"`
	By    []string   `json:"by"`
}

// Reason is one requirement that cannot be held.
type Reason struct {
	Code        string      `json:"code"`        // stable, see docs/refusals.md
	Requirement Kind        `json:"requirement"` // or "evidence"
	Origin      spec.Origin `json:"origin"`
	Subject     string      `json:"subject,omitempty"` // path, claim or dimension it is about
	Need        string      `json:"need"`              // the mechanism that would hold it
	Fact        string      `json:"fact"`              // the probed fact that rules it out
	Remedy      string      `json:"remedy"`            // what to change
}

// Refusal is a plan that could not be made, with all reasons. It is an error
// and an artefact: it is sealed and recorded like a report.
type Refusal struct {
	Version  int           `json:"version"`
	Backend  string        `json:"backend"`
	Profile  string        `json:"profile"` // digest
	Resolved spec.Resolved `json:"resolved"`
	Total    int           `json:"total"` // requirements looked at
	Reasons  []Reason      `json:"reasons"`
}
