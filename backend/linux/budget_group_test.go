//go:build linux && (amd64 || arm64)

package linux_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/internal/cgroup"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

var _ = victim.Register(map[string]victim.Act{
	// The eat-* acts take hold of so many MiB, a MiB at a time, and give nothing back.
	"eat-anon":  eat(eatAnon),
	"eat-mlock": eat(func(i int) error { return errors.Join(eatAnon(i), unix.Mlock(eaten[i][:os.Getpagesize()])) }),
	"eat-map": eat(func(int) error {
		_, err := unix.Mmap(-1, 0, mib, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
		return err
	}),
	"eat-memfd": eat(func(int) error {
		fd, err := unix.MemfdCreate("eaten", unix.MFD_CLOEXEC)
		if err != nil {
			return err
		}
		_, err = unix.Write(fd, make([]byte, mib))
		return err
	}),
	"eat-pipes": eat(func(int) error {
		for range 16 { // a pipe holds 64 KiB (pipe(7))
			var p [2]int
			if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
				return err
			}
			if n, err := unix.Write(p[1], make([]byte, 1<<16)); err != nil || n != 1<<16 {
				return fmt.Errorf("pipe took %d: %w", n, err)
			}
		}
		return nil
	}),
	"eat-sockets": eat(func(int) error {
		for room := 0; room < mib; {
			p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				return err
			}
			for err == nil {
				_, err = unix.Write(p[0], make([]byte, 1<<14))
				room += 1 << 14
			}
			if err != unix.EAGAIN {
				return err
			}
		}
		return nil
	}),
	"eat-files": victim.Two(func(dir, amount string) error {
		f, err := os.Create(filepath.Join(dir, "eaten"))
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(amount)
		for range n {
			if err == nil {
				_, err = f.Write(make([]byte, mib))
			}
		}
		return err
	}),
	// Eats in children: each of them stays below what all of them may have.
	"eat-apart": victim.One(func(amount string) error {
		const children = 8
		n, err := strconv.Atoi(amount)
		if err != nil {
			return err
		}
		read, write, err := os.Pipe()
		if err != nil {
			return err
		}
		for range children {
			p, err := os.StartProcess(os.Args[0], []string{os.Args[0], victim.Word, "eat-and-stay", strconv.Itoa(n / children)},
				&os.ProcAttr{Files: []*os.File{nil, write, os.Stderr}})
			if err != nil {
				return err
			}
			defer p.Wait()
			defer p.Kill()
		}
		_, err = io.ReadFull(read, make([]byte, children))
		return err
	}),
	"eat-and-stay": victim.One(func(amount string) error {
		n, err := strconv.Atoi(amount)
		for i := 0; i < n && err == nil; i++ {
			err = eatAnon(i)
		}
		if err != nil {
			return err
		}
		os.Stdout.WriteString(".")
		for {
			time.Sleep(time.Hour)
		}
	}),

	// The start-* acts have so many at one time and end them again.
	"start-forks":   startMany(fork),
	"start-vforks":  startMany(func() error { _, err := anew("linger", "x", nil); return err }),
	"start-threads": startMany(startThread),
	"start-deep":    victim.One(startDeep),

	// The burn-* acts use so many milliseconds of processor time in all.
	"burn-one":     victim.One(func(ms string) error { return burn(ms) }),
	"burn-threads": victim.One(burnThreads),
	"burn-forks":   victim.One(burnForks),

	// Tells what it can see of its group.
	"see-group": func([]string) error {
		own, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			return err
		}
		os.Stdout.Write(own)
		first, err := os.ReadFile("/proc/1/cgroup")
		fmt.Printf("1: %s %v\n", bytes.TrimSpace(first), err)
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		fmt.Printf("mounted: %v\n", strings.Contains(string(mounts), " - cgroup"))
		return err
	},
	// Joins the group whose list of processes is named.
	"join-group": victim.One(func(procs string) error { return write(procs, strconv.Itoa(os.Getpid())) }),
	"set-limit":  victim.Two(write),
})

func write(name, value string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}

var eaten [][]byte

func eatAnon(int) error {
	b, err := unix.Mmap(-1, 0, mib, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	for i := 0; i < mib; i += os.Getpagesize() {
		b[i] = 1
	}
	eaten = append(eaten, b)
	return nil
}

func eat(one func(i int) error) victim.Act {
	return victim.One(func(amount string) error {
		n, err := strconv.Atoi(amount)
		for i := 0; i < n && err == nil; i++ {
			err = one(i)
		}
		return err
	})
}

// grouped are budgets that this host holds by a group.
func grouped(t *testing.T) {
	t.Helper()
	need.Cgroup(t)
	need.MountNamespace(t)
}

// exceeded runs an act that must be stopped by a budget. It may not get to say
// anything itself.
func exceeded(t *testing.T, d spec.Dimension, change mods, act string, args ...string) outcome {
	t.Helper()
	o, err := attempt(t, request(change, act, args...))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := o.Report.Outcome, (report.Outcome{Status: report.BudgetExceeded, Reason: string(d)}); got != want {
		t.Fatalf("%s: %+v, expected %+v; %s; %+v", act, got, want, o.Stderr, o.Report.Budgets)
	}
	if d != spec.Processes && (o.Report.Exit == nil || o.Report.Exit.Signal != int(unix.SIGKILL)) {
		t.Errorf("it ended with %+v, expected to be killed", o.Report.Exit)
	}
	o.groupGone(t)
	return o
}

// groupGone looks for the run's group where the kernel shows groups.
func (o outcome) groupGone(t *testing.T) {
	t.Helper()
	supervisor(t).Wait()
	path := fact(o, report.GroupEmptied)["group"]
	if path == "" || fact(o, report.GroupEmptied)["survivors"] != "0" {
		t.Errorf("the report says of the group: %v", fact(o, report.GroupEmptied))
	}
	if o.Report.Posture.Cgroup != path {
		t.Errorf("the posture has group %q, the end %q", o.Report.Posture.Cgroup, path)
	}
	if _, err := os.Stat("/sys/fs/cgroup" + path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the group is still there: %v", err)
	}
}

func event(b report.BudgetResult, name string) int64 {
	for _, e := range b.Events {
		if e.Name == name {
			n, _ := strconv.ParseInt(e.Value, 10, 64)
			return n
		}
	}
	return -1
}

// Memory of every kind counts, of all processes together, and is the end of all
// of them.
func TestMemoryBudget(t *testing.T) {
	grouped(t)
	used.Store("eat-and-stay", true)
	const limit, amount = 40 * mib, "60" // of pipes an ordinary user gets no more than 64 MiB (pipe-user-pages-soft)
	var kills int64
	for _, act := range []string{"eat-anon", "eat-mlock", "eat-map", "eat-memfd", "eat-pipes", "eat-sockets", "eat-files", "eat-apart"} {
		t.Run(act, func(t *testing.T) {
			if act == "eat-mlock" {
				raise(t, unix.RLIMIT_MEMLOCK)
			}
			args, in := []string{amount}, []string{amount}
			if act == "eat-files" {
				args, in = []string{t.TempDir(), amount}, []string{"/tmp", amount}
			}
			if o := control(t, act, args...); o.Code != 0 {
				t.Fatalf("without a boundary: %s", o.Stderr)
			}
			o := exceeded(t, spec.Memory, mods{spawn(spec.SpawnProcesses), budget(spec.Memory, limit), temp("rwx", "/tmp")}, act, in...)
			b := o.bounded(t, spec.Memory)
			if b.ReadBack == nil || *b.ReadBack != limit || b.Set != limit || b.Finding != report.Exceeded {
				t.Errorf("budget: %+v", b)
			}
			if event(b, "memory.events.oom") < 1 {
				t.Errorf("the kernel's counters: %v", b.Events)
			}
			// Who is not killed by the kernel was by the supervisor, who says so.
			killed := event(b, "memory.events.oom_kill")
			if killed < 1 && fact(o, report.TreeKilled)["emptied"] != "true" {
				t.Errorf("nobody killed it: %v, %+v", b.Events, o.Report.Facts)
			}
			kills += killed
			// The kernel lets itself go beyond by a little (force charge).
			if b.Peak == nil || *b.Peak > limit+mib || *b.Peak < limit/2 {
				t.Errorf("the peak is %d with a limit of %d", *b.Peak, limit)
			}
		})
	}
	if kills < 1 { // the supervisor is quicker only now and then
		t.Error("the kernel has killed nothing by itself")
	}
	o := run(t, mods{budget(spec.Memory, limit)}, "eat-anon", "4")
	if b := o.bounded(t, spec.Memory); o.Code != 0 || b.Finding != report.Within || event(b, "memory.events.oom") != 0 {
		t.Errorf("less than the limit: %d, %+v", o.Code, b)
	}
	o.groupGone(t)
}

func raise(t *testing.T, resource int) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(resource, &old); err != nil {
		t.Fatal(err)
	}
	if old.Max < 256*mib && os.Geteuid() != 0 {
		t.Skipf("an ordinary user may lock %d bytes here, which is less than the budget", old.Max)
	}
	all := unix.Rlimit{Cur: 256 * mib, Max: max(old.Max, 256*mib)}
	if err := unix.Setrlimit(resource, &all); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Setrlimit(resource, &old) })
}

func startMany(one func() error) victim.Act {
	return victim.One(func(count string) error {
		n, err := strconv.Atoi(count)
		for i := 0; i < n && err == nil; i++ {
			if err = one(); err == nil {
				fmt.Println(i)
			}
		}
		return err
	})
}

func startThread() error {
	up := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(up)
		_, _ = unix.Poll(nil, -1)
	}()
	<-up
	return nil
}

// startDeep has each process start the next.
func startDeep(count string) error {
	n, err := strconv.Atoi(count)
	if err != nil || n == 0 {
		return err
	}
	p, err := anew("start-deep", strconv.Itoa(n-1), nil)
	if err != nil {
		return err
	}
	fmt.Println(n)
	st, err := p.Wait()
	if err == nil && st.ExitCode() != 0 {
		err = unix.Errno(max(st.ExitCode(), 1))
	}
	return err
}

// A fork beyond the limit is refused, and the end of the run.
func TestProcessesBudget(t *testing.T) {
	grouped(t)
	for act, count := range map[string]string{"start-forks": "60", "start-vforks": "60", "start-threads": "60", "start-deep": "40"} {
		t.Run(act, func(t *testing.T) {
			limit := int64(40)
			started := controlApart(t, act, count)
			if n := strings.Count(started.Stdout, "\n"); strconv.Itoa(n) != count || started.Code != 0 {
				t.Fatalf("without a boundary %d of %s were started: %s", n, count, started.Stderr)
			}
			o := exceeded(t, spec.Processes, mods{spawn(spec.SpawnProcesses), budget(spec.Processes, limit)}, act, count)
			if n := int64(strings.Count(o.Stdout, "\n")); n >= limit {
				t.Errorf("%d were started with a limit of %d", n, limit)
			}
			b := o.bounded(t, spec.Processes)
			if b.ReadBack == nil || *b.ReadBack != limit || b.Finding != report.Exceeded || event(b, "pids.events.max") < 1 {
				t.Errorf("budget: %+v", b)
			}
			if b.Peak != nil && *b.Peak != limit { // not every kernel has pids.peak
				t.Errorf("the peak is %d, expected the limit of %d", *b.Peak, limit)
			}
		})
	}
	o := run(t, mods{spawn(spec.SpawnProcesses), budget(spec.Processes, 64)}, "start-deep", "2")
	if b := o.bounded(t, spec.Processes); o.Code != 0 || b.Finding != report.Within {
		t.Errorf("less than the limit: %d, %+v", o.Code, b)
	}
}

func burn(ms string) error {
	n, err := strconv.Atoi(ms)
	if err != nil {
		return err
	}
	for {
		var t unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
			return err
		}
		if t.Nano() >= int64(n)*1e6 {
			return nil
		}
	}
}

func burnThreads(ms string) error {
	errs := make([]error, 4)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			runtime.LockOSThread()
			errs[i] = burn(ms)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// burnForks uses the time in children one after the other: none of them alone
// uses much.
func burnForks(ms string) error {
	n, err := strconv.Atoi(ms)
	for i := 0; i < 10 && err == nil; i++ {
		var p *os.Process
		if p, err = anew("burn-one", strconv.Itoa(n/10), nil); err == nil {
			_, err = p.Wait()
		}
	}
	return err
}

// Processor time is that of all processes and threads, those that have ended
// among them.
func TestCPUBudget(t *testing.T) {
	grouped(t)
	const limit = 150 * time.Millisecond
	for act, ms := range map[string]string{"burn-one": "600", "burn-threads": "300", "burn-forks": "600"} {
		t.Run(act, func(t *testing.T) {
			if o := control(t, act, ms); o.Code != 0 {
				t.Fatalf("without a boundary: %s", o.Stderr)
			}
			o := exceeded(t, spec.CPU, mods{spawn(spec.SpawnProcesses), budget(spec.CPU, int64(limit))}, act, ms)
			b := o.bounded(t, spec.CPU)
			if b.Used == nil || *b.Used <= int64(limit) || b.Finding != report.Exceeded || event(b, "cpu.stat.usage_usec")*1000 < *b.Used {
				t.Errorf("budget: %+v", b)
			}
			t.Logf("%v of %v", time.Duration(*b.Used), limit)
		})
	}
	o := run(t, mods{budget(spec.CPU, int64(10*time.Second))}, "burn-one", "50")
	if b := o.bounded(t, spec.CPU); o.Code != 0 || b.Finding != report.Within || b.Used == nil || *b.Used < 50*1e6 {
		t.Errorf("less than the limit: %d, %+v", o.Code, b)
	}
}

// A rate lets nobody use more of a processor than it says: the kernel counts
// the periods in which it stopped the workload.
func TestCPURate(t *testing.T) {
	grouped(t)
	rate := func(s *spec.Spec) {
		s.Budgets = map[spec.Dimension]spec.Budget{spec.CPU: {Limit: int64(time.Minute), Rate: 250, Guarantee: spec.Enforced, Origin: spec.FromSpec}}
	}
	o := run(t, mods{rate}, "burn-one", "200")
	b := o.bounded(t, spec.CPU)
	if o.Code != 0 || event(b, "cpu.stat.nr_throttled") < 1 {
		t.Errorf("%d: %+v", o.Code, b)
	}
	o = run(t, mods{budget(spec.CPU, int64(time.Minute))}, "burn-one", "200")
	if b := o.bounded(t, spec.CPU); event(b, "cpu.stat.nr_throttled") > 0 {
		t.Errorf("throttled without a rate: %+v", b)
	}
}

// What stands in the group's files, and who is in it, as the kernel shows it to
// others while the workload runs.
func TestGroupFromOutside(t *testing.T) {
	grouped(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	l := start(t, ctx, mods{spawn(spec.SpawnProcesses), budget(spec.Memory, 48*mib+1000), budget(spec.Processes, 50), budget(spec.CPU, int64(time.Minute))}, "family")
	eventually(t, "four processes", func() bool { return len(withToken(l.token)) == 4 })
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", l.pid))
	if err != nil {
		t.Fatal(err)
	}
	group := "/sys/fs/cgroup" + strings.TrimSpace(strings.TrimPrefix(string(b), "0::"))
	for name, want := range map[string]string{"memory.max": strconv.Itoa(48 * mib), "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": "50"} {
		got, err := os.ReadFile(filepath.Join(group, name))
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s says %q (%v), expected %s", name, got, err, want)
		}
	}
	procs, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
	if err != nil {
		t.Fatal(err)
	}
	var inside []int
	for f := range strings.FieldsSeq(string(procs)) {
		pid, _ := strconv.Atoi(f)
		inside = append(inside, pid)
	}
	want := withToken(l.token)
	slices.Sort(inside)
	slices.Sort(want)
	if !slices.Equal(inside, want) {
		t.Errorf("the group has %v, expected the workload's %v and neither init nor launcher", inside, want)
	}
	cancel(errors.New("seen"))
	l.wait().groupGone(t)
}

// Nothing of the hierarchy can be seen or written to from inside.
func TestGroupFromInside(t *testing.T) {
	grouped(t)
	limits := mods{budget(spec.Memory, 64*mib), budget(spec.Processes, 50)}
	o := run(t, append(limits, preset("system")), "see-group")
	lines := strings.Split(strings.TrimSpace(o.Stdout), "\n")
	if len(lines) != 3 || lines[0] != "0::/" || !strings.HasPrefix(lines[1], "1:  open /proc/1/cgroup") || lines[2] != "mounted: false" {
		t.Errorf("it sees %q", lines)
	}
	own := "/sys/fs/cgroup" + cgroup.Own()
	place, err := cgroup.Find("")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := place.Leaf(fmt.Sprintf("control-%016x", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(place.Path, leaf.Name)
	t.Cleanup(func() { leaf.Remove() })
	for act, args := range map[string][]string{"join-group": {filepath.Join(own, "cgroup.procs")}, "set-limit": {filepath.Join(path, "memory.max"), "max"}} {
		if o := control(t, act, args...); o.Code != 0 {
			t.Errorf("%s without a boundary: %s", act, o.Stderr)
		}
		o := run(t, limits, act, args...)
		if o.Code != int(unix.ENOENT) || o.Report.Outcome.Status != report.Failed {
			t.Errorf("%s: %d, expected ENOENT; %s", act, o.Code, o.Stderr)
		}
	}
	for _, access := range []spec.Access{"rw", "r"} {
		o, err := attempt(t, request(append(slices.Clone(limits), grant(access, "/sys/fs/cgroup")), "join-group", filepath.Join(own, "cgroup.procs")))
		if access == "rw" && err == nil {
			t.Errorf("a grant of the cgroup tree for writing was taken")
		}
		if access == "r" && (err != nil || o.Code != int(unix.EROFS) && o.Code != int(unix.EACCES)) {
			t.Errorf("with the tree to read: %d, %v", o.Code, err)
		}
	}
}

// What a killed supervisor left is removed by the next one, processes and all;
// what another one is using is not touched.
func TestSweepOfGroups(t *testing.T) {
	grouped(t)
	below, err := cgroup.Find("")
	if err != nil {
		t.Fatal(err)
	}
	begin := func(group string) (*exec.Cmd, string) {
		path := filepath.Join(below.Path, group)
		must(t, os.Mkdir(path, 0o700))
		dir, err := os.Open(path)
		must(t, err)
		defer dir.Close()
		cmd := exec.Command(place.exe, victim.Word, "linger", "x")
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
		must(t, cmd.Start())
		return cmd, path
	}
	orphan, left := begin(fmt.Sprintf("%032x", os.Getpid()))
	other, others := begin("supervisor-of-" + strconv.Itoa(os.Getpid())) // somebody's who lives here, too
	t.Cleanup(func() {
		_ = other.Process.Kill()
		_ = other.Wait()
		must(t, os.Remove(others))
	})
	used, err := below.Leaf(fmt.Sprintf("used-%016x", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { used.Remove() })
	if _, err := linux.New().Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := orphan.Wait(); err == nil || orphan.ProcessState.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL {
		t.Errorf("the orphan ended with %v", err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the group that was left is still there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(below.Path, used.Name)); err != nil {
		t.Errorf("the group in use is gone: %v", err)
	}
	if err := other.Process.Signal(unix.Signal(0)); err != nil {
		t.Errorf("the process in a group that is no leaf: %v", err)
	}
}

// Sixty-four runs at once, half of which exceed a budget, know nothing of each
// other.
func TestManyGroupsAtOnce(t *testing.T) {
	grouped(t)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			limits := mods{spawn(spec.SpawnProcesses), budget(spec.Memory, int64(40+i)*mib), budget(spec.Processes, int64(30+i%3))}
			act, args, want := "exit", []string{"7"}, report.Outcome{Status: report.Failed, Reason: "exit status 7"}
			switch i % 4 {
			case 1:
				act, args, want = "eat-anon", []string{"120"}, report.Outcome{Status: report.BudgetExceeded, Reason: "memory"}
			case 3:
				act, args, want = "start-threads", []string{"60"}, report.Outcome{Status: report.BudgetExceeded, Reason: "processes"}
			}
			o, err := attempt(t, request(limits, act, args...))
			if err != nil || o.Report.Outcome != want {
				t.Errorf("run %d: %+v, %v; expected %+v", i, o.Report.Outcome, err, want)
				return
			}
			if b := o.bounded(t, spec.Memory); b.ReadBack == nil || *b.ReadBack != int64(40+i)*mib {
				t.Errorf("run %d: %+v", i, b)
			}
		})
	}
	wg.Wait()
}

// Each supervisor sweeps what others left, and takes nothing for left that another
// one is just making.
func TestManySupervisorsMakeGroups(t *testing.T) {
	grouped(t)
	used.Store("supervise-below", true)
	cmds := make([]*exec.Cmd, 12)
	out := make([]bytes.Buffer, len(cmds))
	for i := range cmds {
		cmds[i] = exec.Command(place.exe, victim.Word, "supervise-below", "")
		cmds[i].Stdout, cmds[i].Stderr = &out[i], &out[i]
		must(t, cmds[i].Start())
	}
	for i, cmd := range cmds {
		if err := cmd.Wait(); err != nil || !strings.HasPrefix(out[i].String(), "completed\n") {
			t.Errorf("supervisor %d: %v, %s", i, err, &out[i])
		}
	}
}

// Where the pid namespace is given up, the group ends what left the tree.
func TestGroupEndsTheTree(t *testing.T) {
	grouped(t)
	marked := token()
	req := request(mods{spawn(spec.SpawnProcesses), accept(unscoped("host-pid-namespace", "host-proc", "outlives-supervisor")...)}, "leave", marked)
	o, err := attempt(t, req)
	if err != nil || o.Code != 0 {
		t.Fatalf("%d, %v; %s", o.Code, err, o.why())
	}
	if left := withToken(marked); len(left) != 0 {
		t.Errorf("%v outlived the run", left)
	}
	for _, r := range o.Report.Plan.Requirements {
		if (r.Kind == plan.KillTree || r.Kind == plan.SpawnProcesses) && (len(r.Mechanisms) != 1 || r.Mechanisms[0].Name != "cgroup2.cgroup.kill") {
			t.Errorf("%s is held by %v", r.Kind, r.Mechanisms)
		}
	}
	o.groupGone(t)
	// Without streams: what is left would keep them open.
	if err := exec.Command(place.exe, victim.Word, "leave", marked).Run(); err != nil {
		t.Fatalf("without a boundary: %v", err)
	}
	// Its arguments are there a moment after it counts as started (execve(2)).
	eventually(t, "without a boundary one is left", func() bool { return len(withToken(marked)) == 1 })
	clear(t, marked)

	req = request(mods{spawn(spec.SpawnProcesses), accept("host-pid-namespace", "host-proc")}, "leave", marked)
	if o, err := attempt(t, req); err != nil || o.Report.Outcome.Status != report.Refused {
		t.Errorf("with a supervisor that may be killed: %+v, %v", o.Report.Outcome, err)
	}
}
