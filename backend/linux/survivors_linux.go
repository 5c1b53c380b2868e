//go:build amd64 || arm64

package linux

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/procfs"
	"github.com/bvisor/bvisor/plan"
)

// treePatience is how long a tree that was let go may take to be gone. Who waits
// in the kernel for a device or a file system that does not answer cannot be
// killed before it does (TASK_UNINTERRUPTIBLE), and the run does not wait for that.
const treePatience = 10 * time.Second

// letGo has everything end, and after treePatience the wait for that. A launcher
// that somebody stopped could not end anything. It is reaped after this only.
func (l *booted) letGo() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.late == nil {
		l.control.Close()
		_ = unix.Kill(l.pid, unix.SIGCONT) // it may have ended
		l.late = time.AfterFunc(treePatience, l.abandon)
	}
}

func (l *booted) abandon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.status >= 0 {
		l.abandoned = unix.Shutdown(l.status, unix.SHUT_RD) == nil
	}
}

// isAbandoned says that the wait ended before the launcher did.
func (l *booted) isAbandoned() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.abandoned
}

// countSurvivors is for when everything was killed.
func (r *run) countSurvivors() (int, error) {
	if r.leaf != nil {
		pids, err := r.leaf.Processes()
		return len(pids), err
	}
	if !holds(r.launch.Plan, plan.PIDNamespace) || r.settled == nil {
		return 1, nil // the filter leaves one process
	}
	dir, err := os.Open("/proc")
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	n := 0
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && r.isInside(pid) {
			n++
		}
	}
	return n, err
}

// isInside says whether a process is in the workload's pid namespace, and is not
// init, which ends last.
func (r *run) isInside(pid int) bool {
	at := slices.Index(procfs.NamespaceNames, "pid")
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil || ns != "pid:["+r.settled.namespaces[at]+"]" {
		return false // elsewhere, gone, or another user's
	}
	p, err := procfs.Open(pid)
	if err != nil {
		return false
	}
	defer p.Close()
	s, err := p.Status()
	return err == nil && s.PPid != r.launcher.pid
}
