//go:build linux && (amd64 || arm64)

package linux_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/ledger"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

var _ = victim.Register(map[string]victim.Act{
	// Does not go when asked to, and needs nobody.
	"linger": victim.One(func(string) error {
		signal.Ignore(unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGPIPE)
		for {
			time.Sleep(time.Hour)
		}
	}),
	// Starts a lingering process and leaves it to init.
	"leave": victim.One(func(token string) error {
		_, err := anew("linger", token, nil)
		return err
	}),
	// Starts every kind of descendant that is hard to get rid of, then lingers.
	"family": victim.One(func(token string) error {
		signal.Ignore(unix.SIGTERM)
		for _, act := range []string{"linger", "linger", "leave"} {
			p, err := anew(act, token, &syscall.SysProcAttr{Setsid: true})
			if err != nil {
				return err
			}
			if act == "leave" {
				_, err = p.Wait()
			} else {
				err = p.Signal(unix.SIGSTOP)
			}
			if err != nil {
				return err
			}
		}
		os.Stdout.WriteString("ready\n")
		for {
			time.Sleep(time.Hour)
		}
	}),
	// Keeps no stream and does not go when asked to.
	"shut": victim.One(func(string) error {
		signal.Ignore(unix.SIGTERM)
		os.Stdout.WriteString("ready\n")
		for fd := range 3 {
			if err := unix.Close(fd); err != nil {
				return err
			}
		}
		for {
			time.Sleep(time.Hour)
		}
	}),
	// Tidies up when asked to go, and says how that went.
	"tidy": victim.One(func(string) error {
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, unix.SIGTERM)
		os.Stdout.WriteString("ready\n")
		<-asked
		os.Stderr.WriteString("victim: tidy: failed: on purpose\n")
		os.Exit(9)
		return nil
	}),
	// Is a supervisor: runs the holding victim and waits for it.
	"supervise": victim.Two(func(dir, token string) error {
		place.exe = os.Args[0]
		state, err := bvisor.OpenState(dir)
		if err != nil {
			return err
		}
		_, err = state.Supervisor(linux.New()).Run(context.Background(), bvisor.Request{
			Spec: func() spec.Spec {
				s := baseSpec("family", token)
				s.Presets, s.Capabilities.Spawn = []string{"system"}, spec.SpawnProcesses
				if os.Getenv("BVISOR_TEST_OBSERVE") != "" {
					explained(&s)
				}
				return s
			}()})
		return err
	}),
})

// anew starts the victim's own program once more.
func anew(act, token string, sys *syscall.SysProcAttr) (*os.Process, error) {
	return os.StartProcess(os.Args[0], []string{os.Args[0], victim.Word, act, token}, &os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr}, Sys: sys})
}

func grace(d time.Duration) func(*spec.Spec) {
	return func(s *spec.Spec) { s.Controls.Kill.Grace = d }
}

// ended checks an outcome and how the first process ended.
func (o outcome) ended(t testing.TB, status report.Status, reason string, sig unix.Signal) {
	t.Helper()
	if got := o.Report.Outcome; got.Status != status || !strings.HasPrefix(got.Reason, reason) {
		t.Errorf("the report says %+v, expected %s, %s", got, status, reason)
	}
	if sig != 0 && (o.Report.Exit == nil || o.Report.Exit.Signal != int(sig)) {
		t.Errorf("it ended with %+v, expected signal %d", o.Report.Exit, sig)
	}
}

// Cancelling ends everything that was started: what ignores SIGTERM, left its
// session, was left to init, or is stopped.
func TestKillEndsTheWholeTree(t *testing.T) {
	used.Store("linger", true)
	used.Store("leave", true)
	ctx, cancel := context.WithCancelCause(t.Context())
	l := start(t, ctx, mods{spawn(spec.SpawnProcesses), grace(20 * time.Millisecond)}, "family")
	eventually(t, "four processes", func() bool { return len(withToken(l.token)) == 4 })
	pidns := heldPidns(t, l.pid)
	if n := len(inNamespace("pid", pidns)); n != 5 && os.Geteuid() == 0 { // others cannot ask about init
		t.Errorf("%d processes in the boundary, expected init and four", n)
	}
	init := parent(t, l.pid)
	wait := parent(t, init)
	cancel(errors.New("enough"))
	o := l.wait()
	gone(t, l.token, pidns)
	for _, pid := range []int{init, wait} {
		if exists(fmt.Sprintf("/proc/%d", pid)) {
			t.Errorf("process %d, launcher or init, is left", pid)
		}
	}
	o.ended(t, report.Killed, "cancelled: enough", 0)
	if f := fact(o, report.TreeKilled); f == nil && fact(o, report.TreeEmptied) == nil {
		t.Errorf("no fact says that the tree is gone: %+v", o.Report.Facts)
	}
}

// A launcher that somebody on the host stopped ends the tree all the same.
func TestStoppedLauncher(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	l := start(t, ctx, mods{grace(time.Millisecond), spawn(spec.SpawnProcesses)}, "family")
	pidns := heldPidns(t, l.pid)
	launcher := parent(t, parent(t, l.pid))
	must(t, unix.Kill(launcher, unix.SIGSTOP))
	cancel()
	o := l.wait()
	gone(t, l.token, pidns)
	o.ended(t, report.Killed, "cancelled", 0)
	if f := fact(o, report.TreeKilled); f["emptied"] != "true" || f["survivors"] != "0" {
		t.Errorf("the report says of the tree: %v", f)
	}
}

// A workload that is blocked in vfork(2) takes no signal but the last one.
func TestKillEndsAVfork(t *testing.T) {
	c, marked := newCalls(), token()
	child := c.NewLabel()
	c.quiet(unix.SYS_WRITE, num(1), c.Str("ready\n"), num(6))
	c.Call("clone", unix.SYS_CLONE, num(unix.CLONE_VFORK|unix.CLONE_VM|int(unix.SIGCHLD)), num(0), num(0), num(0), num(0)).If(num(0), child)
	c.Mark(child)
	again := c.NewLabel()
	c.Mark(again)
	c.Call("ppoll", unix.SYS_PPOLL, num(0), num(0), num(0), num(0), num(0)).OnError(again)
	path := c.file(t)
	ctx, cancel := context.WithCancel(t.Context())
	l := startRequest(t, ctx, marked, request(mods{grant("rx", path), command(path, marked), spawn(spec.SpawnProcesses), grace(10 * time.Millisecond)}, "hold"))
	eventually(t, "two processes", func() bool { return len(withToken(marked)) == 2 })
	pidns := heldPidns(t, l.pid)
	cancel()
	o := l.wait()
	gone(t, marked, pidns)
	o.ended(t, report.Killed, "cancelled", 0)
}

// Who goes when asked has the time to, and its own exit status stands.
func TestGrace(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	l := start(t, ctx, mods{grace(time.Minute)}, "tidy")
	cancel()
	o := l.wait()
	o.ended(t, report.Killed, "cancelled", 0)
	if o.Report.Exit == nil || o.Report.Exit.Code != 9 || o.Report.Exit.Signal != 0 {
		t.Errorf("it ended with %+v, expected its own 9", o.Report.Exit)
	}
}

func TestWallBudget(t *testing.T) {
	for act, sig := range map[string]unix.Signal{"hold": unix.SIGTERM, "family": unix.SIGKILL, "shut": unix.SIGKILL} {
		l := start(t, t.Context(), mods{budget(spec.Wall, int64(time.Second)), grace(50 * time.Millisecond), spawn(spec.SpawnProcesses)}, act)
		o := l.wait()
		gone(t, l.token, "")
		o.ended(t, report.Timeout, "wall", 0)
		if x := o.Report.Exit; x != nil && x.Signal != int(sig) && x.Code == 0 {
			t.Errorf("%s: it ended with %+v", act, x)
		}
		b := o.bounded(t, spec.Wall)
		if b.Finding != "exceeded" || b.Used != nil && *b.Used < b.Requested {
			t.Errorf("%s: budget %+v", act, b)
		}
	}
}

// When the supervisor is killed, nothing of its runs is left.
func TestSupervisorKilled(t *testing.T) {
	need.MountNamespace(t)
	used.Store("supervise", true)
	marked := token()
	cmd := exec.Command(place.exe, victim.Word, "supervise", filepath.Join(tree(t), "state"), marked)
	cmd.Env = []string{}
	var said bytes.Buffer
	cmd.Stderr = &said
	must(t, cmd.Start())
	defer cmd.Process.Kill()
	var inside []int
	eventually(t, "a family within the boundary, and its supervisor", func() bool {
		inside = withToken(marked)
		return len(inside) == 5
	}, &said)
	pidns := heldPidns(t, inside[0])
	if own := namespace(t, os.Getpid(), "pid"); pidns == own {
		t.Fatal("the victim is in the supervisor's pid namespace")
	}
	must(t, cmd.Process.Kill())
	cmd.Wait()
	eventually(t, "everything gone", func() bool { return len(withToken(marked)) == 0 && len(inNamespace("pid", pidns)) == 0 })
}

// The launcher or init may be killed by whoever may; the run ends, and says so.
func TestLauncherOrInitKilled(t *testing.T) {
	for _, who := range []string{"init", "launcher"} {
		l := start(t, t.Context(), mods{spawn(spec.SpawnProcesses)}, "family")
		eventually(t, "four processes", func() bool { return len(withToken(l.token)) == 4 })
		pidns := heldPidns(t, l.pid)
		pid := parent(t, l.pid)
		if who == "launcher" {
			pid = parent(t, pid)
		}
		kill(t, pid, unix.SIGKILL)
		o := l.wait()
		eventually(t, who+": nothing left", func() bool { return len(withToken(l.token)) == 0 && len(inNamespace("pid", pidns)) == 0 })
		o.ended(t, report.Killed, "", 0)
		if o.Report.Exit != nil {
			t.Errorf("%s: the report claims to have seen the workload's end: %+v", who, o.Report.Exit)
		}
		if fact(o, report.Unobserved) == nil {
			t.Errorf("%s: no fact names what was not seen", who)
		}
	}
}

func TestExitStatuses(t *testing.T) {
	for _, status := range []int{0, 7, 255} {
		s := strconv.Itoa(status)
		if o := control(t, "exit", s); o.Code != status {
			t.Errorf("control: %d", o.Code)
		}
		o := run(t, nil, "exit", s)
		want, reason := report.Failed, "exit status "+s
		if status == 0 {
			want, reason = report.Completed, ""
		}
		o.reports(t, want, reason)
		if o.Report.Exit.Code != status || o.Report.Exit.Signal != 0 {
			t.Errorf("it ended with %+v, expected %d", o.Report.Exit, status)
		}
	}
}

// raising is a program that sends itself a signal.
func raising(t testing.TB, sig unix.Signal) string {
	c := newCalls()
	pid := c.try("getpid", unix.SYS_GETPID)
	c.quiet(unix.SYS_KILL, pid, num(int(sig)))
	return c.file(t)
}

func TestSignalsOfTheWorkload(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGSEGV, unix.SIGKILL, unix.SIGABRT, unix.SIGTERM, unix.SIGPIPE, unix.SIGUSR2} {
		path := raising(t, sig)
		cmd := exec.Command(path)
		err := cmd.Run()
		if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); err == nil || ws.Signal() != sig {
			t.Errorf("control: %v, expected %v", err, sig)
		}
		o := runCommand(t, path)
		o.ended(t, report.Failed, "signal "+unix.SignalName(sig), sig)
		if o.Report.Exit.Core {
			t.Errorf("%v: the report says that a core was dumped", sig)
		}
	}
}

// What cannot be executed is no exit status of a workload.
func TestExecFailures(t *testing.T) {
	root := tree(t, "garbage", "plain", "script")
	garbage, plain, script := filepath.Join(root, "garbage"), filepath.Join(root, "plain"), filepath.Join(root, "script")
	must(t, os.Chmod(garbage, 0o755))
	must(t, os.WriteFile(script, []byte("#!/nonexistent/interpreter\n"), 0o644))
	must(t, os.Chmod(script, 0o755))
	var more mods
	try := func(argv ...string) (outcome, error) {
		return attempt(t, request(append(mods{preset(), grant("rx", root), command(argv...)}, more...), "hold"))
	}
	for name, c := range map[string]struct {
		argv     []string
		notFound bool
	}{
		"no file":        {[]string{filepath.Join(root, "absent")}, true},
		"not executable": {[]string{plain}, false},
		"a directory":    {[]string{root}, false},
		"no interpreter": {[]string{script}, false},
		"not granted":    {[]string{"/bin/sh"}, false},
		"not in PATH":    {[]string{"nosuchcommand"}, true},
	} {
		_, err := try(c.argv...)
		e, ok := errors.AsType[*backend.CommandError](err)
		if !ok || e.NotFound != c.notFound {
			t.Errorf("%s: %v, expected a command error, not found %v", name, err, c.notFound)
		}
	}
	for _, c := range []struct {
		name, errno string
		argv        []string
	}{
		{"no format", "ENOEXEC", []string{garbage}},
		{"too long", "E2BIG", []string{newCalls().file(t), strings.Repeat("x", 100<<10)}},
	} {
		if c.errno == "E2BIG" {
			// With a small stack arguments and environment together have 128 KiB.
			more = mods{env("LONG", strings.Repeat("y", 100<<10)), grant("rx", c.argv[0])}
			var stack unix.Rlimit
			must(t, unix.Getrlimit(unix.RLIMIT_STACK, &stack))
			must(t, unix.Setrlimit(unix.RLIMIT_STACK, &unix.Rlimit{Cur: 256 << 10, Max: stack.Max}))
			defer unix.Setrlimit(unix.RLIMIT_STACK, &stack)
		}
		o, err := try(c.argv...)
		must(t, err)
		o.ended(t, report.SetupFailed, "exec: ", 0)
		if !strings.HasSuffix(o.Report.Outcome.Reason, c.errno) || o.Report.Exit != nil {
			t.Errorf("%s: %+v, exit %+v; expected %s and no exit status", c.name, o.Report.Outcome, o.Report.Exit, c.errno)
		}
		last := o.Report.Transcript[len(o.Report.Transcript)-1]
		if last.Name != "exec" || last.Status != "failed" || last.Errno != c.errno || last.Step == 0 {
			t.Errorf("%s: the transcript ends with %+v", c.name, last)
		}
		if fact(o, report.WorkloadLaunched) != nil {
			t.Errorf("%s: a fact says that it was launched", c.name)
		}
	}
	if cat := "/bin/cat"; exists(cat) { // a program whose loader the boundary does not have
		_, err := attempt(t, request(mods{preset(), grant("rx", real(t, cat)), command(real(t, cat))}, "hold"))
		if e, ok := errors.AsType[*backend.CommandError](err); !ok || e.NotFound || !strings.Contains(e.Why, "needs the interpreter") {
			t.Errorf("without a loader: %v", err)
		}
	}
}

func exists(name string) bool { _, err := os.Stat(name); return err == nil }

func real(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.EvalSymlinks(name)
	must(t, err)
	return path
}

// killer is a log that, before the intent is durable, kills the process that
// is to become the workload.
type killer struct {
	ledger.Log
	when func(status map[string]string) bool
	t    testing.TB
	hit  bool
}

func (k *killer) Append(kind ledger.Kind, attempt string, entry []byte) (ledger.Receipt, error) {
	if kind == ledger.Intent {
		eventually(k.t, "a process before its exec", func() bool {
			for _, pid := range processes() {
				dir := fmt.Sprintf("/proc/%d", pid)
				b, err := os.ReadFile(dir + "/status")
				if err != nil || !strings.Contains(string(b), "NSpid:") {
					continue
				}
				m := map[string]string{}
				for line := range strings.Lines(string(b)) {
					name, v, _ := strings.Cut(line, ":")
					m[name] = strings.Join(strings.Fields(v), " ")
				}
				if inner := strings.Fields(m["NSpid"]); len(inner) > 1 && inner[len(inner)-1] == "2" && descends(pid) && k.when(m) {
					k.hit = unix.Kill(pid, unix.SIGKILL) == nil
					return true
				}
			}
			return false
		})
	}
	return k.Log.Append(kind, attempt, entry)
}

// descends says whether a process descends from this one.
func descends(pid int) bool {
	for range 4 {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if pid, _ = strconv.Atoi(f[1]); pid == os.Getpid() {
			return true
		}
	}
	return false
}

// A workload that is killed before it becomes its program has not succeeded,
// nor has it an exit status.
func TestKilledBeforeExec(t *testing.T) {
	need.MountNamespace(t)
	for name, when := range map[string]func(map[string]string) bool{
		"as soon as it is there": func(map[string]string) bool { return true },
		"under its filter":       func(m map[string]string) bool { return m["Seccomp"] == "2" },
	} {
		sup := another(t)
		k := &killer{Log: sup.Log, when: when, t: t}
		sup.Log = k
		o, err := attemptWith(t, sup, t.Context(), request(nil, "exit", "0"))
		must(t, err)
		if !k.hit {
			t.Fatalf("%s: nothing was killed", name)
		}
		if got := o.Report.Outcome.Status; got != report.SetupFailed || o.Report.Exit != nil || fact(o, report.WorkloadLaunched) != nil {
			t.Errorf("%s: %+v, exit %+v", name, o.Report.Outcome, o.Report.Exit)
		}
	}
}

// unsteady is a log that does not take intents.
type unsteady struct{ ledger.Log }

func (unsteady) Append(ledger.Kind, string, []byte) (ledger.Receipt, error) {
	return ledger.Receipt{}, errors.New("the disk is full")
}

// Without a durable intent the barrier never opens.
func TestNoIntentNoRun(t *testing.T) {
	sup := another(t)
	sup.Log = unsteady{sup.Log}
	root := tree(t, "out/")
	os.Chmod(filepath.Join(root, "out"), 0o777)
	made := filepath.Join(root, "out", "made")
	o, err := attemptWith(t, sup, t.Context(), request(mods{grant("rw", filepath.Join(root, "out"))}, "create", made))
	fault, ok := errors.AsType[*bvisor.Fault](err)
	if !ok || fault.Step != "record the intent" || o.Report != nil {
		t.Errorf("got %v, expected a fault of the intent", err)
	}
	holds(t, made, "")
	// The control: with a log that works it runs.
	run(t, mods{grant("rw", filepath.Join(root, "out"))}, "create", made).succeeds(t)
}
