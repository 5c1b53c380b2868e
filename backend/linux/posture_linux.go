//go:build amd64 || arm64

package linux

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/procfs"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// ownNamespaces are the supervisor's, for comparison. A Go process cannot
// leave them: setns(2) and unshare(2) change one thread, and this reads the
// first thread's.
var ownNamespaces = sync.OnceValues(func() ([]string, error) {
	p, err := procfs.Open(unix.Getpid())
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return p.Namespaces()
})

// settled is what the kernel says of a workload that does not change any more
// before its exec: namespaces, limits, descriptors, session. It is read while
// the workload enters its domain and filter.
type settled struct {
	namespaces  []string
	limits      []report.Limit
	descriptors []procfs.Descriptor
	session     int
	terminal    string         // the controlling one; empty is none
	memory      *privateMemory // nil without a budget, or where none of it is shown
	lacks       []string       // of what the plan has in the file system
}

func readSettled(pid int, pl plan.Plan) (*settled, error) {
	p, err := procfs.Open(pid)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	s := &settled{}
	if s.descriptors, err = p.Descriptors(); err != nil {
		return nil, err
	}
	if s.namespaces, err = p.Namespaces(); err != nil {
		return nil, err
	}
	st, err := p.Stat()
	if err != nil {
		return nil, err
	}
	if s.session = st.Session; st.Terminal != 0 {
		s.terminal = deviceNumber(unix.Major(st.Terminal), unix.Minor(st.Terminal))
	}
	for _, l := range rlimits {
		var got unix.Rlimit
		if err := unix.Prlimit(pid, l.resource, nil, &got); err != nil {
			return nil, fmt.Errorf("prlimit %s: %w", l.name, err)
		}
		s.limits = append(s.limits, report.Limit{Name: l.name, Soft: bounded(got.Cur), Hard: bounded(got.Max)})
	}
	s.readStorage(p, pl)
	s.readHeld(p, pl.Resolved.Roots)
	return s, nil
}

// readPosture asks the kernel about the workload while it waits at the
// barrier. What it lacks of the plan keeps the barrier shut.
func (r *run) readPosture() {
	if !r.confined() || r.fault != nil {
		return
	}
	if r.settled == nil {
		r.fault = fmt.Errorf("read back the posture: %w", r.unread)
		return
	}
	if r.workload, r.fault = unix.PidfdOpen(r.pid, 0); r.fault != nil {
		r.workload = -1
		return
	}
	if r.posture, r.fault = r.settled.posture(r.pid); r.fault != nil {
		r.fault = fmt.Errorf("read back the posture: %w", r.fault)
		return
	}
	if holds(r.launch.Plan, plan.NetworkLoopback) {
		if r.posture.Network, r.fault = readNetwork(r.pid); r.fault != nil {
			r.fault = fmt.Errorf("read back the network: %w", r.fault)
			return
		}
	}
	r.readBudgets()
	lacks := append(lacking(r.launch.Plan, r.posture, r.slots), r.settled.lacks...)
	if r.terminal != nil && r.posture.Terminal != r.terminal.number {
		lacks = append(lacks, "its controlling terminal is "+strconv.Quote(r.posture.Terminal)+", expected "+r.terminal.number)
	}
	elsewhere, err := r.readGroup()
	if err != nil && !hasEnded(r.workload) {
		r.fault = fmt.Errorf("read back the cgroup: %w", err)
		return
	}
	lacks = append(lacks, elsewhere...)
	if changed, err := r.executableChanged(); err != nil || changed {
		lacks = append(lacks, "the executable changed after it was hashed")
	}
	if len(lacks) > 0 && (r.posture.Umask == "" || hasEnded(r.workload)) {
		// Of a process that is ending /proc has little to say, first of all no
		// umask (task_state in fs/proc/array.c). It executes nothing any more,
		// and who ended it is told by what comes next.
		r.posture, r.readBack = nil, nil
		return
	}
	r.mismatch = strings.Join(lacks, "; ")
}

// hasEnded says whether a process has, by its pidfd.
func hasEnded(pidfd int) bool {
	p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, 0)
		if err != unix.EINTR {
			return err == nil && n == 1
		}
	}
}

// bounded is a limit as a report writes it.
func bounded(limit uint64) int64 {
	if limit > 1<<53-1 {
		return -1
	}
	return int64(limit)
}

// posture reads what the last steps changed and joins it with the rest.
func (s *settled) posture(pid int) (*report.Posture, error) {
	own, err := ownNamespaces()
	if err != nil {
		return nil, err
	}
	p, err := procfs.Open(pid)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	st, err := p.Status()
	if err != nil {
		return nil, err
	}
	out := &report.Posture{
		NoNewPrivs: st.NoNewPrivs, Seccomp: st.Seccomp, SeccompFilters: max(st.Filters, 0),
		Capabilities: report.Capabilities{Inheritable: st.CapInh, Permitted: st.CapPrm, Effective: st.CapEff, Bounding: st.CapBnd, Ambient: st.CapAmb},
		UID:          st.UID, GID: st.GID, Umask: st.Umask, SignalsIgnored: st.SigIgn, SignalsBlocked: st.SigBlk,
		Session: s.session == pid, Terminal: s.terminal, Limits: s.limits,
	}
	for i, name := range procfs.NamespaceNames {
		out.Namespaces = append(out.Namespaces, report.Namespace{Name: name, ID: s.namespaces[i], Own: s.namespaces[i] != own[i]})
	}
	for _, d := range s.descriptors {
		out.Descriptors = append(out.Descriptors, report.PostureDescriptor{FD: d.FD, Kind: d.Kind, Survive: !d.CloExec})
	}
	return out, nil
}

// namespaceOf maps requirement kinds to entries of /proc/PID/ns.
var namespaceOf = map[plan.Kind]string{
	plan.UserNamespace: "user", plan.PIDNamespace: "pid", plan.MountNamespace: "mnt", plan.IPCNamespace: "ipc",
	plan.UTSNamespace: "uts", plan.CgroupNamespace: "cgroup", plan.NetworkNamespace: "net",
}

// lacking compares the posture with the plan; each difference is one text.
func lacking(p plan.Plan, got *report.Posture, s slots) []string {
	var lacks []string
	expect := func(ok bool, format string, args ...any) {
		if !ok {
			lacks = append(lacks, fmt.Sprintf(format, args...))
		}
	}
	for _, r := range p.Requirements {
		switch r.Kind {
		case plan.NoNewPrivileges:
			expect(got.NoNewPrivs == 1, "NoNewPrivs is %d, expected 1", got.NoNewPrivs)
		case plan.CallFilter:
			expect(got.Seccomp == 2, "Seccomp is %d, expected 2", got.Seccomp)
			if own := ownFilters(); observed(p) && own >= 0 && got.SeccompFilters >= 0 {
				expect(got.SeccompFilters == own+2, "Seccomp_filters is %d, expected the %d of the supervisor, the observer and the filter", got.SeccompFilters, own)
			}
		case plan.NoCapabilities:
			for _, set := range []string{got.Capabilities.Inheritable, got.Capabilities.Permitted, got.Capabilities.Effective, got.Capabilities.Bounding, got.Capabilities.Ambient} {
				expect(strings.Trim(set, "0") == "", "a capability set is %s, expected none", set)
			}
		case plan.NewSession:
			expect(got.Session, "it leads no session of its own")
			expect(got.Terminal == "" || holds(p, plan.Terminal), "it has the controlling terminal %s, expected none", got.Terminal) // setsid(2) leaves it without
		case plan.NoCoreDumps:
			i := slices.IndexFunc(got.Limits, func(l report.Limit) bool { return l.Name == "core" })
			expect(got.Limits[i].Hard == coreLimit && got.Limits[i].Soft == coreLimit, "the core limit is %d, expected %d", got.Limits[i].Hard, coreLimit)
		case plan.FixedUmask:
			expect(got.Umask == "0022", "the umask is %s, expected 0022", got.Umask)
		case plan.DefaultSignals:
			expect(strings.Trim(got.SignalsIgnored+got.SignalsBlocked, "0") == "", "signals are ignored (%s) or blocked (%s)", got.SignalsIgnored, got.SignalsBlocked)
		}
		if r.Kind == plan.NetworkLoopback {
			lacks = append(lacks, lackingLoopback(r, got.Network)...)
		}
		if name := namespaceOf[r.Kind]; name != "" {
			i := slices.IndexFunc(got.Namespaces, func(n report.Namespace) bool { return n.Name == name })
			expect(got.Namespaces[i].Own, "the %s namespace is the supervisor's", name)
		}
	}
	for _, b := range p.Budgets {
		if want, ok := rlimitOf(b); ok {
			i := slices.IndexFunc(got.Limits, func(l report.Limit) bool { return l.Name == want.name })
			expect(got.Limits[i].Soft == want.value && got.Limits[i].Hard == want.value, "%s is %d, expected %d", want.text, got.Limits[i].Hard, want.value)
		}
	}
	expect(got.UID == p.Resolved.UID && got.GID == p.Resolved.GID, "its ids are %d:%d, expected %d:%d", got.UID, got.GID, p.Resolved.UID, p.Resolved.GID)
	var survive []int
	for _, d := range got.Descriptors {
		if d.Survive {
			survive = append(survive, d.FD)
		}
	}
	want := append([]int{0, 1, 2}, s.passed...)
	expect(slices.Equal(survive, want), "descriptors %v survive exec, expected %v", survive, want)
	return lacks
}

// readBudgets reads back what was set.
func (r *run) readBudgets() {
	r.readBack = map[spec.Dimension]int64{}
	for _, b := range r.launch.Plan.Budgets {
		if want, ok := rlimitOf(b); ok {
			i := slices.IndexFunc(r.posture.Limits, func(l report.Limit) bool { return l.Name == want.name })
			r.readBack[b.Dimension] = r.posture.Limits[i].Hard*want.unit - want.ours
		}
	}
	if m := r.settled.memory; m != nil {
		r.readBack[spec.Storage] = m.size
	}
	maps.Copy(r.readBack, r.limited)
}

// executableChanged compares the program with what was hashed: a file can be
// written in place without changing its inode.
func (r *run) executableChanged() (bool, error) {
	if r.res.exe == nil {
		return false, nil
	}
	var now unix.Stat_t
	if err := unix.Fstat(r.res.exe.fd, &now); err != nil {
		return false, err
	}
	return version(&now) != version(&r.res.exe.stat), nil
}

// becameProgram says whether a process has executed a program since it was
// forked: PF_FORKNOEXEC is gone from its flags (proc_pid_stat(5), field 9). The
// pidfd tells that the number still is the process's.
func becameProgram(pid, pidfd int) bool {
	const forkNoExec = 0x40
	p, err := procfs.Open(pid)
	if err != nil {
		return false
	}
	defer p.Close()
	st, err := p.Stat()
	return err == nil && st.Flags&forkNoExec == 0 && unix.PidfdSendSignal(pidfd, 0, nil, 0) == nil
}
