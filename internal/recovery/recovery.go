// Package recovery decides what becomes of an attempt that has an intent and no
// end. The decision is pure: what the log says, and what somebody else found.
package recovery

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/bvisor/bvisor/internal/canonical"
	"github.com/bvisor/bvisor/internal/durable"
)

// Intent is what is durable before a launch: enough to find, later, what an
// attempt without an end may have left.
type Intent struct {
	Version      int      `json:"version"`
	Attempt      string   `json:"attempt"`
	Plan         string   `json:"plan"`
	Profile      string   `json:"profile"`
	Started      string   `json:"started"`
	Deadline     string   `json:"deadline,omitempty"` // with a wall budget
	Supervisor   Process  `json:"supervisor"`
	Cgroup       string   `json:"cgroup,omitempty"`       // the supervisor's own, version 2
	Quarantine   string   `json:"quarantine,omitempty"`   // where what the program writes is held back
	Placeholders []string `json:"placeholders,omitempty"` // empty files that stand where a carve-out is absent
}

// Process names a process for good: numbers are used again, also after a boot.
type Process struct {
	Boot         string `json:"boot,omitempty"`          // random/boot_id
	PIDNamespace string `json:"pid_namespace,omitempty"` // the link /proc/self/ns/pid
	PID          int    `json:"pid"`
	Start        string `json:"start,omitempty"` // field 22 of /proc/PID/stat
}

// IntentVersion is the version of the intent's encoding.
const IntentVersion = 1

// ParseIntent reads an intent from the log.
func ParseIntent(data []byte) (Intent, error) {
	var i Intent
	if err := canonical.Unmarshal(data, &i); err != nil {
		return Intent{}, fmt.Errorf("intent: %w", err)
	}
	if i.Version != IntentVersion {
		return Intent{}, fmt.Errorf("intent: version %d, expected %d", i.Version, IntentVersion)
	}
	return i, nil
}

// Self is this process.
var Self = sync.OnceValue(func() Process {
	p := Process{Boot: durable.BootID(), PID: os.Getpid()}
	if b, err := os.ReadFile("/proc/self/stat"); err == nil {
		if s, ok := ParseStat(b); ok {
			p.Start = s.Start
		}
	}
	p.PIDNamespace, _ = os.Readlink("/proc/self/ns/pid")
	return p
})

// Cgroup is this process's, if the host has version 2 for it.
func Cgroup() string {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.ToValidUTF8(strings.TrimSuffix(path, "\n"), "\uFFFD")
		}
	}
	return ""
}

// Stat is what is needed of /proc/PID/stat.
type Stat struct {
	State   string
	Threads string
	Start   string
}

// ParseStat reads fields 3, 20 and 22 of proc_pid_stat(5). The second field is
// the command's name in parentheses and may hold any byte.
func ParseStat(b []byte) (Stat, bool) {
	text := string(b)
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(f) < 20 {
		return Stat{}, false
	}
	return Stat{f[0], f[17], f[19]}, true
}

// Mark is what the launchers of a supervisor carry in their argument, so that
// they are found when it is gone. They are seen from inside the boundary, so it
// says nothing of the host.
func (p Process) Mark() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "launchers of %s %s %d %s", p.Boot, p.PIDNamespace, p.PID, p.Start))
	return hex.EncodeToString(sum[:8])
}

// Life is what can be said of a supervisor.
type Life int

// Unknown is the zero value: nothing is done then.
const (
	Unknown Life = iota
	Alive
	Gone
)

// Trace is something that an attempt left.
type Trace struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// Kinds of traces.
const (
	TraceProcess     = "process"     // of its boundary; the name is a pid
	TraceGroup       = "cgroup"      // the leaf it ran in
	TraceQuarantine  = "quarantine"  // what it wrote, held back
	TracePlaceholder = "placeholder" // an empty file
)

// Prober looks at the host. It believes nothing that the log does not say.
type Prober interface {
	// Supervisor says whether the process that wrote an intent lives, and, when
	// that is unknown, why.
	Supervisor(Intent) (Life, string)
	// Find lists what is left of an attempt whose supervisor is gone. It changes
	// nothing.
	Find(Intent) ([]Trace, error)
	// Sweep takes one of them away and returns when it is gone. What is gone
	// already is no error.
	Sweep(Intent, Trace) error
}

// Said is what the log says of an attempt.
type Said struct {
	Intent Intent
	Bad    error // why the intent cannot be read
	Ended  bool
}

// Found is what was found on the host.
type Found struct {
	Boot   string
	Life   Life
	Why    string // it is unknown
	Traces []Trace
}

// Outcome is a decision.
type Outcome string

// The decisions. Only Absent and RolledBack are recorded, as the attempt's end.
const (
	Running    Outcome = "running"     // it is another process's, and not touched
	Completed  Outcome = "completed"   // it has its end
	Absent     Outcome = "absent"      // nothing of it is left
	RolledBack Outcome = "rolled-back" // what it left is taken away
	Refused    Outcome = "refused"     // log and host contradict each other, or too little is known
	Finished   Outcome = "finished"    // a disposition that was cut short is carried out
)

// Decision is what is to be done about an attempt.
type Decision struct {
	Outcome Outcome
	Sweep   []Trace
	Why     string // refused
}

// Decide says what is to be done. Equal arguments give equal results.
func Decide(said Said, found Found) Decision {
	refused := func(format string, args ...any) Decision {
		return Decision{Outcome: Refused, Why: fmt.Sprintf(format, args...)}
	}
	if said.Ended {
		return Decision{Outcome: Completed}
	}
	if said.Bad != nil {
		return refused("%v", said.Bad)
	}
	then := said.Intent.Supervisor.Boot
	if then == "" || found.Boot == "" {
		return refused("it is not known whether the machine was started since")
	}
	if then != found.Boot {
		for _, t := range found.Traces {
			if t.Kind == TraceProcess || t.Kind == TraceGroup {
				return refused("there is %s %s of it, though the machine was started since", t.Kind, t.Name)
			}
		}
	} else {
		switch found.Life {
		case Alive:
			return Decision{Outcome: Running}
		case Gone:
		default:
			return refused("it is not known whether its supervisor lives: %s", found.Why)
		}
	}
	if len(found.Traces) == 0 {
		return Decision{Outcome: Absent}
	}
	return Decision{Outcome: RolledBack, Sweep: found.Traces}
}

// Record is the entry that ends an attempt.
type Record struct {
	Version int     `json:"version"`
	Attempt string  `json:"attempt"`
	Outcome Outcome `json:"outcome"`
	Swept   []Trace `json:"swept,omitempty"`
	By      Process `json:"by"` // who recovered it
}

// RecordVersion is the version of the record's encoding.
const RecordVersion = 1
