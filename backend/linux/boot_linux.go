//go:build amd64 || arm64

package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/internal/recovery"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
)

// boot is the part of a launch that depends on little: the launcher's whole
// life, and init's until it is handed its program and its descriptors. So a
// launcher can be started before the plan is known; if the plan wants another
// boot, it is dropped.
type boot struct {
	kinds    string // those of bootKinds that the plan holds
	uid, gid int
}

// bootKinds are the requirements that the boot holds, each with what it does to
// the program.
var bootKinds = []plan.Kind{
	plan.UserNamespace, plan.MountNamespace, plan.PIDNamespace, plan.IPCNamespace, plan.UTSNamespace,
	plan.NetworkNamespace, plan.NetworkLoopback, plan.NewSession, plan.DefaultSignals, plan.FixedUmask, plan.DeathSignal, plan.NotDumpable, plan.NoCapabilities,
}

func bootOf(p plan.Plan) boot {
	return newBoot(p.Resolved.UID, p.Resolved.GID, func(k plan.Kind) bool { return holds(p, k) })
}

func newBoot(uid, gid int, held func(plan.Kind) bool) boot {
	var kinds []string
	for _, k := range bootKinds {
		if held(k) {
			kinds = append(kinds, string(k))
		}
	}
	return boot{strings.Join(kinds, " "), uid, gid}
}

// Descriptors that the launcher starts with. It has no standard streams: those
// are the workload's, and come with the program.
const (
	bootNetRecv  = 3 + iota // init gets the network namespace here, and end of file when the launcher is gone
	bootNetSend             // from here; the launcher alone keeps it
	bootControl             // end of file: the supervisor is gone or wants nobody to live
	bootStatus              // where every message goes
	bootHandover            // where init gets program and descriptors
)

// maxHanded is how many descriptors one message can carry (SCM_MAX_FD, unix(7)).
const maxHanded = 253

// lowerBoot is the program of launcher and init until the handover.
func (l *lowering) lowerBoot() {
	l.slots = slots{netRecv: bootNetRecv, control: bootControl, status: bootStatus}
	l.self = l.Var("/proc/self")
	failed, initProcess, body := l.NewLabel(), l.NewLabel(), l.NewLabel()
	l.OnFailure(failed)

	l.Begin(launcher.RoleLauncher, "namespaces")
	l.closeUndeclared() // first: nothing that leaked in may be used below (CVE-2024-21626)
	l.Call("prctl", unix.SYS_PRCTL, launcher.Flag(unix.PR_SET_NAME, "PR_SET_NAME"), l.Str("bvisor"))
	l.resetSignals()
	l.namespaces()
	l.Begin(launcher.RoleLauncher, "identity")
	l.identity()                        // before init: unmapped ids may make no files
	set, pid := l.forkInit(initProcess) // the pid namespace begins with the next child
	l.Begin(launcher.RoleLauncher, "namespaces")
	l.part(set)
	l.network() // while init makes the mounts: it takes longest of all
	l.watch(set, pid)

	l.Mark(initProcess)
	l.Begin(launcher.RoleInit, "handover")
	l.dieWithParent()
	l.Call("close", unix.SYS_CLOSE, launcher.Flag(bootNetSend, "to init")) // or it would never see end of file
	if l.has(plan.NetworkNamespace) {
		l.Call("close", unix.SYS_CLOSE, l.self)
	}
	l.takeProgram(body)

	l.Mark(failed)
	l.Begin(launcher.RoleLauncher, "failure")
	l.reportFailure()
	l.BeginBody()
	l.Mark(body)
}

// takeProgram waits for the one message that brings everything else, maps the
// program and goes on there. Nothing else has a number below bootNetRecv, so
// the program, which comes first, is descriptor 0.
func (l *lowering) takeProgram(body launcher.Label) {
	const size = 16 + 4*maxHanded + 4 // a multiple of eight
	l.handed = l.Bytes(make([]byte, size), "descriptors")
	iov := l.Words("{byte, 1}", l.Bytes(make([]byte, 8), "byte"), launcher.Int(1))
	zero, taken := launcher.Int(0), l.NewLabel()
	message := l.Words("{descriptors}", zero, zero, iov, launcher.Int(1), l.handed, launcher.Int(size), zero)
	l.Call("recvmsg", unix.SYS_RECVMSG, launcher.Flag(bootHandover, "from supervisor"), message, zero).If(launcher.Int(1), taken)
	l.exit(122) // end of file: no run is wanted
	l.Mark(taken)
	l.Call("mmap", unix.SYS_MMAP, launcher.Flag(launcher.BodyBase, "body"), launcher.Int(launcher.BodyRoom),
		launcher.Flag(unix.PROT_READ|unix.PROT_WRITE, "PROT_READ|PROT_WRITE"), launcher.Flag(unix.MAP_PRIVATE|unix.MAP_FIXED, "MAP_PRIVATE|MAP_FIXED"), zero, zero).Jump(body)
}

// takeDescriptors gives what init was handed, and its own, their places. The
// numbers at which the kernel put them follow from what was open (the lowest
// that are free, in order); the program goes on only if they did. A step that
// fails is reported on the status socket, wherever that is just then; from here
// on it goes to failed.
func (l *lowering) takeDescriptors(failed launcher.Label) {
	targets := append([]int{0, 1, 2}, l.slots.passed...)
	handed := []int{0, 1, 2, bootNetSend} // the program first
	first := 1                            // of the workload's
	if leases(l.env) {
		first = 2 // behind the environment
	}
	if l.slots.leaf != 0 {
		targets = append([]int{l.slots.leaf}, targets...)
	}
	for n := bootHandover + 1; len(handed) < first+len(targets); n++ {
		handed = append(handed, n)
	}
	words := binary.LittleEndian.AppendUint64(nil, uint64(16+4*len(handed))) // struct cmsghdr: length, level, type
	words = binary.LittleEndian.AppendUint32(words, unix.SOL_SOCKET)
	words = binary.LittleEndian.AppendUint32(words, unix.SCM_RIGHTS)
	for _, fd := range handed {
		words = binary.LittleEndian.AppendUint32(words, uint32(fd))
	}
	mask := slices.Repeat([]byte{0xff}, len(words))
	for len(words)%8 != 0 {
		words, mask = append(words, 0), append(mask, 0)
	}
	for at := 0; at < len(words); at += 8 {
		l.Check(launcher.At(l.handed, at, "handed"), binary.LittleEndian.Uint64(mask[at:]), binary.LittleEndian.Uint64(words[at:]), "")
	}

	l.mapEnvironment(1)

	// By way of numbers that nobody has, so that no move hits another's source.
	sources := append(slices.Clone(handed[first:]), bootNetRecv, bootControl, bootStatus)
	targets = append(targets, l.slots.netRecv, l.slots.control, l.slots.status)
	spare := max(slices.Max(sources), slices.Max(targets), bootHandover) + 1
	for i, fd := range sources {
		l.Call("dup3", unix.SYS_DUP3, launcher.Int(fd), launcher.Int(spare+i), launcher.Int(0))
	}
	onTheWay, ready := l.NewLabel(), l.NewLabel()
	l.FailAt(onTheWay)
	l.Call("close_range", unix.SYS_CLOSE_RANGE, launcher.Int(0), launcher.Int(spare-1), launcher.Int(0))
	for i, fd := range targets {
		l.Call("dup3", unix.SYS_DUP3, launcher.Int(spare+i), launcher.Int(fd), launcher.Int(0))
	}
	l.FailAt(failed)
	l.Call("close_range", unix.SYS_CLOSE_RANGE, launcher.Int(spare), launcher.Flag(uint32(1<<32-1), "~0"), launcher.Int(0)).Jump(ready)

	l.Mark(onTheWay)
	there := l.slots.status
	l.slots.status = spare + len(sources) - 1
	l.reportFailure()
	l.slots.status = there
	l.Mark(ready)
}

// bootImages are kept for the life of the process: there are few.
type bootImages struct {
	mu    sync.Mutex
	known map[boot]*os.File
	last  boot // that a plan wanted
}

// guess is the boot that the next plan will want.
func (k *bootImages) guess() boot {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.last == (boot{}) {
		return newBoot(os.Geteuid(), os.Getegid(), func(k plan.Kind) bool { return k != plan.NetworkLoopback }) // what a silent spec wants
	}
	return k.last
}

func (k *bootImages) wanted(b boot) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = b
}

func (k *bootImages) of(b boot) (*os.File, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f := k.known[b]; f != nil {
		return f, nil
	}
	l := newLowering(b)
	l.lowerBoot()
	f, err := l.Image().Seal()
	if err != nil {
		return nil, err
	}
	if k.known == nil {
		k.known = map[boot]*os.File{}
	}
	k.known[b] = f
	return f, nil
}

// booted is a launcher that was started and waits, or will wait, for a program.
type booted struct {
	boot
	started  int64 // CLOCK_MONOTONIC
	pid      int
	control  *os.File // closing it ends all
	status   int      // our end of the status socket
	handover int      // where the program goes; -1 afterwards
	table    []report.Descriptor

	mu        sync.Mutex
	late      *time.Timer // nil until it was let go
	abandoned bool        // the wait has ended
}

// start starts a launcher that no program is known for yet.
func (b *Backend) start(as boot) (*booted, error) {
	image, err := b.boots.of(as)
	if err != nil {
		return nil, err
	}
	l := &booted{boot: as, started: monotonic(), status: -1, handover: -1}
	files := make([]*os.File, bootHandover+1)
	defer func() {
		for _, f := range files {
			if f != nil {
				f.Close()
			}
		}
	}()
	if files[bootControl], l.control, err = os.Pipe(); err != nil {
		return nil, fmt.Errorf("control pipe: %w", err)
	}
	for _, s := range []struct {
		name string
		slot int
		ours *int // where our end goes; nil is a pair of the launcher's and init's
	}{{"network", bootNetRecv, nil}, {"status", bootStatus, &l.status}, {"handover", bootHandover, &l.handover}} {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			l.close()
			return nil, fmt.Errorf("%s socket: %w", s.name, err)
		}
		files[s.slot] = os.NewFile(uintptr(pair[1]), s.name)
		if s.ours != nil {
			*s.ours = pair[0]
		} else {
			files[bootNetSend] = os.NewFile(uintptr(pair[0]), s.name)
		}
	}
	// SO_PASSCRED makes the kernel name the sender of every message in our
	// own pid namespace (unix(7)); that is how the workload's pid is learnt.
	if err := unix.SetsockoptInt(l.status, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		l.close()
		return nil, fmt.Errorf("status socket: %w", err)
	}
	for _, own := range []struct {
		fd   int
		role string
	}{{bootNetRecv, "network"}, {bootControl, "control"}, {bootStatus, "status"}} {
		d, err := describeDescriptor(own.fd, own.role, files[own.fd])
		if err != nil {
			l.close()
			return nil, err
		}
		l.table = append(l.table, d)
	}
	l.pid, err = launcher.Start(image, launcherName(recovery.Self()), files, &syscall.SysProcAttr{Setsid: strings.Contains(as.kinds, string(plan.NewSession))})
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// hand gives init its program and the workload's descriptors. A launcher that
// has failed already has said so on the status socket.
func (l *booted) hand(files []*os.File) error {
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	if len(fds) > maxHanded {
		return fmt.Errorf("%d descriptors are to be handed over, expected at most %d: grant fewer", len(fds), maxHanded)
	}
	err := unix.Sendmsg(l.handover, []byte{1}, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
	unix.Close(l.handover)
	l.handover = -1
	if err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		return fmt.Errorf("hand over the program: %w", err)
	}
	return nil
}

// close lets go of a launcher. The process, if there is one, ends by itself.
func (l *booted) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.late != nil {
		l.late.Stop()
	}
	if l.control != nil {
		l.control.Close()
	}
	for _, fd := range []*int{&l.status, &l.handover} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

// ahead is a launcher that was started before the plan was known.
type ahead struct {
	ready    chan struct{}
	mu       sync.Mutex
	launcher *booted // nil when it was taken, or could not be started
}

// Ahead implements backend.Starter. It guesses that this launch wants what the
// last one did.
func (b *Backend) Ahead() backend.Ahead {
	a := &ahead{ready: make(chan struct{})}
	go func() {
		defer close(a.ready)
		// If this fails the launch starts one itself and says why it cannot.
		a.launcher, _ = b.start(b.boots.guess())
	}()
	return a
}

// take returns the launcher if it is what the plan needs.
func (a *ahead) take(as boot) *booted {
	<-a.ready
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.launcher
	if l == nil || l.boot != as {
		return nil
	}
	a.launcher = nil
	return l
}

// Close implements backend.Ahead.
func (a *ahead) Close() error {
	<-a.ready
	a.mu.Lock()
	l := a.launcher
	a.launcher = nil
	a.mu.Unlock()
	if l == nil {
		return nil
	}
	l.close()
	return launcher.Wait(l.pid)
}
