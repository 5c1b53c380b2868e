package quarantine

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/need"
)

// killedVar turns the test binary into a process that commits a quarantine: its
// directory and digest are the arguments.
const killedVar = "BVISOR_QUARANTINE_COMMIT"

func TestMain(m *testing.M) {
	if os.Getenv(killedVar) == "" {
		os.Exit(m.Run())
	}
	fmt.Println("begins")
	if _, err := Commit(os.Args[1], 0, os.Args[2], Options{Chosen: []string{""}, Durable: true}); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

const attempt = "0123456789abcdef0123456789abcdef"

// bench is a host's directory, a layer over it made by hand, and what was
// collected of it.
type bench struct {
	host, upper, dir string
	sum              Summary
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, name, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, []byte(text), 0o644))
}

// newBench has, on the host, changed, gone, tree/{a,b/c}, dir/keep, hidden/old,
// swap, and in the layer: changed, new, made/in, whiteouts of gone and tree, an
// opaque hidden with new in it, and a directory in the place of swap.
func newBench(t testing.TB) *bench {
	t.Helper()
	unix.Umask(0o022)
	root := t.TempDir()
	b := &bench{filepath.Join(root, "host"), filepath.Join(root, "upper"), filepath.Join(root, "quarantine"), Summary{}}
	for _, name := range []string{"changed", "gone", "tree/a", "tree/b/c", "dir/keep", "hidden/old", "swap"} {
		write(t, filepath.Join(b.host, name), name)
	}
	write(t, filepath.Join(b.upper, "changed"), "changed by the run")
	write(t, filepath.Join(b.upper, "new"), "new")
	write(t, filepath.Join(b.upper, "made/in"), "in")
	write(t, filepath.Join(b.upper, "dir/added"), "added")
	write(t, filepath.Join(b.upper, "hidden/new"), "new")
	write(t, filepath.Join(b.upper, "swap/in"), "in")
	for _, name := range []string{"gone", "tree"} {
		must(t, unix.Mknod(filepath.Join(b.upper, name), unix.S_IFCHR, 0)) // a whiteout: anybody may (Linux 5.8)
	}
	if err := unix.Lsetxattr(filepath.Join(b.upper, "hidden"), "user.overlay.opaque", []byte("y"), 0); err != nil {
		need.Missing(t, "xattr", "extended attributes of users in "+root+": "+err.Error())
	}
	must(t, Make(b.dir))
	return b
}

// want is what the host has after a commit.
var want = map[string]string{"changed": "changed by the run", "new": "new", "made/in": "in", "dir/keep": "dir/keep", "dir/added": "added", "hidden/new": "new", "swap/in": "in"}

var was = map[string]string{"changed": "changed", "gone": "gone", "tree/a": "tree/a", "tree/b/c": "tree/b/c", "dir/keep": "dir/keep", "hidden/old": "hidden/old", "swap": "swap"}

func (b *bench) collect(t testing.TB) {
	t.Helper()
	upper, err := unix.Open(b.upper, unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(upper)
	lower, err := unix.Open(b.host, unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(lower)
	b.sum, err = Collect(b.dir, attempt, 0, Tree{b.host, upper, lower}, Limits{1 << 20, 1 << 20}, Now())
	must(t, err)
}

func (b *bench) commit(t testing.TB, o Options) Result {
	t.Helper()
	if o.Chosen == nil {
		o.Chosen = []string{""}
	}
	r, err := Commit(b.dir, 0, b.sum.Manifest, o)
	must(t, err)
	return r
}

// files are all regular files below a directory, with what they hold.
func files(t testing.TB, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		all[strings.TrimPrefix(name, root+"/")] = string(data)
		return err
	}))
	return all
}

func alike[K, V comparable](a, b map[K]V) bool {
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return len(a) == len(b)
}

func TestCollectedAndCommitted(t *testing.T) {
	b := newBench(t)
	b.collect(t)
	if got := files(t, b.host); !alike(got, was) {
		t.Fatalf("collecting left %v", got)
	}
	for _, o := range []Options{{}, {Durable: true}} {
		r := b.commit(t, o)
		if r.Conflicts+r.Failed+r.Refused != 0 {
			t.Fatalf("got %+v", r)
		}
		if got := files(t, b.host); !alike(got, want) {
			t.Fatalf("the host has %v", got)
		}
	}
	if r := b.commit(t, Options{}); r.Done != 0 || r.Already != b.sum.Count() {
		t.Errorf("the third commit did %+v of %d", r, b.sum.Count())
	}
}

// What the host did since is found by the check, stays at a commit, and goes
// only by force. Everything else is committed.
func TestHostChangesAreConflicts(t *testing.T) {
	for name, c := range map[string]struct {
		change func(b *bench)
		path   string // that conflicts
		keeps  string // what the host has there then
		file   string // where, if elsewhere
	}{
		"changed":                   {func(b *bench) { write(t, b.host+"/changed", "mine") }, "changed", "mine", ""},
		"replaced by what is alike": {func(b *bench) { must(t, os.Remove(b.host+"/changed")); write(t, b.host+"/changed", "other") }, "changed", "other", ""},
		"mode":                      {func(b *bench) { must(t, os.Chmod(b.host+"/changed", 0o600)) }, "changed", "changed", ""},
		"to be removed":             {func(b *bench) { write(t, b.host+"/gone", "mine") }, "gone", "mine", ""},
		"inside what is removed":    {func(b *bench) { write(t, b.host+"/tree/b/mine", "mine") }, "tree/b", "mine", "tree/b/mine"},
		"made as well":              {func(b *bench) { write(t, b.host+"/new", "mine") }, "new", "mine", ""},
		"a file for a directory":    {func(b *bench) { write(t, b.host+"/made", "mine") }, "made", "mine", ""},
		"a link for a directory": {func(b *bench) {
			must(t, os.Rename(b.host+"/dir", b.host+"/elsewhere"))
			must(t, os.Symlink("elsewhere", b.host+"/dir"))
		}, "dir/added", "dir/keep", "elsewhere/keep"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.collect(t)
			c.change(b)
			before := files(t, b.host)
			check, err := Check(b.dir, 0, b.sum.Manifest, Options{Chosen: []string{""}})
			must(t, err)
			found := func(r Result) bool {
				return r.Conflicts > 0 && slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Path == c.path })
			}
			if !found(check) {
				t.Errorf("the check found %+v, want %s", check, c.path)
			}
			if after := files(t, b.host); !alike(before, after) {
				t.Errorf("the check made %v of %v", after, before)
			}
			if r := b.commit(t, Options{}); !found(r) {
				t.Errorf("the commit found %+v, want %s", r, c.path)
			}
			file := c.file
			if file == "" {
				file = c.path
			}
			got := files(t, b.host)
			if got[file] != c.keeps {
				t.Errorf("%s holds %q, want %q", file, got[file], c.keeps)
			}
			if c.path != "changed" && got["changed"] != want["changed"] {
				t.Errorf("what nobody changed was not committed: %v", got)
			}
			noLeftovers(t, b.host)
		})
	}
}

func TestForceOverwrites(t *testing.T) {
	b := newBench(t)
	b.collect(t)
	for _, name := range []string{"changed", "gone", "new", "hidden/old"} {
		write(t, filepath.Join(b.host, name), "mine")
	}
	if r := b.commit(t, Options{Force: true}); r.Conflicts+r.Failed != 0 {
		t.Fatalf("got %+v", r)
	}
	if got := files(t, b.host); !alike(got, want) {
		t.Errorf("the host has %v", got)
	}
	// What the run never saw is not removed, by no force.
	b = newBench(t)
	b.collect(t)
	write(t, b.host+"/tree/mine", "mine")
	if r := b.commit(t, Options{Force: true}); r.Conflicts == 0 || files(t, b.host)["tree/mine"] != "mine" {
		t.Errorf("got %+v, and the host has %v", r, files(t, b.host))
	}
}

// What the host changed while the run was on is a conflict, though it stood so
// when everything was collected.
func TestLateChanges(t *testing.T) {
	b := newBench(t)
	began := Now()
	write(t, b.host+"/changed", "mine")
	upper, err := unix.Open(b.upper, unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(upper)
	lower, err := unix.Open(b.host, unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(lower)
	began.Sec--
	b.sum, err = Collect(b.dir, attempt, 0, Tree{b.host, upper, lower}, Limits{1 << 20, 1 << 20}, began)
	must(t, err)
	r := b.commit(t, Options{Chosen: []string{"changed"}})
	if r.Conflicts != 1 || files(t, b.host)["changed"] != "mine" {
		t.Errorf("got %+v, and the host has %v", r, files(t, b.host))
	}
}

func TestOnlyWhatIsChosen(t *testing.T) {
	b := newBench(t)
	b.collect(t)
	b.commit(t, Options{Chosen: []string{"made/in", "tree"}, Without: []string{"tree/a"}})
	got := files(t, b.host)
	if got["made/in"] != "in" || got["changed"] != "changed" || got["tree/a"] != "tree/a" || got["tree/b/c"] != "" {
		t.Errorf("the host has %v", got)
	}
}

func TestAlteredQuarantineIsNotCommitted(t *testing.T) {
	for _, name := range []string{"0.manifest", "0.data"} {
		b := newBench(t)
		b.collect(t)
		data, err := os.ReadFile(filepath.Join(b.dir, name))
		must(t, err)
		data[len(data)-3] ^= 1
		must(t, os.WriteFile(filepath.Join(b.dir, name), data, 0o600))
		if r, err := Commit(b.dir, 0, b.sum.Manifest, Options{Chosen: []string{""}}); !errors.Is(err, ErrAltered) {
			t.Errorf("%s: got %+v, %v", name, r, err)
		}
	}
}

// A directory with the same name is not the directory the run saw, and a link
// in its place is not followed.
func TestAnotherDirectoryIsNotTouched(t *testing.T) {
	b := newBench(t)
	b.collect(t)
	must(t, os.Rename(b.host, b.host+"2"))
	must(t, os.Mkdir(b.host, 0o755))
	if r, err := Commit(b.dir, 0, b.sum.Manifest, Options{Chosen: []string{""}}); err == nil || len(files(t, b.host)) != 0 {
		t.Errorf("another directory: %+v, %v", r, err)
	}
	must(t, os.Remove(b.host))
	must(t, os.Symlink(b.host+"2", b.host))
	if r, err := Commit(b.dir, 0, b.sum.Manifest, Options{Chosen: []string{""}, Force: true}); !errors.Is(err, unix.ELOOP) || !alike(files(t, b.host+"2"), was) {
		t.Errorf("a link: %+v, %v", r, err)
	}
}

func noLeftovers(t testing.TB, root string) {
	t.Helper()
	for name := range files(t, root) {
		if strings.Contains(name, ".bvisor-") {
			t.Errorf("%s was left", name)
		}
	}
}

// A commit that is killed anywhere has put each file into place or not at all,
// and doing it again does the rest.
func TestKilledCommitIsFinished(t *testing.T) {
	var whole time.Duration
	unfinished := 0
	for range need.Rounds(t, 40, 400) {
		b := newBench(t)
		b.collect(t)
		cmd := exec.Command(os.Args[0], b.dir, b.sum.Manifest)
		cmd.Env = append(os.Environ(), killedVar+"=1")
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		_, err = bufio.NewReader(out).ReadString('\n')
		must(t, err)
		began := time.Now()
		if whole > 0 {
			time.Sleep(rand.N(whole)) // anywhere in it
			cmd.Process.Kill()
		}
		if err := cmd.Wait(); whole == 0 {
			must(t, err) // the first one says how long it takes
			whole = time.Since(began)
		}
		now := files(t, b.host)
		if !alike(now, want) {
			unfinished++
		}
		for name, text := range now {
			if !strings.Contains(name, ".bvisor-") && text != want[name] && text != was[name] {
				t.Fatalf("%s holds %q, neither what it was nor what the run left", name, text)
			}
		}
		if r := b.commit(t, Options{}); r.Conflicts+r.Failed != 0 {
			t.Fatalf("the second commit came to %+v for\n%v", r, now)
		}
		if got := files(t, b.host); !alike(got, want) {
			t.Fatalf("after the second commit the host has %v, before it had %v", got, now)
		}
	}
	t.Logf("%d were cut short", unfinished)
}

// The walk has a bound on depth, so on descriptors, whatever lies below it: in
// the layer, and in what was removed.
func TestDeepTreeIsBounded(t *testing.T) {
	deep := func(dir string, n int) {
		at, err := unix.Open(dir, unix.O_PATH, 0)
		must(t, err)
		for range n {
			must(t, unix.Mkdirat(at, "d", 0o755))
			next, err := unix.Openat(at, "d", unix.O_PATH, 0)
			must(t, err)
			unix.Close(at)
			at = next
		}
		unix.Close(at)
	}
	b := newBench(t)
	must(t, os.Mkdir(b.upper+"/new-deep", 0o755))
	must(t, os.Mkdir(b.host+"/old-deep", 0o755))
	deep(b.upper+"/new-deep", 3*MaxDepth)
	deep(b.host+"/old-deep", 3*MaxDepth)
	must(t, unix.Mknod(b.upper+"/old-deep", unix.S_IFCHR, 0))
	b.collect(t)
	if b.sum.Refused != 2 {
		t.Errorf("%d were refused, want one for each tree: %+v", b.sum.Refused, b.sum.First[len(b.sum.First)-1])
	}
	// What is not listed is not removed.
	if r := b.commit(t, Options{}); r.Conflicts == 0 {
		t.Errorf("got %+v", r)
	}
	if _, err := os.Lstat(b.host + "/old-deep/" + strings.Repeat("d/", MaxDepth-1)); err != nil {
		t.Errorf("something of the deep tree is gone: %v", err)
	}
	must(t, os.RemoveAll(b.upper))
	must(t, os.RemoveAll(b.host))
}

// Many files take memory for the names of one directory, not for what is
// recorded of them, and all are committed.
func TestManyFiles(t *testing.T) {
	const dirs, each = 40, 200
	b := newBench(t)
	for d := range dirs {
		dir := filepath.Join(b.upper, "many", fmt.Sprint(d))
		must(t, os.MkdirAll(dir, 0o755))
		for i := range each {
			must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte("x"), 0o644))
		}
	}
	b.collect(t)
	if n := int64(dirs*each + dirs); b.sum.Created < n || len(b.sum.First) < 1000 || int64(len(b.sum.First)) >= n || b.sum.Shown > 1<<20 {
		t.Errorf("%d were created, want at least %d; %d in the report", b.sum.Created, n, len(b.sum.First))
	}
	if r := b.commit(t, Options{}); r.Done != b.sum.Count() {
		t.Errorf("got %+v of %d", r, b.sum.Count())
	}
	if got := len(files(t, b.host+"/many")); got != dirs*each {
		t.Errorf("the host has %d of %d files", got, dirs*each)
	}
}

// The bounds hold for what is under them, too: sparse files count as what they
// would take.
func TestSparseFiles(t *testing.T) {
	b := newBench(t)
	for i := range 3 {
		name := fmt.Sprintf("%s/sparse%d", b.upper, i)
		write(t, name, "")
		must(t, os.Truncate(name, 400<<10)) // of 1 MiB in all
	}
	b.collect(t)
	if b.sum.Refused != 1 || b.sum.Bytes > 1<<20 {
		t.Errorf("%d refused, %d bytes kept; want one, and at most 1 MiB", b.sum.Refused, b.sum.Bytes)
	}
	b.commit(t, Options{})
	if info, err := os.Stat(b.host + "/sparse0"); err != nil || info.Size() != 400<<10 {
		t.Errorf("%v, %v", info, err)
	}
}
