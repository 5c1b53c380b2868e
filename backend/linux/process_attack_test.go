//go:build linux && (amd64 || arm64)

package linux_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// Calls that reach into other processes, into the kernel, or at the host. The
// arguments are such that success would do nothing; the kernel refuses most of
// them for another reason than the boundary does.
func TestDeniedCalls(t *testing.T) {
	c := newCalls()
	zero, minus := num(0), num(-1)
	self := num(os.Getpid())
	nowhere := c.Str("/nonexistent")
	page := c.Bytes(make([]byte, 256), "zeros")
	missing := map[string]bool{} // answered as if the kernel did not know them
	deny := func(name string, nr uintptr, args ...launcher.Arg) { c.try(name, nr, args...) }
	absent := func(name string, nr uintptr, args ...launcher.Arg) { missing[name] = true; c.try(name, nr, args...) }

	deny("ptrace attach", unix.SYS_PTRACE, num(unix.PTRACE_ATTACH), num(0x7ffffffe), zero, zero)
	deny("ptrace traceme", unix.SYS_PTRACE, num(unix.PTRACE_TRACEME), zero, zero, zero)
	deny("process_vm_readv", unix.SYS_PROCESS_VM_READV, self, page, num(1), page, num(1), zero)
	deny("process_vm_writev", unix.SYS_PROCESS_VM_WRITEV, num(0x7ffffffe), page, num(1), page, num(1), zero)
	deny("pidfd_getfd", unix.SYS_PIDFD_GETFD, minus, zero, zero)
	deny("kcmp", unix.SYS_KCMP, self, self, zero, zero, zero)
	deny("add_key", unix.SYS_ADD_KEY, c.Str("user"), c.Str("bvisor"), zero, zero, num(0x7fffffff))
	deny("request_key", unix.SYS_REQUEST_KEY, c.Str("user"), c.Str("bvisor"), zero, zero)
	deny("keyctl", unix.SYS_KEYCTL, zero, num(-3), zero)
	deny("bpf", unix.SYS_BPF, num(99), zero, zero)
	deny("perf_event_open", unix.SYS_PERF_EVENT_OPEN, zero, zero, zero, zero, zero)
	deny("userfaultfd", unix.SYS_USERFAULTFD, num(0x7fffffff))
	deny("kexec_load", unix.SYS_KEXEC_LOAD, zero, num(99), zero, zero)
	deny("init_module", unix.SYS_INIT_MODULE, zero, zero, zero)
	deny("finit_module", unix.SYS_FINIT_MODULE, minus, zero, zero)
	deny("delete_module", unix.SYS_DELETE_MODULE, zero, zero)
	deny("reboot", unix.SYS_REBOOT, zero, zero, zero, zero)
	deny("swapon", unix.SYS_SWAPON, nowhere, zero)
	deny("swapoff", unix.SYS_SWAPOFF, nowhere)
	deny("acct", unix.SYS_ACCT, nowhere)
	deny("quotactl", unix.SYS_QUOTACTL, minus, zero, zero, zero)
	deny("syslog", unix.SYS_SYSLOG, num(99), zero, zero)
	deny("mount", unix.SYS_MOUNT, zero, nowhere, zero, zero, zero)
	deny("umount2", unix.SYS_UMOUNT2, nowhere, zero)
	deny("pivot_root", unix.SYS_PIVOT_ROOT, nowhere, nowhere)
	deny("chroot", unix.SYS_CHROOT, nowhere)
	deny("fsopen", unix.SYS_FSOPEN, zero, zero)
	deny("open_tree", unix.SYS_OPEN_TREE, minus, nowhere, zero)
	deny("move_mount", unix.SYS_MOVE_MOUNT, minus, nowhere, minus, nowhere, zero)
	deny("mount_setattr", unix.SYS_MOUNT_SETATTR, minus, nowhere, zero, zero, zero)
	deny("setns", unix.SYS_SETNS, minus, zero)
	deny("open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, minus, page, zero)
	deny("name_to_handle_at", unix.SYS_NAME_TO_HANDLE_AT, minus, nowhere, page, page, zero)
	deny("fanotify_init", unix.SYS_FANOTIFY_INIT, num(0x7fffffff), zero)
	deny("settimeofday", unix.SYS_SETTIMEOFDAY, num(8), zero)
	deny("clock_settime", unix.SYS_CLOCK_SETTIME, num(99), page)
	deny("adjtimex", unix.SYS_ADJTIMEX, zero)
	deny("sethostname", unix.SYS_SETHOSTNAME, zero, minus)
	deny("setdomainname", unix.SYS_SETDOMAINNAME, zero, minus)
	deny("TIOCSTI", unix.SYS_IOCTL, minus, num(unix.TIOCSTI), page)
	deny("TIOCSTI with high bits", unix.SYS_IOCTL, minus, word(1<<32|unix.TIOCSTI), page)
	deny("TIOCLINUX", unix.SYS_IOCTL, minus, num(0x541c), page)
	// Answered with success, so as not to end programs that insist, and ignored.
	limit := c.Words("limit", zero, zero)
	c.quiet(unix.SYS_PRLIMIT64, zero, num(unix.RLIMIT_CORE), c.Words("core", num(0), num(0)), zero)
	c.quiet(unix.SYS_PRLIMIT64, zero, num(unix.RLIMIT_CORE), zero, limit)
	absent("io_uring_setup", unix.SYS_IO_URING_SETUP, num(1), zero)
	absent("io_uring_enter", unix.SYS_IO_URING_ENTER, minus, zero, zero, zero, zero, zero)
	absent("memfd_secret", unix.SYS_MEMFD_SECRET, num(0x7fffffff))
	for _, nr := range []uintptr{600, 999, 4095, 1 << 20} {
		absent(fmt.Sprint("number ", nr), nr, zero, zero)
	}
	if runtime.GOARCH == "amd64" {
		for _, nr := range []int{0, 39, 512, 547} { // read, getpid, two of x32's own
			absent(fmt.Sprint("x32 number ", nr), uintptr(0x40000000+nr), zero, zero)
		}
	}
	c.names = append(c.names, "core limit")
	c.Copy(launcher.Load(limit, 0, "limit")).To(launcher.At(c.results, (len(c.names)-1)*8, "limit"))
	without, within, o := c.both(t, true)
	if without["core limit"] != 0 || within["core limit"] != 1 {
		t.Errorf("the core limit is %d in the control and %d within, expected 0 and 1", without["core limit"], within["core limit"])
	}
	for _, name := range c.names {
		if name == "core limit" {
			continue
		}
		want := unix.EPERM
		if missing[name] {
			want = unix.ENOSYS
		}
		if within[name] != -int64(want) {
			t.Errorf("confined: %s gave %d (%v), expected %v", name, within[name], unix.Errno(max(-within[name], 0)), want)
		}
	}
	// The control: what these calls give to whoever may make them.
	for name, want := range map[string]unix.Errno{"ptrace attach": unix.ESRCH, "ptrace traceme": 0, "pidfd_getfd": unix.EBADF, "setns": unix.EBADF,
		"mount": unix.ENOENT, "umount2": unix.ENOENT, "chroot": unix.ENOENT, "open_tree": unix.ENOENT, "TIOCSTI": unix.EBADF, "TIOCLINUX": unix.EBADF,
		"sethostname": unix.EINVAL, "io_uring_enter": unix.EBADF} {
		if without[name] != -int64(want) {
			t.Errorf("control: %s gave %d, expected %v", name, without[name], want)
		}
	}
	o.heldBy(t, plan.CallFilter)
	o.reports(t, report.Completed, "")
}

// Nothing outside can be signalled or even named, and init shrugs.
func TestSignalsStayInside(t *testing.T) {
	need.MountNamespace(t)
	bystander := exec.Command(place.exe, "victim", "linger", token())
	used.Store("linger", true)
	must(t, bystander.Start())
	defer bystander.Wait()
	defer bystander.Process.Kill()
	c := newCalls()
	for name, pid := range map[string]int{"supervisor": os.Getpid(), "bystander": bystander.Process.Pid} {
		c.try("kill "+name, unix.SYS_KILL, num(pid), num(0))
		c.try("tgkill "+name, unix.SYS_TGKILL, num(pid), num(pid), num(0))
		c.try("pidfd_open "+name, unix.SYS_PIDFD_OPEN, num(pid), num(0))
		c.try("rt_sigqueueinfo "+name, unix.SYS_RT_SIGQUEUEINFO, num(pid), num(0), c.Words("info", num(0), num(-1), num(0), num(0), num(0), num(0), num(0), num(0), num(0), num(0), num(0), num(0), num(0), num(0), num(0), num(0)))
		c.try("sched_getaffinity "+name, unix.SYS_SCHED_GETAFFINITY, num(pid), num(128), c.Bytes(make([]byte, 128), "mask"))
		c.try("prlimit "+name, unix.SYS_PRLIMIT64, num(pid), num(unix.RLIMIT_NOFILE), num(0), c.Bytes(make([]byte, 16), "limit"))
		c.try("memory of "+name, unix.SYS_OPENAT, num(unix.AT_FDCWD), c.Str(fmt.Sprintf("/proc/%d/mem", pid)), num(unix.O_RDWR), num(0))
	}
	without, within, _ := c.both(t, false)
	for name, got := range within {
		if got != -int64(unix.ESRCH) && got != -int64(unix.ENOENT) && got != -int64(unix.EPERM) {
			t.Errorf("confined: %s gave %d", name, got)
		}
		if without[name] < 0 {
			t.Errorf("control: %s gave %v", name, unix.Errno(-without[name]))
		}
	}
	// Everybody at once, and init: only within throwaway namespaces would it be
	// tried without a boundary.
	c = newCalls()
	c.try("init's memory", unix.SYS_OPENAT, num(unix.AT_FDCWD), c.Str("/proc/1/mem"), num(unix.O_RDWR), num(0))
	c.try("init's program", unix.SYS_OPENAT, num(unix.AT_FDCWD), c.Str("/proc/1/exe"), num(unix.O_RDONLY), num(0))
	c.try("init's root", unix.SYS_OPENAT, num(unix.AT_FDCWD), c.Str("/proc/1/root/etc/passwd"), num(unix.O_RDONLY), num(0))
	c.try("init's descriptors", unix.SYS_OPENAT, num(unix.AT_FDCWD), c.Str("/proc/1/fd/3"), num(unix.O_RDONLY), num(0))
	c.quiet(unix.SYS_KILL, num(1), num(int(unix.SIGKILL)))
	c.try("kill -1", unix.SYS_KILL, num(-1), num(int(unix.SIGTERM)))
	o := runCommand(t, c.file(t))
	o.reports(t, report.Completed, "")
	got := c.read(t, "confined", o.Stdout)
	for _, name := range []string{"init's memory", "init's program", "init's root", "init's descriptors"} {
		if r := got[name]; r >= 0 {
			t.Errorf("%s can be opened", name)
		}
	}
	if err := bystander.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the bystander is gone: %v", err)
	}
}

// The 32-bit entry of the kernel has numbers of its own: whoever takes it is
// killed, and the report says so.
func TestOtherArchitecture(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		need.Missing(t, "amd64", "only there the kernel has a second set of calls")
	}
	need.MountNamespace(t)
	code := []byte{
		0xb8, 20, 0, 0, 0, // mov eax, 20: getpid of i386
		0xcd, 0x80, // int 0x80
		0x31, 0xff, // xor edi, edi
		0xb8, 231, 0, 0, 0, // mov eax, 231: exit_group of amd64
		0x0f, 0x05, // syscall
	}
	path := filepath.Join(tree(t), "i386")
	must(t, os.WriteFile(path, elf64(code), 0o755))
	must(t, os.Chmod(path, 0o755))
	if err := exec.Command(path).Run(); err != nil {
		need.Missing(t, "ia32", "this kernel has no 32-bit entry: "+err.Error())
	}
	o := runCommand(t, path)
	o.ended(t, report.Denied, "system-call-filter", unix.SIGSYS)
	if len(o.Report.Denied) != 1 || o.Report.Denied[0].Mechanism != "seccomp" || o.Report.Completeness.Level != "partial" {
		t.Errorf("denied %+v, %+v", o.Report.Denied, o.Report.Completeness)
	}
}

// elf64 is the smallest program around some code.
func elf64(code []byte) []byte {
	b := make([]byte, 120, 200)
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(b[16:], 2)  // executable
	le.PutUint16(b[18:], 62) // x86-64
	le.PutUint32(b[20:], 1)
	const base = 0x400000
	le.PutUint64(b[24:], base+120) // entry
	le.PutUint64(b[32:], 64)       // program header
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	le.PutUint32(b[64:], 1) // load
	le.PutUint32(b[68:], 5) // read and execute
	le.PutUint64(b[80:], base)
	size := uint64(120 + len(code))
	le.PutUint64(b[96:], size)
	le.PutUint64(b[104:], size)
	le.PutUint64(b[112:], 0x1000)
	return append(b, code...)
}

// A terminal that is granted as a descriptor takes no typing from inside
// (CVE-2017-5226), nor does one given as standard input.
func TestTerminal(t *testing.T) {
	need.MountNamespace(t)
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		need.Missing(t, "pty", err.Error())
	}
	defer master.Close()
	must(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	must(t, err)
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	defer tty.Close()
	c := newCalls()
	for _, fd := range []int{0, 3} {
		c.try(fmt.Sprint("is a terminal ", fd), unix.SYS_IOCTL, num(fd), num(unix.TCGETS), c.Bytes(make([]byte, 64), "termios"))
		c.try(fmt.Sprint("TIOCSTI ", fd), unix.SYS_IOCTL, num(fd), num(unix.TIOCSTI), c.Str("x"))
		c.try(fmt.Sprint("TIOCSTI with high bits ", fd), unix.SYS_IOCTL, num(fd), word(7<<32|unix.TIOCSTI), c.Str("x"))
		c.try(fmt.Sprint("TIOCLINUX ", fd), unix.SYS_IOCTL, num(fd), num(0x541c), c.Str("\x02"))
		c.try(fmt.Sprint("controlling ", fd), unix.SYS_IOCTL, num(fd), num(unix.TIOCSCTTY), num(0))
	}
	path := c.file(t)
	req := request(mods{grant("rx", path), command(path), fds(3), stdin(spec.StdinInherit)}, "hold")
	req.Stdin, req.FDs = tty, map[int]*os.File{3: tty}
	o, err := attempt(t, req)
	must(t, err)
	got := c.read(t, "confined", o.Stdout)
	if got["is a terminal 3"] != 0 {
		t.Errorf("the granted descriptor is no terminal: %d", got["is a terminal 3"])
	}
	if got["is a terminal 0"] != -int64(unix.ENOTTY) {
		t.Errorf("standard input is the terminal itself: %d", got["is a terminal 0"])
	}
	for name, r := range got {
		if name[0] == 'T' && r != -int64(unix.EPERM) {
			t.Errorf("%s gave %d, expected EPERM", name, r)
		}
	}
	// Nothing was typed: the next line that is read from the terminal is ours.
	_, err = master.Write([]byte("ours\n"))
	must(t, err)
	buf := make([]byte, 64)
	m, err := tty.Read(buf)
	if err != nil || string(buf[:m]) != "ours\n" {
		t.Errorf("the terminal's input is %q, %v", buf[:m], err)
	}
}

// A crash leaves no core, whatever the limits of the supervisor.
func TestNoCoreFile(t *testing.T) {
	untidy(t)
	path := raising(t, unix.SIGQUIT)
	root := tree(t, "in/")
	os.Chmod(root+"/in", 0o777)
	cmd := exec.Command(path)
	cmd.Dir = root + "/in"
	cmd.Run()
	pattern := readText(t, "/proc/sys/kernel/core_pattern")
	if pattern == "core\n" && len(names(root+"/in")) == 0 && cmd.ProcessState.Sys().(syscall.WaitStatus).CoreDump() {
		t.Error("control: no core file, though the kernel says that it dumped one")
	}
	dumps := len(names(root + "/in"))
	o := runCommand(t, path, grant("rw", root+"/in"), dir(root+"/in"))
	o.ended(t, report.Failed, "signal SIGQUIT", unix.SIGQUIT)
	if o.Report.Exit.Core || len(names(root+"/in")) != dumps {
		t.Errorf("core %v, files %q", o.Report.Exit.Core, names(root+"/in"))
	}
}

// System V shared memory and message queues are the boundary's own.
func TestPrivateIPC(t *testing.T) {
	key := 0x62760000 | os.Getpid()&0xffff
	id, err := unix.SysvShmGet(key, 4096, unix.IPC_CREAT|0o666)
	must(t, err)
	defer unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	c := newCalls()
	c.try("shmget", unix.SYS_SHMGET, num(key), num(4096), num(0))
	c.try("shmat by number", unix.SYS_SHMAT, num(id), num(0), num(unix.SHM_RDONLY))
	without, within, o := c.both(t, false)
	for name, want := range map[string]unix.Errno{"shmget": unix.ENOENT, "shmat by number": unix.EINVAL} {
		if without[name] < 0 {
			t.Errorf("control: %s gave %v", name, unix.Errno(-without[name]))
		}
		if within[name] != -int64(want) {
			t.Errorf("confined: %s gave %d, expected %v", name, within[name], want)
		}
	}
	o.heldBy(t, plan.IPCNamespace)
}

// A set-user-ID program runs as whoever started it.
func TestSetUserIDGainsNothing(t *testing.T) {
	need.Root(t)
	c := newCalls()
	c.try("geteuid", unix.SYS_GETEUID)
	path := c.file(t)
	must(t, os.Chown(path, 12345, 12345))
	must(t, os.Chmod(path, os.ModeSetuid|os.ModeSetgid|0o755))
	out, err := exec.Command(path).Output()
	must(t, err)
	if got := c.read(t, "control", string(out))["geteuid"]; got != 12345 {
		need.Missing(t, "suid", fmt.Sprintf("a set-user-ID program runs as %d here", got))
	}
	o := runCommand(t, path)
	if got := c.read(t, "confined", o.Stdout)["geteuid"]; got != int64(os.Geteuid()) {
		t.Errorf("it runs as %d", got)
	}
	o.heldBy(t, plan.NoNewPrivileges)
}
