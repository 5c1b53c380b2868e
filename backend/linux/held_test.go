//go:build linux && (amd64 || arm64)

package linux_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

var _ = victim.Register(map[string]victim.Act{
	"rewrite":       victim.One(rewrite),
	"replace-dir":   victim.Two(replaceDir),
	"whiteout":      victim.One(func(p string) error { return unix.Mknod(p, unix.S_IFCHR, 0) }),
	"overlay-marks": victim.One(overlayMarks),
	"hostile-tree":  victim.Two(hostileTree),
	"stir":          victim.Two(stir),
	"rmtree":        victim.One(os.RemoveAll),
	"wait-written":  victim.One(waitWritten),
})

// rewrite puts a new file over another one.
func rewrite(name string) error {
	if err := create(name + ".new"); err != nil {
		return err
	}
	return unix.Rename(name+".new", name)
}

func create(name string) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(victim.Mark))
	return err
}

// replaceDir puts a link in the place of a directory.
func replaceDir(dir, target string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return unix.Symlink(target, dir)
}

// overlayMarks sets what an overlay writes down by itself.
func overlayMarks(dir string) error {
	for _, name := range []string{"user.overlay.opaque", "user.overlay.whiteout", "user.overlay.redirect"} {
		if err := unix.Lsetxattr(dir, name, []byte("y"), 0); err != nil {
			return err
		}
	}
	return nil
}

// waitWritten writes a file, says so, and waits for its end.
func waitWritten(name string) error {
	if err := create(name); err != nil {
		return err
	}
	fmt.Println("written")
	for {
		if err := unix.Pause(); err != nil && err != unix.EINTR {
			return err
		}
	}
}

// hostileNames are what no program should be surprised by.
var hostileNames = []string{"new\nline", "\x1b[31mred", "\xff\xfe", "..hidden", "back\\slash", "a,b:c", strings.Repeat("n", 255), "-rf", " "}

// hostileTree leaves everything that a collector could stumble over, in
// directories made as deep as was asked for.
func hostileTree(dir, deep string) error {
	for _, name := range hostileNames {
		if err := create(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	n, err := strconv.Atoi(deep)
	if err != nil {
		return err
	}
	sock, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	sparse := filepath.Join(dir, "sparse")
	for _, err := range []error{
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644),
		unix.Bind(sock, &unix.SockaddrUnix{Name: filepath.Join(dir, "s")}),
		create(sparse), unix.Truncate(sparse, 1<<40),
		create(filepath.Join(dir, "one")), unix.Link(filepath.Join(dir, "one"), filepath.Join(dir, "two")),
		unix.Symlink("/etc/shadow", filepath.Join(dir, "link")),
		create(filepath.Join(dir, "closed")), unix.Chmod(filepath.Join(dir, "closed"), 0),
		unix.Mkdir(filepath.Join(dir, "shut"), 0o755), create(filepath.Join(dir, "shut/in")), unix.Chmod(filepath.Join(dir, "shut"), 0),
		create(filepath.Join(dir, "suid")), unix.Chmod(filepath.Join(dir, "suid"), 0o4755),
	} {
		if err != nil {
			return err
		}
	}
	at, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	for range n {
		if err := unix.Mkdirat(at, "d", 0o755); err != nil {
			return err
		}
		next, err := unix.Openat(at, "d", unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		unix.Close(at)
		at = next
	}
	return nil
}

// stir changes a tree in as many ways as there are, by a seed: two trees that
// are alike are alike afterwards.
func stir(dir, seed string) error {
	n, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(n, 1))
	var all []string
	look := func() error {
		all = nil
		return filepath.WalkDir(dir, func(name string, e os.DirEntry, err error) error {
			if err == nil && name != dir {
				all = append(all, name)
			}
			return err
		})
	}
	for i := range 40 {
		if err := look(); err != nil {
			return err
		}
		pick := func() string {
			if len(all) == 0 {
				return filepath.Join(dir, "none")
			}
			return all[r.IntN(len(all))]
		}
		a, b, fresh := pick(), pick(), "n"+strconv.Itoa(i)
		into := a // a directory to make something in
		if info, err := os.Lstat(a); err != nil || !info.IsDir() {
			into = filepath.Dir(a)
		}
		// What cannot be done is not done, in one tree as in the other.
		switch r.IntN(12) {
		case 0:
			_ = create(filepath.Join(into, fresh))
		case 1:
			_ = os.WriteFile(a, []byte(fresh+"\n"), 0o644)
		case 2:
			_ = unix.Truncate(a, int64(r.IntN(20)))
		case 3:
			_ = os.Remove(a)
		case 4:
			_ = os.RemoveAll(a)
		case 5:
			_ = unix.Mkdir(filepath.Join(into, fresh), 0o755)
		case 6:
			_ = unix.Symlink("../"+fresh, filepath.Join(into, fresh))
		case 7:
			if info, err := os.Lstat(a); err == nil && !info.IsDir() {
				_ = unix.Rename(a, filepath.Join(into, fresh))
			}
		case 8:
			if info, err := os.Lstat(a); err == nil && !info.IsDir() {
				_ = unix.Rename(a, b)
			}
		case 9:
			if info, err := os.Lstat(a); err == nil && info.Mode().IsRegular() {
				_ = unix.Chmod(a, []uint32{0o600, 0o644, 0o755, 0o640}[r.IntN(4)])
			}
		case 10:
			if info, err := os.Lstat(a); err == nil && info.IsDir() {
				_ = os.RemoveAll(a)
				_ = create(a)
			}
		case 11:
			if info, err := os.Lstat(a); err == nil && info.IsDir() {
				_ = os.RemoveAll(a)
				_ = unix.Mkdir(a, 0o700)
				_ = create(filepath.Join(a, fresh))
			}
		}
	}
	return nil
}

// held grants a directory for writing and holds back what is written there.
func held(path string, change ...func(*spec.Artifacts)) func(*spec.Spec) {
	return func(s *spec.Spec) {
		grant("rwx", path)(s)
		a := spec.Artifacts{Paths: []string{path}, Commit: "manual", Durability: "atomic"}
		for _, f := range change {
			f(&a)
		}
		s.Controls.Artifacts = &a
	}
}

func committed(when string) func(*spec.Artifacts) { return func(a *spec.Artifacts) { a.Commit = when } }
func durably(a *spec.Artifacts)                   { a.Durability = "durable" }

// needHeld ends a test where writes cannot be held back.
func needHeld(t testing.TB) {
	t.Helper()
	need.MountNamespace(t)
	p, err := supervisor(t).Backend.Probe(t.Context())
	must(t, err)
	for _, o := range p.Offers {
		if o.Kind == plan.CommitArtifact && len(o.Ways) == 0 {
			need.Missing(t, "overlay", o.Fact)
		}
	}
}

// left is what the report says of one path: the act, or "" for nothing.
func left(t testing.TB, o outcome, rel string) string {
	t.Helper()
	for _, e := range o.Report.Artifacts[0].Entries {
		if e.Path == rel {
			return e.Act
		}
	}
	return ""
}

func decide(t testing.TB, o outcome, d bvisor.Decision) *bvisor.Disposition {
	t.Helper()
	done, err := supervisor(t).Decide(o.Report.Identity.Attempt, d)
	if c, ok := errors.AsType[*bvisor.Conflict](err); ok {
		t.Fatalf("%v: %+v", err, c.Result.Problems)
	}
	must(t, err)
	return done
}

// contents is what a tree shows a program: types, permissions, contents.
func contents(t testing.TB, root string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(root, func(name string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		what := ""
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			what = string(data)
		case info.Mode()&os.ModeSymlink != 0:
			what, _ = os.Readlink(name)
			fmt.Fprintf(&b, "%q link %q\n", strings.TrimPrefix(name, root), what)
			return nil
		}
		fmt.Fprintf(&b, "%q %s %q\n", strings.TrimPrefix(name, root), info.Mode(), what)
		return nil
	}))
	return b.String()
}

// Every way of writing changes the host without a boundary, and nothing of it
// with one that holds it back; the report says what it was.
func TestHeldWritesDoNotReachTheHost(t *testing.T) {
	needHeld(t)
	for _, c := range []struct {
		act  string
		args func(root string) []string
		rel  string // a path of the delta
		want string
	}{
		{"create", func(r string) []string { return []string{r + "/new"} }, "new", "created"},
		{"write", func(r string) []string { return []string{r + "/file"} }, "file", "changed"},
		{"truncate", func(r string) []string { return []string{r + "/file"} }, "file", "changed"},
		{"rewrite", func(r string) []string { return []string{r + "/file"} }, "file", "changed"},
		{"unlink", func(r string) []string { return []string{r + "/file"} }, "file", "deleted"},
		{"rename", func(r string) []string { return []string{r + "/file", r + "/dir/in"} }, "dir/in", "changed"},
		{"chmod", func(r string) []string { return []string{r + "/file"} }, "file", "changed"},
		{"utimes", func(r string) []string { return []string{r + "/file"} }, "file", ""},
		{"setxattr", func(r string) []string { return []string{r + "/file"} }, "file", ""},
		{"mkdir", func(r string) []string { return []string{r + "/new"} }, "new", "created"},
		{"rmdir", func(r string) []string { return []string{r + "/empty"} }, "empty", "deleted"},
		{"rmtree", func(r string) []string { return []string{r + "/dir"} }, "dir/in", "deleted"},
		{"replace-dir", func(r string) []string { return []string{r + "/dir", "/etc"} }, "dir", "changed"},
		{"symlink", func(r string) []string { return []string{"/etc", r + "/new"} }, "new", "created"},
		{"link", func(r string) []string { return []string{r + "/file", r + "/new"} }, "new", "created"},
		{"mkfifo", func(r string) []string { return []string{r + "/new"} }, "new", "refused"},
	} {
		t.Run(c.act, func(t *testing.T) {
			files := []string{"file", "dir/in", "empty/"}
			plain := tree(t, files...)
			before := snapshot(t, plain)
			control(t, c.act, c.args(plain)...).succeeds(t)
			if snapshot(t, plain) == before {
				t.Fatal("the control changed nothing")
			}
			root := tree(t, files...)
			before = snapshot(t, root)
			o := run(t, mods{held(root)}, c.act, c.args(root)...).succeeds(t)
			if after := snapshot(t, root); after != before {
				t.Errorf("the host has\n%s\nfor\n%s", after, before)
			}
			o.heldBy(t, plan.CommitArtifact)
			if got := left(t, o, c.rel); got != c.want {
				t.Errorf("the report says %q of %s, want %q: %+v", got, c.rel, c.want, o.Report.Artifacts)
			}
		})
	}
}

// A random program does the same in a boundary as without, nothing of it is on
// the host before the commit, and all of it after.
func TestCommitMakesWhatTheRunSaw(t *testing.T) {
	needHeld(t)
	files := []string{"a", "b", "c/d", "c/e/f", "c/e/g", "h/i", "j/k/l", "empty/"}
	for seed := range rounds(t, 12, 100) {
		plain, root := tree(t, files...), tree(t, files...)
		before := snapshot(t, root)
		control(t, "stir", plain, strconv.Itoa(seed)).succeeds(t)
		o := run(t, mods{held(root)}, "stir", root, strconv.Itoa(seed)).succeeds(t)
		if after := snapshot(t, root); after != before {
			t.Fatalf("seed %d: the host has\n%s\nfor\n%s", seed, after, before)
		}
		if d := decide(t, o, bvisor.Decision{Commit: true}); d.Phase != bvisor.Applied {
			t.Fatalf("seed %d: %+v", seed, d)
		}
		if got, want := contents(t, root), contents(t, plain); got != want {
			t.Fatalf("seed %d: after the commit\n%s\nwithout a boundary\n%s\n%+v", seed, got, want, o.Report.Artifacts)
		}
	}
}

// What an overlay writes down about itself cannot be written by the workload:
// it would hide, or remove, what is on the host.
func TestOverlayMarksCannotBeForged(t *testing.T) {
	needHeld(t)
	plain, root := tree(t, "dir/in"), tree(t, "dir/in", "keep")
	control(t, "whiteout", plain+"/wh").succeeds(t)
	control(t, "overlay-marks", plain+"/dir").succeeds(t)
	run(t, mods{held(root)}, "whiteout", root+"/wh").denied(t, plan.Filesystem, unix.EACCES, unix.EPERM)
	o := run(t, mods{held(root)}, "overlay-marks", root+"/dir")
	if a := o.Report.Artifacts[0]; a.Created+a.Changed+a.Deleted != 0 {
		t.Errorf("marks of its own gave %+v", a)
	}
	o = run(t, mods{held(root)}, "create", root+"/dir/new").succeeds(t)
	decide(t, o, bvisor.Decision{Commit: true})
	holds(t, root+"/dir/in", "dir/in")
	holds(t, root+"/dir/new", victim.Mark)
}

// ESC-32: whatever a run leaves, the collector opens only regular files, follows
// no link, ends, and makes no name of the workload's in the state directory.
func TestHostileArtifacts(t *testing.T) {
	needHeld(t)
	plain, root := tree(t, "keep"), tree(t, "keep")
	control(t, "hostile-tree", plain, "300").succeeds(t)
	o := run(t, mods{held(root), budget(spec.Storage, 8<<20)}, "hostile-tree", root, "300").succeeds(t)
	if _, err := os.Lstat(root + "/fifo"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the FIFO is on the host: %v", err)
	}
	deep := strings.Repeat("d/", 255) + "d"
	for rel, want := range map[string]string{"fifo": "refused", "s": "refused", "sparse": "refused", deep: "refused", "one": "created", "two": "created", "link": "created",
		"closed": "created", "shut": "created", "shut/in": "created", "new\nline": "created", "\x1b[31mred": "created", `\xff\xfe`: "created", `back\\slash`: "created",
		strings.Repeat("n", 255): "created", "keep": ""} {
		if got := left(t, o, rel); got != want {
			t.Errorf("the report says %q of %.60q, want %q", got, rel, want)
		}
	}
	names, err := filepath.Glob(filepath.Join(states.dir, "quarantine", o.Report.Identity.Attempt, "*"))
	must(t, err)
	if len(names) != 2 {
		t.Errorf("the quarantine has %q", names)
	}
	d := decide(t, o, bvisor.Decision{Commit: true})
	if d.Phase != bvisor.Applied || d.Refused != 4 {
		t.Errorf("the commit came to %+v", d)
	}
	for _, name := range hostileNames {
		holds(t, filepath.Join(root, name), victim.Mark)
	}
	for _, name := range []string{"fifo", "s", "sparse"} {
		if _, err := os.Lstat(filepath.Join(root, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is on the host: %v", name, err)
		}
	}
	for name, mode := range map[string]os.FileMode{"suid": 0o755, "closed": 0, "shut": os.ModeDir} {
		if info, err := os.Lstat(filepath.Join(root, name)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v; want mode %s", name, info, err, mode)
		}
	}
	for _, dir := range []string{plain, root} {
		must(t, os.Chmod(dir+"/shut", 0o755)) // or nobody could remove it
	}
}

// The layer takes no more than the storage budget.
func TestQuarantineIsBounded(t *testing.T) {
	needHeld(t)
	plain, root := tree(t), tree(t)
	control(t, "fill-some", plain, strconv.Itoa(4<<20)).succeeds(t)
	change := mods{held(root), budget(spec.Storage, 1<<20)}
	o := run(t, change, "fill", root).denied(t, plan.BudgetKind(spec.Storage), unix.ENOSPC)
	if n, err := strconv.ParseInt(o.Stdout, 10, 64); err != nil || n > 1<<20+5*4096 || n != o.Report.Artifacts[0].Bytes {
		t.Errorf("it wrote %s, and %d bytes were kept", o.Stdout, o.Report.Artifacts[0].Bytes)
	}
	run(t, change, "fill-names", root).denied(t, plan.BudgetKind(spec.Storage), unix.ENOSPC)
	if entries, _ := os.ReadDir(root); len(entries) != 0 {
		t.Errorf("the host has %v", entries)
	}
}

// What is not below a held path is written as ever; a held directory may lie in
// a granted one, have carve-outs and private directories in it, and its programs run.
func TestHeldBesideTheRest(t *testing.T) {
	needHeld(t)
	root := tree(t, "out/keep", "beside/keep", "out/secret", "out/tmp/", "other/new")
	inner := func(s *spec.Spec) {
		grant("rw", root)(s)
		s.Controls.Artifacts = &spec.Artifacts{Paths: []string{root + "/out"}, Commit: "manual", Durability: "atomic"}
	}
	run(t, mods{inner}, "write", root+"/beside/keep").succeeds(t)
	holds(t, root+"/beside/keep", victim.Mark)
	o := run(t, mods{inner}, "write", root+"/out/keep").succeeds(t)
	holds(t, root+"/out/keep", "out/keep")
	if left(t, o, "keep") != "changed" {
		t.Errorf("the report has %+v", o.Report.Artifacts)
	}
	control(t, "rename", root+"/out", root+"/moved").succeeds(t)
	must(t, os.Rename(root+"/moved", root+"/out"))
	run(t, mods{inner}, "rename", root+"/out", root+"/moved").denied(t, plan.Filesystem, unix.EBUSY)

	carved := mods{held(root + "/out"), grant(spec.AccessNone, root+"/out/secret", root+"/out/absent"), temp("rw", root+"/out/tmp")}
	run(t, carved, "read", root+"/out/secret").denied(t, plan.FilesystemCarveOut, unix.EACCES)
	run(t, carved, "rename", root+"/out/keep", root+"/out/secret").denied(t, plan.FilesystemCarveOut, unix.EBUSY)
	run(t, carved, "create", root+"/out/absent").denied(t, plan.FilesystemCarveOut, unix.EEXIST, unix.EACCES)
	o = run(t, carved, "create", root+"/out/tmp/x").succeeds(t)
	if a := o.Report.Artifacts[0]; a.Created+a.Changed+a.Deleted+a.Refused != 0 {
		t.Errorf("a private directory gave %+v", a)
	}
	must(t, os.Link(place.tool, root+"/out/tool"))
	o = program(t, mods{held(root + "/out"), dir(root + "/out")}, root+"/out/tool", victim.Word, "say", "ran")
	if o.Code != 0 || o.Stdout != "ran" {
		t.Errorf("a program of a held directory: %+v", o)
	}
	// A directory of the host's cannot be renamed by reference; what copies instead works.
	run(t, mods{held(root)}, "rename", root+"/other", root+"/else").denied(t, plan.Filesystem, unix.EXDEV)
}

// A way around the layer is an error of the spec, and so is what cannot be held.
func TestWaysAroundTheLayerAreRefused(t *testing.T) {
	needHeld(t)
	root := tree(t, "out/sub/file", "out/file", "plain")
	out := root + "/out"
	artifacts := func(paths ...string) func(*spec.Spec) {
		return func(s *spec.Spec) {
			s.Controls.Artifacts = &spec.Artifacts{Paths: paths, Commit: "manual", Durability: "atomic"}
		}
	}
	must(t, os.Symlink(out, root+"/link"))
	for name, c := range map[string]struct {
		change mods
		code   string
	}{
		"a writable grant inside":           {mods{held(out), grant("rw", out+"/sub")}, "spec.artifacts"},
		"the directory, exposed":            {mods{held(out), expose("rw", out, "/elsewhere")}, "spec.artifacts"},
		"a directory around it, exposed":    {mods{held(out), expose("rw", root, "/elsewhere")}, "spec.artifacts"},
		"a directory inside, exposed":       {mods{held(out), expose("rw", out+"/sub", "/elsewhere")}, "spec.artifacts"},
		"a directory that is only read":     {mods{grant("rx", out), artifacts(out)}, "spec.artifacts"},
		"a directory that is not there":     {mods{grant("rw", out), artifacts(out + "/absent")}, "spec.artifacts"},
		"a file":                            {mods{grant("rw", out), artifacts(out + "/file")}, "spec.artifacts"},
		"a directory without what is below": {mods{shallow("rw", out), artifacts(out)}, "spec.artifacts"},
		"one place by two names":            {mods{grant("rw", root), artifacts(out, root+"/link")}, "spec.contradiction"},
		"one inside the other, by a link":   {mods{grant("rw", root), artifacts(root+"/link/sub", out)}, "spec.artifacts"},
		"the same in the other order":       {mods{grant("rw", root), artifacts(out, root+"/link/sub"), func(s *spec.Spec) { s.Controls.Artifacts.Paths[0] = root }}, "spec.contradiction"},
		"the state directory":               {mods{held(filepath.Dir(states.dir))}, "spec.protected"},
	} {
		if got := problems(t, refused(t, c.change, "exit", "0")); !slices.Contains(got, c.code) {
			t.Errorf("%s: the problems are %v, want %s", name, got, c.code)
		}
	}
	// To be read it may be shown anywhere.
	o := run(t, mods{held(out), expose("r", out, "/elsewhere")}, "write", out+"/file").succeeds(t)
	holds(t, out+"/file", "out/file")
	if left(t, o, "file") != "changed" {
		t.Errorf("the report has %+v", o.Report.Artifacts)
	}
	o, err := attempt(t, request(mods{held(out), accept("visible-host-paths", "host-mount-namespace")}, "exit", "0"))
	if err == nil && o.Report.Outcome.Status != report.Refused {
		t.Errorf("without mounts of its own it ended as %+v", o.Report.Outcome)
	}
}

// on-success commits after status 0 and at no other end; never is never.
func TestCommitByTheSpec(t *testing.T) {
	needHeld(t)
	root := tree(t, "file", "dir/")
	o := run(t, mods{held(root, committed("on-success"), durably)}, "write", root+"/file").succeeds(t)
	holds(t, root+"/file", victim.Mark[:len(victim.Mark)])
	if d := decide(t, o, bvisor.Decision{Commit: true}); d.Already != 1 || d.Done != 0 {
		t.Errorf("committed once more: %+v", d)
	}
	must(t, os.WriteFile(root+"/file", []byte("mine"), 0o644))
	decide(t, o, bvisor.Decision{Commit: true})
	holds(t, root+"/file", "mine") // it was committed before: harmless

	o = run(t, mods{held(root, committed("on-success"))}, "overlay-and-fail", root+"/file")
	if o.Code == 0 {
		t.Fatal("the victim succeeded")
	}
	holds(t, root+"/file", "mine")
	if left(t, o, "file") != "changed" {
		t.Errorf("the report has %+v", o.Report.Artifacts)
	}

	o = run(t, mods{held(root, committed("never"))}, "write", root+"/file").succeeds(t)
	if _, err := supervisor(t).Decide(o.Report.Identity.Attempt, bvisor.Decision{Commit: true}); err == nil || !strings.Contains(err.Error(), "never") {
		t.Errorf("commit: never was answered by %v", err)
	}
	decide(t, o, bvisor.Decision{})
	holds(t, root+"/file", "mine")
}

var _ = victim.Register(map[string]victim.Act{"overlay-and-fail": victim.One(func(name string) error {
	if err := os.WriteFile(name, []byte(victim.Mark), 0o644); err != nil {
		return err
	}
	return victim.ErrNothing
})})

// A run that is ended has left something all the same.
func TestHeldAfterTheDeadline(t *testing.T) {
	needHeld(t)
	root := tree(t)
	var o outcome
	for wall, got := time.Second, ""; got == ""; wall *= 4 { // until the program comes as far as writing
		var err error
		o, err = attempt(t, request(mods{held(root), budget(spec.Wall, int64(wall))}, "wait-written", root+"/new"))
		must(t, err)
		if o.Report.Outcome.Status != report.Timeout {
			t.Fatalf("it ended as %+v", o.Report.Outcome)
		}
		holds(t, root+"/new", "")
		if got = left(t, o, "new"); got != "created" && (got != "" || wall > time.Minute) {
			t.Fatalf("the report says %q: %+v", got, o.Report.Artifacts)
		}
	}
	decide(t, o, bvisor.Decision{Commit: true})
	holds(t, root+"/new", victim.Mark)
}

// patient takes its time before it reads any more.
type patient time.Duration

func (p patient) Write(b []byte) (int, error) { time.Sleep(time.Duration(p)); return len(b), nil }

// Who reads the output may take longer over it than a tree may to be gone.
func TestHeldBesideASlowReader(t *testing.T) {
	needHeld(t)
	need.Program(t, "sh")
	if testing.Short() {
		t.Skip("waits for longer than a tree may take to be gone, which -short leaves out")
	}
	root := tree(t)
	req := request(mods{preset("system"), held(root), spawn(spec.SpawnProcesses), command("/bin/sh", "-c", `: > "$1/new"; echo word`, "sh", root)}, "exit")
	req.Stdout = patient(12 * time.Second)
	o, err := attempt(t, req)
	must(t, err)
	if got := left(t, o, "new"); o.Report.Outcome.Status != report.Completed || got != "created" {
		t.Errorf("%+v, left %q: %+v", o.Report.Outcome, got, o.Report.Artifacts)
	}
	if fact(o, report.TreeEmptied) == nil || fact(o, report.TreeKilled) != nil {
		t.Errorf("the report says %+v", o.Report.Facts)
	}
}

// The evidence claims of files are there where a plan has artifacts, and only there.
func TestEvidenceOfFiles(t *testing.T) {
	needHeld(t)
	root := tree(t)
	wanted := func(s *spec.Spec) { s.Evidence = append(s.Evidence, spec.FilesystemDelta, spec.ArtifactLineage) }
	o := run(t, mods{held(root), wanted}, "create", root+"/new").succeeds(t)
	if !o.Report.HasArtifacts() {
		t.Errorf("the report has %+v", o.Report.Artifacts)
	}
	o, err := attempt(t, request(mods{grant("rw", root), wanted}, "create", root+"/new"))
	must(t, err)
	if got := reasons(t, o); !slices.Equal(got, []string{"evidence.artifact-lineage", "evidence.filesystem-delta"}) {
		t.Errorf("the reasons are %v", got)
	}
	holds(t, root+"/new", "")
	_, err = supervisor(t).Prepare(t.Context(), request(mods{held(root)}, "exit", "0").Spec, 1)
	if _, ok := errors.AsType[*backend.NotArmable](err); !ok {
		t.Errorf("arming it gave %v", err)
	}
}

// A layer that cannot be kept is lost, and everybody is told.
func TestHeldThatCannotBeKept(t *testing.T) {
	needHeld(t)
	root := tree(t, "file")
	s := another(t)
	s.Held = filepath.Join(root, "file") // no directory
	res, err := s.Run(t.Context(), request(mods{held(root)}, "create", root+"/new"))
	if f, ok := errors.AsType[*bvisor.Fault](err); !ok || f.Step != "keep what was held back" {
		t.Errorf("got %v", err)
	}
	v, err := report.Verify(res.Envelope, states.keys)
	must(t, err)
	if a := v.Report.Artifacts; len(a) != 1 || a[0].Lost == "" || v.Report.HasArtifacts() {
		t.Errorf("the report has %+v", a)
	}
	holds(t, root+"/new", "")
}

// A secret in a name does not get into the report.
func TestSecretInTheNameOfAnArtifact(t *testing.T) {
	needHeld(t)
	root := tree(t)
	value := "k3ep-th1s-t0-yourself" // that a name can hold
	s := withSecrets(t, map[string]string{"token": value})
	req := request(mods{held(root), lease("TOKEN", "test:token")}, "create", root+"/a-leased")
	plain, err := attemptWith(t, s, t.Context(), req)
	must(t, err)
	if left(t, plain, "a-leased") != "created" {
		t.Fatalf("the control's report has %+v", plain.Report.Artifacts)
	}
	req = request(mods{held(root), lease("TOKEN", "test:token")}, "create-leased", root)
	res, err := s.Run(t.Context(), req)
	must(t, err)
	v, err := report.Verify(res.Envelope, states.keys)
	must(t, err)
	if strings.Contains(string(v.Payload), value) {
		t.Error("the value stands in the report")
	}
	if a := v.Report.Artifacts[0]; a.Created != 1 || a.Omitted != 1 || len(a.Entries) != 0 {
		t.Errorf("the report has %+v", a)
	}
}

var _ = victim.Register(map[string]victim.Act{"create-leased": victim.One(func(dir string) error {
	return create(filepath.Join(dir, os.Getenv("TOKEN")))
})})

// A copy keeps owner and group, and the boundary has one of each.
func TestHeldFilesOfAnotherGroup(t *testing.T) {
	needHeld(t)
	need.Root(t)
	root := tree(t, "file")
	must(t, os.Chown(root+"/file", 0, 12345))
	control(t, "write", root+"/file").succeeds(t)
	must(t, os.WriteFile(root+"/file", []byte("file"), 0o644))
	run(t, mods{held(root)}, "write", root+"/file").denied(t, plan.CommitArtifact, unix.EOVERFLOW)
	run(t, mods{held(root)}, "read", root+"/file").succeeds(t)
	holds(t, root+"/file", "file")
}

// Directories that are held back share one bound, and are decided over one by one.
func TestTwoHeldDirectories(t *testing.T) {
	needHeld(t)
	root := tree(t, "a/", "b/")
	both := func(s *spec.Spec) {
		grant("rw", root)(s)
		s.Controls.Artifacts = &spec.Artifacts{Paths: []string{root + "/b", root + "/a"}, Commit: "manual", Durability: "durable"}
	}
	plain := tree(t, "a/", "b/")
	control(t, "fill-some", plain+"/a", strconv.Itoa(1<<20)).succeeds(t)
	control(t, "fill-some", plain+"/b", strconv.Itoa(1<<20)).succeeds(t)
	change := mods{both, budget(spec.Storage, 1<<20)}
	o := run(t, change, "fill-two", root+"/a", root+"/b").denied(t, plan.BudgetKind(spec.Storage), unix.ENOSPC)
	a := o.Report.Artifacts
	if len(a) != 2 || a[0].Path != root+"/a" || a[0].Bytes+a[1].Bytes > 1<<20+5*4096 || a[0].Created+a[1].Created == 0 {
		t.Errorf("the report has %+v", a)
	}
	run(t, change, "rename", root+"/a", root+"/b/a").denied(t, plan.CommitArtifact, unix.EBUSY, unix.EXDEV)
	o = run(t, mods{both}, "copy-each", place.exe, root+"/a/x", place.exe, root+"/b/x").succeeds(t)
	decide(t, o, bvisor.Decision{Commit: true, Paths: []string{root + "/b"}})
	if _, err := os.Stat(root + "/a/x"); err == nil || sum(t, root+"/b/x") != sum(t, place.exe) {
		t.Errorf("after b was committed a/x gives %v", err)
	}
	if d := decide(t, o, bvisor.Decision{Commit: true, Paths: []string{root}}); d.Done != 1 || d.Already != 1 {
		t.Errorf("then all: %+v", d)
	}
	if sum(t, root+"/a/x") != sum(t, place.exe) {
		t.Error("a/x is another file")
	}
}
