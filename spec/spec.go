// Package spec is the request: the boundary a user declares around one program.
//
// Everything here is plain data. What a spec does not grant is denied, and the
// zero value of every type is the closed one. The package reads no files but
// the bytes it is handed, no clock and no environment.
package spec

import "time"

// Version is the only spec version this package reads.
const Version = 1

// Spec is one request. Paths are as written until a backend resolves them.
type Spec struct {
	Version      int                  `json:"version"`
	Workload     Workload             `json:"workload"`
	Presets      []string             `json:"presets,omitempty"`
	Capabilities Capabilities         `json:"capabilities"`
	Controls     Controls             `json:"controls"`
	Budgets      map[Dimension]Budget `json:"budgets,omitempty"`
	Evidence     []Claim              `json:"evidence,omitempty"`
	Accept       []Weakening          `json:"accept,omitempty"`
}

// Workload names the program. Exactly one of Command and Wasm is set.
type Workload struct {
	Command []string `json:"command,omitempty"` // argv; argv[0] is looked up in the boundary's own PATH
	Dir     string   `json:"dir,omitempty"`     // working directory, inside a granted root; empty is "/"
	Wasm    string   `json:"wasm,omitempty"`    // path of a WebAssembly module
	Args    []string `json:"args,omitempty"`    // its arguments
}

// Capabilities are what the workload itself may use.
type Capabilities struct {
	Filesystem  []Grant    `json:"filesystem,omitempty"`
	Network     Network    `json:"network"`
	Environment []EnvEntry `json:"environment,omitempty"` // sorted by name, names unique
	Spawn       Spawn      `json:"spawn"`
	FDs         []int      `json:"fds,omitempty"` // host descriptors that survive, sorted, each >= 3
	Clock       Clock      `json:"clock,omitempty"`
	Random      Random     `json:"random,omitempty"`
}

// Access is a canonical subset of "rwx", or AccessNone for a carve-out.
type Access string

// AccessNone takes a path out of a tree that another grant gives.
const AccessNone Access = "none"

// Read, Write and Exec say whether the right is in a.
func (a Access) Read() bool  { return a.has('r') }
func (a Access) Write() bool { return a.has('w') }
func (a Access) Exec() bool  { return a.has('x') }

func (a Access) has(r byte) bool {
	if a == AccessNone {
		return false
	}
	for i := range len(a) {
		if a[i] == r {
			return true
		}
	}
	return false
}

// Grant gives access to files or directories. A directory's grant covers the
// tree below it unless NonRecursive is set.
type Grant struct {
	Access       Access   `json:"access"`
	Paths        []string `json:"paths"`
	NonRecursive bool     `json:"non_recursive,omitempty"` // written "recursive: false"
	Optional     bool     `json:"optional,omitempty"`      // a path that does not exist is left out instead of an error
	Origin       Origin   `json:"origin"`
}

// Network is the network policy. The zero value means no network at all.
type Network struct {
	Allow    []string `json:"allow,omitempty"`    // canonical "host:port[/tcp]"
	Loopback bool     `json:"loopback,omitempty"` // 127.0.0.1 and ::1 of the boundary's own, and nothing else
}

// The network policies that have a name.
const (
	NetworkNone     = "none"
	NetworkLoopback = "loopback"
)

// EnvEntry is one variable of the child's environment: a literal or a lease.
type EnvEntry struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
	Lease string `json:"lease,omitempty"` // reference "scheme:rest"; the value is never written down
}

// Spawn says what the workload may start. The zero value is closed like SpawnNone.
type Spawn string

// What the workload may start.
const (
	SpawnNone      Spawn = "none"
	SpawnThreads   Spawn = "threads"
	SpawnProcesses Spawn = "processes"
)

// Clock is what the workload can learn of the time.
type Clock string

// The clocks. Empty is ClockReal.
const (
	ClockReal      Clock = "real"           // the host's
	ClockMonotonic Clock = "monotonic-only" // durations, but neither date nor time of day
	ClockFixed     Clock = "fixed"          // the same readings in every run
)

// Random is where the workload's random numbers come from.
type Random string

// The sources. Empty is RandomReal.
const (
	RandomReal   Random = "real"   // the host's
	RandomSeeded Random = "seeded" // the same numbers in every run of one program
)

// Controls are host-side and never grantable to the workload.
type Controls struct {
	Capture   []Capture  `json:"capture,omitempty"` // streams not named here go nowhere
	Stdin     Stdin      `json:"stdin"`
	Temp      []Temp     `json:"temp,omitempty"`
	Expose    []Expose   `json:"expose,omitempty"`
	Artifacts *Artifacts `json:"artifacts,omitempty"`
	Kill      Kill       `json:"kill"`
}

// Capture relays, hashes and keeps at most Limit bytes of one stream.
type Capture struct {
	Stream string `json:"stream"` // "stdout", "stderr" or, with StdinTTY, StreamTTY alone
	Limit  int64  `json:"limit"`  // bytes kept; always > 0 after Parse (DefaultCapture)
}

// DefaultCapture is how many bytes of a captured stream are kept when the spec
// names no limit. More is still relayed, counted and hashed.
const DefaultCapture = 1 << 20

// Stdin modes. The zero value is closed like StdinNone.
const (
	StdinNone    = "none"
	StdinInherit = "inherit"
	StdinFile    = "file"
	StdinTTY     = "tty" // a terminal of the workload's own, for its output and as its controlling terminal, too
)

// StreamTTY is what a workload with StdinTTY shows on its terminal: whether it
// wrote to stdout or to stderr cannot be told, and what is typed is echoed.
const StreamTTY = "tty"

// Stdin says where the workload's standard input comes from.
type Stdin struct {
	Mode string `json:"mode"`
	File string `json:"file,omitempty"` // with StdinFile
}

// Temp is a private directory in memory, gone after the run.
type Temp struct {
	Path   string `json:"path"`   // absolute, in the boundary
	Access Access `json:"access"` // "rw" unless the spec asks for "rwx"
}

// Expose shows a host path at another place of the boundary.
type Expose struct {
	Source string `json:"source"`
	Dest   string `json:"dest"` // absolute, in the boundary
	Access Access `json:"access"`
}

// Artifacts holds writes back until somebody decides over them.
type Artifacts struct {
	Paths      []string `json:"paths"`
	Commit     string   `json:"commit"`     // manual, on-success, never
	Durability string   `json:"durability"` // atomic, durable
}

// Kill says how the workload's tree ends.
type Kill struct {
	Tree  string        `json:"tree"`  // "atomic"
	Grace time.Duration `json:"grace"` // nanoseconds between SIGTERM and the kill
}

// DefaultGrace is the time between SIGTERM and the kill of the tree.
const DefaultGrace = 500 * time.Millisecond

// Dimension is what a budget bounds.
type Dimension string

// The dimensions. Units: nanoseconds for wall and cpu, bytes for memory,
// storage, network and output, a count for processes, handles, fuel and calls.
const (
	Wall      Dimension = "wall"
	CPU       Dimension = "cpu"
	Memory    Dimension = "memory"
	Processes Dimension = "processes"
	Handles   Dimension = "handles"
	Storage   Dimension = "storage"
	Network_  Dimension = "network"
	Output    Dimension = "output"
	Fuel      Dimension = "fuel"       // instructions of a WebAssembly module, see internal/wasmmeter
	CallDepth Dimension = "call-depth" // its functions that are under way at one time
)

// Dimensions in their fixed order.
var Dimensions = []Dimension{Wall, CPU, Memory, Processes, Handles, Storage, Network_, Output, Fuel, CallDepth}

// Budget bounds one dimension. A dimension without one is not bounded and
// nothing is claimed about it.
type Budget struct {
	Limit     int64       `json:"limit"` // in the dimension's unit, 1 to 2^53-1
	Guarantee Enforcement `json:"guarantee"`
	Evidence  []Claim     `json:"evidence,omitempty"`
	Origin    Origin      `json:"origin"`
	Rate      int64       `json:"rate,omitempty"` // of cpu: thousandths of a processor; 0 is no bound
}

// Enforcement is how strongly something is held. Unsupported, the zero value,
// never stands in a plan.
type Enforcement int

// Ordered from weakest to strongest.
const (
	Unsupported Enforcement = iota // nothing holds it
	Mediated                       // each attempt passes through bvisor, which decides
	Enforced                       // the kernel or the runtime makes it impossible
)

// Claim is one thing a report can show.
type Claim string

// The evidence claims.
const (
	TerminalOutcome      Claim = "terminal-outcome"
	CapturedStreams      Claim = "captured-streams"
	ResourceUsage        Claim = "resource-usage"
	AllowedActions       Claim = "allowed-actions"
	DeniedAttempts       Claim = "denied-attempts"
	FilesystemDelta      Claim = "filesystem-delta"
	ProcessTree          Claim = "process-tree"
	NetworkActivity      Claim = "network-activity"
	ArtifactLineage      Claim = "artifact-lineage"
	MechanismAttestation Claim = "mechanism-attestation"
)

// Claims in their fixed order.
var Claims = []Claim{TerminalOutcome, CapturedStreams, ResourceUsage, AllowedActions, DeniedAttempts,
	FilesystemDelta, ProcessTree, NetworkActivity, ArtifactLineage, MechanismAttestation}

// Origin says who asked for something: "spec", "preset:NAME", "default" or "baseline".
type Origin string

// Origins other than presets.
const (
	FromSpec     Origin = "spec"
	FromDefault  Origin = "default"
	FromBaseline Origin = "baseline"
)
