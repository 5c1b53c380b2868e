// Package report is the document about one run: what was asked, what held it,
// what the kernel said and what the program did; its one encoding, its seal
// and its verification.
package report

import (
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

// Version of the predicate's encoding.
const Version = 1

// Status is how an attempt ended.
type Status string

// The outcomes.
const (
	Completed       Status = "completed"        // exit status 0
	Failed          Status = "failed"           // the workload ended by itself with another status or a signal of its own
	Denied          Status = "denied"           // the filter killed it for a forbidden act
	Timeout         Status = "timeout"          // the wall deadline
	Killed          Status = "killed"           // on request: cancelled, or killed from outside
	BudgetExceeded  Status = "budget-exceeded"  // Reason is the dimension
	SetupFailed     Status = "setup-failed"     // the workload never ran; Reason names the step
	Refused         Status = "refused"          // no plan; nothing was started
	SupervisorFault Status = "supervisor-fault" // bvisor itself failed
)

// Report is the predicate of the sealed statement.
type Report struct {
	Version      int              `json:"version"`
	Identity     Identity         `json:"identity"`
	Outcome      Outcome          `json:"outcome"`
	Exit         *Exit            `json:"exit,omitempty"` // absent when the workload never ran or its end was not seen
	Plan         *plan.Plan       `json:"plan,omitempty"`
	Refusal      *plan.Refusal    `json:"refusal,omitempty"` // instead of Plan
	Profile      plan.Profile     `json:"profile"`
	Transcript   []Phase          `json:"transcript,omitempty"`
	Posture      *Posture         `json:"posture,omitempty"`
	Descriptors  []Descriptor     `json:"descriptors,omitempty"`
	Facts        []Fact           `json:"facts,omitempty"`
	Denied       []DeniedAct      `json:"denied,omitempty"`
	Completeness Completeness     `json:"denied_completeness"`
	Budgets      []BudgetResult   `json:"budgets,omitempty"`
	Usage        *Usage           `json:"usage,omitempty"`
	Streams      []Stream         `json:"streams,omitempty"`
	Artifacts    []Artifacts      `json:"artifacts,omitempty"` // one for each path of controls.artifacts, in order
	Leases       []Lease          `json:"leases,omitempty"`
	Accepted     []spec.Weakening `json:"accepted,omitempty"`
	Times        Times            `json:"times"`
	Tool         Tool             `json:"tool"`
}

// Identity is the chain that ties a report to what ran. Digests are hex SHA-256.
type Identity struct {
	Attempt     string `json:"attempt"`               // fresh per run
	Plan        string `json:"plan,omitempty"`        // plan.Plan.ID
	Profile     string `json:"profile"`               // plan.Profile.Digest
	Program     string `json:"program,omitempty"`     // lowered program, lease values left out
	Descriptors string `json:"descriptors,omitempty"` // descriptor table
	Executable  string `json:"executable,omitempty"`
}

// Outcome is what happened, and why.
type Outcome struct {
	Status Status `json:"status"`
	Reason string `json:"reason,omitempty"`
}

// Exit is how the workload's first process ended, by wait4 in its pid 1.
type Exit struct {
	Code   int    `json:"code"`             // exit status, 0 when Signal is set
	Signal int    `json:"signal,omitempty"` // number of the signal that ended it
	Name   string `json:"name,omitempty"`   // the signal's name
	Core   bool   `json:"core,omitempty"`
	Trap   *Trap  `json:"trap,omitempty"` // instead of both: what stopped a WebAssembly module
}

// Trap is how a WebAssembly module failed by itself.
type Trap struct {
	Kind  string   `json:"kind"`            // for example "unreachable" or "integer divide by zero"
	Stack []string `json:"stack,omitempty"` // functions by their names, the innermost first
}

// StackOverflow is the kind of a trap without a stack: there was too much of it.
const StackOverflow = "stack overflow"

// Phase is one line of the launcher's transcript.
type Phase struct {
	Name    string `json:"name"`
	Status  string `json:"status"`            // done, failed, not-required, not-reached
	Elapsed int64  `json:"elapsed,omitempty"` // nanoseconds since the launch began
	Step    int    `json:"step,omitempty"`    // failed: index of the operation in the program
	Call    string `json:"call,omitempty"`    // failed: the operation as printed
	Errno   string `json:"errno,omitempty"`   // failed: e.g. "EPERM"
}

// Posture is what the kernel said about the workload just before its exec.
type Posture struct {
	NoNewPrivs     int                 `json:"no_new_privs"`
	Seccomp        int                 `json:"seccomp"` // mode: 2 is a filter
	SeccompFilters int                 `json:"seccomp_filters"`
	Capabilities   Capabilities        `json:"capabilities"`
	Namespaces     []Namespace         `json:"namespaces"` // sorted by name
	UID            int                 `json:"uid"`
	GID            int                 `json:"gid"`
	Umask          string              `json:"umask"`           // octal
	SignalsIgnored string              `json:"signals_ignored"` // hex mask
	SignalsBlocked string              `json:"signals_blocked"`
	Session        bool                `json:"session"`            // leads a session of its own
	Terminal       string              `json:"terminal,omitempty"` // the controlling terminal on the host, as major:minor; empty is none
	Limits         []Limit             `json:"limits"`
	Descriptors    []PostureDescriptor `json:"descriptors"`
	Network        *PostureNetwork     `json:"network,omitempty"` // read where the plan has network-loopback
	Cgroup         string              `json:"cgroup,omitempty"`  // the group in the second hierarchy, where the plan has one of its own
}

// PostureNetwork is what the workload's network namespace holds.
type PostureNetwork struct {
	Interfaces []string `json:"interfaces"`
	Addresses  []string `json:"addresses"` // its own, on interfaces that are up
	Routes     []string `json:"routes"`    // by another interface than lo
}

// Capabilities are the five sets, as hex masks.
type Capabilities struct {
	Inheritable string `json:"inheritable"`
	Permitted   string `json:"permitted"`
	Effective   string `json:"effective"`
	Bounding    string `json:"bounding"`
	Ambient     string `json:"ambient"`
}

// Namespace is one of the workload's namespaces, compared with the supervisor's.
type Namespace struct {
	Name string `json:"name"`
	ID   string `json:"id"`  // inode number
	Own  bool   `json:"own"` // differs from the supervisor's
}

// Limit is one resource limit as read back. -1 is unlimited.
type Limit struct {
	Name string `json:"name"`
	Soft int64  `json:"soft"`
	Hard int64  `json:"hard"`
}

// PostureDescriptor is one open descriptor just before exec.
type PostureDescriptor struct {
	FD      int    `json:"fd"`
	Kind    string `json:"kind"`    // pipe, socket, device, terminal, file, directory, memfd, other
	Survive bool   `json:"survive"` // not close-on-exec
}

// Descriptor is one row of the table the launcher is started with.
type Descriptor struct {
	Slot     int    `json:"slot"`
	Role     string `json:"role"` // stdin, stdout, stderr, passed, network, control, status
	Kind     string `json:"kind"`
	Writable bool   `json:"writable"`
}

// Fact is one thing that was observed, with its fields in order of name.
type Fact struct {
	Kind   string       `json:"kind"`
	Fields []plan.Param `json:"fields,omitempty"`
}

// Fact kinds.
const (
	WorkloadLaunched          = "workload_launched"
	NamespacesEntered         = "namespaces_entered"
	FilesystemLowered         = "filesystem_lowered"
	NetworkLowered            = "network_lowered"
	FilterInstalled           = "filter_installed"
	LandlockEntered           = "landlock_entered"
	EnvironmentLowered        = "environment_lowered"
	EnvironmentLoweringFailed = "environment_lowering_failed"
	StreamCaptured            = "stream_captured"
	TreeEmptied               = "tree_emptied"
	TreeKilled                = "tree_killed"
	GroupLimited              = "group_limited" // what each file of the workload's group said before it ran
	GroupEmptied              = "group_emptied"
	PlaceholderMade           = "placeholder_made"
	PlaceholderRemoved        = "placeholder_removed"
	SecretRedacted            = "secret_redacted"
	DenialsObserved           = "denials_observed"
	FuelCounted               = "fuel_counted"
	Unobserved                = "unobserved" // something that could not be seen, named
)

// DeniedAct is one forbidden act that was seen.
type DeniedAct struct {
	Act       string `json:"act"`
	Mechanism string `json:"mechanism"`
	At        string `json:"at,omitempty"`
	Allow     string `json:"allow,omitempty"`    // the flags that would allow it
	Observed  bool   `json:"observed,omitempty"` // the attempt was seen and judged against the plan, not the kernel's answer
	Path      string `json:"path,omitempty"`     // what was asked for, in the boundary
	Access    string `json:"access,omitempty"`   // the rights that lacked, of "rwx"; none: that it is there
	Program   string `json:"program,omitempty"`  // who asked first, by its executable
	Times     int64  `json:"times,omitempty"`    // how often it was seen
}

// Completeness says how much of what was denied the report can know.
type Completeness struct {
	Level string `json:"level"` // complete, partial, none
	Why   string `json:"why,omitempty"`
}

// BudgetResult is one budget: asked, set, read back, used.
type BudgetResult struct {
	Dimension spec.Dimension `json:"dimension"`
	Requested int64          `json:"requested"`
	Set       int64          `json:"set"`
	ReadBack  *int64         `json:"read_back,omitempty"`
	Used      *int64         `json:"used,omitempty"`
	Peak      *int64         `json:"peak,omitempty"`   // of a level: the most at one time
	Events    []plan.Param   `json:"events,omitempty"` // the kernel's own counters, FILE.NAME, sorted
	Finding   string         `json:"finding"`          // within, exceeded, not-observed
}

// Usage is what the kernel accounted for the whole reaped tree.
type Usage struct {
	UserTime   int64 `json:"user_time"`   // nanoseconds
	SystemTime int64 `json:"system_time"` // nanoseconds
	MaxRSS     int64 `json:"max_rss"`     // bytes, of the largest process
}

// Stream is one captured stream. SHA256 and Bytes cover everything relayed.
type Stream struct {
	Name      string `json:"name"`
	Bytes     int64  `json:"bytes"` // all that the workload wrote
	Kept      int64  `json:"kept"`
	SHA256    string `json:"sha256"`      // of all bytes; empty when a secret was taken out of the kept ones
	KeptSHA   string `json:"kept_sha256"` // of the kept bytes
	Truncated bool   `json:"truncated"`
	Redacted  int    `json:"redacted,omitempty"` // places where a lease's value was taken out of the kept bytes
}

// Lease is one secret reference. There is no field for its value.
type Lease struct {
	Variable  string `json:"variable"`
	Reference string `json:"reference"`
	Resolved  string `json:"resolved,omitempty"` // RFC 3339; absent when it was not
	Error     string `json:"error,omitempty"`
}

// Times of the run. Durations are by the monotonic clock, in nanoseconds.
type Times struct {
	Started  string `json:"started"` // RFC 3339 with nanoseconds, UTC
	Ended    string `json:"ended"`
	Setup    int64  `json:"setup,omitempty"` // start to the barrier's opening
	Run      int64  `json:"run,omitempty"`   // barrier's opening to the workload's end
	Teardown int64  `json:"teardown,omitempty"`

	// Prepared is set when the boundary stood before the run was asked for.
	Prepared *Prepared `json:"prepared,omitempty"`
}

// Prepared is a boundary that was armed for a run to come. Its posture was read
// then; phases of the transcript count from the beginning of the arming.
type Prepared struct {
	At   string `json:"at"`   // RFC 3339 with nanoseconds, UTC: when it was ready
	Took int64  `json:"took"` // nanoseconds
}

// Tool is what made the report.
type Tool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Observation is what a backend saw of one launch. It holds no judgement: the
// runner turns it into a Report.
type Observation struct {
	Outcome      Outcome
	Exit         *Exit
	Program      string // digest of the lowered program
	Transcript   []Phase
	Posture      *Posture
	Descriptors  []Descriptor
	Facts        []Fact
	Denied       []DeniedAct
	Completeness Completeness
	Budgets      []BudgetResult
	Usage        *Usage
	Streams      []Stream
	Artifacts    []Artifacts
	Kept         map[string][]byte // stream name to its kept bytes, redacted; never sealed
	Prepared     *Prepared
	Setup        int64 // nanoseconds, see Times
	Run          int64
	Teardown     int64
}
