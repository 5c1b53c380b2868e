//go:build linux && (amd64 || arm64)

package linux_test

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
)

// One run tries three copies: of a secret outside its roots, to a place
// outside, and inside. Disk tells which landed; the report tells what held.
func TestThreeCopiesOfWhichOneLands(t *testing.T) {
	make := func(t *testing.T) (string, []string) {
		root := tree(t, "in/file", "out/secret", "out/")
		return root, []string{
			root + "/out/secret", root + "/in/stolen",
			root + "/in/file", root + "/out/planted",
			root + "/in/file", root + "/in/copy",
		}
	}
	root, copies := make(t)
	if o := control(t, "copy-each", copies...).succeeds(t); o.Stdout != "0 0 0" {
		t.Fatalf("control: %q", o.Stdout)
	}
	holds(t, root+"/in/stolen", "out/secret")
	holds(t, root+"/out/planted", "in/file")
	holds(t, root+"/in/copy", "in/file")

	root, copies = make(t)
	before := snapshot(t, root+"/out")
	o := run(t, mods{grant("rw", root+"/in")}, "copy-each", copies...).succeeds(t)
	if o.Stdout != "2 2 0" { // ENOENT: neither place exists inside
		t.Errorf("the copies ended with %q, expected ENOENT, ENOENT and success", o.Stdout)
	}
	holds(t, root+"/in/stolen", "")
	holds(t, root+"/out/planted", "")
	holds(t, root+"/in/copy", "in/file")
	if after := snapshot(t, root+"/out"); after != before {
		t.Errorf("outside, the tree changed from\n%s\nto\n%s", before, after)
	}

	o.reports(t, report.Completed, "")
	o.heldBy(t, plan.Filesystem)
	for _, phase := range []string{"namespaces", "identity", "mounts", "landlock", "seccomp", "exec"} {
		done := false
		for _, p := range o.Report.Transcript {
			done = done || p.Name == phase && p.Status == "done"
		}
		if !done {
			t.Errorf("the transcript does not say that %s was done: %+v", phase, o.Report.Transcript)
		}
	}
	if p := o.Report.Posture; p == nil || p.NoNewPrivs != 1 || p.Seccomp != 2 {
		t.Errorf("the posture is %+v", p)
	}
}

// Each layer holds without the other: what is no mount of the boundary is not
// there, and what is there and not allowed is refused.
func TestMountsAndLandlockHoldAlone(t *testing.T) {
	root := tree(t, "in/file", "out/secret")
	m := grant("r", root+"/in")
	run(t, mods{m, accept("no-landlock")}, "read", root+"/out/secret").denied(t, plan.Filesystem, unix.ENOENT)
	run(t, mods{m, accept("no-landlock")}, "write", root+"/in/file").denied(t, plan.Filesystem, unix.EROFS)
	run(t, mods{m, accept("no-landlock")}, "read", root+"/in/file").succeeds(t)
	alone := mods{m, accept("visible-host-paths", "host-devices", "host-proc", "host-sys")}
	if needsMounts(t, alone) {
		return
	}
	run(t, alone, "read", root+"/out/secret").denied(t, plan.Filesystem, unix.EACCES)
	run(t, alone, "write", root+"/in/file").denied(t, plan.Filesystem, unix.EACCES)
	run(t, alone, "truncate", root+"/in/file").denied(t, plan.Filesystem, unix.EACCES)
	run(t, alone, "create", root+"/out/new").denied(t, plan.Filesystem, unix.EACCES)
	run(t, alone, "list", root+"/out").denied(t, plan.Filesystem, unix.EACCES)
	run(t, alone, "exec", say(place.tool)...).denied(t, plan.Filesystem, unix.EACCES)
	run(t, alone, "read", root+"/in/file").succeeds(t)
	o := run(t, alone, "stat", root+"/out/secret") // what the name of the weakening says
	o.succeeds(t)
	if !strings.Contains(strings.Join(accepted(o), " "), "visible-host-paths") {
		t.Errorf("the report accepts %q", accepted(o))
	}
	holds(t, root+"/in/file", "in/file")
	o, err := attempt(t, request(append(alone, grant("none", root+"/in/file")), "exit", "0"))
	if err != nil {
		t.Fatal(err)
	}
	if got := reasons(t, o); len(got) != 1 || got[0] != "weakening.conflict" {
		t.Errorf("a carve-out by Landlock alone is refused for %q", got)
	}
}

func accepted(o outcome) []string {
	var names []string
	for _, w := range o.Report.Accepted {
		names = append(names, string(w))
	}
	return names
}

// Metadata outside the grants is as far away as contents.
func TestMetadataOutside(t *testing.T) {
	root := tree(t, "in/file", "out/file")
	in := mods{grant("rwx", root+"/in")}
	before := snapshot(t, root+"/out")
	for act, args := range map[string][]string{
		"stat": {"/out/file"}, "chmod": {"/out/file"}, "chown": {"/out/file"}, "utimes": {"/out/file"}, "setxattr": {"/out/file"},
		"truncate": {"/out/file"}, "unlink": {"/out/file"}, "rename": {"/out/file", "/in/moved"}, "link": {"/out/file", "/in/linked"},
		"mkdir": {"/out/new"}, "rmdir": {"/out"}, "create": {"/out/new"}, "mkfifo": {"/out/new"}, "list": {"/out"}, "chdir": {"/out"},
		"write": {"/out/file"}, "read": {"/out/file"},
	} {
		for i := range args {
			args[i] = root + args[i]
		}
		run(t, in, act, args...).denied(t, plan.Filesystem, unix.ENOENT, unix.EROFS, unix.EACCES)
	}
	run(t, in, "symlink", root+"/in/file", root+"/out/new").denied(t, plan.Filesystem, unix.ENOENT)
	if after := snapshot(t, root+"/out"); after != before {
		t.Errorf("outside, the tree changed from\n%s\nto\n%s", before, after)
	}
	holds(t, root+"/in/moved", "")
	for _, act := range []string{"stat", "chmod", "chown", "utimes", "setxattr", "truncate", "write", "read", "unlink"} {
		control(t, act, root+"/out/file").succeeds(t)
	}
}
