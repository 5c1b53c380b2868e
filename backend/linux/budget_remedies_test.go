//go:build linux && (amd64 || arm64)

package linux_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/internal/cgroup"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

var _ = victim.Register(map[string]victim.Act{
	// Is a supervisor that is told where to make its groups, or "" for what it
	// finds. It says how a run with a budget went, or the remedy of its refusal.
	"supervise-below": victim.One(func(parent string) error {
		place.exe = os.Args[0]
		dir, err := os.MkdirTemp("", "bvisor-below-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		state, err := bvisor.OpenState(dir)
		if err != nil {
			return err
		}
		s := baseSpec("exit", "0")
		s.Presets = []string{"system"}
		budget(spec.Memory, 256*mib)(&s)
		sup := state.Supervisor(linux.Below(parent))
		res, err := sup.Run(context.Background(), bvisor.Request{Spec: s})
		if err != nil {
			return err
		}
		sup.Wait()
		fmt.Println(res.Report.Outcome.Status)
		if p := res.Report.Posture; p != nil {
			fmt.Println(p.Cgroup)
		}
		if r := res.Report.Refusal; r != nil {
			fmt.Println(r.Reasons[0].Fact)
			fmt.Println(r.Reasons[0].Remedy)
		}
		return nil
	}),
})

// groupsBeside makes a row of groups, each below the one before, beside the one
// of this suite, and returns their directories.
func groupsBeside(t *testing.T, names ...string) []string {
	t.Helper()
	place, err := cgroup.Find("")
	must(t, err)
	dir := filepath.Join(filepath.Dir(place.Path), fmt.Sprintf("bvisor-%s-%d", strings.ToLower(t.Name()), os.Getpid()))
	var dirs []string
	for _, name := range append([]string{""}, names...) {
		dir = filepath.Join(dir, name)
		must(t, os.Mkdir(dir, 0o755))
		dirs = append(dirs, dir)
	}
	t.Cleanup(func() {
		_ = os.Remove(filepath.Join(dir, "bvisor")) // a place that was found there
		for i := len(dirs) - 1; i >= 0; i-- {
			if err := os.Remove(dirs[i]); err != nil {
				t.Error(err)
			}
		}
	})
	return dirs
}

// The commands that a refusal names are the ones that help.
func TestRemedyForControllers(t *testing.T) {
	grouped(t)
	need.Root(t)
	dirs := groupsBeside(t, "middle", "inner")
	inner := dirs[len(dirs)-1]
	try := func() outcome {
		sup := another(t)
		sup.Backend = linux.Below(inner)
		o, err := attemptWith(t, sup, t.Context(), request(mods{budget(spec.Memory, 64*mib)}, "eat-anon", "4"))
		must(t, err)
		sup.Wait()
		return o
	}
	o := try()
	if o.Report.Outcome != (report.Outcome{Status: report.Refused, Reason: "budget.memory.guarantee"}) {
		t.Fatalf("without controllers: %+v", o.Report.Outcome)
	}
	reason := o.Report.Refusal.Reasons[0]
	words, commands, found := strings.Cut(reason.Remedy, "as root: ")
	commands, _, _ = strings.Cut(commands, "; or ") // what can be done to the spec
	if !found || !strings.Contains(reason.Fact, "cgroup.parent is no-controllers") {
		t.Fatalf("the reason: %+v", reason)
	}
	for _, dir := range dirs[:len(dirs)-1] {
		if !strings.Contains(commands, dir+"/cgroup.subtree_control") {
			t.Errorf("%s is not among the commands: %s %s", dir, words, commands)
		}
	}
	if out, err := exec.Command(need.Program(t, "sh"), "-c", commands).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v, %s", commands, err, out)
	}
	if o := try(); o.Code != 0 || o.Report.Outcome.Status != report.Completed {
		t.Errorf("after %s: %+v, %s", commands, o.Report.Outcome, o.why())
	} else {
		o.bounded(t, spec.Memory)
	}
}

// Who may write to a group cannot let anybody be born there from outside of it
// (cgroup-v2.rst, "Delegation Containment"). The remedy says so, and is right.
func TestRemedyForAGroupElsewhere(t *testing.T) {
	grouped(t)
	need.Root(t)
	dirs := groupsBeside(t, "suite")
	theirs, inside := dirs[0], dirs[1]
	for _, dir := range dirs {
		for _, name := range []string{"", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} {
			must(t, os.Chown(filepath.Join(dir, name), need.Nobody, need.Nobody))
		}
	}
	// What systemd does, too: a group is delegated with controllers.
	must(t, os.WriteFile(filepath.Join(filepath.Dir(theirs), "cgroup.subtree_control"), []byte("+memory +pids"), 0))
	t.Cleanup(func() { _ = os.Remove(filepath.Join(theirs, "bvisor")) })
	attr := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: need.Nobody, Gid: need.Nobody, Groups: []uint32{}}}
	o := controlWith(t, attr, "supervise-below", theirs)
	for _, want := range []string{"refused\n", "cgroup.birth is unavailable (EACCES)", "start bvisor in the group that --cgroup-parent names"} {
		if !strings.Contains(o.Stdout, want) {
			t.Errorf("from outside, expected %q: %s %s", want, o.Stdout, o.Stderr)
		}
	}
	into, err := os.Open(inside)
	must(t, err)
	defer into.Close()
	attr.UseCgroupFD, attr.CgroupFD = true, int(into.Fd())
	for _, parent := range []string{theirs, ""} {
		if o := controlWith(t, attr, "supervise-below", parent); !strings.HasPrefix(o.Stdout, "completed\n") {
			t.Errorf("from inside, with --cgroup-parent %q: %s %s", parent, o.Stdout, o.Stderr)
		}
	}
	// The control: it is the group that matters, for root may do both.
	if o := control(t, "supervise-below", theirs); !strings.HasPrefix(o.Stdout, "completed\n") {
		t.Errorf("root from outside: %s %s", o.Stdout, o.Stderr)
	}
}

// Root stays in the unit that systemd delegated to it, whose limits are there
// for what it starts, too.
func TestGroupOfAUnit(t *testing.T) {
	grouped(t)
	need.Root(t)
	dirs := groupsBeside(t, "supervisor")
	unit := dirs[0]
	t.Cleanup(func() { _ = os.Remove(filepath.Join(unit, "bvisor")) })
	into, err := os.Open(dirs[1])
	must(t, err)
	defer into.Close()
	group := func() string {
		o := controlWith(t, &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(into.Fd())}, "supervise-below", "")
		path, found := strings.CutPrefix(o.Stdout, "completed\n")
		if !found {
			t.Fatalf("%s %s", o.Stdout, o.Stderr)
		}
		return "/sys/fs/cgroup" + strings.TrimSpace(path)
	}
	if got := group(); strings.HasPrefix(got, unit) {
		t.Errorf("the control: in no unit the workload was in %s", got)
	}
	must(t, unix.Setxattr(unit, "trusted.delegate", []byte("1"), 0)) // cg_set_attribute in systemd
	if got := group(); !strings.HasPrefix(got, unit+"/bvisor/") {
		t.Errorf("the workload was in %s, expected it in %s", got, unit)
	}
	must(t, os.Chown(unit, need.Nobody, need.Nobody)) // theirs may be let go elsewhere by its owner
	if got := group(); strings.HasPrefix(got, unit) {
		t.Errorf("in a unit of somebody else's the workload was in %s", got)
	}
}

// In a scope (systemd-run --scope -p Delegate=yes) the supervisor is born in the
// delegated group itself, and by the time that it wants groups it has started
// something. It steps aside with that, and not with anybody else.
func TestGroupOfAScope(t *testing.T) {
	grouped(t)
	need.Root(t)
	scope := groupsBeside(t)[0]
	must(t, os.WriteFile(filepath.Join(filepath.Dir(scope), "cgroup.subtree_control"), []byte("+memory +pids"), 0))
	must(t, unix.Setxattr(scope, "trusted.delegate", []byte("1"), 0)) // cg_set_attribute in systemd
	fresh := func() {
		for _, name := range []string{"bvisor", "supervisor"} {
			_ = os.Remove(filepath.Join(scope, name))
		}
		handed := filepath.Join(scope, "cgroup.subtree_control")
		list, err := os.ReadFile(handed)
		must(t, err)
		for c := range strings.FieldsSeq(string(list)) {
			must(t, os.WriteFile(handed, []byte("-"+c), 0))
		}
	}
	t.Cleanup(fresh)
	into, err := os.Open(scope)
	must(t, err)
	defer into.Close()
	inside := func() *syscall.SysProcAttr { return &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(into.Fd())} }
	completed := func(who string, attr *syscall.SysProcAttr) {
		t.Helper()
		o := controlWith(t, attr, "supervise-below", "")
		if want := "completed\n" + strings.TrimPrefix(scope, "/sys/fs/cgroup") + "/bvisor/"; !strings.HasPrefix(o.Stdout, want) {
			t.Errorf("%s: %s %s; expected %s", who, o.Stdout, o.Stderr, want)
		}
		fresh() // each scope is
	}
	completed("root", inside())

	other := exec.Command(place.exe, victim.Word, "linger", "x")
	other.SysProcAttr = inside()
	must(t, other.Start())
	o := controlWith(t, inside(), "supervise-below", "")
	if want := fmt.Sprintf("cgroup.parent is occupied (process %d is in %s", other.Process.Pid, scope); !strings.HasPrefix(o.Stdout, "refused\n") || !strings.Contains(o.Stdout, want) {
		t.Errorf("beside somebody else: %s %s; expected %s", o.Stdout, o.Stderr, want)
	}
	if list, err := os.ReadFile(filepath.Join(scope, "cgroup.procs")); err != nil || strings.TrimSpace(string(list)) != fmt.Sprint(other.Process.Pid) {
		t.Errorf("the other's group has %q, %v", list, err)
	}
	must(t, other.Process.Kill())
	_ = other.Wait()

	for _, name := range []string{"", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} {
		must(t, os.Chown(filepath.Join(scope, name), need.Nobody, need.Nobody))
	}
	user := inside()
	user.Credential = &syscall.Credential{Uid: need.Nobody, Gid: need.Nobody, Groups: []uint32{}}
	completed("an ordinary user", user)
}

// The command against a missing hierarchy is the one that helps.
func TestRemedyForNoHierarchy(t *testing.T) {
	grouped(t)
	need.Root(t)
	for _, program := range []string{"sh", "mount", "umount"} {
		need.Program(t, program)
	}
	// In a mount namespace of its own, which ends with the shell.
	script := `mount --make-rprivate / && umount -l /sys/fs/cgroup && "$0" ` + victim.Word + ` supervise-below "" && %s && "$0" ` + victim.Word + ` supervise-below ""`
	try := func(command string) string {
		cmd := exec.Command("sh", "-c", fmt.Sprintf(script, command), place.exe)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	said := try("true")
	const words = "mount cgroup v2, as root: "
	_, command, found := strings.Cut(said, words)
	command, _, _ = strings.Cut(command, ";")
	if !found || strings.Count(said, words) != 2 || !strings.Contains(said, "cgroup.parent is no-hierarchy (this host's hierarchy is none") {
		t.Fatalf("without a hierarchy: %s", said)
	}
	said = try(command)
	if !strings.HasPrefix(said, "refused\n") || strings.Count(said, words) != 1 || !strings.Contains(said, "\ncompleted\n") {
		t.Errorf("after %q: %s", command, said)
	}
}
