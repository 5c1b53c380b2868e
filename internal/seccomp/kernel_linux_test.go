//go:build amd64 || arm64

package seccomp

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary is its own victim: with childEnv set it loads a filter (or
// none, for the control run) and does what the value says.
const (
	childEnv   = "SECCOMP_TEST_CHILD"
	optionsEnv = "SECCOMP_TEST_OPTIONS" // JSON; absent means no filter
)

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		if err := child(what); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(what string) error {
	if what == "core-limit" {
		if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1}); err != nil {
			return err
		}
	}
	if text, ok := os.LookupEnv(optionsEnv); ok {
		var o Options
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			return err
		}
		f, err := Compile(o)
		if err != nil {
			return err
		}
		if err := load(f); err != nil {
			return err
		}
	}
	switch what {
	case "attempts":
		return doAttempts()
	case "exec":
		path, err := exec.LookPath(os.Args[1])
		if err != nil {
			return err
		}
		os.Unsetenv(childEnv)
		return syscall.Exec(path, os.Args[1:], os.Environ())
	case "exec-threads":
		os.Setenv(childEnv, "threads")
		os.Unsetenv(optionsEnv) // on already, and it stays on
		return syscall.Exec("/proc/self/exe", os.Args[:1], os.Environ())
	case "core-limit":
		return coreLimit()
	case "threads":
		return threads()
	}
	return fmt.Errorf("no victim %q", what)
}

// victim returns the command that runs what under o, or without a filter.
func victim(t *testing.T, what string, o *Options, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), childEnv+"="+what)
	if o != nil {
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Env = append(cmd.Env, optionsEnv+"="+string(text))
	}
	return cmd
}

// attempt is one call, and the error it gives under the tightest filter.
type attempt struct {
	name string
	call string
	args [6]uintptr
	want syscall.Errno
	// control says that the same call without a filter gives another answer.
	// It cannot where the call exists nowhere or would do harm.
	control bool
}

// noPID is above the largest pid_max, 1<<22.
const noPID = 0x7ffffffe

// attempts are harmless without a filter: what would have an effect is called
// with an argument that the kernel refuses for another reason.
func attempts() []attempt {
	none := ^uintptr(0) // no descriptor
	return []attempt{
		{"socket inet", "socket", [6]uintptr{unix.AF_INET, unix.SOCK_STREAM}, unix.EACCES, true},
		{"socket unix", "socket", [6]uintptr{unix.AF_UNIX, unix.SOCK_STREAM}, unix.EACCES, true},
		{"socket high bits", "socket", [6]uintptr{1<<32 | unix.AF_UNIX, unix.SOCK_STREAM}, unix.EACCES, true},
		{"socketpair stream", "socketpair", [6]uintptr{unix.AF_UNIX, unix.SOCK_STREAM, 0, pairPtr()}, 0, false},
		{"socketpair dgram", "socketpair", [6]uintptr{unix.AF_UNIX, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC, 0, pairPtr()}, unix.EACCES, true},
		{"ptrace", "ptrace", [6]uintptr{unix.PTRACE_PEEKDATA, noPID}, unix.EPERM, true},
		{"process_vm_readv", "process_vm_readv", [6]uintptr{noPID, 0, 0, 0, 0, 1}, unix.EPERM, true},
		{"pidfd_getfd", "pidfd_getfd", [6]uintptr{none, 0, 0}, unix.EPERM, true},
		{"kcmp", "kcmp", [6]uintptr{noPID, noPID, 0}, unix.EPERM, true},
		{"io_uring_setup", "io_uring_setup", [6]uintptr{1, 0}, unix.ENOSYS, true},
		{"clone3", "clone3", [6]uintptr{0, 0}, unix.ENOSYS, true},
		{"clone without thread", "clone", [6]uintptr{unix.CLONE_SIGHAND}, unix.EPERM, true},
		{"TIOCSTI", "ioctl", [6]uintptr{none, 0x5412, 0}, unix.EPERM, true},
		{"TIOCSTI high bits", "ioctl", [6]uintptr{none, 1<<32 | 0x5412, 0}, unix.EPERM, true},
		{"TIOCLINUX", "ioctl", [6]uintptr{none, 0x541c, 0}, unix.EPERM, true},
		{"other ioctl", "ioctl", [6]uintptr{none, 0x5401, 0}, unix.EBADF, false},
		{"unshare user", "unshare", [6]uintptr{unix.CLONE_NEWUSER}, unix.EPERM, true},
		{"unshare high bits", "unshare", [6]uintptr{1<<32 | unix.CLONE_FS}, unix.EPERM, true},
		{"unshare fs", "unshare", [6]uintptr{unix.CLONE_FS}, 0, false},
		{"setns", "setns", [6]uintptr{none, 0}, unix.EPERM, true},
		{"mount", "mount", [6]uintptr{0, 0, 0, 0, 0}, unix.EPERM, true},
		{"chroot", "chroot", [6]uintptr{missingPathPtr()}, unix.EPERM, true},
		{"name_to_handle_at", "name_to_handle_at", [6]uintptr{none, missingPathPtr()}, unix.EPERM, true},
		{"mknod device", "mknodat", [6]uintptr{none, missingPathPtr(), unix.S_IFCHR | 0o600}, unix.EPERM, true},
		{"mknod fifo", "mknodat", [6]uintptr{none, missingPathPtr(), unix.S_IFIFO | 0o600}, unix.ENOENT, false},
		{"memfd executable", "memfd_create", [6]uintptr{missingPathPtr() + 13, 0}, unix.EPERM, true},
		{"core limit and old", "prlimit64", [6]uintptr{0, unix.RLIMIT_CORE, coreLimitsPtr(), coreLimitsPtr()}, unix.EPERM, true},
		{"limit of another", "prlimit64", [6]uintptr{uintptr(os.Getppid()), unix.RLIMIT_CORE, coreLimitsPtr(), 0}, unix.EPERM, true},
		{"core limit read", "prlimit64", [6]uintptr{0, unix.RLIMIT_CORE, 0, coreLimitsPtr()}, 0, false},
		{"prctl perf", "prctl", [6]uintptr{unix.PR_TASK_PERF_EVENTS_DISABLE}, unix.EPERM, true},
		{"prctl unknown", "prctl", [6]uintptr{9999}, unix.EINVAL, false},
		{"personality linux32", "personality", [6]uintptr{8}, unix.EPERM, true},
		{"personality query", "personality", [6]uintptr{0xffffffff}, 0, false},
		{"seccomp listener", "seccomp", [6]uintptr{filterMode, filterNewListener, 0}, unix.EPERM, true},
		{"seccomp filter", "seccomp", [6]uintptr{filterMode, 0, 0}, unix.EFAULT, false},
	}
}

func doAttempts() error {
	for _, a := range attempts() {
		nr, ok := Number(runtime.GOARCH, a.call)
		if !ok {
			return fmt.Errorf("no call %s", a.call)
		}
		_, _, e := unix.RawSyscall6(uintptr(nr), a.args[0], a.args[1], a.args[2], a.args[3], a.args[4], a.args[5])
		fmt.Printf("%s=%d\n", a.name, int(e))
	}
	// Numbers without a name: not assigned, and the x32 entry of getpid.
	for _, nr := range []uintptr{999, 0x40000027} {
		_, _, e := unix.RawSyscall(nr, 0, 0, 0)
		fmt.Printf("%#x=%d\n", nr, int(e))
	}
	return nil
}

func runAttempts(t *testing.T, o *Options) map[string]syscall.Errno {
	t.Helper()
	cmd := victim(t, "attempts", o)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("attempts: %v, after %s", err, out)
	}
	got := map[string]syscall.Errno{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		var e int
		if _, err := fmt.Sscan(value, &e); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		got[name] = syscall.Errno(e)
	}
	return got
}

func TestKernelDenies(t *testing.T) {
	control := runAttempts(t, nil)
	confined := runAttempts(t, &Options{Arch: runtime.GOARCH})
	for _, a := range attempts() {
		t.Run(a.name, func(t *testing.T) {
			if got := confined[a.name]; got != a.want {
				t.Errorf("under the filter: %d (%v), want %d (%v)", int(got), got, int(a.want), a.want)
			}
			without := control[a.name]
			if a.control && without == unix.ENOSYS {
				t.Skipf("needs a kernel with %s", a.call)
			}
			if a.control && without == a.want {
				t.Errorf("control: the same answer (%v) without a filter: the denial proves nothing", without)
			}
		})
	}
	for _, nr := range []string{"0x3e7", "0x40000027"} {
		if got, ok := confined[nr]; !ok || got != unix.ENOSYS {
			t.Errorf("call %s: %v, want ENOSYS", nr, got)
		}
	}
}

// coreLimit sets the core limit to 0 and prints what it is then.
func coreLimit() error {
	if err := unix.Prlimit(0, unix.RLIMIT_CORE, &unix.Rlimit{}, nil); err != nil {
		return err
	}
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &now); err != nil {
		return err
	}
	fmt.Println(now.Cur)
	return nil
}

// A core limit of 0 would let a piped core handler of the host run again.
func TestCoreLimitStays(t *testing.T) {
	for _, c := range []struct {
		o    *Options
		want string
	}{{nil, "0"}, {&Options{Arch: runtime.GOARCH, Spawn: SpawnProcesses}, "1"}} {
		cmd := victim(t, "core-limit", c.o)
		out, err := cmd.CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != c.want {
			t.Errorf("filter %v: limit after setting it to 0: %v, %q, want %s", c.o != nil, err, out, c.want)
		}
	}
}

// threads starts threads and then a process.
func threads() error {
	const count = 8
	var wg sync.WaitGroup
	wg.Add(count) // all at once: none may find it at zero before the last has its thread
	for range count {
		go func() {
			runtime.LockOSThread() // each goroutine needs a thread of its own
			wg.Done()
			wg.Wait()
		}()
	}
	wg.Wait()
	p, err := os.StartProcess("/proc/self/exe", []string{"x"}, &os.ProcAttr{Env: []string{childEnv + "=none"}})
	if errors.Is(err, unix.EPERM) {
		fmt.Println("process refused")
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Println("process started")
	_, err = p.Wait()
	return err
}

func TestThreadsWithoutProcesses(t *testing.T) {
	for _, c := range []struct {
		spawn Spawn
		want  string
	}{{SpawnThreads, "process refused"}, {SpawnProcesses, "process started"}} {
		out, err := victim(t, "exec-threads", &Options{Arch: runtime.GOARCH, Spawn: c.spawn}).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != c.want {
			t.Errorf("spawn mode %d: %v, %q, want %q", c.spawn, err, out, c.want)
		}
	}
}

// int80 is a 64-bit program that calls getpid through the i386 entry and then
// ends with status 7.
func int80(t *testing.T) string {
	t.Helper()
	const base, headers = 0x400000, 64 + 56
	code := []byte{
		0xb8, 20, 0, 0, 0, // mov eax, getpid of i386
		0xcd, 0x80, // int 0x80
		0xbf, 7, 0, 0, 0, // mov edi, 7
		0xb8, 231, 0, 0, 0, // mov eax, exit_group
		0x0f, 0x05, // syscall
	}
	size := uint64(headers + len(code))
	b := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	le := binary.LittleEndian
	b = le.AppendUint16(b, 2)            // ET_EXEC
	b = le.AppendUint16(b, 62)           // EM_X86_64
	b = le.AppendUint32(b, 1)            // version
	b = le.AppendUint64(b, base+headers) // entry
	b = le.AppendUint64(b, 64)           // program headers
	b = append(b, make([]byte, 8+4)...)  // no sections, no flags
	b = le.AppendUint16(b, 64)           // size of this header
	b = le.AppendUint16(b, 56)           // size of a program header
	b = le.AppendUint16(b, 1)            // how many
	b = append(b, make([]byte, 6)...)    // no sections
	b = le.AppendUint32(b, 1)            // PT_LOAD
	b = le.AppendUint32(b, 5)            // readable, executable
	b = le.AppendUint64(b, 0)            // offset
	b = le.AppendUint64(b, base)         // virtual address
	b = le.AppendUint64(b, base)         // physical address
	b = le.AppendUint64(b, size)         // size in the file
	b = le.AppendUint64(b, size)         // size in memory
	b = le.AppendUint64(b, 0x1000)       // alignment
	path := filepath.Join(t.TempDir(), "int80")
	if err := os.WriteFile(path, append(b, code...), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKernelKillsOtherArchitecture(t *testing.T) {
	if runtime.GOARCH != AMD64 {
		t.Skip("needs amd64: int 0x80 is its second entry")
	}
	path := int80(t)
	var exit *exec.ExitError
	err := victim(t, "exec", nil, path).Run()
	if !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Skipf("needs a kernel with the i386 entry; the control run ended with %v", err)
	}
	err = victim(t, "exec", &Options{Arch: AMD64}, path).Run()
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGSYS {
		t.Errorf("int 0x80 under the filter: %v, want death by SIGSYS", err)
	}
}

func TestConstantsMatchHeaders(t *testing.T) {
	for _, c := range []struct {
		name string
		ours uint64
		want uint64
	}{
		{"AUDIT_ARCH_X86_64", uint64(machines[AMD64].audit), unix.AUDIT_ARCH_X86_64},
		{"AUDIT_ARCH_AARCH64", uint64(machines[ARM64].audit), unix.AUDIT_ARCH_AARCH64},
		{"SECCOMP_RET_ALLOW", uint64(ActionAllow), unix.SECCOMP_RET_ALLOW},
		{"SECCOMP_RET_ERRNO", uint64(ActionErrno), unix.SECCOMP_RET_ERRNO},
		{"SECCOMP_RET_KILL_PROCESS", uint64(ActionKillProcess), unix.SECCOMP_RET_KILL_PROCESS},
		{"BPF_LD|BPF_W|BPF_ABS", uint64(opLoad), unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
		{"BPF_ALU|BPF_AND", uint64(opAnd), unix.BPF_ALU | unix.BPF_AND},
		{"BPF_JMP|BPF_JA", uint64(opJump), unix.BPF_JMP | unix.BPF_JA},
		{"BPF_JMP|BPF_JEQ", uint64(opJeq), unix.BPF_JMP | unix.BPF_JEQ},
		{"BPF_JMP|BPF_JGE", uint64(opJge), unix.BPF_JMP | unix.BPF_JGE},
		{"BPF_JMP|BPF_JSET", uint64(opJset), unix.BPF_JMP | unix.BPF_JSET},
		{"BPF_RET|BPF_K", uint64(opRet), unix.BPF_RET | unix.BPF_K},
		{"TIOCSTI", tiocSTI, unix.TIOCSTI},
		{"TIOCLINUX", tiocLINUX, unix.TIOCLINUX},
		{"TIOCCONS", tiocCONS, unix.TIOCCONS},
		{"TIOCSETD", tiocSETD, unix.TIOCSETD},
		{"S_IFMT", sIFMT, unix.S_IFMT},
		{"S_IFIFO", sIFIFO, unix.S_IFIFO},
		{"S_IFREG", sIFREG, unix.S_IFREG},
		{"S_IFSOCK", sIFSOCK, unix.S_IFSOCK},
		{"MFD_NOEXEC_SEAL", mfdNoexecSeal, unix.MFD_NOEXEC_SEAL},
		{"CLONE_FS", cloneFS, unix.CLONE_FS},
		{"CLONE_FILES", cloneFiles, unix.CLONE_FILES},
		{"CLONE_THREAD", cloneThread, unix.CLONE_THREAD},
		{"CLONE_SYSVSEM", cloneSysvsem, unix.CLONE_SYSVSEM},
		{"namespace flags", cloneNamespaces, unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS |
			unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET},
		{"SECCOMP_SET_MODE_FILTER", filterMode, unix.SECCOMP_SET_MODE_FILTER},
		{"SECCOMP_FILTER_FLAG_NEW_LISTENER", filterNewListener, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER},
		{"RLIMIT_CORE", rlimitCore, unix.RLIMIT_CORE},
		{"AF_UNIX", uint64(AFUnix), unix.AF_UNIX},
		{"AF_INET", uint64(AFInet), unix.AF_INET},
		{"AF_INET6", uint64(AFInet6), unix.AF_INET6},
		{"AF_NETLINK", uint64(AFNetlink), unix.AF_NETLINK},
		{"SOCK_STREAM", sockStream, unix.SOCK_STREAM},
		{"SOCK_DGRAM", sockDgram, unix.SOCK_DGRAM},
		{"SOCK_SEQPACKET", sockSeqpacket, unix.SOCK_SEQPACKET},
		{"IPPROTO_TCP", protoTCP, unix.IPPROTO_TCP},
		{"IPPROTO_UDP", protoUDP, unix.IPPROTO_UDP},
		{"NETLINK_ROUTE", netlinkRoute, unix.NETLINK_ROUTE},
		{"PR_CAP_AMBIENT", prCapAmbient, unix.PR_CAP_AMBIENT},
		{"PR_CAP_AMBIENT_IS_SET", ambientIsSet, unix.PR_CAP_AMBIENT_IS_SET},
		{"PR_CAP_AMBIENT_LOWER", ambientLower, unix.PR_CAP_AMBIENT_LOWER},
		{"PR_CAP_AMBIENT_CLEAR_ALL", ambientClear, unix.PR_CAP_AMBIENT_CLEAR_ALL},
		{"PR_SET_VMA", uint64(prctlAllowed[len(prctlAllowed)-1]), unix.PR_SET_VMA},
		{"PR_SET_PTRACER", uint64(prctlDenied[len(prctlDenied)-1]), unix.PR_SET_PTRACER},
		{"EPERM", uint64(ePERM), uint64(unix.EPERM)},
		{"EACCES", uint64(eACCES), uint64(unix.EACCES)},
		{"EINVAL", uint64(eINVAL), uint64(unix.EINVAL)},
		{"ENOSYS", uint64(eNOSYS), uint64(unix.ENOSYS)},
	} {
		if c.ours != c.want {
			t.Errorf("%s is %#x here and %#x in golang.org/x/sys/unix", c.name, c.ours, c.want)
		}
	}
}
