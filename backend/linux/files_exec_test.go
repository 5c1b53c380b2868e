//go:build linux && (amd64 || arm64)

package linux_test

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/plan"
)

// say makes a program of our own prove that it ran.
func say(name string) []string {
	used.Store("say", true)
	return []string{name, victim.Word, "say", "ran"}
}

// ranAs checks that a control run became the program.
func (o outcome) ranAs(t testing.TB, want string) outcome {
	t.Helper()
	if o.succeeds(t); o.Stdout != want {
		t.Errorf("%s said %q, expected %q", o.Act, o.Stdout, want)
	}
	return o
}

func TestWhatMayNotBeExecuted(t *testing.T) {
	root := tree(t, "data/")
	must(t, os.Link(place.tool, root+"/data/tool"))
	tool := root + "/data/tool"
	script := root + "/data/script"
	must(t, os.WriteFile(script, []byte("#!"+tool+" victim\n"), 0o755))
	readable := mods{grant("r", root+"/data")}
	for _, act := range []string{"exec", "execveat"} {
		control(t, act, say(tool)...).ranAs(t, "ran")
		run(t, mods{grant("rx", root+"/data")}, act, say(tool)...).ranAs(t, "ran")
		run(t, readable, act, say(tool)...).denied(t, plan.Filesystem, unix.EACCES)
		run(t, mods{grant("rw", root+"/data")}, act, say(tool)...).denied(t, plan.Filesystem, unix.EACCES)
	}
	// A file that is granted for execution keeps its right only at its own place.
	run(t, mods{grant("rx", tool)}, "exec", say(tool)...).ranAs(t, "ran")
}

func TestInterpreterOfAScriptNeedsItsOwnRight(t *testing.T) {
	root := tree(t, "lib/", "run/")
	must(t, os.Link(place.tool, root+"/lib/tool"))
	must(t, os.WriteFile(root+"/run/script", []byte("#!"+root+"/lib/tool victim\n"), 0o755))
	must(t, os.WriteFile(root+"/run/chain", []byte("#!"+root+"/run/script\n"), 0o755))
	// The kernel hands the tool "victim" and the script's path: no act, but it runs.
	for _, name := range []string{"script", "chain"} {
		err := exec.Command(root + "/run/" + name).Run()
		if x, ok := err.(*exec.ExitError); !ok || x.ExitCode() != victim.ExitUsage {
			t.Fatalf("control: %v, expected exit status %d", err, victim.ExitUsage)
		}
		run(t, mods{grant("rx", root+"/run"), grant("r", root+"/lib")}, "exec", root+"/run/"+name).denied(t, plan.Filesystem, unix.EACCES)
		run(t, mods{grant("rx", root+"/run")}, "exec", root+"/run/"+name).denied(t, plan.Filesystem, unix.ENOENT)
		run(t, mods{grant("r", root+"/run"), grant("rx", root+"/lib")}, "exec", root+"/run/"+name).denied(t, plan.Filesystem, unix.EACCES)
	}
	o := program(t, mods{grant("rx", root+"/run", root+"/lib")}, root+"/run/script")
	if o.Code != victim.ExitUsage {
		t.Errorf("the script with both rights ended with %d: %s", o.Code, o.Stderr)
	}
}

func TestCopiesCannotBeExecuted(t *testing.T) {
	root := tree(t, "own/")
	places := mods{grant("rw", root+"/own"), temp("rw", "/tmp", "/scratch"), grant("r", place.tool)}
	for _, to := range []string{root + "/own/copy", "/tmp/copy", "/scratch/copy", "/dev/shm/copy"} {
		run(t, places, "copy-exec", append([]string{place.tool}, say(to)...)...).denied(t, plan.Filesystem, unix.EACCES)
	}
	control(t, "copy-exec", append([]string{place.tool}, say(root+"/control")...)...).ranAs(t, "ran")
	run(t, mods{temp("rwx", "/tmp"), grant("r", place.tool)}, "copy-exec", append([]string{place.tool}, say("/tmp/copy")...)...).ranAs(t, "ran")
	run(t, mods{grant("rwx", root+"/own"), grant("r", place.tool)}, "copy-exec", append([]string{place.tool}, say(root+"/own/copy2")...)...).ranAs(t, "ran")
}

func TestFilesWithoutAPathCannotBeExecuted(t *testing.T) {
	read := mods{grant("r", place.tool), temp("rw", "/tmp")}
	for act, want := range map[string]unix.Errno{"memfd-exec": unix.EPERM, "memfd-execveat": unix.EPERM} {
		control(t, act, say(place.tool)...).ranAs(t, "ran")
		run(t, read, act, say(place.tool)...).denied(t, plan.CallFilter, want)
	}
	// A memory file may be made when it is sealed; the seal holds.
	// Before Linux 6.3 there is no such seal, and making the file fails.
	sealed := []unix.Errno{unix.EPERM, unix.EACCES}
	if control(t, "sealed-exec", say(place.tool)...).Code == int(unix.EINVAL) {
		sealed = []unix.Errno{unix.EINVAL}
	}
	run(t, read, "sealed-exec", say(place.tool)...).denied(t, plan.CallFilter, sealed...)
	run(t, mods{grant("r", place.tool), temp("rwx", "/tmp")}, "memfd-exec", say(place.tool)...).ranAs(t, "ran")
}

func TestFilesThatMayNotRunCannotBeMappedToRun(t *testing.T) {
	root := tree(t, "data/file", "own/file")
	both := mods{grant("r", root+"/data"), grant("rw", root+"/own"), temp("rw", "/tmp")}
	for _, name := range []string{root + "/data/file", root + "/own/file", "/proc/self/maps", "/dev/zero"} {
		for _, act := range []string{"map-exec", "map-then-exec"} {
			if strings.HasPrefix(name, root) {
				control(t, act, name).succeeds(t)
			} else if name == "/proc/self/maps" {
				continue // cannot be mapped at all
			}
			run(t, both, act, name).denied(t, plan.Filesystem, unix.EPERM, unix.EACCES)
		}
	}
}

// interpreter is the loader that a dynamic program names, empty for a static one.
func interpreter(image []byte) (string, error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return "", err
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			text := make([]byte, p.Filesz)
			if _, err := p.ReadAt(text, 0); err != nil {
				return "", err
			}
			return strings.TrimRight(string(text), "\x00"), nil
		}
	}
	return "", nil
}

// The dynamic loader runs what it can map, whatever the file's mode.
func TestLoaderDoesNotRunWhatMayNotRun(t *testing.T) {
	const echo = "/bin/echo"
	need.File(t, echo)
	image, err := os.ReadFile(echo)
	must(t, err)
	loader, err := interpreter(image)
	must(t, err)
	if loader == "" {
		need.Missing(t, "file="+echo, "it is a static program here")
	}
	root := tree(t, "data/")
	copied := root + "/data/echo"
	must(t, os.WriteFile(copied, image, 0o644))
	if out, err := exec.Command(loader, copied, "ran").Output(); err != nil || string(out) != "ran\n" {
		t.Fatalf("control: %q, %v", out, err)
	}
	system := preset("system")
	o := program(t, mods{system, grant("rx", root+"/data")}, loader, copied, "ran")
	if o.Stdout != "ran\n" {
		t.Errorf("with the right to execute: %q\n%s", o.Stdout, o.Stderr)
	}
	for _, m := range []mods{{system, grant("r", root+"/data")}, {system, grant("rw", root+"/data")}} {
		o := program(t, m, loader, copied, "ran")
		if o.Stdout != "" || o.Code != 127 || !strings.Contains(o.Stderr, "failed to map segment") {
			t.Errorf("the loader ended with %d, said %q and %q", o.Code, o.Stdout, o.Stderr)
		}
		o.heldBy(t, plan.Filesystem)
	}
}

// The program that the report names is the one that ran.
func TestExecutableIsTheOneThatWasHashed(t *testing.T) {
	root := tree(t, "bin/")
	must(t, os.Link(place.tool, root+"/bin/tool"))
	must(t, os.Symlink("tool", root+"/bin/link"))
	for _, name := range []string{root + "/bin/tool", root + "/bin/link"} {
		o := program(t, mods{grant("rx", root+"/bin")}, say(name)...)
		if o.Stdout != "ran" || o.Report.Plan.Resolved.Executable.Path != root+"/bin/tool" || o.Report.Identity.Executable != sum(t, place.tool) {
			t.Errorf("%s: said %q, executable %+v", name, o.Stdout, o.Report.Plan.Resolved.Executable)
		}
	}
	for _, c := range []struct {
		what string
		m    mods
		argv []string
	}{
		{"not granted", mods{}, []string{root + "/bin/tool"}},
		{"not for executing", mods{grant("r", root+"/bin")}, []string{root + "/bin/tool"}},
		{"a directory", mods{grant("rx", root+"/bin")}, []string{root + "/bin"}},
		{"not there", mods{grant("rx", root+"/bin")}, []string{root + "/bin/none"}},
		{"carved out", mods{grant("rx", root+"/bin"), grant("none", root+"/bin/tool")}, []string{root + "/bin/tool"}},
	} {
		req := request(c.m, "")
		req.Spec.Workload.Command = c.argv
		if o, err := attempt(t, req); err == nil {
			t.Errorf("%s: %+v", c.what, o.Report.Outcome)
		}
	}
}
