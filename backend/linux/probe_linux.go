//go:build amd64 || arm64

package linux

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/landlock"
	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/internal/seccomp"
	"github.com/bvisor/bvisor/internal/sys"
	"github.com/bvisor/bvisor/plan"
)

// trial is one call whose result becomes a fact.
type trial struct {
	fact   string
	call   string
	result int64 // of the call; notTried where an earlier one failed
	exact  bool  // only want means "available"; otherwise anything but an error
	want   int64
}

const notTried = 1 << 40

// tryFunc has the result of a call become a fact, whatever it is.
type tryFunc = func(fact, text string, o launcher.Op) launcher.Op

// probe exercises every mechanism in a throwaway child, started and walked
// like any launch. What it finds, errno included, is the profile.
func (b *Backend) probe(ctx context.Context) (plan.Profile, error) {
	if err := ctx.Err(); err != nil {
		return plan.Profile{}, err
	}
	h := host{uid: os.Geteuid()}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return plan.Profile{}, fmt.Errorf("uname: %w", err)
	}
	abi, err := sys.LandlockABI()
	h.read("landlock.abi", strconv.Itoa(abi), "exercised: landlock_create_ruleset(LANDLOCK_CREATE_RULESET_VERSION)", err)
	if errata, err := sys.LandlockErrata(); err == nil {
		h.read("landlock.errata", fmt.Sprintf("%#x", errata), "exercised: landlock_create_ruleset(LANDLOCK_CREATE_RULESET_ERRATA)", nil)
	}
	lastCap, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	h.read("capabilities.last", strings.TrimSpace(string(lastCap)), "read: /proc/sys/kernel/cap_last_cap", err)
	h.supervisor()
	birth, done := b.cgroups(&h)
	defer done()
	if birth != nil {
		defer birth.Close()
	}
	master, slave, err := trialTerminal()
	h.read("terminal.pty", "available", "exercised: ioctl(/dev/ptmx, TIOCGPTPEER), fstat(/dev/tty)", err)
	if err == nil {
		defer master.Close()
		defer slave.Close()
	}
	trials, err := exercise(abi, slave, birth)
	h.read("launcher", "available", "exercised: execve of a sealed memfd", err)
	for _, t := range trials {
		h.add(t.factValue())
	}
	slices.SortFunc(h.facts, func(a, b plan.Fact) int { return strings.Compare(a.Name, b.Name) })
	p := plan.Profile{
		Version: plan.ProfileVersion,
		Backend: "linux",
		Host:    plan.Host{OS: "linux", Arch: runtime.GOARCH, Kernel: unix.ByteSliceToString(uts.Release[:]), UID: h.uid},
		Facts:   h.facts, Offers: h.offers(), Evidence: h.evidence(),
	}
	return p.Seal()
}

func (t trial) factValue() plan.Fact {
	f := plan.Fact{Name: t.fact, Value: "available", Learned: "exercised: " + t.call}
	switch {
	case t.result == notTried:
		f.Value, f.Learned, f.Detail = "unknown", "not exercised: an earlier step failed", ""
	case t.exact && t.want < 0 && t.result >= 0:
		f.Value, f.Detail = "unavailable", "it succeeds, expected "+result(t.want)
	case t.exact && t.result != t.want:
		f.Value, f.Detail = "unavailable", fmt.Sprintf("the result is %s, expected %s", result(t.result), result(t.want))
	case !t.exact && t.result < 0:
		f.Value, f.Detail = "unavailable", errno(int(-t.result))
	}
	return f
}

func result(n int64) string {
	if n < 0 {
		return errno(int(-n))
	}
	return strconv.FormatInt(n, 10)
}

// exercise walks one program that tries everything in the order in which a
// launch uses it.
func exercise(abi int, terminal, birth *os.File) ([]trial, error) {
	p := &launcher.Program{}
	var trials []trial
	const room = 64
	words := make([]byte, 0, room*8)
	for range room {
		words = binary.LittleEndian.AppendUint64(words, notTried)
	}
	results := p.Bytes(words, "results")
	try := func(fact, text string, o launcher.Op) launcher.Op {
		trials = append(trials, trial{fact: fact, call: text})
		return o.To(launcher.At(results, (len(trials)-1)*8, fact)).Ignore()
	}
	last := func() launcher.Arg { return launcher.Load(results, (len(trials)-1)*8, trials[len(trials)-1].fact) }
	expect := func(want int64) { t := &trials[len(trials)-1]; t.exact, t.want = true, want }
	at := launcher.Flag(unix.AT_FDCWD, "AT_FDCWD")
	file, ruleset := p.Var("file"), p.Var("ruleset")
	mounted, done, child := p.NewLabel(), p.NewLabel(), p.NewLabel()
	p.OnFailure(done)
	p.Begin(launcher.RoleLauncher, "probe")
	const status, tty, leaf = 4, 5, 6
	p.Call("close_range", unix.SYS_CLOSE_RANGE, launcher.Int(leaf+1), launcher.Flag(uint32(1<<32-1), "~0"), launcher.Int(0))
	try("terminal.controlling", "ioctl(TIOCSCTTY)", p.Call("ioctl", unix.SYS_IOCTL, launcher.Int(tty), launcher.Flag(unix.TIOCSCTTY, "TIOCSCTTY"), launcher.Int(0)))
	unshare := func(fact string, flag int, name string) launcher.Op {
		return try(fact, "unshare("+name+")", p.Call("unshare", unix.SYS_UNSHARE, launcher.Flag(flag, name)))
	}
	unshare("namespace.user", unix.CLONE_NEWUSER, "CLONE_NEWUSER")
	for _, m := range []struct{ name, text string }{{"setgroups", "deny"}, {"uid_map", fmt.Sprintf("%d %d 1", os.Geteuid(), os.Geteuid())}, {"gid_map", fmt.Sprintf("%d %d 1", os.Getegid(), os.Getegid())}} {
		next := p.NewLabel()
		fact := "namespace.user." + m.name
		try(fact, "write to /proc/self/"+m.name, p.Call("openat", unix.SYS_OPENAT, at, p.Str("/proc/self/"+m.name), launcher.Flag(unix.O_WRONLY|unix.O_CLOEXEC, "O_WRONLY"), launcher.Int(0))).OnError(next)
		p.Copy(last()).To(launcher.Addr(file))
		p.Call("write", unix.SYS_WRITE, file, p.Str(m.text), launcher.Int(len(m.text))).To(launcher.At(results, (len(trials)-1)*8, fact)).Ignore()
		p.Mark(next)
	}
	tryProcessLimit(p, try, expect)
	if birth != nil {
		tryBirth(p, leaf, try)
	}
	for _, n := range namespaceFlags {
		if n.kind == plan.UserNamespace || n.kind == plan.MountNamespace {
			continue
		}
		made := unshare("namespace."+namespaceOf[n.kind], n.flag, n.name)
		if n.kind == plan.NetworkNamespace {
			none := p.NewLabel()
			made.OnError(none) // or the host's own interface would be touched
			tryLoopback(p, try, expect)
			p.Mark(none)
		}
	}
	// The rest is tried by process 1 of the new pid namespace: /proc can only
	// be mounted from inside it.
	p.Call("clone", unix.SYS_CLONE, launcher.Flag(int(unix.SIGCHLD), "SIGCHLD"), launcher.Int(0), launcher.Int(0), launcher.Int(0), launcher.Int(0)).If(launcher.Int(0), child)
	p.Call("wait4", unix.SYS_WAIT4, launcher.Int(-1), launcher.Int(0), launcher.Flag(unix.WALL, "__WALL"), launcher.Int(0)).Ignore()
	p.Call("exit_group", unix.SYS_EXIT_GROUP, launcher.Int(0))
	p.Mark(child)
	p.Begin(launcher.RoleInit, "probe")
	try("namespace.pid.init", "getpid() in the first child", p.Call("getpid", unix.SYS_GETPID))
	expect(1)
	// Without a mount namespace of its own the child mounts nothing.
	unshare("namespace.mnt", unix.CLONE_NEWNS, "CLONE_NEWNS").OnError(mounted)
	tryTerminalName(p, try, tty)
	try("mount.private", "mount(MS_REC|MS_PRIVATE)", p.Call("mount", unix.SYS_MOUNT, p.Str("none"), p.Str("/"), launcher.Int(0), launcher.Flag(unix.MS_REC|unix.MS_PRIVATE, "MS_REC|MS_PRIVATE"), launcher.Int(0))).OnError(mounted)
	tmpfs := p.Str("tmpfs")
	try("mount.tmpfs", "mount(tmpfs)", p.Call("mount", unix.SYS_MOUNT, tmpfs, p.Str(base), tmpfs, launcher.Flag(unix.MS_NOSUID|unix.MS_NODEV, "MS_NOSUID|MS_NODEV"), p.Str("mode=0755,size=64k"))).OnError(mounted)
	p.Call("chdir", unix.SYS_CHDIR, p.Str(base)).OnError(mounted)
	for _, dir := range []string{"tree", "proc"} {
		p.Call("mkdirat", unix.SYS_MKDIRAT, at, p.Str(dir), launcher.Flag(0o755, "0755")).OnError(mounted)
	}
	p.Call("mknodat", unix.SYS_MKNODAT, at, p.Str("null"), launcher.Flag(unix.S_IFREG, "S_IFREG"), launcher.Int(0)).OnError(mounted)
	attr := make([]byte, 32)
	binary.LittleEndian.PutUint64(attr, attrPlain|unix.MOUNT_ATTR_RDONLY)
	binary.LittleEndian.PutUint64(attr[16:], unix.MS_PRIVATE)
	bind := func(fact, source, dest string, flags uint64, attr []byte) {
		try(fact+".open_tree", "open_tree("+source+", OPEN_TREE_CLONE)", p.Call("open_tree", unix.SYS_OPEN_TREE, at, p.Str(source),
			launcher.Flag(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|flags, "OPEN_TREE_CLONE")))
		tree := last()
		if attr != nil {
			try(fact+".mount_setattr", "mount_setattr(MOUNT_ATTR_RDONLY)", p.Call("mount_setattr", unix.SYS_MOUNT_SETATTR, tree, p.Str(""),
				launcher.Flag(unix.AT_EMPTY_PATH|flags, "AT_EMPTY_PATH"), p.Bytes(attr, "{ro}"), launcher.Int(len(attr))))
		}
		try(fact+".move_mount", "move_mount("+dest+")", p.Call("move_mount", unix.SYS_MOVE_MOUNT, tree, p.Str(""), at, p.Str(dest),
			launcher.Flag(unix.MOVE_MOUNT_F_EMPTY_PATH, "MOVE_MOUNT_F_EMPTY_PATH")))
	}
	bind("mount.bind", "/usr", "tree", unix.AT_RECURSIVE, attr)
	bind("mount.device", "/dev/null", "null", 0, nil)
	proc := p.Str("proc")
	try("mount.proc", "mount(proc)", p.Call("mount", unix.SYS_MOUNT, proc, proc, proc, launcher.Flag(unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "MS_RDONLY"), launcher.Int(0)))
	tryOverlay(p, try, last)
	dot := p.Str(".")
	try("mount.pivot_root", "pivot_root(., .)", p.Call("pivot_root", unix.SYS_PIVOT_ROOT, dot, dot))
	p.Mark(mounted)
	try("capabilities.drop", "capset(none)", p.Call("capset", unix.SYS_CAPSET, p.Bytes(capHeader, "v3"), p.Bytes(noCaps, "none")))
	try("no-new-privileges", "prctl(PR_SET_NO_NEW_PRIVS)", p.Call("prctl", unix.SYS_PRCTL, launcher.Flag(unix.PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS"), launcher.Int(1), launcher.Int(0), launcher.Int(0), launcher.Int(0)))
	rs := landlock.Ruleset(abi, landlock.Handled(abi), landlock.Network(abi), landlock.Scopes(abi))
	p.Call("landlock_create_ruleset", unix.SYS_LANDLOCK_CREATE_RULESET, p.Bytes(rs, "all rights"), launcher.Int(len(rs)), launcher.Int(0)).To(launcher.Addr(ruleset)).Ignore()
	try("landlock.restrict", "landlock_restrict_self", p.Call("landlock_restrict_self", unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, launcher.Int(0)))
	try("landlock.effect", "openat(/, O_RDONLY|O_DIRECTORY) in the domain", p.Call("openat", unix.SYS_OPENAT, at, p.Str("/"), launcher.Flag(unix.O_DIRECTORY|unix.O_CLOEXEC, "O_DIRECTORY"), launcher.Int(0)))
	expect(-int64(unix.EACCES))
	if err := tryObserver(p, try, last, expect); err != nil {
		return nil, err
	}
	f, err := seccomp.CompileCached(seccomp.Options{Arch: runtime.GOARCH})
	if err != nil {
		return nil, err
	}
	try("seccomp.filter", "seccomp(SECCOMP_SET_MODE_FILTER)", p.Call("seccomp", unix.SYS_SECCOMP, launcher.Flag(unix.SECCOMP_SET_MODE_FILTER, "SECCOMP_SET_MODE_FILTER"), launcher.Int(0),
		p.Words("filter", launcher.Int(len(f)), p.Bytes(f.Bytes(), "filter"))))
	try("seccomp.effect", "socket(AF_INET) under the filter", p.Call("socket", unix.SYS_SOCKET, launcher.Int(unix.AF_INET), launcher.Int(unix.SOCK_STREAM), launcher.Int(0)))
	expect(-int64(unix.EACCES))
	p.Mark(done)
	p.Call("write", unix.SYS_WRITE, launcher.Int(status), results, launcher.Int(len(words))).Ignore()
	p.Call("exit_group", unix.SYS_EXIT_GROUP, launcher.Int(0))

	got, err := runProbe(p, len(words), terminal, birth)
	if err != nil {
		return trials, err
	}
	for i := range trials {
		trials[i].result = int64(binary.LittleEndian.Uint64(got[i*8:]))
	}
	return trials, nil
}

// runProbe starts the program with a pipe for its results.
func runProbe(p *launcher.Program, size int, terminal, birth *os.File) ([]byte, error) {
	image, err := p.Image().Seal()
	if err != nil {
		return nil, err
	}
	defer image.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	child, err := launcher.Start(image, "bvisor-probe", []*os.File{null, null, null, null, write, terminal, birth}, &syscall.SysProcAttr{Setsid: true})
	write.Close()
	if err != nil {
		return nil, err
	}
	got := make([]byte, size)
	n, err := read.Read(got)
	if e := launcher.Wait(child); e != nil {
		return nil, e
	}
	if err != nil || n != size {
		return nil, errors.New("the probe's child ended without an answer")
	}
	return got, nil
}
