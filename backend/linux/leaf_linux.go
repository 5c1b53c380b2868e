//go:build amd64 || arm64

package linux

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/cgroup"
	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/internal/procfs"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// The workload alone is born in the leaf: init and launcher stay outside, so
// they outlive its end, and no limit has to allow for them.

// prefixLeaf begins the names of the mechanisms that need a leaf.
const prefixLeaf = "cgroup2."

const (
	mechanismPids   = prefixLeaf + "pids.max"
	mechanismMemory = prefixLeaf + "memory.max"
	mechanismCPU    = prefixLeaf + "cpu.stat"
	mechanismRate   = prefixLeaf + "cpu.max"
	mechanismKill   = prefixLeaf + "cgroup.kill"

	mechanismNproc = "rlimit.nproc"
	mechanismAS    = "rlimit.as"
	mechanismSecs  = "rlimit.cpu"
	mechanismFiles = "rlimit.nofile"
)

// uses says whether a plan holds something by a mechanism whose name begins so.
func uses(p plan.Plan, prefix string) bool {
	named := func(m plan.Mechanism) bool { return strings.HasPrefix(m.Name, prefix) }
	return slices.ContainsFunc(p.Budgets, func(b plan.BudgetPlan) bool { return slices.ContainsFunc(b.Mechanisms, named) }) ||
		slices.ContainsFunc(p.Requirements, func(r plan.Requirement) bool { return slices.ContainsFunc(r.Mechanisms, named) })
}

// by says whether a budget is held by that mechanism.
func by(b plan.BudgetPlan, name string) bool {
	return slices.ContainsFunc(b.Mechanisms, func(m plan.Mechanism) bool { return m.Name == name })
}

// sweepPatience is how long the killed processes of a crashed supervisor may
// take to be gone before their group is left for the next sweep.
const sweepPatience = time.Second

// place finds the group below which leaves are made, once, and removes what
// crashed supervisors left there.
func (b *Backend) place() (*cgroup.Place, error) {
	b.groups.Do(func() {
		if b.below, b.belowErr = cgroup.Find(b.parent); b.belowErr == nil {
			// One that cannot be removed now is in nobody's way.
			_, _ = b.below.Sweep(sweepPatience)
		}
	})
	return b.below, b.belowErr
}

// makeLeaf makes the run's group with its limits, each read back.
func (r *run) makeLeaf() error {
	if !uses(r.launch.Plan, prefixLeaf) {
		return nil
	}
	place, err := r.backend.place()
	if err != nil {
		return err
	}
	name := r.launch.Attempt
	if name == "" { // armed for a run to come
		id := make([]byte, 16)
		rand.Read(id)
		name = "armed-" + hex.EncodeToString(id)
	}
	if r.leaf, err = place.Leaf(name); err != nil {
		return err
	}
	r.group, r.ownForks = place.Group()+"/"+name, place.CountsOwn(r.leaf)
	r.limited = map[spec.Dimension]int64{}
	for _, b := range r.launch.Plan.Budgets {
		if err := r.limit(place, b); err != nil {
			return err
		}
	}
	slices.SortFunc(r.files, func(a, b plan.Param) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// removeLeaf is the last of a run. One that was let go before it ran has nobody
// in it, but for a workload that is not in a pid namespace: its parent's death
// is its own a little later.
func (r *run) removeLeaf() error {
	if r.leaf == nil {
		return nil
	}
	var err error
	if r.accounts == nil {
		if err = r.leaf.Kill(); err == nil {
			_, err = r.leaf.Empty(emptyPatience)
		}
	}
	return errors.Join(err, r.leaf.Remove())
}

// limit writes one budget's limits. What the kernel then says is what counts.
func (r *run) limit(place *cgroup.Place, b plan.BudgetPlan) error {
	set := func(file, value, want string) error {
		got, err := r.leaf.Set(file, value)
		if err == nil && got != want {
			err = fmt.Errorf("%s says %q after %q was written, expected %q", file, got, value, want)
		}
		r.files = append(r.files, plan.Param{Name: file, Value: got})
		return err
	}
	same := func(file, value string) error { return set(file, value, value) }
	switch {
	case by(b, mechanismPids):
		r.limited[b.Dimension] = b.Limit
		return same("pids.max", strconv.FormatInt(b.Limit, 10))
	case by(b, mechanismMemory):
		for _, size := range place.HugePages {
			if err := same("hugetlb."+size+".max", "0"); err != nil { // they are not memory to the other controller
				return err
			}
		}
		pages := b.Limit &^ (int64(os.Getpagesize()) - 1) // page_counter_memparse rounds down
		r.limited[b.Dimension] = pages
		return errors.Join(same("memory.swap.max", "0"), same("memory.oom.group", "1"),
			set("memory.max", strconv.FormatInt(b.Limit, 10), strconv.FormatInt(pages, 10)))
	case by(b, mechanismRate):
		return same("cpu.max", rateWords(b.Rate))
	}
	return nil
}

// ratePeriod is the period of cpu.max, in microseconds: the kernel's default.
const ratePeriod = 100_000

// rateWords is what cpu.max is to say for so many thousandths of a processor.
func rateWords(rate int64) string { return fmt.Sprintf("%d %d", rate*ratePeriod/1000, ratePeriod) }

// readGroup compares where the kernel says the workload is with its leaf.
func (r *run) readGroup() (lacks []string, err error) {
	if r.leaf == nil {
		return nil, nil
	}
	p, err := procfs.Open(r.pid)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	if r.posture.Cgroup, err = p.Cgroup(); err != nil {
		return nil, err
	}
	if r.posture.Cgroup != r.group {
		lacks = append(lacks, fmt.Sprintf("its cgroup is %q, expected %q", r.posture.Cgroup, r.group))
	}
	return lacks, nil
}

// accounts are the kernel's own figures of a leaf.
type accounts struct {
	cpu                       int64 // nanoseconds since the barrier opened
	peakMemory, peakProcesses *int64
	memory, pids, time        map[string]int64 // memory.events, pids.events, cpu.stat
	ownForks                  bool             // pids.events counts what the leaf's own limit refused, and nothing else
	full                      bool             // there once were as many processes as there may be
}

// cpuTime is what the leaf's processes have used, in nanoseconds.
func cpuTime(l *cgroup.Leaf) (int64, error) {
	c, err := l.Counters("cpu.stat")
	return c["usage_usec"] * 1000, err
}

// account reads them when everything has ended. Without a pid namespace
// something may have left init: it is killed first, and whoever still lives
// then is counted.
func (r *run) account() {
	if r.leaf == nil {
		return
	}
	a := &accounts{ownForks: r.ownForks, full: r.full}
	empty, err := r.leaf.Empty(0)
	if err == nil && !empty {
		r.fault = errors.Join(r.fault, r.leaf.Kill())
		empty, err = r.leaf.Empty(emptyPatience)
	}
	if err == nil && !empty {
		r.survivors, err = r.countSurvivors()
	}
	// An older kernel, or a leaf without the controller, has no such file.
	there := func(e error) bool {
		if !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
		return e == nil
	}
	peak := func(file string) *int64 {
		if n, e := r.leaf.Number(file); there(e) {
			return &n
		}
		return nil
	}
	events := func(file string) map[string]int64 {
		c, e := r.leaf.Counters(file)
		there(e)
		return c
	}
	if err == nil {
		a.time, err = r.leaf.Counters("cpu.stat")
		a.cpu = a.time["usage_usec"]*1000 - r.cpuBefore
	}
	a.peakMemory, a.peakProcesses = peak("memory.peak"), peak("pids.peak")
	a.memory, a.pids = events("memory.events"), events("pids.events")
	if err != nil {
		r.fault = errors.Join(r.fault, fmt.Errorf("read the group's figures: %w", err))
		return
	}
	r.accounts = a
}

// emptyPatience is how long killed processes may take to be gone from a leaf.
const emptyPatience = 2 * time.Second

// exceeds says whether a limit was reached, from the kernel's figures.
func (a *accounts) exceeds(b plan.BudgetPlan) bool {
	switch {
	case a == nil:
		return false
	case by(b, mechanismCPU):
		return a.cpu > b.Limit
	case by(b, mechanismMemory):
		// oom is counted where the limit was, oom_kill where the victim was:
		// the latter alone is a lack of the host's, or of a group above (cgroup-v2.rst).
		return a.memory["oom"] > 0
	case by(b, mechanismPids):
		// Where max also counts forks that a limit above refused, the leaf must
		// have been full. Its peak says so but for a race, in which the kernel
		// loses the highest (pids_update_watermark in kernel/cgroup/pids.c).
		return a.pids["max"] > 0 && (a.ownForks || a.full || a.peakProcesses == nil || *a.peakProcesses >= b.Limit)
	}
	return false
}

// exceeded is the first of the plan's budgets whose limit was reached.
func (r *run) exceeded() spec.Dimension {
	for _, b := range r.launch.Plan.Budgets {
		if r.accounts.exceeds(b) {
			return b.Dimension
		}
	}
	return ""
}

// killedByHost says that a lack of memory that is not the leaf's ended something.
func (a *accounts) killedByHost() bool {
	return a != nil && a.memory["oom_kill"] > 0 && a.memory["oom"] == 0
}

// finding fills in what is known of a budget that the leaf held.
func (a *accounts) finding(b plan.BudgetPlan, res *report.BudgetResult) {
	counted := func(file string, c map[string]int64) {
		for _, name := range slices.Sorted(maps.Keys(c)) {
			res.Events = append(res.Events, plan.Param{Name: file + "." + name, Value: strconv.FormatInt(c[name], 10)})
		}
	}
	switch {
	case a == nil:
		return
	case by(b, mechanismCPU):
		res.Used = &a.cpu
		counted("cpu.stat", a.time)
	case by(b, mechanismMemory):
		res.Peak = a.peakMemory
		counted("memory.events", a.memory)
	case by(b, mechanismPids):
		res.Peak = a.peakProcesses
		counted("pids.events", a.pids)
	default:
		return
	}
	res.Finding = report.Within
	if a.exceeds(b) {
		res.Finding = report.Exceeded
	}
}

// intoLeaf forks the workload into its group.
func (l *lowering) intoLeaf() launcher.Op {
	// struct clone_args of Linux 5.7 (clone3(2)); the exit signal is none.
	zero := launcher.Int(0)
	args := []launcher.Arg{launcher.Flag(unix.CLONE_INTO_CGROUP, "CLONE_INTO_CGROUP")}
	for range 9 {
		args = append(args, zero)
	}
	args = append(args, launcher.Int(l.slots.leaf))
	return l.Call("clone3", unix.SYS_CLONE3, l.Words("{CLONE_INTO_CGROUP, leaf}", args...), launcher.Int(8*len(args)))
}

// A new cgroup namespace has its maker's group as its root (cgroup_namespaces(7)).
// Without a leaf init makes it. With one the workload must, once it is in there,
// and keeps the one capability for it that this takes.

var onlyAdmin = func() []byte {
	set := make([]byte, 24) // effective, permitted, inheritable; then the upper halves
	binary.LittleEndian.PutUint32(set, 1<<unix.CAP_SYS_ADMIN)
	binary.LittleEndian.PutUint32(set[4:], 1<<unix.CAP_SYS_ADMIN)
	return set
}()

// groupRoot is init's last act with capabilities.
func (l *lowering) groupRoot() {
	if l.has(plan.CgroupNamespace) {
		if l.slots.leaf != 0 {
			if l.has(plan.NoCapabilities) {
				l.Call("capset", unix.SYS_CAPSET, l.Bytes(capHeader, "v3"), l.Bytes(onlyAdmin, "CAP_SYS_ADMIN"))
			}
			return
		}
		l.unshareGroup()
	}
	l.noCapabilities()
}

func (l *lowering) unshareGroup() {
	l.Call("unshare", unix.SYS_UNSHARE, launcher.Flag(unix.CLONE_NEWCGROUP, "CLONE_NEWCGROUP"))
}

// enterLeaf is the workload's: it was born in the leaf.
func (l *lowering) enterLeaf() {
	if l.slots.leaf == 0 {
		return
	}
	l.closeEach([]int{l.slots.leaf})
	if l.has(plan.CgroupNamespace) {
		l.unshareGroup()
		l.noCapabilities()
	}
}

// leaveLeaf is init's, after the fork. The barrier stays shut until it is bare.
func (l *lowering) leaveLeaf() {
	if l.slots.leaf == 0 {
		return
	}
	l.closeEach([]int{l.slots.leaf})
	if l.has(plan.CgroupNamespace) {
		l.noCapabilities()
		l.message(launcher.MessageBare)
	}
}
