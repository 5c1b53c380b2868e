//go:build linux && (amd64 || arm64)

package linux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/internal/cgroup"
	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/sys"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// noSuchCall is a number that no kernel knows: the call gives ENOSYS.
const noSuchCall = 999

// sabotage makes operation i of a program fail.
func sabotage(p *launcher.Program, i int) {
	nr := reflect.ValueOf(p).Elem().FieldByName("ops").Index(i).FieldByName("nr")
	*(*int32)(unsafe.Pointer(nr.UnsafeAddr())) = noSuchCall
}

// lenient says whether a program goes on when operation i fails.
func lenient(p *launcher.Program, i int) bool {
	const ignored, jumps = 1 << 7, 1 << 8 // also in machine_*.s
	return reflect.ValueOf(p).Elem().FieldByName("ops").Index(i).FieldByName("mode").Uint()&(ignored|jumps) != 0
}

// spared are the operations whose failure does not end the launch, and why that
// is safe. What is not listed here must end it.
var spared = []struct{ phase, op, why string }{
	{"namespaces", "recvfrom(from init, &word", "EAGAIN is what it gives when no program is there yet; the launcher stays on its processor"},
	{"namespaces", "ppoll({control, init, from init}, 3, 200 us", "only a wait: what comes next looks for itself"},
	{"namespaces", "copy(word)", "which processor to leave; the launcher leaves another one, or none"},
	{"namespaces", "getpid()", "it only says where to go on, either way the same"},
	{"namespaces", "sched_setaffinity(", "the processors may have changed; the launcher stays where it is"},
	{"mounts", "recvfrom(from launcher", "EAGAIN is what a launcher that lives gives; one that is dead is seen by the death signal, too"},
	{"watch", "init.reaped = wait4(", "the launcher ends next, and init by the death signal; the message says that init was not reaped"},
	{"reap", "executed = wait4(", "ECHILD is the answer before the exec; the other wait4 waits, and a run that is ended from outside ends"},
	{"reap", "never executed = wait4(", "ECHILD is the answer after the exec; then the first wait4 waits"},
	{"reap", "kill(-1", "ESRCH is the answer when nobody is left; whom it missed the end of init kills"},
	{"reap", "left = wait4(", "ECHILD is the answer when nobody is left; without it the report does not say so"},
	{"handover", "writev(status", "nobody may be there to read it; the process ends all the same"},
	{"failure", "writev(status", "nobody may be there to read it; the process ends all the same"},
}

// unnamed are the operations whose failure ends the launch, but not by their
// name.
var unnamed = []struct{ phase, op, why string }{
	{"mounts", "recvfrom(from init", "EAGAIN is what it gives when init has ended or nobody wants the run; the launcher ends init"},
	{"handover", "on failure = copy(", "no system call: it says where a failing step goes on, so its own failure goes nowhere, and the process dies"},
}

// unreached are the operations that only another failure leads to, or a run
// that nobody wants.
var unreached = []struct{ phase, op string }{
	{"handover", "exit_group(122)"}, {"handover", "writev(status"}, {"handover", "exit_group(126)"},
	{"mounts", "getpid()"}, {"mounts", "exit_group(124)"}, {"mounts", "exit_group(123)"}, {"exec", "exit_group(125)"},
	{"failure", "writev(status"}, {"failure", "exit_group(126)"},
}

// beside says that an operation is one that init makes after it forked the
// workload, or the launcher after all that a workload waits for: its failure
// cannot keep the workload from running, but ends it.
func beside(p *launcher.Program, i int) bool {
	op := p.Op(i)
	if op.Phase == "reap" {
		return true
	}
	at := func(role launcher.Role, text string) int {
		for k := range p.Len() {
			if o := p.Op(k); o.Role == role && strings.HasPrefix(o.String(), text) {
				return k
			}
		}
		return -1
	}
	switch op.Role {
	case launcher.RoleInit:
		// With a group of the workload's own init has to say that it is bare.
		return i > max(at(launcher.RoleInit, "&workload = clone("), at(launcher.RoleInit, fmt.Sprintf("writev(status, {%d, record}", launcher.MessageBare)))
	case launcher.RoleLauncher:
		// Without a network namespace nothing is handed over.
		return i > max(at(launcher.RoleLauncher, "sendmsg(to init"), at(launcher.RoleLauncher, "&init = clone(")) && op.Phase == "watch"
	}
	return false
}

// faulty launches sabotaged programs of one spec.
type faulty struct {
	t       *testing.T
	b       *Backend
	plan    plan.Plan
	res     *resolution
	dir     string // holds all that the spec names
	made    string // what the workload makes
	control report.Observation
	before  traces
}

// traces are what a launch could leave behind.
type traces struct {
	descriptors int
	mounts      string
	files       string
}

// newFaulty makes a plan for the spec. What it lets the workload write to is
// dir/data.
func newFaulty(t *testing.T, b *Backend, s spec.Spec, dir string) *faulty {
	t.Helper()
	profile, err := b.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := b.Resolve(t.Context(), spec.Expand(s), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	p, refusal := plan.Make(r.Resolved(), profile)
	if refusal != nil {
		t.Fatal(refusal)
	}
	f := &faulty{t: t, b: b, plan: p, res: r.(*resolution), dir: dir, made: filepath.Join(dir, "data", "made")}
	f.before = f.traces()
	return f
}

// runs is the control: as it is, the workload runs.
func (f *faulty) runs() {
	f.t.Helper()
	o, ran := f.launch(f.t.Context(), nil, nil)
	if o.Outcome.Status != report.Completed || !ran {
		f.t.Fatalf("control: %+v, ran %v", o.Outcome, ran)
	}
	f.control = o
	f.nothingLeft("control")
}

func (f *faulty) program() *launcher.Program {
	p, err := lower(f.plan, f.res, nil, slotsOf(f.plan))
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// launch runs the plan with the operations of its program sabotaged. By the
// file that the workload makes and by its output it says whether it ran.
func (f *faulty) launch(ctx context.Context, commit error, harm []int) (o report.Observation, ran bool) {
	program := f.program()
	for _, i := range harm {
		sabotage(program, i)
	}
	first, err := program.Image().Seal()
	if err != nil {
		f.t.Fatal(err)
	}
	defer first.Close()
	f.b.boots.known = map[boot]*os.File{bootOf(f.plan): first}
	body, err := program.SealBody()
	if err != nil {
		f.t.Fatal(err)
	}
	defer body.Close()
	// A plan that is not recursive, or holds writes back, is never taken from
	// memory, so it is remembered as one that is, or does not.
	remembered := f.plan
	remembered.Resolved.Roots = slices.Clone(f.plan.Resolved.Roots)
	var files []fileID
	for i, pin := range f.res.pins {
		remembered.Resolved.Roots[i].NonRecursive, remembered.Resolved.Roots[i].Held = false, false
		if pin != nil {
			files = append(files, fileID{uint64(pin.stat.Dev), pin.stat.Ino})
		}
	}
	files = append(files, fileID{uint64(f.res.exe.stat.Dev), f.res.exe.stat.Ino})
	f.b.images.known = []knownImage{{remembered.ID(), files, &image{program: program, body: body, digest: sync.OnceValue(program.Digest)}}}

	fds := map[int]*os.File{}
	for _, fd := range f.plan.Resolved.Spec.Capabilities.FDs {
		fds[fd] = f.null()
		defer fds[fd].Close()
	}
	var said strings.Builder
	l := backend.Launch{Attempt: "1", Plan: remembered, Resolution: f.res, Stdout: &said, FDs: fds, Commit: func() error { return commit }}
	ended := make(chan error, 1)
	go func() {
		observed, settle, err := f.b.Launch(ctx, l)
		settle()
		o = observed
		ended <- err
	}()
	select {
	case err := <-ended:
		if err != nil && !errors.Is(err, commit) {
			f.t.Errorf("%s: %v", f.names(harm), err)
		}
	case <-time.After(30 * time.Second): // a launch takes milliseconds
		f.t.Fatalf("%s: it hangs", f.names(harm))
	}
	_, err = os.Lstat(f.made)
	ran = err == nil || said.Len() > 0
	os.Remove(f.made)
	return o, ran
}

// untilItRuns cancels a launch when the workload runs.
func (f *faulty) untilItRuns(ctx context.Context, cancel context.CancelFunc) {
	for ctx.Err() == nil {
		if _, err := os.Lstat(f.made); err == nil {
			cancel()
		}
		time.Sleep(time.Millisecond)
	}
}

func (f *faulty) null() *os.File {
	file, err := os.Open(os.DevNull)
	if err != nil {
		f.t.Fatal(err)
	}
	return file
}

func (f *faulty) names(ops []int) string {
	p := f.program()
	var list []string
	for _, i := range ops {
		list = append(list, fmt.Sprintf("step %d, %s %s: %s", i, p.Op(i).Role, p.Op(i).Phase, p.Op(i)))
	}
	return strings.Join(list, " and ")
}

// find is the step with this call.
func (f *faulty) find(phase, text string) int {
	f.t.Helper()
	p := f.program()
	for i := range p.Len() {
		if p.Op(i).Phase == phase && strings.HasPrefix(p.Op(i).String(), text) {
			return i
		}
	}
	f.t.Fatalf("no step %s: %s", phase, text)
	return -1
}

func (f *faulty) traces() traces {
	f.t.Helper()
	var tr traces
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		f.t.Fatal(err)
	}
	tr.descriptors = len(fds)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		f.t.Fatal(err)
	}
	tr.mounts = string(mounts)
	err = filepath.Walk(f.dir, func(name string, info os.FileInfo, err error) error {
		if err == nil {
			tr.files += fmt.Sprintf("%s %v %d\n", name, info.Mode(), info.Size())
		}
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return tr
}

// nothingLeft checks that a launch left nothing. This process is the subreaper
// of all that it starts (see adopt), so without a child it has no descendant;
// namespaces live by processes, descriptors and mounts.
func (f *faulty) nothingLeft(what string) {
	f.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		_, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil)
		if err == unix.ECHILD {
			break
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("%s: processes are left (wait4: %v)", what, err)
		}
		time.Sleep(100 * time.Microsecond)
	}
	if after := f.traces(); after != f.before {
		f.t.Errorf("%s: before\n%+v\nafter\n%+v", what, f.before, after)
		f.before = after
	}
}

// adopt makes this process the parent of what its children leave behind.
func adopt(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) })
}

// tellTale is a program that writes to standard output, makes a file, and with
// stay waits for its end then.
func tellTale(t *testing.T, name, made string, stay bool) {
	t.Helper()
	p := &launcher.Program{}
	end := p.NewLabel()
	p.OnFailure(end)
	p.Begin(launcher.RoleWorkload, "witness")
	p.Call("write", unix.SYS_WRITE, launcher.Int(1), p.Str("here"), launcher.Int(4)).Ignore()
	p.Call("openat", unix.SYS_OPENAT, launcher.Flag(unix.AT_FDCWD, "AT_FDCWD"), p.Str(made), launcher.Int(unix.O_CREAT|unix.O_WRONLY), launcher.Int(0o644)).Ignore()
	if stay {
		p.Call("ppoll", unix.SYS_PPOLL, launcher.Int(0), launcher.Int(0), launcher.Int(0), launcher.Int(0), launcher.Int(0))
	}
	p.Mark(end)
	p.Call("exit_group", unix.SYS_EXIT_GROUP, launcher.Int(0))
	image, err := p.Image().Seal()
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	data, err := io.ReadAll(io.NewSectionReader(image, 0, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// openDir is a directory of the test that every user can reach and write to.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for p := dir; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		os.Chmod(p, 0o777)
	}
	return dir
}

// faultySpec is a spec of which every part of a launch has something to do.
func faultySpec(t *testing.T, dir string, stay bool) spec.Spec {
	t.Helper()
	exe, data := filepath.Join(dir, "bin", "witness"), filepath.Join(dir, "data")
	for _, d := range []string{"bin", "data", "data/closed", "data/deep/er", "flat/below", "shown"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"data/secret", "data/deep/er/fixed", "flat/file", "shown/file"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tellTale(t, exe, filepath.Join(data, "made"), stay)
	grant := func(access spec.Access, paths ...string) spec.Grant {
		for i, p := range paths {
			paths[i] = filepath.Join(dir, p)
		}
		return spec.Grant{Access: access, Paths: paths, Origin: spec.FromSpec}
	}
	flat := grant("r", "flat")
	flat.NonRecursive = true
	return spec.Spec{
		Version:  spec.Version,
		Workload: spec.Workload{Command: []string{exe}, Dir: data},
		Capabilities: spec.Capabilities{Spawn: spec.SpawnThreads, FDs: []int{5}, Filesystem: []spec.Grant{
			grant("rx", "bin"), grant("rw", "data"), grant("r", "data/deep/er/fixed"), grant(spec.AccessNone, "data/secret", "data/closed", "data/absent"), flat}},
		Controls: spec.Controls{
			Temp:    []spec.Temp{{Path: "/private", Access: "rw"}, {Path: "/programs", Access: "rwx"}},
			Expose:  []spec.Expose{{Source: filepath.Join(dir, "shown"), Dest: "/elsewhere", Access: "r"}, {Source: filepath.Join(dir, "shown/file"), Dest: "/one/file", Access: "r"}},
			Capture: []spec.Capture{{Stream: "stdout", Limit: 100}}, Kill: spec.Kill{Tree: "atomic", Grace: 1},
		},
		Budgets: map[spec.Dimension]spec.Budget{spec.Handles: {Limit: 64, Guarantee: spec.Enforced, Origin: spec.FromSpec},
			spec.Storage: {Limit: 1 << 20, Guarantee: spec.Enforced, Origin: spec.FromSpec}},
	}
}

// faultySpecs are changes of that spec which lower to other operations.
func faultySpecs() map[string]func(*spec.Spec) {
	accepting := func(names ...spec.Weakening) func(*spec.Spec) {
		return func(s *spec.Spec) { s.Accept = names }
	}
	m := map[string]func(*spec.Spec){
		"everything": func(*spec.Spec) {},
		"nothing": func(s *spec.Spec) {
			s.Capabilities = spec.Capabilities{Spawn: spec.SpawnNone, Filesystem: s.Capabilities.Filesystem[:2]}
			s.Controls, s.Budgets = spec.Controls{Capture: s.Controls.Capture, Kill: s.Controls.Kill}, nil
		},
		"the host's /dev, /proc and /sys": accepting("host-devices", "host-proc", "host-sys"),
		"the host's network":              accepting("host-network", "unscoped-ipc"),
		"the host's paths": func(s *spec.Spec) {
			s.Accept = []spec.Weakening{"visible-host-paths", "host-devices", "host-proc", "host-sys"}
			s.Capabilities.Filesystem, s.Controls.Expose, s.Controls.Temp = s.Capabilities.Filesystem[:2], nil, nil
			delete(s.Budgets, spec.Storage)
		},
		"a terminal": func(s *spec.Spec) {
			s.Controls.Stdin.Mode = spec.StdinTTY
			s.Controls.Capture = []spec.Capture{{Stream: spec.StreamTTY, Limit: 100}}
		},
		"a loopback": func(s *spec.Spec) { s.Capabilities.Network.Loopback = true },
		"no filter": func(s *spec.Spec) {
			s.Capabilities.Spawn = spec.SpawnProcesses
			s.Accept = []spec.Weakening{"unfiltered-calls", "host-network", "unscoped-ipc"}
		},
	}
	if abi, _ := sys.LandlockABI(); abi < 3 { // without mounts it lets files be truncated
		delete(m, "the host's paths")
	}
	if _, err := cgroup.Find(""); err == nil {
		m["a group"] = func(s *spec.Spec) {
			s.Budgets[spec.Memory] = spec.Budget{Limit: 64 << 20, Guarantee: spec.Enforced, Origin: spec.FromSpec}
			s.Budgets[spec.Processes] = spec.Budget{Limit: 20, Guarantee: spec.Enforced, Origin: spec.FromSpec}
		}
	}
	p, err := New().Probe(context.Background())
	if err == nil && slices.ContainsFunc(p.Offers, func(o plan.Offer) bool { return o.Kind == plan.CommitArtifact && len(o.Ways) > 0 }) {
		m["held back"] = func(s *spec.Spec) {
			s.Controls.Artifacts = &spec.Artifacts{Paths: []string{filepath.Join(s.Workload.Dir, "deep")}, Commit: "never", Durability: "atomic"}
		}
	}
	if os.Geteuid() == 0 {
		m["the host's user namespace"] = accepting("host-user-namespace")
	}
	return m
}

// Every operation of a launch is made to fail in turn: the workload never runs,
// the outcome names the step, and nothing is left. What may fail is listed.
func TestEveryStepFails(t *testing.T) {
	need.MountNamespace(t)
	adopt(t)
	every := os.Getenv(need.LongVariable) == "1" && os.Geteuid() == 0
	specs, b := faultySpecs(), New()
	seen, usedUp := map[string]bool{}, map[string]bool{}
	tried := 0
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		t.Run(name, func(t *testing.T) {
			dir := openDir(t)
			s := faultySpec(t, dir, false)
			specs[name](&s)
			f := newFaulty(t, b, s, dir)
			f.runs()
			p := f.program()
			for i := range p.Len() {
				// The same call at the same place of another spec fails the same way.
				key := strings.ReplaceAll(fmt.Sprint(p.Op(i).Phase, p.Op(i)), dir, "")
				if seen[key] && !every {
					continue
				}
				seen[key] = true
				tried++
				f.failing(p, i, usedUp)
			}
		})
	}
	if !t.Failed() {
		for _, s := range spared {
			if !usedUp[s.phase+s.op] {
				t.Errorf("spared: no launch has %s: %s", s.phase, s.op)
			}
		}
		for _, s := range unnamed {
			if !usedUp[s.phase+s.op] {
				t.Errorf("unnamed: no launch has %s: %s", s.phase, s.op)
			}
		}
		for _, s := range unreached {
			if !usedUp[s.phase+s.op] {
				t.Errorf("unreached: no launch has %s: %s", s.phase, s.op)
			}
		}
	}
	t.Logf("%d operations were made to fail", tried)
	if tried < 400 {
		t.Errorf("%d operations were made to fail, expected more", tried)
	}
}

// failing launches with operation i failing.
func (f *faulty) failing(p *launcher.Program, i int, usedUp map[string]bool) {
	op, what := p.Op(i), f.names([]int{i})
	about := func(phase, text string) bool {
		hit := op.Phase == phase && strings.HasPrefix(op.String(), text)
		usedUp[phase+text] = usedUp[phase+text] || hit
		return hit
	}
	isUnreached, isSpared, isUnnamed := false, false, false
	for _, u := range unreached {
		isUnreached = about(u.phase, u.op) || isUnreached
	}
	for _, s := range spared {
		isSpared = about(s.phase, s.op) || isSpared
	}
	for _, u := range unnamed {
		isUnnamed = about(u.phase, u.op) || isUnnamed
	}
	if lenient(p, i) && !isSpared && !isUnnamed && !isUnreached {
		f.t.Errorf("%s: its failure is ignored, and nothing says why", what)
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	defer cancel()
	if strings.HasPrefix(op.String(), "executed = wait4(") {
		go f.untilItRuns(ctx, cancel) // it never ends by itself
	}
	o, ran := f.launch(ctx, nil, []int{i})
	f.nothingLeft(what)
	reason := fmt.Sprintf("%s: step %d, %s: ENOSYS", op.Phase, i, op)
	switch got := o.Outcome; {
	case isUnreached, isSpared:
		if !ran || got.Status != report.Completed && got.Status != report.Killed {
			f.t.Errorf("%s: ran %v, %+v", what, ran, got)
		}
		if !samePosture(o.Posture, f.control.Posture) {
			f.t.Errorf("%s: the posture is\n%+v, expected\n%+v", what, o.Posture, f.control.Posture)
		}
		if strings.HasPrefix(op.String(), "left = wait4(") && slices.ContainsFunc(o.Facts, func(x report.Fact) bool { return x.Kind == report.TreeEmptied }) {
			f.t.Errorf("%s: a fact says that the tree is empty", what)
		}
	case isUnnamed:
		if ran || got.Status != report.SetupFailed || o.Exit != nil {
			f.t.Errorf("%s: ran %v, %+v, exit %+v", what, ran, got, o.Exit)
		}
	case beside(p, i):
		// After the end of the workload was told, nothing changes what is known.
		known := got.Status == report.Completed && ran
		before := got.Status == report.SetupFailed && got.Reason == reason && !ran
		within := got.Status == report.SupervisorFault && got.Reason == reason
		if !known && !before && !within {
			f.t.Errorf("%s: ran %v, %+v", what, ran, got)
		}
	default:
		if ran {
			f.t.Errorf("%s: the workload ran", what)
		}
		if got.Status != report.SetupFailed || got.Reason != reason || o.Exit != nil {
			f.t.Errorf("%s: %+v, exit %+v; expected %s", what, got, o.Exit, reason)
		}
	}
}

// samePosture compares what does not differ from launch to launch.
func samePosture(a, b *report.Posture) bool {
	if a == nil || b == nil {
		return false
	}
	x, y := *a, *b
	for _, p := range []*report.Posture{&x, &y} {
		p.Namespaces = slices.Clone(p.Namespaces)
		for i := range p.Namespaces {
			p.Namespaces[i].ID = ""
		}
	}
	return reflect.DeepEqual(x, y)
}

// What the launcher and init do about the end of a workload that does not end
// by itself fails, and the run is cancelled: all the same nothing is left.
func TestEveryStepOfTheEndFails(t *testing.T) {
	need.MountNamespace(t)
	adopt(t)
	dir := openDir(t)
	f := newFaulty(t, New(), faultySpec(t, dir, true), dir)
	p := f.program()
	tried := 0
	for i := range p.Len() {
		if !beside(p, i) {
			continue
		}
		tried++
		what := f.names([]int{i})
		ctx, cancel := context.WithCancel(t.Context())
		go f.untilItRuns(ctx, cancel)
		o, ran := f.launch(ctx, nil, []int{i})
		cancel()
		f.nothingLeft(what)
		if got := o.Outcome.Status; got == report.Completed || got == report.Failed || got == report.SetupFailed && ran {
			t.Errorf("%s: ran %v, %+v", what, ran, o.Outcome)
		}
	}
	if tried < 10 {
		t.Errorf("%d operations were made to fail, expected more", tried)
	}
}

// A step fails, and then one of those that the failure leads to.
func TestStepsOfAFailureFail(t *testing.T) {
	need.MountNamespace(t)
	adopt(t)
	dir := openDir(t)
	f := newFaulty(t, New(), faultySpec(t, dir, false), dir)
	f.runs()
	for _, c := range []struct {
		first, then int
		commit      error
	}{
		{f.find("namespaces", "unshare(CLONE_NEWNET"), f.find("mounts", "exit_group(124)"), nil},
		{f.find("namespaces", "unshare(CLONE_NEWUSER"), f.find("failure", "writev("), nil},
		{f.find("mounts", "pivot_root("), f.find("failure", "writev("), nil},
		{f.find("limits", "setsid("), f.find("failure", "writev("), nil},
		{-1, f.find("exec", "exit_group(125)"), errors.New("no intent")},
	} {
		harm := []int{c.then}
		if c.first >= 0 {
			harm = append(harm, c.first)
		}
		what := f.names(harm)
		o, ran := f.launch(t.Context(), c.commit, harm)
		f.nothingLeft(what)
		if ran || c.commit == nil && (o.Outcome.Status != report.SetupFailed || o.Exit != nil) {
			t.Errorf("%s: ran %v, %+v", what, ran, o.Outcome)
		}
	}
}

// Without a death signal, and without looking for the launcher, init goes on
// when that has failed; the barrier stays shut all the same.
func TestLauncherFailsAlone(t *testing.T) {
	need.MountNamespace(t)
	adopt(t)
	dir := openDir(t)
	s := faultySpec(t, dir, false)
	s.Accept = []spec.Weakening{"outlives-supervisor"}
	f := newFaulty(t, New(), s, dir)
	f.runs()
	harm := []int{f.find("mounts", "ppoll("), f.find("mounts", "recvfrom(from launcher")}
	o, ran := f.launch(t.Context(), nil, harm)
	f.nothingLeft(f.names(harm))
	if ran || o.Outcome.Status != report.SetupFailed || !strings.HasPrefix(o.Outcome.Reason, "mounts: ") {
		t.Errorf("%s: ran %v, %+v", f.names(harm), ran, o.Outcome)
	}
}
