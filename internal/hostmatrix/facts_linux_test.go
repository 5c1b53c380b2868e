//go:build amd64 || arm64

package hostmatrix

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/sys"
	"github.com/bvisor/bvisor/internal/tty"
)

// wordExercise makes this binary try what one fact is about.
const wordExercise = "exercise"

var factText = regexp.MustCompile(`^([a-z0-9_]+(?:\.[a-z0-9_.-]+)?) is ([a-z0-9-]+)(?: \(([^)]*)\))?, `)

// factOf takes the name, and the errno or what else there is instead of it, out
// of a reason's fact.
func factOf(text string) (name, detail string, ok bool) {
	m := factText.FindStringSubmatch(text)
	if m == nil {
		return "", "", false
	}
	if m[2] != "unavailable" {
		return m[1], m[2], true
	}
	return m[1], m[3], true
}

// exercise is how somebody who knows nothing of the probe finds the same out.
type exercise struct {
	prefix string  // of the fact's name
	flags  uintptr // namespaces, beside one for users where it can be made
	try    func() error
}

var exercises = []exercise{
	{"loopback.alone", unix.CLONE_NEWNET, func() error {
		if _, err := net.InterfaceByIndex(2); err == nil {
			return unix.EEXIST
		}
		return nil
	}},
	{"terminal.pty", 0, func() error {
		fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Close(fd)
		}
		return err
	}},
	{"terminal.name", unix.CLONE_NEWNS, func() error {
		name, err := os.Readlink("/proc/self/fd/0")
		if err == nil && !strings.HasPrefix(name, "/dev/pts/") {
			err = unix.ESTALE // as the launcher's comparison says it
		}
		return err
	}},
	{"cgroup.birth", 0, cloneNothing},
	{"namespace.user", unix.CLONE_NEWUSER, nil},
	{"namespace.mnt", unix.CLONE_NEWNS, nil},
	{"namespace.pid", unix.CLONE_NEWPID, nil},
	{"namespace.ipc", unix.CLONE_NEWIPC, nil},
	{"namespace.uts", unix.CLONE_NEWUTS, nil},
	{"namespace.cgroup", unix.CLONE_NEWCGROUP, nil},
	{"namespace.net", unix.CLONE_NEWNET, nil},
	{"mount.proc", unix.CLONE_NEWNS | unix.CLONE_NEWPID, func() error { return unix.Mount("proc", "/proc", "proc", unix.MS_RDONLY, "") }},
	{"mount.", unix.CLONE_NEWNS, func() error { return unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
	{"landlock.", 0, func() error { _, err := sys.LandlockABI(); return err }},
	{"seccomp.", 0, func() error { _, err := load(filter{}.compile(), 0); return err }},
	{"launcher", 0, func() error {
		fd, err := unix.MemfdCreate("x", 0)
		if err != nil {
			return err
		}
		if _, err := unix.Write(fd, []byte("#!/nothing\n")); err != nil {
			return err
		}
		return syscall.Exec(fmt.Sprint("/proc/self/fd/", fd), []string{"x"}, nil)
	}},
}

func exerciseOf(fact string) (exercise, bool) {
	for _, e := range exercises {
		if strings.HasPrefix(fact, e.prefix) {
			return e, true
		}
	}
	return exercise{}, false
}

const noError = "no error"

// exerciseApart has a child try it and returns the errno's name, or noError.
func exerciseApart(fact string) string {
	if fact == groupFact {
		return group()
	}
	e, ok := exerciseOf(fact)
	if !ok {
		return "nobody knows how to exercise it"
	}
	flags := e.flags
	if flags != 0 && flags&unix.CLONE_NEWUSER == 0 && child(fact, unix.CLONE_NEWUSER, false) == nil {
		flags |= unix.CLONE_NEWUSER // where there is none, root can make the others without
	}
	err := child(fact, flags, e.try != nil)
	if err == nil {
		return noError
	}
	if n, ok := errors.AsType[unix.Errno](err); ok {
		return unix.ErrnoName(n)
	}
	return err.Error()
}

// child is made in new namespaces and, if it is to, tries what the fact is about.
func child(fact string, flags uintptr, tries bool) error {
	cmd := exec.CommandContext(context.Background(), exeOf(), wordExercise, fact)
	if !tries {
		cmd.Args = act("exit", "0")
	}
	cmd.Stderr = os.Stderr
	if master, slave, err := tty.Open(); err == nil {
		defer master.Close()
		defer slave.Close()
		cmd.Stdin = slave
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if flags&unix.CLONE_NEWUSER != 0 {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	err := cmd.Run()
	if x, ok := errors.AsType[*exec.ExitError](err); ok && x.ExitCode() > 0 {
		return unix.Errno(x.ExitCode())
	}
	return err
}

// exerciseAlone is that child. Its exit status is the errno.
func exerciseAlone(fact string) int {
	e, ok := exerciseOf(fact)
	if !ok {
		return 255
	}
	runtime.LockOSThread()
	if n, ok := errors.AsType[unix.Errno](e.try()); ok {
		return int(n)
	}
	return 0
}
