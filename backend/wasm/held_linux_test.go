package wasm_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// held grants a directory for writing and holds back what is written there.
func held(path string) func(*spec.Spec) {
	return func(s *spec.Spec) {
		grant("rw", path)(s)
		s.Controls.Artifacts = &spec.Artifacts{Paths: []string{path}, Commit: "manual", Durability: "atomic"}
	}
}

func commits(when string) func(*spec.Spec) {
	return func(s *spec.Spec) { s.Controls.Artifacts.Commit = when }
}

// holding is a host whose workers can hold writes back.
func holding(t *testing.T) *host {
	t.Helper()
	h := newHost(t, options(t, "worker"))
	p, err := outer.Probe(t.Context())
	must(t, err)
	for _, o := range p.Offers {
		if o.Kind == plan.CommitArtifact && len(o.Ways) == 0 {
			need.Missing(t, "overlay", o.Fact)
		}
	}
	return h
}

// tree makes files, each with its own name in it, directories ("name/") and
// links ("name->target"), and returns where.
func tree(t testing.TB, names ...string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	for _, name := range names {
		at := filepath.Join(dir, name)
		link, target, isLink := strings.Cut(at, "->")
		must(t, os.MkdirAll(filepath.Dir(link), 0o755))
		switch {
		case isLink:
			must(t, os.Symlink(target, link))
		case strings.HasSuffix(name, "/"):
			must(t, os.Mkdir(at, 0o755))
		default:
			must(t, os.WriteFile(at, []byte(name), 0o644))
		}
	}
	return dir
}

// contents is all that a tree has, as a program sees it: the oracle.
func contents(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		what := ""
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			what = string(data)
		case info.Mode()&fs.ModeSymlink != 0:
			what, _ = os.Readlink(p)
		}
		fmt.Fprintf(&b, "%q %s %q\n", strings.TrimPrefix(p, dir), info.Mode(), what)
		return nil
	}))
	return b.String()
}

// times are those of everything in a tree: writing it anew shows here.
func times(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintf(&b, "%s %s\n", p, info.ModTime())
		}
		return err
	}))
	return b.String()
}

func (o outcome) left() []string {
	var list []string
	for _, a := range o.Artifacts {
		for _, e := range a.Entries {
			list = append(list, e.Act+" "+e.Path)
		}
	}
	return list
}

func (h *host) decide(o outcome, d bvisor.Decision) *bvisor.Disposition {
	h.t.Helper()
	done, err := h.Decide(o.Identity.Attempt, d)
	if err != nil {
		h.t.Fatalf("%v: %+v", err, done)
	}
	return done
}

func says(t testing.TB, name, want string) {
	t.Helper()
	if b, err := os.ReadFile(name); err != nil || string(b) != want {
		t.Errorf("%s has %q, %v; expected %q", name, b, err, want)
	}
}

var (
	changed = []string{"written", "cut", "longer", "removed", "moved", "over", "linked", "link->written", "dir/in", "gone/in", "empty/", "beside", "kept"}
	changes = []string{"created a", "created a/b", "created a/b/c", "created a/b/c/deep", "changed beside", "changed cut", "changed dir/in",
		"created dir/moved", "changed empty", "deleted gone", "deleted gone/in", "deleted link", "changed longer", "deleted moved", "created new",
		"created new-link", "created other-name", "deleted over", "deleted removed", "changed written"}
)

// Everything that a module can do to a directory changes the host where the
// directory is granted for writing, and nothing of it where that is held back.
// The report says what it was, and a commit makes it.
func TestHeldWritesOfAModule(t *testing.T) {
	h := holding(t)
	plain, granted, dir := tree(t, changed...), tree(t, changed...), tree(t, changed...)
	native(t, "/", "change", plain)
	want := contents(t, plain)
	if before := contents(t, dir); before == want {
		t.Fatal("the control changed nothing")
	}
	h.run("worker", []string{"change", granted}, grant("rw", granted)).completes()
	if got := contents(t, granted); got != want {
		t.Errorf("a module that may write made\n%s\nand a program\n%s", got, want)
	}

	before, when := contents(t, dir), times(t, dir)
	o := h.run("worker", []string{"change", dir}, held(dir), func(s *spec.Spec) {
		s.Evidence = append(s.Evidence, spec.FilesystemDelta, spec.ArtifactLineage)
	}).completes()
	if after := contents(t, dir); after != before || times(t, dir) != when {
		t.Errorf("the host has\n%s\nfor\n%s", after, before)
	}
	if got := o.left(); !slices.Equal(got, changes) || len(o.Artifacts) != 1 || o.Artifacts[0].Path != dir || o.Artifacts[0].Refused != 0 {
		t.Errorf("the report has\n%q\nexpected\n%q", got, changes)
	}
	if !o.HasArtifacts() || !slices.Contains(heldBy(o.Plan, plan.CommitArtifact), "overlayfs") {
		t.Errorf("held by %v, evidence: %v", heldBy(o.Plan, plan.CommitArtifact), o.HasArtifacts())
	}
	if d := h.decide(o, bvisor.Decision{Commit: true}); d.Phase != bvisor.Applied || d.Done != int64(len(changes)) {
		t.Errorf("the commit came to %+v", d)
	}
	if got := contents(t, dir); got != want {
		t.Errorf("after the commit\n%s\nwithout a boundary\n%s", got, want)
	}
}

// A random program does the same in a layer as on a disk, nothing of it is on
// the host before the commit, and all of it after.
func TestCommitMakesWhatTheModuleSaw(t *testing.T) {
	h := holding(t)
	names := []string{"a", "b", "c/d", "c/e/f", "c/e/g", "h/i", "j/k/l", "empty/"}
	for seed := range need.Rounds(t, 8, 60) {
		plain, dir := tree(t, names...), tree(t, names...)
		before := contents(t, dir)
		native(t, "/", "stir", plain, strconv.Itoa(seed))
		o := h.run("worker", []string{"stir", dir, strconv.Itoa(seed)}, held(dir)).completes()
		if after := contents(t, dir); after != before {
			t.Fatalf("seed %d: the host has\n%s\nfor\n%s", seed, after, before)
		}
		h.decide(o, bvisor.Decision{Commit: true})
		if got, want := contents(t, dir), contents(t, plain); got != want {
			t.Fatalf("seed %d: after the commit\n%s\nwithout a boundary\n%s\n%q", seed, got, want, o.left())
		}
	}
}

// on-success commits after status 0 and at no other end; never is never.
func TestCommitOfAModuleByTheSpec(t *testing.T) {
	h := holding(t)
	dir := tree(t, "file")
	file := filepath.Join(dir, "file")
	h.run("worker", []string{"write", file, "one"}, held(dir), commits("on-success")).completes()
	says(t, file, "one")
	o := h.run("worker", []string{"linger", file, "two"}, held(dir), commits("on-success"), budget(spec.Fuel, 100_000_000)).exceeds(spec.Fuel)
	says(t, file, "one")
	if got := o.left(); !slices.Equal(got, []string{"changed file"}) {
		t.Errorf("after a budget was exceeded there is %q", got)
	}
	h.decide(o, bvisor.Decision{Commit: true})
	says(t, file, "two")
	o = h.run("worker", []string{"write", file, "three"}, held(dir), commits("never")).completes()
	if _, err := h.Decide(o.Identity.Attempt, bvisor.Decision{Commit: true}); err == nil || !strings.Contains(err.Error(), "never") {
		t.Errorf("commit: never was answered by %v", err)
	}
	h.decide(o, bvisor.Decision{})
	says(t, file, "two")
}

// What is not held back is written as ever; a held directory may lie in a
// granted one, be named by a link, and have a carve-out and a private directory in it.
func TestHeldBesideTheRestOfAView(t *testing.T) {
	h := holding(t)
	top := tree(t, "out/keep", "out/secret", "out/tmp/", "out/dir/in", "beside/keep", "also/keep", "name->out")
	out := filepath.Join(top, "out")
	inner := func(s *spec.Spec) {
		grant("rw", top)(s)
		s.Controls.Artifacts = &spec.Artifacts{Paths: []string{filepath.Join(top, "name"), filepath.Join(top, "also")}, Commit: "manual", Durability: "atomic"}
	}
	h.run("worker", []string{"write", top + "/beside/keep", "written"}, inner).completes()
	says(t, top+"/beside/keep", "written")
	o := h.run("worker", []string{"write", out + "/keep", "written"}, inner).completes()
	says(t, out+"/keep", "out/keep")
	if len(o.Artifacts) != 2 || o.Artifacts[0].Path != top+"/also" || o.Artifacts[1].Path != out || !slices.Equal(o.left(), []string{"changed keep"}) {
		t.Errorf("the report has %+v", o.Artifacts)
	}
	// The layers are as file systems of their own.
	for what, args := range map[string][]string{"the directory": {out, top + "/moved"}, "a file, out of it": {out + "/keep", top + "/keep"}, "a directory of the host's": {out + "/dir", out + "/else"}} {
		if o := h.run("worker", append([]string{"rename"}, args...), inner); o.Exit == nil || o.Exit.Code != 1 || len(o.left()) != 0 {
			t.Errorf("%s was renamed: %+v, %q", what, o.Outcome, o.left())
		}
	}
	carved := []func(*spec.Spec){held(out), grant(spec.AccessNone, out+"/secret", out+"/absent"), func(s *spec.Spec) {
		s.Controls.Temp = []spec.Temp{{Path: out + "/tmp", Access: "rw"}}
	}}
	for _, args := range [][]string{{"read", out + "/secret"}, {"write", out + "/absent", "x"}, {"remove", out + "/secret"}} {
		if o := h.run("worker", args, carved...); o.Exit == nil || o.Exit.Code != 1 || len(o.Denied) == 0 || len(o.left()) != 0 {
			t.Errorf("%q: %+v, denied %v, left %q", args, o.Outcome, o.Denied, o.left())
		}
	}
	if o := h.run("worker", []string{"write", out + "/tmp/x", "x"}, carved...).completes(); len(o.left()) != 0 {
		t.Errorf("a private directory left %q", o.left())
	}
	if _, err := os.Lstat(out + "/absent"); err == nil {
		t.Error("the placeholder is left")
	}
}

// A file that the layer has to copy counts with its size, before it is copied:
// the layer takes no more than the budget has.
func TestLayerIsBounded(t *testing.T) {
	h := holding(t)
	dir := tree(t, "small")
	must(t, os.WriteFile(dir+"/large", make([]byte, 2<<20), 0o644))
	bounded := budget(spec.Storage, 1<<20)
	h.run("worker", []string{"touch", dir + "/large"}, grant("rw", dir), bounded).completes() // the control: one byte
	must(t, os.WriteFile(dir+"/large", make([]byte, 2<<20), 0o644))

	o := h.run("worker", []string{"touch", dir + "/large"}, held(dir), bounded).exceedsSoftly()
	if len(o.Denied) != 1 || len(o.left()) != 0 {
		t.Errorf("denied %v, left %q", o.Denied, o.left())
	}
	// It is copied once, and one with two names once for each.
	twins := tree(t, "small", "twin")
	must(t, os.Link(twins+"/twin", twins+"/other"))
	for _, c := range []struct {
		names []string
		used  int64
	}{{[]string{"/small", "/small", "/small"}, 4096 + 5 + 3}, {[]string{"/twin", "/other", "/twin", "/other"}, 2*(4096+4) + 4}} {
		args := []string{"touch"}
		for _, name := range c.names {
			args = append(args, twins+name)
		}
		if o := h.run("worker", args, held(twins), bounded).completes(); *o.used(spec.Storage).Used != c.used {
			t.Errorf("%q: %d used, expected %d", args, *o.used(spec.Storage).Used, c.used)
		}
	}
	o = h.run("worker", []string{"fill", dir + "/new", strconv.Itoa(2 << 20)}, held(dir), bounded).exceeds(spec.Storage)
	if a := o.Artifacts[0]; a.Created != 1 || a.Bytes > 1<<20 {
		t.Errorf("the layer had %+v", a)
	}
	// A layer that the kernel bounds with less than the module may write would
	// answer before the budget does.
	if o := h.run("worker", []string{"fill", dir + "/new", strconv.Itoa(3 << 20)}, held(dir), budget(spec.Storage, 4<<20)).completes(); o.Artifacts[0].Bytes != 3<<20 {
		t.Errorf("the layer had %+v", o.Artifacts[0])
	}
	if got, err := os.ReadDir(dir); err != nil || len(got) != 2 {
		t.Errorf("the host has %v, %v", got, err)
	}
}

// exceedsSoftly says that a budget was found exceeded of which nothing was used.
func (o outcome) exceedsSoftly() outcome {
	o.t.Helper()
	o.ends(report.BudgetExceeded, string(spec.Storage))
	if b := o.used(spec.Storage); b.Finding != report.Exceeded {
		o.t.Errorf("storage %+v", b)
	}
	return o
}

// A way around the layer is an error of the spec, and so is what cannot be held.
func TestWaysAroundTheLayerOfAModule(t *testing.T) {
	h := holding(t)
	top := tree(t, "out/sub/file", "out/file")
	out := filepath.Join(top, "out")
	artifacts := func(paths ...string) func(*spec.Spec) {
		return func(s *spec.Spec) {
			s.Controls.Artifacts = &spec.Artifacts{Paths: paths, Commit: "manual", Durability: "atomic"}
		}
	}
	exposed := func(access spec.Access, source string) func(*spec.Spec) {
		return func(s *spec.Spec) {
			s.Controls.Expose = []spec.Expose{{Source: source, Dest: "/elsewhere", Access: access}}
		}
	}
	for name, change := range map[string][]func(*spec.Spec){
		"a writable grant inside":       {held(out), grant("rw", out+"/sub")},
		"the directory, exposed":        {held(out), exposed("rw", out)},
		"a directory around it":         {held(out), exposed("rw", top)},
		"a directory inside, exposed":   {held(out), exposed("rw", out+"/sub")},
		"a directory that is only read": {grant("r", out), artifacts(out)},
		"a directory that is not there": {grant("rw", out), artifacts(out + "/absent")},
		"a file":                        {grant("rw", out), artifacts(out + "/file")},
	} {
		_, _, err := h.Plan(t.Context(), request("worker", place.guest, []string{"nothing"}, change...))
		if err == nil || !strings.Contains(err.Error(), "artifacts") {
			t.Errorf("%s: the answer is %v", name, err)
		}
	}
	o := h.run("worker", []string{"write", out + "/file", "x"}, held(out), exposed("r", out)).completes()
	says(t, out+"/file", "out/file")
	if !slices.Equal(o.left(), []string{"changed file"}) {
		t.Errorf("the report has %q", o.left())
	}
}

// Where nothing can hold writes back the module does not run, and the reason is
// the one that there is.
func TestNothingToHoldWritesBack(t *testing.T) {
	dir := tree(t)
	reasons := func(h *host, wall string) (list []string) {
		_, refusal, err := h.Plan(t.Context(), request(wall, place.guest, []string{"nothing"}, held(dir)))
		must(t, err)
		if refusal == nil {
			t.Fatal("it is not refused")
		}
		for _, r := range refusal.Reasons {
			list = append(list, fmt.Sprintf("%s %s: %s; %s", r.Code, r.Requirement, r.Fact, r.Remedy))
		}
		return list
	}
	got := reasons(newHost(t, options(t, "in-process")), "in-process")
	if len(got) != 3 || !strings.Contains(got[0], "unsupported.commit-artifact commit-artifact: worker is unavailable") {
		t.Errorf("without workers: %q", got)
	}
	got = reasons(holding(t), "in-process")
	if len(got) != 3 || !strings.Contains(got[0], `weakening.conflict commit-artifact: accept names "in-process"`) || !strings.Contains(got[0], `take "in-process" out of accept`) {
		t.Errorf("in process: %q", got)
	}
	options := options(t, "worker")
	options.Outer = withoutLayers{outer}
	got = reasons(newHost(t, options), "worker")
	if len(got) != 3 || !strings.Contains(got[0], "unsupported.commit-artifact commit-artifact: mount.overlay is unavailable; use a newer kernel") {
		t.Errorf("without an overlay: %q", got)
	}
}

// withoutLayers is a host whose kernel has no overlay.
type withoutLayers struct{ backend.Backend }

func (w withoutLayers) Probe(ctx context.Context) (plan.Profile, error) {
	p, err := w.Backend.Probe(ctx)
	if err != nil {
		return p, err
	}
	p.Offers = slices.Clone(p.Offers)
	for i, o := range p.Offers {
		if slices.Contains([]plan.Kind{plan.CommitArtifact, plan.DiscardArtifact, plan.ListOutputs}, o.Kind) {
			p.Offers[i] = plan.Offer{Kind: o.Kind, Need: "an overlay", Fact: "mount.overlay is unavailable", Remedy: "use a newer kernel"}
		}
	}
	return p.Seal()
}

// A worker that was taken over writes to the layer as its module does, also
// behind the back of what counts, and does not outlive its run.
func TestTakenOverWorkerWritesToTheLayer(t *testing.T) {
	holding(t)
	o := options(t, "worker")
	o.Worker[1] = "scribbler"
	h := newTakenOver(t, o)
	dir := tree(t, "kept")
	must(t, os.WriteFile(filepath.Join(dir, "kept"), []byte("kept"), 0o666))
	got := h.run("worker", []string{"nothing"}, held(dir), budget(spec.Wall, int64(time.Minute))).completes()
	says(t, filepath.Join(dir, "kept"), "kept")
	if !slices.Equal(got.left(), []string{"changed kept", "created new"}) {
		t.Errorf("left %q", got.left())
	}
	if left := processes(t, "scribbler"); len(left) != 0 {
		t.Errorf("%v are left", left)
	}
}

// Runs whose writes are held back leave nothing in their supervisor, be they
// planned only, run, or refused.
func TestHeldRunsLeaveNothingOpen(t *testing.T) {
	h := holding(t)
	dir := tree(t, "file")
	s := request("worker", place.guest, []string{"write", dir + "/file", "x"}, held(dir))
	refused := request("in-process", place.guest, nil, held(dir))
	wrong := request("worker", place.guest, nil, held(dir+"/file"))
	run := func() {
		h.try(t.Context(), bvisor.Request{Spec: s}).completes()
		h.try(t.Context(), bvisor.Request{Spec: refused}).ends(report.Refused, "weakening.conflict")
		if _, _, err := h.Plan(t.Context(), wrong); err == nil {
			t.Error("a file is held back")
		}
		if p, _, err := h.Plan(t.Context(), s); err != nil || p == nil {
			t.Errorf("no plan: %v", err)
		}
		h.Wait()
	}
	for range 3 {
		run()
	}
	before := standing(t)
	for range need.Rounds(t, 10, 500) {
		run()
	}
	if after := standing(t); after.files > before.files || after.goroutines > before.goroutines+2 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}
