//go:build amd64 || arm64

package linux

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/plan"
)

// Init makes the mounts while the launcher makes the network namespace, each in
// about the same time. On few processors that does not come about by itself: a
// process that is forked or woken is put where its parent or its waker runs
// (select_idle_sibling in kernel/sched/fair.c looks no further when the machine
// is half busy), and a namespace is made without a moment at which another
// could have its turn. So the launcher leaves init's processor.

// rootWord is init's word that it is in its own root. Its other one, when it has
// its program, is the processor that it runs on. Both have four bytes.
const rootWord = "root"

// partTime is how long the launcher waits for init's program before it goes on
// alone, in nanoseconds. When a program is there already, init says so earlier.
const partTime = 200_000

// maxParting is for how many processors the launcher knows how to leave one of
// them. Where there are more, one is idle.
const maxParting = 8

// tellLauncher sends a word.
func (l *lowering) tellLauncher(fd int, word launcher.Arg) {
	l.Call("sendto", unix.SYS_SENDTO, launcher.Flag(fd, "to launcher"), word, launcher.Int(len(rootWord)),
		launcher.Flag(unix.MSG_NOSIGNAL, "MSG_NOSIGNAL"), launcher.Int(0), launcher.Int(0))
}

// tellProcessor says where init runs.
func (l *lowering) tellProcessor() {
	processor := l.Bytes(make([]byte, 8), "&processor")
	l.Call("getcpu", unix.SYS_GETCPU, processor, launcher.Int(0), launcher.Int(0))
	l.tellLauncher(bootNetRecv, processor)
}

// hear takes a word of init and goes to said, or on when there is none.
func (l *lowering) hear(said launcher.Label) (word launcher.Arg) {
	word = l.Var("word")
	l.Call("recvfrom", unix.SYS_RECVFROM, launcher.Flag(bootNetSend, "from init"), launcher.Addr(word), launcher.Int(len(rootWord)),
		launcher.Flag(unix.MSG_DONTWAIT, "MSG_DONTWAIT"), launcher.Int(0), launcher.Int(0)).Ignore().If(launcher.Int(len(rootWord)), said)
	return word
}

// part has the launcher leave the processor of an init that has its program.
// Nothing here matters for what the boundary holds, so no failure does.
// Its own affinity is nobody else's: init is there already.
func (l *lowering) part(set launcher.Arg) {
	processors := allowed()
	if !l.has(plan.NetworkNamespace) || !l.has(plan.MountNamespace) || len(processors) < 2 || len(processors) > maxParting {
		return
	}
	said, done := l.NewLabel(), l.NewLabel()
	timeout := l.Words("200 us", launcher.Int(0), launcher.Int(partTime)) // struct timespec
	l.Call("ppoll", unix.SYS_PPOLL, set, launcher.Int(3), timeout, launcher.Int(0), launcher.Int(0)).Ignore()
	word := l.hear(said)
	l.Call("getpid", unix.SYS_GETPID).OnError(done).Jump(done)
	l.Mark(said)
	for _, p := range processors {
		leave, next := l.NewLabel(), l.NewLabel()
		l.Copy(word).Ignore().If(launcher.Int(p), leave)
		l.Copy(word).Ignore().Jump(next)
		l.Mark(leave)
		var others unix.CPUSet
		for _, o := range processors {
			if o != p {
				others.Set(o)
			}
		}
		mask := make([]byte, 0, 8*len(others))
		for _, w := range others {
			mask = binary.LittleEndian.AppendUint64(mask, uint64(w))
		}
		// An error means that the processors have changed.
		l.Call("sched_setaffinity", unix.SYS_SCHED_SETAFFINITY, launcher.Int(0), launcher.Int(len(mask)), l.Bytes(mask, "all others")).OnError(done).Jump(done)
		l.Mark(next)
	}
	l.Mark(done)
}

// allowed lists the processors that this process may use.
var allowed = sync.OnceValue(func() []int {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return nil
	}
	var list []int
	for p := range len(set) * 64 {
		if set.IsSet(p) {
			list = append(list, p)
		}
	}
	return list
})
