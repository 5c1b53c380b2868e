//go:build amd64 || arm64

package linux

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/landlock"
	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/internal/seccomp"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/secret"
	"github.com/bvisor/bvisor/spec"
)

// slots are where the descriptors of init and the workload stand, besides 0, 1
// and 2.
type slots struct {
	passed  []int // capabilities.fds, by number
	netRecv int   // init's: the network namespace comes here, and end of file when the launcher is gone
	control int   // read end: the barrier's byte, and end of file when the supervisor is gone
	status  int   // where every message goes
	leaf    int   // where the workload is born; 0 is beside its parent
}

// newSlots puts our own descriptors behind everything that the workload keeps,
// so that one close_range(2) tells them apart.
func newSlots(passed []int, leaf bool) slots {
	first := 3
	for _, fd := range passed {
		first = max(first, fd+1)
	}
	s := slots{passed: slices.Clone(passed), netRecv: first, control: first + 1, status: first + 2}
	if leaf {
		s.leaf = first + 3
	}
	return s
}

func slotsOf(p plan.Plan) slots {
	return newSlots(p.Resolved.Spec.Capabilities.FDs, uses(p, prefixLeaf))
}

// lowering is what the steps share while a plan becomes a program.
type lowering struct {
	*launcher.Program
	boot  boot
	plan  plan.Plan
	res   *resolution
	env   []secret.Value
	slots slots
	held  map[plan.Kind]*plan.Requirement

	closed []string // entries of /proc that are masked
	layers int      // overlays that were made

	ruleset, tree, exe launcher.Arg // descriptors of the launcher
	hostProc, self     launcher.Arg
	workload           launcher.Arg // its pid, as init sees it
	statx              launcher.Arg // buffer for statx(2)
	handed             launcher.Arg // struct cmsghdr with what init was handed
	tty                launcher.Arg // with a terminal: its path on the host
}

// newLowering begins a program with what its boot needs to know.
func newLowering(b boot) *lowering {
	l := &lowering{Program: &launcher.Program{}, boot: b, held: map[plan.Kind]*plan.Requirement{}}
	for _, k := range strings.Fields(b.kinds) {
		l.held[plan.Kind(k)] = &plan.Requirement{Kind: plan.Kind(k)}
	}
	return l
}

// lower makes the program of a plan. The order of the steps is the life of the
// three processes; each says why it stands where it stands.
func lower(p plan.Plan, res *resolution, env []secret.Value, s slots) (*launcher.Program, error) {
	l := newLowering(bootOf(p))
	l.lowerBoot()

	l.plan, l.res, l.env, l.slots = p, res, env, s
	clear(l.held)
	for i := range p.Requirements {
		l.held[p.Requirements[i].Kind] = &p.Requirements[i]
	}
	l.ruleset, l.tree, l.exe, l.workload = l.Var("ruleset"), l.Var("tree"), l.Var("executable"), l.Var("workload")
	l.hostProc = l.Var("host /proc")
	l.statx = l.Bytes(make([]byte, 256), "&stat")
	failed, workload := l.NewLabel(), l.NewLabel()

	l.Begin(launcher.RoleInit, "handover")
	l.tellProcessor()
	l.takeDescriptors(failed)
	l.Begin(launcher.RoleInit, "mounts")
	if err := l.mounts(); err != nil { // /proc can only be mounted from inside its pid namespace
		return nil, err
	}
	l.joinNetwork()
	l.launcherLives()
	l.Begin(launcher.RoleInit, "privileges")
	l.dropPrivileges() // before the workload exists: it never had a capability but for groupRoot
	l.dumpable(0)      // before, too: what fails from here on, fails beside the workload
	l.forkWorkload(workload)
	l.leaveLeaf()
	if l.has(plan.LandlockDomain) {
		l.Call("close", unix.SYS_CLOSE, l.ruleset)
	}
	l.forgetLeases()
	l.closeEach(append([]int{0, 1, 2, l.slots.netRecv}, l.slots.passed...)) // after the fork: the workload needs them
	l.reap()

	l.Mark(workload)
	l.Begin(launcher.RoleWorkload, "limits")
	l.dumpable(1) // again: the supervisor reads its posture
	l.dieWithParent()
	l.Call("close", unix.SYS_CLOSE, launcher.Flag(l.slots.netRecv, "from launcher"))
	l.enterLeaf()
	l.newSession()
	l.newTerminal()
	l.limits()
	l.chdir()
	l.Begin(launcher.RoleWorkload, "descriptors")
	l.openExecutable()                   // before the domain and while opening still needs no right
	if err := l.observer(); err != nil { // before the filter, which lets nobody have a listener
		return nil, err
	}
	l.closeOnExec() // after the last open
	l.message(launcher.MessageSettled)
	l.Begin(launcher.RoleWorkload, "landlock")
	l.domain() // after the mounts, which a domain forbids
	l.Begin(launcher.RoleWorkload, "seccomp")
	if err := l.filter(); err != nil { // last, so that few calls run under it
		return nil, err
	}
	l.Begin(launcher.RoleWorkload, "exec")
	l.barrier()
	l.exec()

	l.Mark(failed)
	l.Begin(launcher.RoleWorkload, "failure")
	l.reportFailure()
	return l.Program, nil
}

// reportFailure is where a step goes on that failed.
func (l *lowering) reportFailure() {
	l.message(launcher.MessageFailed).Ignore()
	l.exit(126)
}

// has says whether the plan holds a requirement: a waived one is left out.
func (l *lowering) has(k plan.Kind) bool { return l.held[k] != nil }

// param returns a number from the parameters of a requirement's mechanisms.
func (l *lowering) param(k plan.Kind, name string) (int, bool) {
	if r := l.held[k]; r != nil {
		for _, m := range r.Mechanisms {
			for _, p := range m.Params {
				if p.Name == name {
					n, err := strconv.Atoi(p.Value)
					return n, err == nil
				}
			}
		}
	}
	return 0, false
}

// done stores the time at which a phase ended.
func (l *lowering) done(phase string) {
	i := slices.Index(launcher.Phases, phase)
	l.Call("clock_gettime", unix.SYS_CLOCK_GETTIME, launcher.Flag(unix.CLOCK_MONOTONIC, "CLOCK_MONOTONIC"),
		launcher.Record(launcher.OffPhase(i), "&done."+phase))
}

// message sends the record as it is, under a kind.
func (l *lowering) message(kind int) launcher.Op {
	k := l.Words(strconv.Itoa(kind), launcher.Int(kind))
	iov := l.Words(fmt.Sprintf("{%d, record}", kind), k, launcher.Int(8), launcher.Record(0, "record"), launcher.Int(launcher.RecordWords*8))
	return l.Call("writev", unix.SYS_WRITEV, launcher.Flag(l.slots.status, "status"), iov, launcher.Int(2))
}

func (l *lowering) exit(code int) {
	l.Call("exit_group", unix.SYS_EXIT_GROUP, launcher.Int(code))
}

func (l *lowering) closeUndeclared() {
	l.Call("close_range", unix.SYS_CLOSE_RANGE, launcher.Int(bootHandover+1), launcher.Flag(uint32(1<<32-1), "~0"), launcher.Int(0))
}

// resetSignals undoes what execve(2) keeps: ignored and blocked signals, and
// the file mode creation mask.
func (l *lowering) resetSignals() {
	if l.has(plan.DefaultSignals) {
		zero := l.Bytes(make([]byte, 32), "SIG_DFL")
		for sig := 1; sig <= 64; sig++ {
			if s := unix.Signal(sig); s != unix.SIGKILL && s != unix.SIGSTOP {
				l.Call("rt_sigaction", unix.SYS_RT_SIGACTION, launcher.Int(sig), zero, launcher.Int(0), launcher.Int(8))
			}
		}
		l.Call("rt_sigprocmask", unix.SYS_RT_SIGPROCMASK, launcher.Flag(unix.SIG_SETMASK, "SIG_SETMASK"), zero, launcher.Int(0), launcher.Int(8))
	}
	if l.has(plan.FixedUmask) {
		l.Call("umask", unix.SYS_UMASK, launcher.Flag(0o022, "022"))
	}
}

// namespaceFlags in the order in which they are printed.
var namespaceFlags = []struct {
	kind plan.Kind
	flag int
	name string
}{
	{plan.UserNamespace, unix.CLONE_NEWUSER, "CLONE_NEWUSER"},
	{plan.MountNamespace, unix.CLONE_NEWNS, "CLONE_NEWNS"},
	{plan.PIDNamespace, unix.CLONE_NEWPID, "CLONE_NEWPID"},
	{plan.IPCNamespace, unix.CLONE_NEWIPC, "CLONE_NEWIPC"},
	{plan.UTSNamespace, unix.CLONE_NEWUTS, "CLONE_NEWUTS"},
	{plan.CgroupNamespace, unix.CLONE_NEWCGROUP, "CLONE_NEWCGROUP"},
	{plan.NetworkNamespace, unix.CLONE_NEWNET, "CLONE_NEWNET"},
}

// namespaces makes all of them but two in one call: the user namespace comes
// first and owns the others (user_namespaces(7)). The network's takes longest,
// see network; the cgroup's shows whoever makes it as its root, see groupRoot.
func (l *lowering) namespaces() {
	flags, text := 0, ""
	for _, n := range namespaceFlags {
		if l.has(n.kind) && n.kind != plan.NetworkNamespace && n.kind != plan.CgroupNamespace {
			flags |= n.flag
			if text != "" {
				text += "|"
			}
			text += n.name
		}
	}
	if flags == 0 && !l.has(plan.NetworkNamespace) {
		return
	}
	l.Call("unshare", unix.SYS_UNSHARE, launcher.Flag(flags, text))
	if l.has(plan.NetworkNamespace) {
		// Opened now: init is about to hide the host's /proc from both.
		l.openat("/proc/self", unix.O_PATH|unix.O_CLOEXEC, "O_PATH|O_CLOEXEC").To(launcher.Addr(l.self))
	}
	if l.has(plan.MountNamespace) && !l.has(plan.UserNamespace) {
		// A new user namespace cuts propagation to the host by itself
		// (mount_namespaces(7)); without one the mounts below would show there.
		l.Call("mount", unix.SYS_MOUNT, l.Str("none"), l.Str("/"), launcher.Int(0), launcher.Flag(unix.MS_REC|unix.MS_PRIVATE, "MS_REC|MS_PRIVATE"), launcher.Int(0))
	}
	l.done("namespaces")
}

// rightsMessage is a struct msghdr with one byte of data and room for one descriptor.
func (l *lowering) rightsMessage(cmsg launcher.Arg) launcher.Arg {
	iov := l.Words("{byte, 1}", l.Bytes(make([]byte, 8), "byte"), launcher.Int(1))
	zero := launcher.Int(0)
	return l.Words("{"+cmsg.Name()+"}", zero, zero, iov, launcher.Int(1), cmsg, launcher.Int(24), zero)
}

// oneDescriptor is a struct cmsghdr (length, level, type) and, 16 bytes in, room
// for the descriptor to be sent.
func (l *lowering) oneDescriptor(show string) launcher.Arg {
	header := binary.LittleEndian.AppendUint64(nil, 20)
	header = binary.LittleEndian.AppendUint32(header, unix.SOL_SOCKET)
	header = binary.LittleEndian.AppendUint32(header, unix.SCM_RIGHTS)
	return l.Bytes(append(header, make([]byte, 8)...), show)
}

// network makes the empty network namespace, the dearest of all, in the
// launcher, which has nothing else to do, and hands it to init.
func (l *lowering) network() {
	if !l.has(plan.NetworkNamespace) {
		return
	}
	cmsg := l.oneDescriptor("SCM_RIGHTS network namespace")
	l.Call("unshare", unix.SYS_UNSHARE, launcher.Flag(unix.CLONE_NEWNET, "CLONE_NEWNET"))
	l.raiseLoopback()
	l.Call("openat", unix.SYS_OPENAT, l.self, l.Str("ns/net"), launcher.Flag(unix.O_RDONLY|unix.O_CLOEXEC, "O_RDONLY|O_CLOEXEC"), launcher.Int(0)).
		To(launcher.At(cmsg, 16, "network namespace"))
	l.Call("sendmsg", unix.SYS_SENDMSG, launcher.Flag(bootNetSend, "to init"), l.rightsMessage(cmsg), launcher.Flag(unix.MSG_NOSIGNAL, "MSG_NOSIGNAL"))
	l.Call("close", unix.SYS_CLOSE, launcher.Load(cmsg, 16, "network namespace"))
	l.Call("close", unix.SYS_CLOSE, l.self)
}

// joinNetwork waits for the launcher's network namespace and enters it.
func (l *lowering) joinNetwork() {
	if !l.has(plan.NetworkNamespace) {
		return
	}
	cmsg, joined := l.Bytes(make([]byte, 24), "one descriptor"), l.NewLabel()
	l.Call("recvmsg", unix.SYS_RECVMSG, launcher.Flag(l.slots.netRecv, "from launcher"), l.rightsMessage(cmsg), launcher.Flag(unix.MSG_CMSG_CLOEXEC, "MSG_CMSG_CLOEXEC")).
		If(launcher.Int(1), joined)
	l.exit(124) // end of file: the launcher failed and said so itself
	l.Mark(joined)
	namespace := launcher.Load(cmsg, 16, "network namespace")
	l.Call("setns", unix.SYS_SETNS, namespace, launcher.Flag(unix.CLONE_NEWNET, "CLONE_NEWNET"))
	l.Call("close", unix.SYS_CLOSE, namespace)
}

// identity maps the caller's own ids to themselves and nothing else: files
// keep their owner, and git's index stays valid. A gid map without privilege
// needs setgroups to be denied first (user_namespaces(7)).
func (l *lowering) identity() {
	if !l.has(plan.UserNamespace) && !l.has(plan.UTSNamespace) {
		return
	}
	if l.has(plan.UserNamespace) {
		uid, gid := l.boot.uid, l.boot.gid
		file := l.Var("file")
		for _, m := range []struct{ name, text string }{
			{"setgroups", "deny"},
			{"uid_map", fmt.Sprintf("%d %d 1", uid, uid)},
			{"gid_map", fmt.Sprintf("%d %d 1", gid, gid)},
		} {
			l.openat("/proc/self/"+m.name, unix.O_WRONLY|unix.O_CLOEXEC, "O_WRONLY|O_CLOEXEC").To(launcher.Addr(file))
			l.Call("write", unix.SYS_WRITE, file, l.Str(m.text), launcher.Int(len(m.text)))
			l.Call("close", unix.SYS_CLOSE, file)
		}
	}
	if l.has(plan.UTSNamespace) {
		l.Call("sethostname", unix.SYS_SETHOSTNAME, l.Str("bvisor"), launcher.Int(len("bvisor")))
	}
	l.done("identity")
}

func (l *lowering) openat(name string, flags int, text string) launcher.Op {
	return l.Call("openat", unix.SYS_OPENAT, launcher.Flag(unix.AT_FDCWD, "AT_FDCWD"), l.Str(name), launcher.Flag(flags, text), launcher.Int(0))
}

// identify checks that fd is the file that was resolved. The supervisor's own
// descriptor keeps the inode's number from being used again.
func (l *lowering) identify(fd launcher.Arg, st *unix.Stat_t) {
	l.Call("statx", unix.SYS_STATX, fd, l.Str(""), launcher.Flag(unix.AT_EMPTY_PATH, "AT_EMPTY_PATH"),
		launcher.Flag(unix.STATX_INO|unix.STATX_TYPE, "STATX_INO|STATX_TYPE"), l.statx)
	dev := uint64(st.Dev)
	l.Check(launcher.At(l.statx, 0x20, "stat.ino"), ^uint64(0), st.Ino, "")
	l.Check(launcher.At(l.statx, 0x88, "stat.dev"), ^uint64(0), uint64(unix.Major(dev))|uint64(unix.Minor(dev))<<32, "")
}

// forkInit makes process 1 of the new pid namespace; its descriptor lands in
// the poll set that watch waits on.
func (l *lowering) forkInit(child launcher.Label) (set, pid launcher.Arg) {
	fds := make([]byte, 24) // three struct pollfd; of the control pipe only its end matters
	binary.LittleEndian.PutUint32(fds, uint32(l.slots.control))
	binary.LittleEndian.PutUint16(fds[12:], unix.POLLIN)
	binary.LittleEndian.PutUint32(fds[16:], bootNetSend)
	binary.LittleEndian.PutUint16(fds[20:], unix.POLLIN)
	set, pid = l.Bytes(fds, "{control, init, from init}"), l.Var("init")
	l.Call("clone", unix.SYS_CLONE, launcher.Flag(unix.CLONE_PIDFD|int(unix.SIGCHLD), "CLONE_PIDFD|SIGCHLD"), launcher.Int(0),
		launcher.At(set, 8, "&init.pidfd"), launcher.Int(0), launcher.Int(0)).To(launcher.Addr(pid)).If(launcher.Int(0), child)
	return set, pid
}

// watch is the rest of the launcher's life: when the supervisor lets go of the
// control pipe, or dies, or init ends, init is killed and reaped. Reaping init
// returns when the kernel has reaped everything in its pid namespace
// (zap_pid_ns_processes), so the message says that nobody is left.
func (l *lowering) watch(set, pid launcher.Arg) {
	kill := l.NewLabel()
	l.detachHost(set, kill)
	l.Begin(launcher.RoleLauncher, "watch")
	l.await(set, 2)
	l.Mark(kill)
	l.Call("kill", unix.SYS_KILL, pid, launcher.Flag(int(unix.SIGKILL), "SIGKILL")) // of an unreaped child never ESRCH
	l.Call("wait4", unix.SYS_WAIT4, pid, launcher.Record(launcher.OffInitStatus, "&init.status"), launcher.Flag(unix.WALL, "__WALL"),
		launcher.Int(0)).To(launcher.Record(launcher.OffInitWait, "init.reaped")).Ignore()
	l.message(launcher.MessageInit)
	l.exit(0)
}

// await waits for one of the first n of the set. Nothing interrupts ppoll(2)
// here but for good: there is no handler, and after a stop the kernel restarts
// it (signal(7)). Should it fail all the same, or kill(2), the launcher ends, and
// with it init by the parent-death signal.
func (l *lowering) await(set launcher.Arg, n int) {
	l.Call("ppoll", unix.SYS_PPOLL, set, launcher.Int(n), launcher.Int(0), launcher.Int(0), launcher.Int(0))
}

// detachHost takes the host's mounts out of the boundary's namespace once init
// has put its own root in their place, makes itself bare, and says so: the
// barrier stays shut until then. It takes a quarter as long as all other mounts,
// since the kernel waits for every processor (synchronize_rcu_expedited in
// fs/namespace.c), and init need not wait for it. "/" is the new root; what is
// mounted over it is the old.
func (l *lowering) detachHost(set launcher.Arg, kill launcher.Label) {
	l.closeEach([]int{bootNetRecv, bootHandover})
	l.dumpable(0)
	if l.has(plan.MountNamespace) {
		l.Begin(launcher.RoleLauncher, "mounts")
		l.awaitRoot(set, kill)
		l.Call("umount2", unix.SYS_UMOUNT2, l.Str("/"), launcher.Flag(unix.MNT_DETACH, "MNT_DETACH"))
	}
	l.noCapabilities()
	l.message(launcher.MessageDetached)
}

// awaitRoot waits for that word of init. Without it the control pipe was closed,
// or init has ended: EAGAIN, or end of file.
func (l *lowering) awaitRoot(set launcher.Arg, kill launcher.Label) {
	again, said, root := l.NewLabel(), l.NewLabel(), l.NewLabel()
	l.Mark(again)
	l.await(set, 3)
	word := l.hear(said)
	l.Call("getpid", unix.SYS_GETPID).OnError(kill).Jump(kill)
	l.Mark(said)
	l.Copy(word).If(launcher.Int(int(binary.LittleEndian.Uint32([]byte(rootWord)))), root)
	l.Call("getpid", unix.SYS_GETPID).OnError(again).Jump(again) // it was the other one
	l.Mark(root)
}

// dieWithParent ends the process when its parent thread does. Of the launcher
// and init there is only one thread.
func (l *lowering) dieWithParent() {
	if l.has(plan.DeathSignal) {
		l.Call("prctl", unix.SYS_PRCTL, launcher.Flag(unix.PR_SET_PDEATHSIG, "PR_SET_PDEATHSIG"), launcher.Flag(int(unix.SIGKILL), "SIGKILL"))
	}
}

// launcherLives ends init if the launcher died before init asked to die with
// it: the launcher keeps its end of the network socket open for life, so end of
// file is its death. By then the one message has been taken.
func (l *lowering) launcherLives() {
	lives, zero := l.NewLabel(), launcher.Int(0)
	l.Call("recvfrom", unix.SYS_RECVFROM, launcher.Flag(l.slots.netRecv, "from launcher"), l.Bytes(make([]byte, 8), "byte"), launcher.Int(1),
		launcher.Flag(unix.MSG_DONTWAIT, "MSG_DONTWAIT"), zero, zero).OnError(lives) // EAGAIN
	l.exit(123)
	l.Mark(lives)
}

var (
	capHeader = binary.LittleEndian.AppendUint64(nil, unix.LINUX_CAPABILITY_VERSION_3)
	noCaps    = make([]byte, 24)
)

// closeEach lets go of descriptors that are for others.
func (l *lowering) closeEach(fds []int) {
	for _, fd := range fds {
		l.Call("close", unix.SYS_CLOSE, launcher.Int(fd))
	}
}

// dumpable opens the process's memory to others, or closes it.
func (l *lowering) dumpable(v int) {
	if l.has(plan.NotDumpable) {
		l.Call("prctl", unix.SYS_PRCTL, launcher.Flag(unix.PR_SET_DUMPABLE, "PR_SET_DUMPABLE"), launcher.Int(v))
	}
}

// noCapabilities empties the sets that can be emptied in one call.
func (l *lowering) noCapabilities() {
	if l.has(plan.NoCapabilities) {
		l.Call("capset", unix.SYS_CAPSET, l.Bytes(capHeader, "v3"), l.Bytes(noCaps, "none"))
	}
}

// dropPrivileges is for init, and by inheritance for the workload. The bounding
// set matters where the workload is the superuser: execve(2) fills the
// permitted set from it.
func (l *lowering) dropPrivileges() {
	if last, ok := l.param(plan.NoCapabilities, "last"); ok {
		for c := 0; c <= last; c++ {
			l.Call("prctl", unix.SYS_PRCTL, launcher.Flag(unix.PR_CAPBSET_DROP, "PR_CAPBSET_DROP"), launcher.Int(c))
		}
	}
	l.groupRoot()
	if l.has(plan.NoNewPrivileges) {
		l.Call("prctl", unix.SYS_PRCTL, launcher.Flag(unix.PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS"), launcher.Int(1), launcher.Int(0), launcher.Int(0), launcher.Int(0))
	}
	l.done("privileges")
}

// forkWorkload uses a clone whose exit signal is not SIGCHLD: wait4(2) tells
// such a child from others by __WCLONE, and execve(2) turns it into an ordinary
// one. So the kernel itself says, at the end, whether the exec happened.
func (l *lowering) forkWorkload(child launcher.Label) {
	var fork launcher.Op
	if l.slots.leaf != 0 {
		fork = l.intoLeaf()
	} else {
		fork = l.Call("clone", unix.SYS_CLONE, launcher.Flag(0, "0 (no exit signal)"), launcher.Int(0), launcher.Int(0), launcher.Int(0), launcher.Int(0))
	}
	fork.To(launcher.Addr(l.workload)).If(launcher.Int(0), child)
}

// reap is the life of init: wait for the workload, reaping what is left to it
// on the way, then end and reap everything, and say so.
func (l *lowering) reap() {
	l.Begin(launcher.RoleInit, "reap")
	all := launcher.Int(-1)
	status := launcher.Record(launcher.OffStatus, "&status")
	usage := launcher.Record(launcher.OffUsage, "&usage")
	executed, ended := l.NewLabel(), l.NewLabel()
	l.Mark(executed)
	l.Call("wait4", unix.SYS_WAIT4, all, status, launcher.Int(0), usage).
		To(launcher.Record(launcher.OffExecWait, "executed")).Ignore().If(l.workload, ended)
	// ECHILD above: the workload has not executed yet. ECHILD here: it has.
	l.Call("wait4", unix.SYS_WAIT4, all, status, launcher.Flag(unix.WCLONE, "__WCLONE"), usage).
		To(launcher.Record(launcher.OffNoExecWait, "never executed")).OnError(executed)
	l.Mark(ended)
	l.Call("clock_gettime", unix.SYS_CLOCK_GETTIME, launcher.Flag(unix.CLOCK_MONOTONIC, "CLOCK_MONOTONIC"), launcher.Record(launcher.OffEnded, "&ended"))
	if l.has(plan.PIDNamespace) {
		// Everything in this namespace but init itself. kill(2) holds the
		// task list, so nothing can be forked past it.
		l.Call("kill", unix.SYS_KILL, all, launcher.Flag(int(unix.SIGKILL), "SIGKILL")).Ignore()
	}
	more := l.NewLabel()
	l.Mark(more)
	l.Call("wait4", unix.SYS_WAIT4, all, launcher.Int(0), launcher.Flag(unix.WALL, "__WALL"), launcher.Int(0)).
		To(launcher.Record(launcher.OffLastWait, "left")).Ignore().Jump(more)
	l.Call("getrusage", unix.SYS_GETRUSAGE, launcher.Flag(unix.RUSAGE_CHILDREN, "RUSAGE_CHILDREN"), launcher.Record(launcher.OffTreeUsage, "&tree.usage"))
	l.message(launcher.MessageEnded)
	l.exit(0)
}

func (l *lowering) newSession() {
	if l.has(plan.NewSession) {
		// Also a process group of its own: kill(0, sig) must not reach the launcher.
		l.Call("setsid", unix.SYS_SETSID)
	}
}

// limits sets what setrlimit(2) holds per process.
func (l *lowering) limits() {
	set := func(resource int, name string, limit int64) {
		v := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(limit)), uint64(limit))
		l.Call("prlimit64", unix.SYS_PRLIMIT64, launcher.Int(0), launcher.Flag(resource, name), l.Bytes(v, fmt.Sprintf("{%d, %d}", limit, limit)), launcher.Int(0))
	}
	if l.has(plan.NoCoreDumps) {
		// One byte: smaller than any dump (binfmt's min_coredump), and the
		// one value at which a piped core_pattern is not run either
		// (do_coredump in fs/coredump.c).
		set(unix.RLIMIT_CORE, "RLIMIT_CORE", coreLimit)
	}
	for _, b := range l.plan.Budgets {
		if limit, ok := rlimitOf(b); ok {
			set(limit.resource, limit.text, limit.value)
		}
	}
	l.done("limits")
}

const coreLimit = 1

// openExecutable opens the program inside the boundary, where /proc/self/exe
// will name it, and checks that it is the one that was hashed.
func (l *lowering) openExecutable() {
	how := binary.LittleEndian.AppendUint64(nil, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW)
	how = binary.LittleEndian.AppendUint64(how, 0)
	how = binary.LittleEndian.AppendUint64(how, unix.RESOLVE_NO_SYMLINKS)
	l.Call("openat2", unix.SYS_OPENAT2, launcher.Flag(unix.AT_FDCWD, "AT_FDCWD"), l.Str(l.plan.Resolved.Executable.Path),
		l.Bytes(how, "{O_PATH|O_CLOEXEC|O_NOFOLLOW, RESOLVE_NO_SYMLINKS}"), launcher.Int(len(how))).To(launcher.Addr(l.exe))
	if held := heldRoot(l.plan.Resolved.Roots, l.plan.Resolved.Executable.Path); held != nil {
		l.identifyNumber(l.exe, &l.res.exe.stat)
		return
	}
	l.identify(l.exe, &l.res.exe.stat)
}

// closeOnExec marks everything but the standard streams and what was passed.
func (l *lowering) closeOnExec() {
	from := 3
	for _, fd := range append(slices.Clone(l.slots.passed), 1<<31) {
		if fd > from {
			to := uint32(fd - 1)
			text := strconv.Itoa(fd - 1)
			if fd == 1<<31 {
				to, text = 1<<32-1, "~0"
			}
			l.Call("close_range", unix.SYS_CLOSE_RANGE, launcher.Int(from), launcher.Flag(to, text),
				launcher.Flag(unix.CLOSE_RANGE_CLOEXEC, "CLOSE_RANGE_CLOEXEC"))
		}
		from = fd + 1
	}
	l.done("descriptors")
}

// chdir goes to the working directory. Who has a root of its own stands in it
// already; without one it would be the caller's directory.
func (l *lowering) chdir() {
	if dir := l.plan.Resolved.Spec.Workload.Dir; dir != "/" || !l.has(plan.MountNamespace) {
		l.Call("chdir", unix.SYS_CHDIR, l.Str(dir))
	}
}

func (l *lowering) domain() {
	if !l.has(plan.LandlockDomain) {
		return
	}
	l.Call("landlock_restrict_self", unix.SYS_LANDLOCK_RESTRICT_SELF, l.ruleset, launcher.Int(0))
	l.done("landlock")
}

func (l *lowering) filter() error {
	if !l.has(plan.CallFilter) {
		return nil
	}
	f, err := seccomp.CompileCached(filterOptions(l.plan))
	if err != nil {
		return fmt.Errorf("bug: the plan's filter does not compile: %w", err)
	}
	code := l.Bytes(f.Bytes(), fmt.Sprintf("filter of %d instructions", len(f)))
	l.Call("seccomp", unix.SYS_SECCOMP, launcher.Flag(unix.SECCOMP_SET_MODE_FILTER, "SECCOMP_SET_MODE_FILTER"), launcher.Int(0),
		l.Words(fmt.Sprintf("{%d, filter}", len(f)), launcher.Int(len(f)), code))
	l.done("seccomp")
	return nil
}

// filterOptions is what the plan says about calls.
func filterOptions(p plan.Plan) seccomp.Options {
	s := p.Resolved.Spec
	o := seccomp.Options{Arch: runtime.GOARCH, SocketFamilies: []uint16{seccomp.AFUnix}, ExecFiles: execAnywhere(p)}
	switch s.Capabilities.Spawn {
	case spec.SpawnThreads:
		o.Spawn = seccomp.SpawnThreads
	case spec.SpawnProcesses:
		o.Spawn = seccomp.SpawnProcesses
	}
	if holds(p, plan.NetworkLoopback) {
		o.SocketFamilies = loopbackFamilies
	}
	if slices.Contains(p.Accepted, "host-network") {
		o.SocketFamilies = []uint16{seccomp.AFUnix, seccomp.AFInet, seccomp.AFInet6, seccomp.AFNetlink}
	}
	return o
}

// execAnywhere says whether the workload may execute what it wrote itself. If
// it may, an executable memfd gives it nothing more.
func execAnywhere(p plan.Plan) bool {
	for _, t := range p.Resolved.Spec.Controls.Temp {
		if t.Access.Exec() {
			return true
		}
	}
	for _, r := range p.Resolved.Roots {
		if r.Access.Write() && r.Access.Exec() {
			return true
		}
	}
	return false
}

// barrier says that everything is in place and waits for one byte. End of file
// means that the supervisor is gone or does not want the run.
func (l *lowering) barrier() {
	l.message(launcher.MessageReady)
	open := l.NewLabel()
	l.Call("read", unix.SYS_READ, launcher.Flag(l.slots.control, "control"), l.Bytes(make([]byte, 8), "&byte"), launcher.Int(1)).
		If(launcher.Int(1), open)
	l.exit(125)
	l.Mark(open)
}

// exec becomes the program, by descriptor. A script goes by path: the kernel
// hands its interpreter a path, and /dev/fd/N would need the descriptor to
// stay open in it.
func (l *lowering) exec() {
	s := l.plan.Resolved.Spec
	argv := make([]launcher.Arg, 0, len(s.Workload.Command)+1)
	for _, a := range s.Workload.Command {
		argv = append(argv, l.Str(a))
	}
	args, env := l.Words("argv", append(argv, launcher.Int(0))...), l.environment()
	if e := l.plan.Resolved.Executable; e.Script {
		l.Call("execve", unix.SYS_EXECVE, l.Str(e.Path), args, env)
	} else {
		l.Call("execveat", unix.SYS_EXECVEAT, l.exe, l.Str(""), args, env, launcher.Flag(unix.AT_EMPTY_PATH, "AT_EMPTY_PATH"))
	}
}

// rights are what Landlock lets through at a root.
func rights(r spec.Root, abi int) landlock.Rights {
	a := landlock.For(r.Access.Read(), r.Access.Write(), r.Access.Exec())
	if r.NonRecursive {
		a &^= landlock.MakeDir | landlock.Refer
	}
	if r.Kind == spec.KindDevice && r.Access.Write() {
		a |= landlock.IoctlDev
	}
	if r.Kind != spec.KindDirectory {
		a = a.OnFile()
	}
	return a & landlock.Handled(abi)
}
