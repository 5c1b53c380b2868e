//go:build linux && (amd64 || arm64)

package linux_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/secret"
	"github.com/bvisor/bvisor/spec"
)

var _ = victim.Register(map[string]victim.Act{
	// Opens a file by one of the ways to name it: how, a readable directory, and
	// the file's path from there.
	"approach": func(args []string) error {
		if err := victim.Expect(args, 3); err != nil {
			return err
		}
		how, dir, rel := args[0], args[1], args[2]
		open := func(at int, name string) error {
			fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}
		whole := filepath.Join(dir, rel)
		switch how {
		case "absolute":
			return open(unix.AT_FDCWD, whole)
		case "dots":
			return open(unix.AT_FDCWD, dir+"/./nothing/../"+rel) // fails: the kernel looks "nothing" up
		case "relative":
			if err := unix.Chdir(dir); err != nil {
				return err
			}
			return open(unix.AT_FDCWD, rel)
		case "descriptor":
			fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			return open(fd, rel)
		case "openat2":
			_, err := unix.Openat2(unix.AT_FDCWD, whole, &unix.OpenHow{Flags: unix.O_RDONLY})
			return err
		case "thread":
			done := make(chan error)
			go func() {
				runtime.LockOSThread()
				done <- open(unix.AT_FDCWD, whole)
			}()
			return <-done
		case "undumpable":
			if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
				return err
			}
			return open(unix.AT_FDCWD, whole)
		case "fork":
			p, err := os.StartProcess(os.Args[0], []string{os.Args[0], victim.Word, "read", whole}, &os.ProcAttr{Files: []*os.File{nil, nil, nil}})
			if err != nil {
				return err
			}
			state, err := p.Wait()
			if err != nil || state.ExitCode() == 0 {
				return err
			}
			return unix.Errno(state.ExitCode())
		}
		return fmt.Errorf("no way %q", how)
	},
	// Opens a file again and again, then every numbered one of a directory.
	"insist": func(args []string) error {
		times, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		for range times {
			if _, err := unix.Open(args[0]+"/0", unix.O_RDONLY, 0); err != unix.ENOENT {
				return err
			}
		}
		for i := range times {
			if _, err := unix.Open(args[0]+"/"+strconv.Itoa(i%1000), unix.O_RDONLY, 0); err != unix.ENOENT {
				return err
			}
		}
		return nil
	},
	"connect": victim.One(func(name string) error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Connect(fd, &unix.SockaddrUnix{Name: name})
	}),
})

// explained asks for evidence of denials.
func explained(s *spec.Spec) { s.Evidence = append(s.Evidence, spec.DeniedAttempts) }

// seen returns what the report says of a path.
func (o outcome) seen(name string) *report.DeniedAct {
	for i := range o.Report.Denied {
		if o.Report.Denied[i].Path == name {
			return &o.Report.Denied[i]
		}
	}
	return nil
}

// paths lists what was seen to be denied below a directory.
func (o outcome) paths(below string) []string {
	var list []string
	for _, d := range o.Report.Denied {
		if strings.HasPrefix(d.Path, below) {
			list = append(list, d.Path)
		}
	}
	slices.Sort(list)
	return list
}

// partial checks that the report claims no more than it can.
func (o outcome) partial(t testing.TB) {
	t.Helper()
	if c := o.Report.Completeness; c.Level != report.LevelPartial || !strings.Contains(c.Why, "judged against the plan") {
		t.Errorf("the list of denials is %+v, expected partial, with the reason", c)
	}
	for _, d := range o.Report.Denied {
		if !d.Observed || d.Times < 1 || d.At == "" {
			t.Errorf("%+v does not say that it was observed", d)
		}
	}
}

// However a file is named, the path that is missing is told, with the flag that
// grants it; with that grant the same attempt succeeds and nothing is told.
func TestDeniedReadIsExplained(t *testing.T) {
	root := tree(t, "granted/", "outside/secret")
	secret := root + "/outside/secret"
	must(t, os.Symlink("../outside/secret", root+"/granted/link"))
	for how, rel := range map[string]string{
		"absolute": "../outside/secret", "relative": "../outside/secret", "descriptor": "../outside/secret",
		"openat2": "../outside/secret", "thread": "link", "fork": "link", "undumpable": "link",
	} {
		t.Run(how, func(t *testing.T) {
			control(t, "approach", how, root+"/granted", rel).succeeds(t)
			change := mods{grant("r", root+"/granted"), spawn(spec.SpawnProcesses), explained}
			o := run(t, change, "approach", how, root+"/granted", rel).denied(t, plan.Filesystem, unix.ENOENT)
			o.partial(t)
			d := o.seen(secret)
			if d == nil {
				t.Fatalf("%s was not seen: %+v, %+v", secret, o.Report.Denied, o.Report.Completeness)
			}
			if d.Access != "r" || d.Mechanism != "mount-namespace" || d.Allow != "--read "+secret || d.Program != place.exe || d.Act != "read "+secret {
				t.Errorf("got %+v", *d)
			}
			o = run(t, append(change, grant("r", secret)), "approach", how, root+"/granted", rel).succeeds(t)
			if d := o.seen(secret); d != nil {
				t.Errorf("granted, and seen as denied: %+v", *d)
			}
		})
	}
}

// What the boundary shows and does not let be changed or executed.
func TestDeniedRightsAreExplained(t *testing.T) {
	root := tree(t, "r/file", "r/dir/", "carved/inside", "out/", "out/file")
	l, err := net.Listen("unix", root+"/out/socket")
	must(t, err)
	defer l.Close()
	must(t, os.Chmod(root+"/out/socket", 0o777))
	must(t, os.Chmod(root+"/r", 0o777))
	must(t, os.Chmod(root+"/r/file", 0o666))
	must(t, os.Chmod(root+"/out", 0o777))
	change := mods{grant("r", root+"/r"), grant("r", root+"/carved"), grant("none", root+"/carved/inside"), temp("rw", "/private"), explained}
	for _, c := range []struct {
		act    string
		args   []string
		errors []unix.Errno
		path   string
		access string
		allow  string
	}{
		{"write", []string{root + "/r/file"}, []unix.Errno{unix.EROFS}, root + "/r/file", "w", "--write " + root + "/r/file"},
		{"truncate", []string{root + "/r/file"}, []unix.Errno{unix.EROFS}, root + "/r/file", "w", "--write " + root + "/r/file"},
		{"create", []string{root + "/r/new"}, []unix.Errno{unix.EROFS}, root + "/r", "w", "--write " + root + "/r"},
		{"mkdir", []string{root + "/r/new"}, []unix.Errno{unix.EROFS}, root + "/r", "w", "--write " + root + "/r"},
		{"symlink", []string{"x", root + "/r/new"}, []unix.Errno{unix.EROFS}, root + "/r", "w", "--write " + root + "/r"},
		{"rmdir", []string{root + "/r/dir"}, []unix.Errno{unix.EROFS}, root + "/r", "w", "--write " + root + "/r"},
		{"unlink", []string{root + "/r/file"}, []unix.Errno{unix.EROFS}, root + "/r", "w", "--write " + root + "/r"},
		{"rename", []string{root + "/r/file", root + "/r/other"}, []unix.Errno{unix.EROFS}, root + "/r", "w", "--write " + root + "/r"},
		{"create", []string{root + "/out/new"}, []unix.Errno{unix.ENOENT}, root + "/out", "w", "--write " + root + "/out"},
		{"list", []string{root + "/out"}, []unix.Errno{unix.ENOENT}, root + "/out", "r", "--read " + root + "/out"},
		{"stat", []string{root + "/out/file"}, []unix.Errno{unix.ENOENT}, root + "/out/file", "", "--read " + root + "/out/file"},
		{"connect", []string{root + "/out/socket"}, []unix.Errno{unix.ENOENT}, root + "/out/socket", "", "--read " + root + "/out/socket"},
		{"read", []string{root + "/carved/inside"}, []unix.Errno{unix.EACCES}, root + "/carved/inside", "r", ""},
		{"exec", []string{place.tool, victim.Word, "exit", "0"}, []unix.Errno{unix.ENOENT}, place.tool, "x", "--exec " + place.tool},
		{"copy-exec", []string{place.exe, "/private/copy", victim.Word, "exit", "0"}, []unix.Errno{unix.EACCES}, "/private/copy", "x", "--temp /private:rwx"},
	} {
		o := run(t, change, c.act, c.args...).denied(t, plan.Filesystem, c.errors...)
		o.partial(t)
		d := o.seen(c.path)
		if d == nil || d.Access != c.access || d.Allow != c.allow {
			t.Errorf("%s %q: expected %s with access %q, allowed by %q; seen: %+v", c.act, c.args, c.path, c.access, c.allow, o.Report.Denied)
		}
	}
	// The controls: without the boundary each of them succeeds.
	for _, c := range [][]string{{"write", root + "/r/file"}, {"create", root + "/out/new"}, {"mkdir", root + "/r/new"}, {"rmdir", root + "/r/new"},
		{"list", root + "/out"}, {"stat", root + "/out/file"}, {"connect", root + "/out/socket"}, {"read", root + "/carved/inside"},
		{"exec", place.tool, victim.Word, "exit", "0"}, {"rename", root + "/r/file", root + "/r/other"}, {"unlink", root + "/r/other"}} {
		control(t, c[0], c[1:]...).succeeds(t)
	}
}

// What is nowhere, what is granted, and what the kernel refuses before it reads
// a name are no denials.
func TestOrdinaryErrorsAreNoDenials(t *testing.T) {
	root := tree(t, "granted/file", "granted/dir/")
	change := mods{grant("rw", root+"/granted"), temp("rw", "/private"), explained}
	for _, c := range [][]string{
		{"read", root + "/granted/nothing"}, {"read", "/nowhere/at/all"}, {"read", "/private/nothing"}, {"read", "/proc/self/nothing"},
		{"read", "/dev/stdin"}, {"stat", "/dev/fd/0"}, {"mkdir", root + "/granted/dir"}, {"create", "/nowhere/new"}, {"unlink", "/nowhere"},
		{"rename", root + "/granted/nothing", root + "/granted/other"}, {"read", "/etc/passwd"}, {"list", "/"}, {"write", root + "/granted/file"},
		{"approach", "dots", root + "/granted", "file"}, {"connect", "/nowhere"}, {"connect", "@nobody listens here"}, {"bad-pointers", ""},
	} {
		o := run(t, change, c[0], c[1:]...)
		o.partial(t)
		for _, d := range o.Report.Denied {
			// Go's runtime asks for the size of huge pages, the loader of a
			// victim that is linked to libraries for its own.
			if !strings.HasPrefix(d.Path, "/sys/kernel/mm/") && (!place.dynamic || !strings.HasPrefix(d.Path, "/etc/")) {
				t.Errorf("%q: seen as denied: %+v", c, d)
			}
		}
	}
}

// An abstract socket of the host is told by its name.
func TestDeniedAbstractSocketIsExplained(t *testing.T) {
	name := "@bvisor-denied-" + token()
	l, err := net.Listen("unix", name)
	must(t, err)
	defer l.Close()
	control(t, "connect", name).succeeds(t)
	o := run(t, mods{explained}, "connect", name).denied(t, plan.NetworkNamespace, unix.ECONNREFUSED)
	if d := o.seen(name); d == nil || d.Mechanism != "network-namespace" || d.Allow != "" {
		t.Errorf("seen: %+v", o.Report.Denied)
	}
}

// A workload cannot make the supervisor keep more than it wants to, nor hide
// what it asked for first.
func TestFloodOfDeniedAttempts(t *testing.T) {
	names := make([]string, 1000)
	for i := range names {
		names[i] = "out/" + strconv.Itoa(i)
	}
	root := tree(t, names...)
	const times = 20_000
	change := mods{explained}
	run(t, change, "insist", root+"/out", "1").succeeds(t) // buffers that every run needs
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	o := run(t, change, "insist", root+"/out", strconv.Itoa(times)).succeeds(t)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("the supervisor's heap grew by %d KiB", grown>>10)
	}
	if d := o.seen(root + "/out/0"); d == nil || d.Times < times {
		t.Errorf("%d attempts on one path, seen as %+v", times, d)
	}
	if n := len(o.Report.Denied); n != 200 {
		t.Errorf("%d denials are kept, expected 200", n)
	}
	f := fact(o, report.DenialsObserved)
	if unlisted, _ := strconv.Atoi(f["unlisted"]); unlisted < times/2 || !strings.Contains(o.Report.Completeness.Why, f["unlisted"]+" more attempts are not listed") {
		t.Errorf("the report says %+v and %q of what it left out", f, o.Report.Completeness.Why)
	}
}

// The oracle: what strace sees an ordinary program open without the boundary,
// and the boundary does not have, is what is told.
func TestExplainAgainstStrace(t *testing.T) {
	strace := need.Program(t, "strace")
	root := tree(t, "a/one", "a/two", "b/three", "script", "work/")
	must(t, os.WriteFile(root+"/script", []byte("cd "+root+"/a && cat one two && ( cd ../b && cat three ) && ls "+root+"/b && test -e ./one\n"), 0o644))
	trace := filepath.Join(root, "work", "trace")
	argv := []string{"sh", root + "/script"}
	cmd := exec.Command(strace, append([]string{"-f", "-y", "-e", "trace=%file", "-o", trace}, argv...)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("control: %v\n%s", err, out)
	}
	text, err := os.ReadFile(trace)
	must(t, err)
	want := map[string]bool{}
	for _, m := range regexp.MustCompile(`AT_FDCWD<([^>]*)>, "([^"]*)"|(?:chdir|stat|access)\("([^"]*)"`).FindAllStringSubmatch(string(text), -1) {
		name := m[2] + m[3]
		if !filepath.IsAbs(name) {
			name = filepath.Join(m[1], name)
		}
		if strings.HasPrefix(name, root) && name != root+"/script" {
			want[name] = true
		}
	}
	if len(want) < 5 {
		t.Fatalf("strace saw %v: is the pattern still right?\n%s", want, text)
	}
	// What is told is granted, round by round: then it gets as far as without.
	grants := mods{preset("system"), spawn(spec.SpawnProcesses), env("PATH", "/usr/bin:/bin"), grant("r", root+"/script"), explained}
	told := map[string]bool{}
	for range 10 {
		o := program(t, grants, argv...)
		o.partial(t)
		fresh := false
		for _, name := range o.paths(root) {
			if !told[name] {
				told[name], fresh = true, true
				grants = append(grants, grant("r", name))
			}
		}
		if o.Code == 0 {
			if fresh {
				t.Errorf("it succeeded, and yet something was told: %v", o.paths(root))
			}
			break
		}
		if !fresh {
			t.Fatalf("it failed with %d, and nothing new was told: %+v\n%s", o.Code, o.Report.Denied, o.Stderr)
		}
	}
	for name := range told {
		if !want[name] {
			t.Errorf("%s was told and strace did not see it; it saw %v", name, want)
		}
	}
	if !told[root+"/a"] || !told[root+"/b"] {
		t.Errorf("told: %v", told)
	}
}

// Without the demand nothing changes: one filter, no observer in the program.
// With it, the kernel counts one filter more.
func TestObserverIsThereOnlyOnDemand(t *testing.T) {
	without, with := run(t, nil, "exit", "0").succeeds(t), run(t, mods{explained}, "exit", "0").succeeds(t)
	if a, b := without.Report.Posture.SeccompFilters, with.Report.Posture.SeccompFilters; a < 1 || b != a+1 {
		t.Errorf("%d filters without the demand, %d with it", a, b)
	}
	if without.Report.Completeness.Level != report.LevelNone || fact(without, report.DenialsObserved) != nil {
		t.Errorf("without the demand: %+v", without.Report.Completeness)
	}
	for _, c := range []struct {
		change mods
		want   int
	}{{nil, 0}, {mods{explained}, 1}} {
		var text bytes.Buffer
		must(t, supervisor(t).Program(t.Context(), request(c.change, "exit", "0").Spec, &text))
		if got := strings.Count(text.String(), "NEW_LISTENER"); got != c.want {
			t.Errorf("%d listeners in the program, expected %d", got, c.want)
		}
	}
}

// A name that a workload makes of a secret is in no report.
func TestDeniedAttemptHidesSecrets(t *testing.T) {
	sup := withSecrets(t, secret.Map{"key": leased})
	root := tree(t, "out/"+strings.ReplaceAll(leased, "/", "_")+"/file")
	name := root + "/out/" + leased + "/file"
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, nil, 0o644))
	o, err := attemptWith(t, sup, t.Context(), request(mods{lease("TOKEN", "test:key"), explained}, "read", name))
	must(t, err)
	if len(o.paths(root)) != 1 || !strings.Contains(o.Report.Denied[len(o.Report.Denied)-1].Path, "[redacted:TOKEN]") {
		t.Errorf("seen: %+v", o.Report.Denied)
	}
	if text := fmt.Sprint(o.Report.Denied); strings.Contains(text, leased) {
		t.Errorf("the report names the secret: %s", text)
	}
}

// A supervisor that dies takes the listener with it: nobody goes on.
func TestSupervisorKilledWhileObserving(t *testing.T) {
	need.MountNamespace(t)
	marked := token()
	cmd := exec.Command(place.exe, victim.Word, "supervise", filepath.Join(tree(t), "state"), marked)
	cmd.Env = []string{"BVISOR_TEST_OBSERVE=1"}
	var said bytes.Buffer
	cmd.Stderr = &said
	must(t, cmd.Start())
	defer cmd.Process.Kill()
	var inside []int
	eventually(t, "a family within the boundary, and its supervisor", func() bool {
		inside = withToken(marked)
		return len(inside) == 5
	}, &said)
	// Not by its number, which may have begun anew: the supervisor is outside.
	workload := inside[slices.IndexFunc(inside, func(pid int) bool { return namespace(t, pid, "pid") != namespace(t, os.Getpid(), "pid") })]
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", workload))
	must(t, err)
	if !regexp.MustCompile(`Seccomp_filters:\s+[2-9]`).Match(status) {
		t.Fatalf("the victim is not observed:\n%s", status)
	}
	pidns := heldPidns(t, workload)
	must(t, cmd.Process.Kill())
	cmd.Wait()
	eventually(t, "everything gone", func() bool { return len(withToken(marked)) == 0 && len(inNamespace("pid", pidns)) == 0 })
}

// A boundary that was armed before anybody asked for a run is observed, too.
func TestDeniedReadInPreparedBoundary(t *testing.T) {
	need.Program(t, "sh")
	file := tree(t, "secret") + "/secret"
	a := prepared(t, supervisor(t), 1, system(explained), "sh", "-c", "cat "+file+" || true")
	for range 2 {
		o := a.once(bvisor.Request{})
		o.wasPrepared(t, true)
		o.partial(t)
		if d := o.seen(file); d == nil || d.Times != 1 {
			t.Errorf("seen: %+v", o.Report.Denied)
		}
	}
	if out, err := exec.Command("cat", file).Output(); err != nil || string(out) != "secret" {
		t.Errorf("control: %q, %v", out, err)
	}
}
