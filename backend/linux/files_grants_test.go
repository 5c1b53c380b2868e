//go:build linux && (amd64 || arm64)

package linux_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

func TestReadOutsideTheGrants(t *testing.T) {
	root := tree(t, "in/file", "out/secret")
	secret := filepath.Join(root, "out/secret")
	control(t, "read", secret).succeeds(t)
	inside := mods{grant("r", filepath.Join(root, "in"))}
	run(t, inside, "read", filepath.Join(root, "in/file")).succeeds(t)
	for _, act := range []string{"read", "stat", "write", "truncate", "chdir", "list"} {
		run(t, inside, act, secret).denied(t, plan.Filesystem, unix.ENOENT)
	}
	holds(t, secret, "out/secret")
}

// each right decides over exactly the acts it names, at a directory and at a
// file alike.
func TestEveryCombinationOfRights(t *testing.T) {
	acts := []struct {
		act   string
		needs spec.Access
		args  func(root string) []string
	}{
		{"read", "r", func(r string) []string { return []string{r + "/file"} }},
		{"list", "r", func(r string) []string { return []string{r} }},
		{"write", "w", func(r string) []string { return []string{r + "/file"} }},
		{"truncate", "w", func(r string) []string { return []string{r + "/file"} }},
		{"create", "w", func(r string) []string { return []string{r + "/new"} }},
		{"mkdir", "w", func(r string) []string { return []string{r + "/sub/new"} }},
		{"mkfifo", "w", func(r string) []string { return []string{r + "/new"} }},
		{"symlink", "w", func(r string) []string { return []string{"file", r + "/new"} }},
		{"link", "w", func(r string) []string { return []string{r + "/file", r + "/new"} }},
		{"rename", "w", func(r string) []string { return []string{r + "/file", r + "/sub/new"} }},
		{"unlink", "w", func(r string) []string { return []string{r + "/file"} }},
		{"rmdir", "w", func(r string) []string { return []string{r + "/sub"} }},
		{"chmod", "w", func(r string) []string { return []string{r + "/file"} }},
		{"chown", "w", func(r string) []string { return []string{r + "/file"} }},
		{"utimes", "w", func(r string) []string { return []string{r + "/file"} }},
		{"setxattr", "w", func(r string) []string { return []string{r + "/file"} }},
		{"exec", "x", func(r string) []string { return []string{r + "/tool", victim.Word, "say", "ran"} }},
		{"map-exec", "x", func(r string) []string { return []string{r + "/tool"} }},
		{"map-then-exec", "x", func(r string) []string { return []string{r + "/tool"} }},
	}
	make := func(t *testing.T) string {
		root := tree(t, "file", "sub/")
		must(t, os.Link(place.tool, root+"/tool"))
		return root
	}
	for _, a := range acts {
		t.Run(a.act, func(t *testing.T) {
			control(t, a.act, a.args(make(t))...).succeeds(t)
			for _, access := range []spec.Access{"r", "w", "rw", "rx", "rwx"} {
				root := make(t)
				before := snapshot(t, root)
				o := run(t, mods{grant(access, root)}, a.act, a.args(root)...)
				if a.act == "map-exec" && !access.Read() || a.act == "map-then-exec" && !access.Read() {
					if o.Code != victim.ExitOther { // it cannot even be opened
						t.Errorf("%s: ended with %d\n%s", access, o.Code, o.Stderr)
					}
					continue
				}
				if strings.Contains(string(access), string(a.needs)) {
					if o.succeeds(t); a.act == "exec" && o.Stdout != "ran" {
						t.Errorf("%s: the program said %q, expected it to run", access, o.Stdout)
					}
					continue
				}
				o.denied(t, plan.Filesystem, unix.EACCES, unix.EROFS, unix.EPERM)
				if after := snapshot(t, root); after != before {
					t.Errorf("%s with access %s left\n%s\nfor\n%s", a.act, access, after, before)
				}
			}
		})
	}
}

// snapshot is everything about a tree that an act could have changed.
func snapshot(t testing.TB, root string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(root, func(name string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		size, changed := st.Size, st.Mtim.Nano()
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			size, changed = 0, 0 // its entries tell
		}
		attrs := make([]byte, 1024)
		n, _ := unix.Llistxattr(name, attrs)
		fmt.Fprintf(&b, "%s %o %d:%d %d %d links=%d %d %q\n", strings.TrimPrefix(name, root), st.Mode, st.Uid, st.Gid, size,
			changed, st.Nlink, st.Ino, attrs[:max(n, 0)])
		return nil
	}))
	return b.String()
}

func TestFileGrants(t *testing.T) {
	root := tree(t, "file", "other")
	must(t, os.Link(place.tool, root+"/tool"))
	file := root + "/file"
	for _, act := range []string{"read", "write", "truncate", "chmod", "utimes"} {
		control(t, act, file).succeeds(t)
		must(t, os.WriteFile(file, []byte("file"), 0o644))
		must(t, os.Chmod(file, 0o644))
	}
	run(t, mods{grant("r", file)}, "read", file).succeeds(t)
	run(t, mods{grant("r", file)}, "read", root+"/other").denied(t, plan.Filesystem, unix.ENOENT)
	run(t, mods{grant("r", file)}, "write", file).denied(t, plan.Filesystem, unix.EROFS, unix.EACCES)
	run(t, mods{grant("r", file)}, "truncate", file).denied(t, plan.Filesystem, unix.EROFS, unix.EACCES)
	run(t, mods{grant("r", file)}, "chmod", file).denied(t, plan.Filesystem, unix.EROFS)
	run(t, mods{grant("r", file)}, "utimes", file).denied(t, plan.Filesystem, unix.EROFS)
	holds(t, file, "file")
	run(t, mods{grant("w", file)}, "read", file).denied(t, plan.Filesystem, unix.EACCES)
	run(t, mods{grant("w", file)}, "write", file).succeeds(t)
	if got, _ := os.ReadFile(file); !strings.HasPrefix(string(got), victim.Mark[:4]) {
		t.Errorf("the write did not land: %q", got)
	}
	// A file that is granted is not the directory that holds it.
	run(t, mods{grant("rw", file)}, "unlink", file).denied(t, plan.Filesystem, unix.EROFS, unix.EBUSY, unix.EACCES)
	run(t, mods{grant("rw", file)}, "create", root+"/new").denied(t, plan.Filesystem, unix.EROFS, unix.EACCES)
	run(t, mods{grant("rw", file)}, "rename", file, root+"/new").denied(t, plan.Filesystem, unix.EROFS, unix.EBUSY, unix.EACCES, unix.EXDEV)
	if o := run(t, mods{grant("rx", root+"/tool")}, "exec", root+"/tool", victim.Word, "say", "ran").succeeds(t); o.Stdout != "ran" {
		t.Errorf("the program said %q", o.Stdout)
	}
	run(t, mods{grant("r", root+"/tool")}, "exec", root+"/tool").denied(t, plan.Filesystem, unix.EACCES)
}

func TestExecuteWithoutReadIsRefused(t *testing.T) {
	root := tree(t, "file")
	for _, access := range []spec.Access{"x", "wx"} {
		o, err := attempt(t, request(mods{grant(access, root)}, "read", root+"/file"))
		if err != nil {
			t.Fatal(err)
		}
		if got := reasons(t, o); !slices.Equal(got, []string{"feature.execute-without-read"}) {
			t.Errorf("%s: refused for %q", access, got)
		}
	}
}

func TestSeveralGrantsOfSeveralPaths(t *testing.T) {
	root := tree(t, "a/f", "b/f", "c/f", "d/f", "single", "e/f")
	all := mods{
		grant("r", root+"/a", root+"/b", root+"/single"),
		grant("rw", root+"/c", root+"/d"),
	}
	for _, p := range []string{"a/f", "b/f", "c/f", "d/f", "single"} {
		if o := run(t, all, "read", root+"/"+p).succeeds(t); o.Stdout != p {
			t.Errorf("%s holds %q", p, o.Stdout)
		}
	}
	for _, p := range []string{"a/f", "b/f", "single"} {
		run(t, all, "write", root+"/"+p).denied(t, plan.Filesystem, unix.EROFS, unix.EACCES)
		holds(t, root+"/"+p, p)
	}
	for _, p := range []string{"c/f", "d/f"} {
		run(t, all, "write", root+"/"+p).succeeds(t)
	}
	run(t, all, "read", root+"/e/f").denied(t, plan.Filesystem, unix.ENOENT)
	// Only what was granted can be seen to exist.
	o := run(t, all, "list", root).succeeds(t)
	got := strings.Fields(o.Stdout)
	slices.Sort(got)
	if !slices.Equal(got, []string{"a", "b", "c", "d", "single"}) {
		t.Errorf("the boundary shows %q", got)
	}
	for _, r := range o.Report.Plan.Resolved.Roots {
		if strings.HasPrefix(r.Path, root+"/e") {
			t.Errorf("the plan has %+v", r)
		}
	}
}

func TestOptionalGrants(t *testing.T) {
	root := tree(t, "a")
	optional := func(s *spec.Spec) {
		s.Capabilities.Filesystem = append(s.Capabilities.Filesystem, spec.Grant{Access: "r", Paths: []string{root + "/a", root + "/none"}, Optional: true, Origin: spec.FromSpec})
	}
	o := run(t, mods{optional}, "read", root+"/a").succeeds(t)
	for _, r := range o.Report.Plan.Resolved.Roots {
		if r.Path == root+"/none" {
			t.Error("the plan has a root that does not exist")
		}
	}
	if got := problems(t, refused(t, mods{grant("r", root+"/none")}, "exit", "0")); !slices.Equal(got, []string{"spec.path"}) {
		t.Errorf("a grant of nothing is %q", got)
	}
}

func TestNotRecursive(t *testing.T) {
	root := tree(t, "file", "sub/file", "sub/deep/file", "link-to-nothing")
	for _, access := range []spec.Access{"r", "rw"} {
		flat := mods{shallow(access, root)}
		run(t, flat, "read", root+"/file").succeeds(t)
		control(t, "read", root+"/sub/file").succeeds(t)
		for _, p := range []string{"sub/file", "sub/deep/file"} {
			run(t, flat, "read", root+"/"+p).denied(t, plan.Filesystem, unix.EACCES)
			run(t, flat, "stat", root+"/"+p).denied(t, plan.Filesystem, unix.EACCES)
			run(t, flat, "write", root+"/"+p).denied(t, plan.Filesystem, unix.EACCES)
		}
		run(t, flat, "list", root+"/sub").denied(t, plan.Filesystem, unix.EACCES)
		run(t, flat, "create", root+"/sub/new").denied(t, plan.Filesystem, unix.EACCES)
		run(t, flat, "chdir", root+"/sub").denied(t, plan.Filesystem, unix.EACCES)
		run(t, flat, "mkdir", root+"/new").denied(t, plan.Filesystem, unix.EACCES, unix.EROFS)
		run(t, flat, "rename", root+"/sub", root+"/gone").denied(t, plan.Filesystem, unix.EBUSY, unix.EROFS, unix.EACCES)
	}
	flat := mods{shallow("rw", root)}
	run(t, flat, "write", root+"/file").succeeds(t)
	run(t, flat, "create", root+"/new").succeeds(t)
	holds(t, root+"/new", victim.Mark)
	run(t, flat, "rename", root+"/new", root+"/newer").succeeds(t)
	run(t, flat, "unlink", root+"/newer").succeeds(t)
	holds(t, root+"/sub/file", "sub/file")
	holds(t, root+"/sub/new", "")
	control(t, "mkdir", root+"/new").succeeds(t)
}

func TestGrantInsideAGrantThatIsNotRecursive(t *testing.T) {
	root := tree(t, "file", "sub/file", "other/file")
	nested := mods{shallow("r", root), grant("rw", root+"/sub")}
	run(t, nested, "read", root+"/file").succeeds(t)
	run(t, nested, "read", root+"/sub/file").succeeds(t)
	run(t, nested, "write", root+"/sub/file").succeeds(t)
	run(t, nested, "read", root+"/other/file").denied(t, plan.Filesystem, unix.EACCES)
}

func TestNestedGrants(t *testing.T) {
	root := tree(t, "file", "fixed/file", "fixed/deep/file", "fixed/deep/open/file", "a/b/fixed/file")
	must(t, os.Link(place.tool, root+"/fixed/tool"))
	nested := mods{grant("rwx", root), grant("r", root+"/fixed"), grant("rw", root+"/fixed/deep/open"), grant("r", root+"/a/b/fixed")}
	control(t, "write", root+"/fixed/file").succeeds(t)
	must(t, os.WriteFile(root+"/fixed/file", []byte("x"), 0o644))

	run(t, nested, "write", root+"/file").succeeds(t)
	run(t, nested, "write", root+"/fixed/deep/open/file").succeeds(t)
	for _, p := range []string{"fixed/file", "fixed/deep/file", "a/b/fixed/file"} {
		run(t, nested, "read", root+"/"+p).succeeds(t)
		run(t, nested, "write", root+"/"+p).denied(t, plan.Filesystem, unix.EROFS)
		run(t, nested, "unlink", root+"/"+p).denied(t, plan.Filesystem, unix.EROFS)
		run(t, nested, "chmod", root+"/"+p).denied(t, plan.Filesystem, unix.EROFS)
		// Neither out of the fixed tree nor into it: the two are mounts.
		run(t, nested, "link", root+"/"+p, root+"/linked").denied(t, plan.Filesystem, unix.EXDEV)
		run(t, nested, "rename", root+"/"+p, root+"/moved").denied(t, plan.Filesystem, unix.EXDEV, unix.EROFS)
	}
	run(t, nested, "link", root+"/file", root+"/fixed/linked").denied(t, plan.Filesystem, unix.EXDEV, unix.EROFS)
	run(t, nested, "exec", root+"/fixed/tool", victim.Word, "say", "ran").denied(t, plan.Filesystem, unix.EACCES)
	control(t, "exec", root+"/fixed/tool", victim.Word, "say", "ran").succeeds(t)
	holds(t, root+"/linked", "")
	holds(t, root+"/moved", "")
}

// The workload moves the directory above a tree it may not write, and puts
// another in its place: whoever trusts the path on the host finds the forgery.
func TestParentsOfNarrowerGrantsArePinned(t *testing.T) {
	root := tree(t, "a/b/fixed/file", "file")
	nested := mods{grant("rw", root), grant("r", root+"/a/b/fixed")}
	for _, p := range []string{"a", "a/b", "a/b/fixed"} {
		o := run(t, nested, "rename", root+"/"+p, root+"/"+p+"-gone").denied(t, plan.Filesystem, unix.EBUSY)
		if o.Code == 0 {
			must(t, os.Rename(root+"/"+p+"-gone", root+"/"+p))
		}
		run(t, nested, "rmdir", root+"/"+p).denied(t, plan.Filesystem, unix.EBUSY)
	}
	holds(t, root+"/a/b/fixed/file", "a/b/fixed/file")
	control(t, "rename", root+"/a", root+"/gone").succeeds(t)
}

func TestNarrowedReadingIsRefused(t *testing.T) {
	root := tree(t, "drop/file")
	if got := problems(t, refused(t, mods{grant("rw", root), grant("w", root+"/drop")}, "exit", "0")); !slices.Equal(got, []string{"spec.narrowed"}) {
		t.Errorf("got %q", got)
	}
}

func TestHardLinks(t *testing.T) {
	root := tree(t, "rw/file", "ro/file", "out/file")
	both := mods{grant("rw", root+"/rw"), grant("r", root+"/ro")}
	control(t, "link", root+"/ro/file", root+"/rw/control").succeeds(t)
	run(t, both, "link", root+"/ro/file", root+"/rw/in").denied(t, plan.Filesystem, unix.EXDEV)
	run(t, both, "link", root+"/out/file", root+"/rw/in").denied(t, plan.Filesystem, unix.ENOENT)
	run(t, both, "link", root+"/rw/file", root+"/ro/out").denied(t, plan.Filesystem, unix.EXDEV, unix.EROFS)
	run(t, both, "link", root+"/rw/file", root+"/out/out").denied(t, plan.Filesystem, unix.ENOENT)
	// The same file through a descriptor and /proc.
	run(t, both, "link", "/proc/self/exe", root+"/rw/in").denied(t, plan.Filesystem, unix.EXDEV, unix.EPERM)
	run(t, both, "rename", root+"/ro/file", root+"/rw/in").denied(t, plan.Filesystem, unix.EXDEV, unix.EROFS)
	holds(t, root+"/rw/in", "")
	holds(t, root+"/out/out", "")
}

// A symbolic link that the workload leaves leads, inside, to nothing it was
// not given.
func TestSymlinksOutOfTheGrants(t *testing.T) {
	root := tree(t, "rw/", "out/secret", "out/dir/secret")
	must(t, os.Symlink(root+"/out/secret", root+"/rw/absolute"))
	must(t, os.Symlink("../out/secret", root+"/rw/relative"))
	must(t, os.Symlink("../out/dir", root+"/rw/dir"))
	writable := mods{grant("rw", root+"/rw")}
	for _, p := range []string{"absolute", "relative", "dir/secret"} {
		control(t, "read", root+"/rw/"+p).succeeds(t)
		for _, act := range []string{"read", "write", "truncate", "chmod", "utimes"} {
			run(t, writable, act, root+"/rw/"+p).denied(t, plan.Filesystem, unix.ENOENT)
		}
	}
	holds(t, root+"/out/secret", "out/secret")
}
