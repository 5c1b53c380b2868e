package launcher

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Phases in the order in which they are gone through.
var Phases = []string{"namespaces", "identity", "mounts", "privileges", "limits", "descriptors", "landlock", "seccomp", "exec"}

// Message kinds on the status socket. Every message is the kind, eight bytes,
// and the record as the sending process knows it.
const (
	MessageFailed = 1 // any process: a step failed; the record says which
	MessageReady  = 2 // workload: confined, waits at the barrier
	MessageEnded  = 3 // init: the workload ended and its tree is empty
	MessageInit   = 4 // launcher: init has been reaped

	MessageSettled  = 5 // workload: its namespaces, limits and descriptors are what they will be
	MessageDetached = 6 // launcher: nothing of the host's mounts is left in the boundary's namespace, and it has no capability
	MessageObserver = 7 // workload: carries the descriptor of a filter's listener
	MessageBare     = 8 // init: it has no capability any more; only where it had one left after the fork
	MessageHeld     = 9 // init: carries the descriptor of the directory that takes what is held back; one for each, in their order
)

// Byte offsets in the record, which stands at the start of the data segment.
// The first four words belong to the machine.
const (
	offFailedOp   = 0
	offFailedErr  = 8
	offFailTarget = 16 // where a failing call goes on
	offFirstOp    = 24
	offPhases     = 32 // struct timespec per phase, by CLOCK_MONOTONIC

	OffExecWait   = offPhases + 16*9    // wait4's result when the workload had executed its program
	OffNoExecWait = OffExecWait + 8     // wait4's result when it had not
	OffStatus     = OffNoExecWait + 8   // its wait status
	OffLastWait   = OffStatus + 8       // the last wait4 of init: -ECHILD when nobody is left
	OffEnded      = OffLastWait + 8     // struct timespec: when the workload was reaped
	OffUsage      = OffEnded + 16       // struct rusage of the workload and the children it waited for
	OffTreeUsage  = OffUsage + 18*8     // struct rusage of everything init reaped
	OffInitWait   = OffTreeUsage + 18*8 // wait4's result for init
	OffInitStatus = OffInitWait + 8     // its wait status
	RecordWords   = OffInitStatus/8 + 1
	MessageSize   = 8 + RecordWords*8
)

// OffPhase is where the time of phase i's end is stored.
func OffPhase(i int) int { return offPhases + 16*i }

// Usage is what the kernel accounted.
type Usage struct {
	User, System time.Duration
	MaxRSS       int64 // bytes
}

// Message is one decoded message.
type Message struct {
	Kind       int
	Failed     int     // index of the failing operation, with MessageFailed
	Errno      int     // positive
	Phases     []int64 // nanoseconds of CLOCK_MONOTONIC, 0 where not reached
	Executed   bool    // the kernel says that the workload's exec happened
	Ended      bool    // the workload was reaped
	WaitStatus uint32  // of the workload
	Empty      bool    // init's last wait4 said that no process is left
	EndedAt    int64   // nanoseconds of CLOCK_MONOTONIC
	Usage      Usage   // of the workload
	Tree       Usage   // of everything that init reaped
	InitReaped bool    // with MessageInit
	InitStatus uint32
}

const echild = 10

// Decode reads one message. p is the program the sender walks.
func (p *Program) Decode(b []byte) (Message, error) {
	if len(b) != MessageSize {
		return Message{}, fmt.Errorf("launcher message has %d bytes, expected %d", len(b), MessageSize)
	}
	m := Message{Kind: int(binary.LittleEndian.Uint64(b))}
	r := b[8:]
	word := func(off int) uint64 { return binary.LittleEndian.Uint64(r[off:]) }
	nanos := func(off int) int64 { return int64(word(off))*1e9 + int64(word(off+8)) }
	if m.Kind == MessageFailed {
		i, ok := p.opAt(word(offFailedOp))
		if !ok {
			return Message{}, fmt.Errorf("launcher message names operation %#x, which is not in the program", word(offFailedOp))
		}
		m.Failed, m.Errno = i, int(-int64(word(offFailedErr)))
	}
	for i := range Phases {
		m.Phases = append(m.Phases, nanos(OffPhase(i)))
	}
	executed, not := int64(word(OffExecWait)), int64(word(OffNoExecWait))
	// init looks for an executed child first, so a stale result of that call
	// stands beside a positive one of the other.
	m.Executed = executed > 0 && not <= 0
	m.Ended = m.Kind == MessageEnded && (m.Executed || not > 0)
	m.WaitStatus = uint32(word(OffStatus))
	m.Empty = int64(word(OffLastWait)) == -echild
	m.EndedAt = nanos(OffEnded)
	m.Usage, m.Tree = usage(r[OffUsage:]), usage(r[OffTreeUsage:])
	m.InitReaped = int64(word(OffInitWait)) > 0
	m.InitStatus = uint32(word(OffInitStatus))
	return m, nil
}

// usage reads struct rusage: two struct timeval, then ru_maxrss in KiB.
func usage(b []byte) Usage {
	word := func(i int) int64 { return int64(binary.LittleEndian.Uint64(b[i*8:])) }
	us := func(i int) time.Duration {
		return time.Duration(word(i))*time.Second + time.Duration(word(i+1))*time.Microsecond
	}
	return Usage{User: us(0), System: us(2), MaxRSS: word(4) * 1024}
}
