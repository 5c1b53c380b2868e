//go:build linux && (amd64 || arm64)

package linux_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

func rootNamed(o outcome, named string) *spec.Root {
	for _, r := range o.Report.Plan.Resolved.Roots {
		if r.Named == named {
			return &r
		}
	}
	return nil
}

// A root that is a symbolic link is resolved once; the report shows where it
// leads, and inside both names work.
func TestSymlinkedRoots(t *testing.T) {
	root := tree(t, "real/dir/file", "real/file", "out/secret")
	must(t, os.Symlink("real/dir", root+"/dirlink"))
	must(t, os.Symlink(root+"/real/file", root+"/filelink"))
	must(t, os.Symlink("dirlink", root+"/chain"))
	must(t, os.Symlink("real", root+"/parent"))
	for name, canonical := range map[string]string{"dirlink": "real/dir", "filelink": "real/file", "chain": "real/dir", "parent/dir": "real/dir",
		"out/../real/dir": "real/dir", "real/./dir/": "real/dir"} {
		named := root + "/" + name
		file := named
		if canonical == "real/dir" {
			file = named + "/file"
		}
		if strings.Contains(name, "..") {
			file = root + "/real/dir/file"
		}
		o := run(t, mods{grant("r", named)}, "read", file).succeeds(t)
		if r := rootNamed(o, named); r == nil || r.Path != root+"/"+canonical || r.Dest != r.Path {
			t.Errorf("%s: the plan says %+v, expected %s", name, r, canonical)
		}
		run(t, mods{grant("r", named)}, "stat", root+"/"+canonical).succeeds(t)
		run(t, mods{grant("r", named)}, "read", root+"/out/secret").denied(t, plan.Filesystem, unix.ENOENT)
	}
}

func TestLinksThatCannotBeRoots(t *testing.T) {
	root := tree(t, "file")
	must(t, os.Symlink("loop", root+"/loop"))
	must(t, os.Symlink("/proc/self/root/etc", root+"/magic"))
	must(t, os.Symlink("nothing", root+"/dangling"))
	for _, name := range []string{"/proc/self/root", "/proc/self/cwd", "/proc/self/exe", "/proc/self/fd/0", "/proc/1/root/etc", "/proc/self/root/etc/passwd",
		"/dev/fd/0", "/proc", "/proc/self", "/proc/sys/kernel", "/dev", "/sys", root + "/loop", root + "/magic", root + "/dangling", root + "/file/below"} {
		for _, access := range []spec.Access{"r", "rw"} {
			e, ok := errors.AsType[*spec.Error](refused(t, mods{grant(access, name)}, "exit", "0"))
			if !ok || e.Problems[0].Code != "spec.path" && e.Problems[0].Code != "spec.reserved" {
				t.Errorf("%s: got %v", name, e)
			}
			if got := problems(t, refused(t, mods{expose(access, name, "/x")}, "exit", "0")); !slices.Equal(got, []string{"spec.path"}) && !slices.Equal(got, []string{"spec.reserved"}) {
				t.Errorf("expose %s: got %q", name, got)
			}
		}
	}
}

// The kernel's own files under another name are still the kernel's.
func TestKernelFilesCannotBeExposed(t *testing.T) {
	for _, name := range []string{"/sys", "/sys/kernel", "/sys/kernel/mm", "/sys/kernel/uevent_helper"} {
		if _, err := os.Stat(name); err != nil {
			continue // not every kernel has each
		}
		for _, m := range []func(*spec.Spec){grant("rw", name), expose("rw", name, "/x")} {
			if got := problems(t, refused(t, mods{m}, "exit", "0")); !slices.Equal(got, []string{"spec.reserved"}) {
				t.Errorf("%s: got %q", name, got)
			}
		}
	}
	run(t, mods{grant("r", "/sys/kernel/mm")}, "list", "/sys/kernel/mm").succeeds(t)
	control(t, "list", "/sys/kernel/mm").succeeds(t)
}

func TestCgroupTreesCannotBeWritten(t *testing.T) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	tried := 0
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if i := slices.Index(f, "-"); i < 0 || !strings.HasPrefix(f[i+1], "cgroup") {
			continue
		}
		tried++
		for _, name := range []string{f[4], f[4] + "/cgroup.procs"} {
			for _, m := range []func(*spec.Spec){grant("rw", name), expose("rw", name, "/x"), expose("w", name, "/x")} {
				got := problems(t, refused(t, mods{m}, "exit", "0"))
				if !slices.Equal(got, []string{"spec.cgroup"}) && !slices.Equal(got, []string{"spec.reserved"}) {
					t.Errorf("%s: got %q", name, got)
				}
			}
		}
	}
	if tried == 0 {
		need.Missing(t, "cgroup", "no cgroup hierarchy is mounted")
	}
}

func TestStateDirectoryIsOutOfReach(t *testing.T) {
	supervisor(t)
	state := states.dir
	keys, err := os.ReadDir(state + "/keys")
	if err != nil || len(keys) == 0 {
		t.Fatalf("no key to protect: %v, %v", keys, err)
	}
	key := filepath.Join(state, "keys", keys[0].Name())
	control(t, "read", key).succeeds(t)
	root := tree(t, "x/")
	must(t, os.Symlink(state, root+"/link"))
	for what, m := range map[string]mods{
		"itself":         {grant("r", state)},
		"for writing":    {grant("rw", state)},
		"the key":        {grant("r", key)},
		"its parent":     {grant("r", place.dir)},
		"through a link": {grant("r", root+"/link")},
		"exposed":        {expose("r", state, "/x")},
		"the key as x":   {expose("r", key, "/x")},
		"parent as x":    {expose("r", place.dir, "/x")},
		"carved out of one view, not of the other": {grant("r", place.dir), grant("none", state), expose("r", place.dir, "/x")},
		"carved out too low":                       {grant("r", place.dir), grant("none", state+"/keys")},
		"standard input":                           {func(s *spec.Spec) { s.Controls.Stdin = spec.Stdin{Mode: spec.StdinFile, File: key} }},
	} {
		own := request(m, "exit", "0")
		own.Spec.Capabilities.Filesystem = own.Spec.Capabilities.Filesystem[1:] // the victim's file lies in place.dir
		if len(own.Spec.Capabilities.Filesystem) == 0 || own.Spec.Capabilities.Filesystem[0].Paths[0] != place.dir {
			own = request(m, "exit", "0")
		}
		_, err := attempt(t, own)
		e, ok := errors.AsType[*spec.Error](err)
		if !ok || !slices.ContainsFunc(e.Problems, func(p spec.Problem) bool { return p.Code == "spec.protected" }) {
			t.Errorf("%s: got %v, expected spec.protected", what, err)
		}
	}
	carved := mods{func(s *spec.Spec) { s.Capabilities.Filesystem = nil }, grant("rx", place.dir), grant("none", state)}
	run(t, carved, "read", key).denied(t, plan.FilesystemCarveOut, unix.EACCES)
}

// The spec file is protected from writing, not from reading.
func TestProtectedFileMayBeRead(t *testing.T) {
	root := tree(t, "job.yaml", "other")
	own := supervisor(t)
	sup := &bvisor.Supervisor{Backend: own.Backend, Log: own.Log, Key: own.Key, Secrets: own.Secrets,
		Protected: append(slices.Clone(own.Protected), backend.Protected{Path: root + "/job.yaml", What: "the spec file"})}
	for _, c := range []struct {
		m  mods
		ok bool
	}{
		{mods{grant("r", root)}, true},
		{mods{grant("r", root+"/job.yaml")}, true},
		{mods{grant("rw", root)}, false},
		{mods{grant("w", root+"/job.yaml")}, false},
		{mods{grant("rw", root), grant("none", root+"/job.yaml")}, true},
		{mods{expose("rw", root, "/x")}, false},
	} {
		_, err := attemptWith(t, sup, t.Context(), request(c.m, "exit", "0"))
		if c.ok && err != nil {
			t.Errorf("%+v: %v", c.m, err)
		} else if !c.ok && !slices.Equal(problems(t, err), []string{"spec.protected"}) {
			t.Errorf("got %v", err)
		}
	}
}

func TestExpose(t *testing.T) {
	root := tree(t, "data/file", "data/sub/file", "single")
	ro := mods{expose("r", root+"/data", "/data"), expose("r", root+"/single", "/etc/single.conf")}
	for in, want := range map[string]string{"/data/file": "data/file", "/data/sub/file": "data/sub/file", "/etc/single.conf": "single"} {
		if o := run(t, ro, "read", in).succeeds(t); o.Stdout != want {
			t.Errorf("%s holds %q, expected %q", in, o.Stdout, want)
		}
		run(t, ro, "write", in).denied(t, plan.ExposePath, unix.EROFS)
		control(t, "read", in).mustFail(t)
	}
	run(t, ro, "read", root+"/data/file").denied(t, plan.ExposePath, unix.ENOENT) // only at its new place
	run(t, ro, "create", "/data/new").denied(t, plan.ExposePath, unix.EROFS)
	rw := mods{expose("rw", root+"/data", "/srv/deep/data"), expose("rw", root+"/single", "/srv/single")}
	run(t, rw, "create", "/srv/deep/data/new").succeeds(t)
	holds(t, root+"/data/new", victim.Mark)
	run(t, rw, "truncate", "/srv/single").succeeds(t)
	if st, err := os.Stat(root + "/single"); err != nil || st.Size() != 0 {
		t.Errorf("the write did not land: %v, %v", st, err)
	}
	run(t, rw, "create", "/srv/deep/new").denied(t, plan.ExposePath, unix.EROFS, unix.EACCES)
	must(t, os.Link(place.tool, root+"/data/tool"))
	run(t, rw, "exec", "/srv/deep/data/tool", victim.Word, "say", "x").denied(t, plan.ExposePath, unix.EACCES)
	if o := run(t, mods{expose("rx", root+"/data", "/opt/t")}, "exec", "/opt/t/tool", victim.Word, "say", "ran").succeeds(t); o.Stdout != "ran" {
		t.Errorf("the program said %q", o.Stdout)
	}
}

// mustFail is for a control run that shows that only the boundary has it.
func (o outcome) mustFail(t testing.TB) {
	t.Helper()
	if o.Code == 0 {
		t.Errorf("control: %s succeeded; the test proves nothing", o.Act)
	}
}

func TestWorkingDirectory(t *testing.T) {
	root := tree(t, "in/file", "out/file", "in/sub/file")
	must(t, os.Symlink("in", root+"/link"))
	in := grant("r", root+"/in")
	for _, d := range []string{"/in", "/link", "/in/../in"} {
		if o := run(t, mods{in, grant("r", root+"/link/sub"), dir(root + d)}, "read", "file").succeeds(t); o.Stdout != "in/file" {
			t.Errorf("%s: got %q", d, o.Stdout)
		}
	}
	run(t, mods{in}, "read", "file").denied(t, plan.Filesystem, unix.ENOENT) // the root is the default
	run(t, mods{in, dir(root + "/in/sub")}, "read", "../../out/file").denied(t, plan.Filesystem, unix.ENOENT)
	run(t, mods{temp("rw", "/tmp"), dir("/tmp")}, "create", "new").succeeds(t)
	for _, d := range []string{root + "/out", root + "/in/file", root + "/none", "/proc/self/cwd"} {
		if got := problems(t, refused(t, mods{in, dir(d)}, "exit", "0")); !slices.Equal(got, []string{"spec.dir"}) {
			t.Errorf("%s: got %q", d, got)
		}
	}
	if got := problems(t, refused(t, mods{in, grant("none", root+"/in/sub"), dir(root + "/in/sub")}, "exit", "0")); !slices.Equal(got, []string{"spec.dir"}) {
		t.Errorf("carved out: got %q", got)
	}
}

func TestPathsThatAreNoText(t *testing.T) {
	root := tree(t, "plain/file")
	for _, name := range []string{"line\nbreak", "tab\t", "blank ", "\x1b[31m", "quote\"'\\", strings.Repeat("n", 255), "-dash", "%s%n"} {
		must(t, os.Mkdir(root+"/"+name, 0o755))
		must(t, os.WriteFile(root+"/"+name+"/file", []byte("here"), 0o644))
		if o := run(t, mods{grant("r", root+"/"+name)}, "read", root+"/"+name+"/file").succeeds(t); o.Stdout != "here" {
			t.Errorf("%q: got %q", name, o.Stdout)
		}
	}
	// What is no UTF-8 cannot be written down, so it is refused and not mangled.
	must(t, os.Mkdir(root+"/\xff", 0o755))
	o, err := attempt(t, request(mods{grant("r", root+"/\xff")}, "exit", "0"))
	if err == nil && o.Report.Exit != nil {
		t.Errorf("a path that is not UTF-8 ran: %+v", o.Report.Outcome)
	}
}
