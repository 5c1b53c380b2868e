//go:build amd64 || arm64

package linux

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/cgroup"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// cpuInterval is the shortest time between two looks at cpu.stat. Until the
// next one the tree can use at most that times the number of processors, so no
// more than this is overrun; what was used in the end stands in the report.
const cpuInterval = 5 * time.Millisecond

// meter ends a run whose group has reached a limit that the kernel does not end
// it for: time on processors is only counted, and a fork beyond the limit is
// only refused. For a lack of memory the kernel kills the group itself, after it
// has counted it (mem_cgroup_oom in mm/memcontrol.c), so that either may be first.
type meter struct {
	leaf     *cgroup.Leaf
	watch    *watch
	cpu      int64 // nanoseconds since before; 0 is no limit
	before   int64
	events   []event
	ownForks bool // see accounts
	full     bool // likewise; to be read when it has finished
	wake     int  // eventfd(2): written to, the meter ends
	finished chan struct{}
}

// event is a counter that must stay at zero.
type event struct {
	file    *cgroup.Events
	counter string
	budget  plan.BudgetPlan
}

// beginMeter starts to watch the leaf right before the barrier opens.
func (r *run) beginMeter() error {
	if r.leaf == nil {
		return nil
	}
	var err error
	if r.cpuBefore, err = cpuTime(r.leaf); err != nil {
		return err
	}
	m := &meter{leaf: r.leaf, watch: r.watch, before: r.cpuBefore, ownForks: r.ownForks, wake: -1, finished: make(chan struct{})}
	for _, b := range r.launch.Plan.Budgets {
		file, counter := "", ""
		switch {
		case by(b, mechanismCPU):
			m.cpu = b.Limit
		case by(b, mechanismPids):
			file, counter = "pids.events", "max"
		case by(b, mechanismMemory):
			file, counter = "memory.events", "oom"
		}
		if file != "" {
			f, err := r.leaf.Events(file)
			if err != nil {
				m.close()
				return err
			}
			m.events = append(m.events, event{f, counter, b})
		}
	}
	if m.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		m.close()
		return err
	}
	r.meter = m
	go m.run()
	return nil
}

func (m *meter) close() {
	for _, e := range m.events {
		e.file.Close()
	}
	if m.wake >= 0 {
		unix.Close(m.wake)
	}
}

// finish ends the meter; it has no further effect then.
func (m *meter) finish() {
	if m == nil {
		return
	}
	_, _ = unix.Write(m.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // of a counter at zero it cannot fail
	<-m.finished
	m.close()
}

// run ends with the first limit that was reached. A figure that cannot be read
// ends the run, too: nothing may go on unmetered.
func (m *meter) run() {
	defer close(m.finished)
	poll := []unix.PollFd{{Fd: int32(m.wake), Events: unix.POLLIN}}
	for _, e := range m.events {
		poll = append(poll, unix.PollFd{Fd: int32(e.file.FD()), Events: unix.POLLPRI})
	}
	for {
		next, err := m.look()
		if err != nil {
			m.watch.kill(report.Outcome{Status: report.SupervisorFault, Reason: "read the group's figures: " + err.Error()})
			return
		}
		if next < 0 {
			return
		}
		timeout := -1
		if m.cpu > 0 {
			timeout = int((next + time.Millisecond - 1) / time.Millisecond)
		}
		if _, err := unix.Poll(poll, timeout); err != nil && err != unix.EINTR {
			m.watch.kill(report.Outcome{Status: report.SupervisorFault, Reason: "poll the group's events: " + err.Error()})
			return
		}
		if poll[0].Revents != 0 {
			return
		}
	}
}

// look kills the run if a limit was reached, which it says by a negative time;
// otherwise it says when to look at the processor time again.
func (m *meter) look() (time.Duration, error) {
	over := func(d spec.Dimension) (time.Duration, error) {
		m.watch.kill(report.Outcome{Status: report.BudgetExceeded, Reason: string(d)})
		return -1, nil
	}
	for _, e := range m.events {
		c, err := e.file.Counters()
		if err != nil {
			return 0, err
		}
		if c[e.counter] > 0 {
			a := accounts{pids: c, memory: c, ownForks: m.ownForks}
			if by(e.budget, mechanismPids) {
				if err := m.countProcesses(&a, e.budget.Limit); err != nil {
					return 0, err
				}
			}
			if a.exceeds(e.budget) {
				return over(e.budget.Dimension)
			}
		}
	}
	if m.cpu == 0 {
		return 0, nil
	}
	used, err := cpuTime(m.leaf)
	if err != nil {
		return 0, err
	}
	left := m.cpu - (used - m.before)
	if left < 0 {
		return over(spec.CPU)
	}
	return max(time.Duration(left/processors()), cpuInterval), nil
}

// countProcesses fills in whether the leaf has been full.
func (m *meter) countProcesses(a *accounts, limit int64) error {
	now, err := m.leaf.Number("pids.current")
	if err != nil {
		return err
	}
	m.full = m.full || now >= limit
	a.full = m.full
	if !m.leaf.Has("pids.peak") {
		return nil
	}
	most, err := m.leaf.Number("pids.peak")
	a.peakProcesses = &most
	return err
}

// processors is how many can be used at one time. They need not be those that
// the supervisor may use: the workload can widen its own set up to all that its
// group has (sched_setaffinity(2)), and more of them may come to life. Where
// the number cannot be had, the time is looked at as often as at all.
var processors = sync.OnceValue(func() int64 {
	text, err := os.ReadFile("/sys/devices/system/cpu/possible")
	n, e := countProcessors(string(text))
	if err != nil || e != nil {
		return 1 << 20
	}
	return n
})

// countProcessors counts a list such as "0-3,8" (cputopology.rst).
func countProcessors(list string) (n int64, err error) {
	for part := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 31)
		to, e := strconv.ParseUint(last, 10, 31)
		if err != nil || e != nil || to < from {
			return 0, fmt.Errorf("%q is no list of processors", list)
		}
		n += int64(to-from) + 1
	}
	return n, nil
}
