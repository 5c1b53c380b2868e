//go:build amd64 || arm64

package hostmatrix

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/need"
)

// Words that make this binary something else than a test. "enter" is started in
// throwaway namespaces with every capability there, makes the host, and becomes
// "inside", which has only what its user has.
const (
	wordEnter  = "enter"
	wordInside = "inside"
)

// answerFD is where "inside" writes what it found.
const answerFD = 3

// longest is how long a host may take: more means that something hangs there.
const longest = 10 * time.Minute

// notHere is the exit status that says that the host cannot be made of this one.
const notHere = 77

// in carries out "inside" on a host, cured or not, and returns what it found.
func (h host) in(t *testing.T, cured bool) answer {
	t.Helper()
	dir := filepath.Join(filepath.Dir(exe), "state-"+h.name+fmt.Sprint(cured))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, wordEnter, h.name, fmt.Sprint(cured), dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &out, &out, []*os.File{write}
	cmd.Dir = "/"
	cmd.SysProcAttr = h.namespaces()
	err = cmd.Start()
	write.Close()
	if err != nil {
		need.Missing(t, "host="+h.name, "its namespaces cannot be made here: "+err.Error())
	}
	var a answer
	decoded := json.NewDecoder(read).Decode(&a)
	err = cmd.Wait()
	if cmd.ProcessState.ExitCode() == notHere {
		need.Missing(t, "host="+h.name, strings.TrimSpace(out.String()))
	}
	if err != nil || decoded != nil {
		t.Fatalf("inside %s: %v, %v\n%s", h.name, err, decoded, out.Bytes())
	}
	if out.Len() > 0 {
		t.Logf("%s", out.Bytes())
	}
	return a
}

// namespaces are those in which a host is made. An ordinary user needs a user
// namespace to own the mounts; root needs one only for what is counted in it.
func (h host) namespaces() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | h.clone}
	if h.apart || os.Geteuid() != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
	}
	if os.Geteuid() != 0 {
		// execve(2) takes from others than root what is not ambient.
		for c := range uintptr(unix.CAP_LAST_CAP + 1) {
			attr.AmbientCaps = append(attr.AmbientCaps, c)
		}
	}
	return attr
}

// unmade is why a host cannot be made of this one.
type unmade struct{ why string }

func (e *unmade) Error() string { return e.why }

// enter makes a host and becomes "inside".
func enter(args []string) int {
	h := hostNamed(args[0])
	cured := args[1] == "true"
	runtime.LockOSThread() // filters, domains and capabilities are the thread's, and stay with it
	err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if err == nil {
		// Records are as durable there as the host is, and cost no disk.
		err = unix.Mount("state", args[2], "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700")
	}
	if err == nil && h.setup != nil && (!cured || h.cure.apply != nil) {
		err = h.setup(args[2])
	}
	if err == nil && cured && h.cure.apply != nil {
		err = h.cure.apply()
	}
	if err == nil && h.filter != nil && !cured {
		_, err = load(h.filter.compile(), 0)
	}
	if err == nil && h.abi != 0 && !cured {
		err = pretend(h.abi)
	}
	if e, ok := errors.AsType[*unmade](err); ok {
		fmt.Fprintln(os.Stderr, e)
		return notHere
	}
	if err == nil && os.Geteuid() != 0 {
		// Without the inheritable set there is no ambient one (capabilities(7)).
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		err = unix.Capset(&header, &make([]unix.CapUserData, 2)[0])
	}
	if err == nil {
		err = syscall.Exec(exeOf(), append([]string{exeOf(), wordInside}, args...), os.Environ())
	}
	fmt.Fprintf(os.Stderr, "make %s: %v\n", h.name, err)
	return 1
}

func exeOf() string { return os.Args[0] }

// rule is one answer of a system call filter.
type rule struct {
	calls    []uintptr
	errno    unix.Errno
	listener bool // it answers instead
	// What the low word of an argument must be for it: one of the bits of mask,
	// or one of values. Neither: anything.
	arg    int
	mask   uint32
	values []uint32
}

type filter []rule

// instruction is struct sock_filter of linux/filter.h.
type instruction struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

// compile writes the rules one after the other. Everything else is allowed.
func (f filter) compile() []instruction {
	const load, equal, set, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	number, argument := uint32(0), func(n int) uint32 { return uint32(16 + 8*n) } // struct seccomp_data
	var code []instruction
	for _, r := range f {
		answer := instruction{ret, 0, 0, unix.SECCOMP_RET_ERRNO | uint32(r.errno)}
		if r.listener {
			answer.k = unix.SECCOMP_RET_USER_NOTIF
		}
		for _, call := range r.calls {
			var body []instruction
			switch {
			case r.mask != 0:
				body = []instruction{{load, 0, 0, argument(r.arg)}, {set, 0, 1, r.mask}, answer}
			case r.values != nil:
				body = []instruction{{load, 0, 0, argument(r.arg)}}
				for i, v := range r.values {
					over := uint8(0)
					if i == len(r.values)-1 {
						over = 1
					}
					body = append(body, instruction{equal, uint8(len(r.values) - 1 - i), over, v})
				}
				body = append(body, answer)
			default:
				body = []instruction{answer}
			}
			code = append(code, instruction{load, 0, 0, number}, instruction{equal, 0, uint8(len(body)), uint32(call)})
			code = append(code, body...)
		}
	}
	return append(code, instruction{ret, 0, 0, unix.SECCOMP_RET_ALLOW})
}

// mountPoint is one line of mountinfo.
type mountPoint struct{ path, kind string }

func mountPoints() ([]mountPoint, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	var list []mountPoint
	for line := range strings.Lines(string(text)) {
		before, after, _ := strings.Cut(line, " - ")
		if f, rest := strings.Fields(before), strings.Fields(after); len(f) > 4 && len(rest) > 0 {
			list = append(list, mountPoint{f[4], rest[0]})
		}
	}
	return list, err
}

// onlyCgroups gives this process a root with everything of the host's but /sys,
// and the hierarchies of these types in it. What is mounted cannot be unmounted
// in another user namespace, but left out.
func onlyCgroups(types ...string) func(dir string) error {
	return func(dir string) error {
		mounts, err := mountPoints()
		if err != nil {
			return err
		}
		var keep []string
		for _, kind := range types {
			before := len(keep)
			for _, m := range mounts {
				if m.kind == kind && strings.HasPrefix(m.path, "/sys/") {
					keep = append(keep, m.path)
				}
			}
			if len(keep) == before {
				return &unmade{"no file system of type " + kind + " is mounted below /sys here"}
			}
		}
		root := filepath.Join(dir, "root")
		if err := os.Mkdir(root, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("root", root, "tmpfs", 0, "mode=0755"); err != nil {
			return err
		}
		if err := unix.Mount("none", root, "", unix.MS_UNBINDABLE, ""); err != nil { // or it would be bound into itself
			return err
		}
		entries, err := os.ReadDir("/")
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := carry(root, "/"+e.Name(), e.Type()); err != nil {
				return fmt.Errorf("/%s: %w", e.Name(), err)
			}
		}
		for _, path := range keep {
			if err := os.MkdirAll(root+path, 0o755); err != nil {
				return err
			}
			if err := unix.Mount(path, root+path, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		if err := os.Chdir(root); err != nil {
			return err
		}
		if err := unix.PivotRoot(".", "."); err != nil {
			return fmt.Errorf("pivot_root: %w", err)
		}
		if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
			return err
		}
		return os.Chdir("/")
	}
}

// carry brings one entry of the old root into the new one.
func carry(root, path string, kind os.FileMode) error {
	to := root + path
	switch {
	case path == "/sys":
		return os.Mkdir(to, 0o755)
	case kind.IsDir():
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
	case kind&os.ModeSymlink != 0:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	default:
		if err := os.WriteFile(to, nil, 0o644); err != nil {
			return err
		}
	}
	return unix.Mount(path, to, "", unix.MS_BIND|unix.MS_REC, "")
}

// setting writes a setting of the kernel that belongs to the namespaces made
// for the host.
func setting(name, value string) error {
	path := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return &unmade{err.Error()}
	}
	defer f.Close()
	if _, err := f.WriteString(value); err != nil {
		return &unmade{err.Error()}
	}
	return nil
}

// ownProc mounts the /proc of a new pid namespace.
func ownProc() error {
	return unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
}
