//go:build linux && (amd64 || arm64)

package linux_test

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

const apartVariable = "BVISOR_APART"

// apart runs the test in a process with a mount namespace of its own, where it
// may mount what it likes. It returns true there, and false to the caller of
// that process, whose test is as good as the other's.
func apart(t *testing.T) bool {
	t.Helper()
	need.Root(t)
	if os.Getenv(apartVariable) == "" {
		cmd := exec.Command(place.exe, "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), apartVariable+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Fatalf("apart: %v\n%s", err, out)
		}
		return false
	}
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	return true
}

func mounted(t *testing.T, source, at, fsType string, flags uintptr) {
	t.Helper()
	must(t, os.MkdirAll(at, 0o755))
	must(t, unix.Mount(source, at, fsType, flags, ""))
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
}

func codeOf(err error) string {
	if e, ok := errors.AsType[*spec.Error](err); ok {
		return e.Problems[0].Code
	}
	return ""
}

func TestStateDirectoryUnderAnotherName(t *testing.T) {
	if !apart(t) {
		return
	}
	supervisor(t)
	root := tree(t, "x/file")
	mounted(t, states.dir, root+"/x/alias", "", unix.MS_BIND)
	mounted(t, place.dir, root+"/y", "", unix.MS_BIND)
	control(t, "list", root+"/x/alias/keys").succeeds(t)
	for _, m := range []mods{
		{grant("r", root+"/x/alias")}, {grant("r", root+"/x")}, {grant("r", root+"/y")}, {grant("r", root)}, {expose("r", root+"/x", "/x")},
		{grant("r", root+"/x/alias/keys")}, {grant("r", root), grant("none", root+"/x/alias")},
	} {
		if err := refused(t, m, "exit", "0"); codeOf(err) != "spec.protected" {
			t.Errorf("got %v", err)
		}
	}
	both := mods{grant("r", root), grant("none", root+"/x/alias", root+"/y/state")}
	run(t, both, "list", root+"/x/alias").denied(t, plan.FilesystemCarveOut, unix.EACCES)
	run(t, both, "list", root+"/y/state").denied(t, plan.FilesystemCarveOut, unix.EACCES)
}

func TestKernelFileSystemsInsideGrants(t *testing.T) {
	if !apart(t) {
		return
	}
	root := tree(t, "p/file", "s/file", "my dir/file")
	mounted(t, "proc", root+"/p/proc", "proc", 0)
	mounted(t, "sysfs", root+"/s/sys", "sysfs", 0)
	for _, c := range []struct {
		access spec.Access
		path   string
		want   string
	}{
		{"r", "/p", "spec.reserved"}, {"rw", "/p", "spec.reserved"}, {"r", "/p/proc", "spec.reserved"}, {"r", "/p/proc/sys", "spec.reserved"},
		{"rw", "/p/proc/sys/kernel/core_pattern", "spec.reserved"}, {"rw", "/s", "spec.reserved"}, {"rw", "/s/sys/kernel", "spec.reserved"},
		{"r", "/s", ""},
	} {
		for _, m := range []func(*spec.Spec){grant(c.access, root+c.path), expose(c.access, root+c.path, "/x")} {
			if _, err := attempt(t, request(mods{m}, "exit", "0")); codeOf(err) != c.want || c.want == "" && err != nil {
				t.Errorf("%s %s: got %v, expected %q", c.access, c.path, err, c.want)
			}
		}
	}
	carved := mods{grant("rw", root+"/p"), grant("none", root+"/p/proc")}
	run(t, carved, "read", root+"/p/proc/version").denied(t, plan.FilesystemCarveOut, unix.EACCES)
	run(t, carved, "write", root+"/p/file").succeeds(t)

	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); strings.Contains(line, " - cgroup") {
			mounted(t, f[4], root+"/my dir/a cgroup", "", unix.MS_BIND)
			if err := refused(t, mods{grant("rw", root+"/my dir")}, "exit", "0"); codeOf(err) != "spec.cgroup" {
				t.Errorf("a cgroup tree below a blank: %v", err)
			}
			if err := refused(t, mods{expose("w", root+"/my dir/a cgroup/cgroup.procs", "/x")}, "exit", "0"); codeOf(err) != "spec.cgroup" {
				t.Errorf("a cgroup's file: %v", err)
			}
			break
		}
	}
}

// What the host mounts later stays the host's.
func TestLaterMountsOfTheHostDoNotAppear(t *testing.T) {
	if !apart(t) {
		return
	}
	root := tree(t, "in/sub/")
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""))
	end := paused(t, mods{grant("rw", root+"/in")}, "read", root+"/in/sub/late")
	mounted(t, "tmpfs", root+"/in/sub", "tmpfs", 0)
	must(t, os.WriteFile(root+"/in/sub/late", []byte("late"), 0o644))
	end().denied(t, plan.MountNamespace, unix.ENOENT)
	control(t, "read", root+"/in/sub/late").succeeds(t)
}

// Mounts below a granted directory are granted with it, with no more rights.
func TestMountsBelowAGrant(t *testing.T) {
	if !apart(t) {
		return
	}
	root := tree(t, "in/sub/")
	mounted(t, "tmpfs", root+"/in/sub", "tmpfs", 0)
	must(t, os.WriteFile(root+"/in/sub/file", []byte("below"), 0o644))
	must(t, copyFile(place.tool, root+"/in/sub/tool"))
	must(t, unix.Mknod(root+"/in/sub/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	if o := run(t, mods{grant("r", root+"/in")}, "read", root+"/in/sub/file").succeeds(t); o.Stdout != "below" {
		t.Errorf("got %q", o.Stdout)
	}
	run(t, mods{grant("r", root+"/in")}, "write", root+"/in/sub/file").denied(t, plan.Filesystem, unix.EROFS)
	run(t, mods{grant("rw", root+"/in")}, "exec", say(root+"/in/sub/tool")...).denied(t, plan.Filesystem, unix.EACCES)
	run(t, mods{grant("rw", root+"/in")}, "write", root+"/in/sub/null").denied(t, plan.Filesystem, unix.EACCES)
	control(t, "write", root+"/in/sub/null").succeeds(t)
	run(t, mods{shallow("r", root+"/in")}, "read", root+"/in/sub/file").denied(t, plan.Filesystem, unix.EACCES)
}

// A host whose /etc/hosts is a link (as some are made) can grant it.
func TestGrantOfALinkWhereTheBoundaryHasItsOwnFile(t *testing.T) {
	if !apart(t) {
		return
	}
	root := tree(t, "etc/other", "real-hosts")
	must(t, os.Symlink(root+"/real-hosts", root+"/etc/hosts"))
	mounted(t, root+"/etc", "/etc", "", unix.MS_BIND)
	if o := run(t, mods{grant("r", "/etc/hosts")}, "read", "/etc/hosts").succeeds(t); o.Stdout != "real-hosts" {
		t.Errorf("got %q", o.Stdout)
	}
	if o := run(t, mods{}, "read", "/etc/hosts").succeeds(t); !strings.Contains(o.Stdout, "localhost") {
		t.Errorf("got %q", o.Stdout)
	}
	if got := listed(run(t, mods{grant("r", "/etc/hosts")}, "list", "/etc").succeeds(t)); !slices.Contains(got, "passwd") {
		t.Errorf("got %q", got)
	}
}
