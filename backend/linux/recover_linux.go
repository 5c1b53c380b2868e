//go:build amd64 || arm64

package linux

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/cgroup"
	"github.com/bvisor/bvisor/internal/recovery"
)

// launcherName is the one argument of every launcher, and with it of init and of
// the workload until its exec. It names the supervisor to whoever recovers what
// that left.
func launcherName(of recovery.Process) string { return "bvisor-launcher " + of.Mark() }

// Supervisor implements recovery.Prober.
func (b *Backend) Supervisor(i recovery.Intent) (recovery.Life, string) {
	s, self := i.Supervisor, recovery.Self()
	if s.PIDNamespace != self.PIDNamespace || s.PIDNamespace == "" {
		return recovery.Unknown, "it has a pid namespace of its own; recover where it ran"
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.PID))
	if err != nil {
		// Without the file it is gone, unless /proc hides it (proc(5), hidepid).
		if kerr := unix.Kill(s.PID, 0); errors.Is(kerr, unix.ESRCH) {
			return recovery.Gone, ""
		}
		return recovery.Unknown, err.Error()
	}
	stat, ok := recovery.ParseStat(text)
	switch {
	case !ok || s.Start == "":
		return recovery.Unknown, "when it was started cannot be told"
	case stat.Start != s.Start:
		return recovery.Gone, "" // the number is another's
	case stat.State == "Z" && stat.Threads == "1" || stat.State == "X":
		return recovery.Gone, "" // nobody has reaped it; its descriptors are closed
	}
	return recovery.Alive, ""
}

// Find implements recovery.Prober.
func (b *Backend) Find(i recovery.Intent) ([]recovery.Trace, error) {
	var list []recovery.Trace
	pids, err := marked(i.Supervisor)
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		list = append(list, recovery.Trace{Kind: recovery.TraceProcess, Name: strconv.Itoa(pid)})
	}
	leaf, err := cgroup.Left(b.parent, i.Attempt)
	if err != nil {
		return nil, err
	}
	if leaf != nil {
		list = append(list, recovery.Trace{Kind: recovery.TraceGroup, Name: leaf.Path()})
		leaf.Close()
	}
	for _, name := range i.Placeholders {
		p, err := leftPlaceholder(name)
		if err != nil {
			return nil, err
		}
		if p != nil {
			p.close()
			list = append(list, recovery.Trace{Kind: recovery.TracePlaceholder, Name: name})
		}
	}
	return list, nil
}

// marked are the launchers of a supervisor, and what they became without an
// exec. When none is left nothing of a boundary is: the workload dies with init
// (pid_namespaces(7)), and init is gone only after everything in it.
func marked(of recovery.Process) ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && isMarked(pid, of) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func isMarked(pid int, of recovery.Process) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && string(line) == launcherName(of)+"\x00" // of a zombie it is empty
}

// Sweep implements recovery.Prober.
func (b *Backend) Sweep(i recovery.Intent, t recovery.Trace) error {
	switch t.Kind {
	case recovery.TraceProcess:
		pid, err := strconv.Atoi(t.Name)
		if err != nil {
			return err
		}
		return kill(pid, i.Supervisor)
	case recovery.TraceGroup:
		leaf, err := cgroup.Left(b.parent, i.Attempt)
		if err != nil || leaf == nil {
			return err
		}
		if err = leaf.Kill(); err == nil {
			_, err = leaf.Empty(patience)
		}
		return errors.Join(err, leaf.Remove())
	case recovery.TracePlaceholder:
		p, err := leftPlaceholder(t.Name)
		if err != nil || p == nil {
			return err
		}
		defer p.close()
		if err := unix.Unlinkat(p.parent, path.Base(p.path), 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove %s: %w", p.path, err)
		}
		return nil
	}
	return fmt.Errorf("bug: the linux backend leaves no %s", t.Kind)
}

// patience is how long a process that was killed may take to be gone.
const patience = 10 * time.Second

// kill kills a launcher of a supervisor that is gone, and waits for its end.
func kill(pid int, of recovery.Process) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pidfd of %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if !isMarked(pid, of) {
		return nil // it ended, and the number is another's
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill %d: %w", pid, err)
	}
	for until := time.Now().Add(patience); ; {
		left := time.Until(until)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(max(left.Milliseconds(), 0)))
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for %d: %w", pid, err)
		case left <= 0:
			return fmt.Errorf("process %d was killed and is not gone after %s", pid, patience)
		}
	}
}

// leftPlaceholder opens a placeholder that nobody uses; nil is none.
func leftPlaceholder(name string) (*placeholder, error) {
	dir, err := lookup(path.Dir(name))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("placeholder %s: %w", name, err)
	}
	p := &placeholder{path: name, parent: dir.fd}
	p.fd, err = unix.Openat(p.parent, path.Base(name), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(p.parent)
		// Not there, or something else of somebody's by now.
		return nil, nil
	}
	if unix.Fstat(p.fd, &p.stat) != nil || !isPlaceholder(&p.stat) || unix.Flock(p.fd, unix.LOCK_EX|unix.LOCK_NB) != nil || !p.current() {
		p.close()
		return nil, nil
	}
	return p, nil
}

func (p *placeholder) close() {
	unix.Close(p.fd)
	unix.Close(p.parent)
}
