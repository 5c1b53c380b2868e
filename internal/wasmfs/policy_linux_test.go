package wasmfs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// What is granted for reading is not changed, whatever is asked and however.
// The control does the same where writing is granted.
func TestReadOnlyGrant(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		for _, writable := range []bool{false, true} {
			base := t.TempDir()
			plant(t, base, "file=content", "own=own", "dir/sub/", "empty/", "link->file")
			r := root(t, "/in", base)
			r.Write = writable
			v := impl.view(t, Config{Roots: []Root{r}})
			d := v.at("/in")
			_, f, errno := d.Open("file", OpenFlags{Read: true})
			want(t, "open for reading", errno, Success)
			_, bare, errno := d.Open("file", OpenFlags{})
			want(t, "open for nothing", errno, Success)
			defer f.Close()
			defer bare.Close()
			now := Time{Set: true, Now: true}
			changes := []struct {
				name string
				do   func() Errno
			}{
				{"open for writing", func() Errno { _, f, e := d.Open("file", OpenFlags{Write: true}); closeIf(f); return e }},
				{"open for both", func() Errno { _, f, e := d.Open("file", OpenFlags{Read: true, Write: true}); closeIf(f); return e }},
				{"open for writing through a link", func() Errno {
					_, f, e := d.Open("link", OpenFlags{Write: true, Follow: true})
					closeIf(f)
					return e
				}},
				{"truncate", func() Errno { _, f, e := d.Open("file", OpenFlags{Truncate: true}); closeIf(f); return e }},
				{"create", func() Errno { return write(d, "new", "x") }},
				{"mkdir", func() Errno { return d.Mkdir("newdir") }},
				{"rmdir", func() Errno { return d.Rmdir("empty") }},
				{"symlink", func() Errno { return d.Symlink("file", "newlink") }},
				{"link", func() Errno { return d.Link("file", false, d, "newname") }},
				{"rename", func() Errno { return d.Rename("own", d, "own2") }},
				{"rename a directory", func() Errno { return d.Rename("dir", d, "dir2") }},
				{"times of a path", func() Errno { return d.SetTimes("file", true, now, now) }},
				{"times of a link", func() Errno { return d.SetTimes("link", true, now, now) }},
				{"times of itself by path", func() Errno { return d.SetTimes(".", true, now, now) }},
				{"times of itself", func() Errno { return d.SetOwnTimes(now, now) }},
				{"times of a file that is open", func() Errno { return f.SetTimes(now, now) }},
				{"times of a file that is open for nothing", func() Errno { return bare.SetTimes(now, now) }},
				{"unlink", func() Errno { return d.Unlink("file") }},
			}
			if writable {
				for _, c := range changes {
					want(t, c.name+", granted", c.do(), Success)
				}
				v.recorded()
				continue
			}
			unchanged(t, base, func() {
				for i, c := range changes {
					want(t, c.name, c.do(), ReadOnly)
					if len(v.denied) != i+1 || v.denied[i].Reason != NotWritable || v.denied[i].Access != "w" {
						t.Fatalf("%s is recorded as %+v", c.name, v.denied[i:])
					}
				}
				// A file that is open for reading stays so, with whatever flags.
				for _, f := range []*File{f, bare} {
					f.Append, f.SyncData, f.SyncWhole = true, true, true
					n, errno := f.Write([]byte("x"))
					want(t, "write", errno, BadFile)
					_, errno = f.WriteAt([]byte("x"), 0)
					want(t, "write at", errno, BadFile)
					want(t, "set size", f.SetSize(0), ReadOnly)
					want(t, "allocate", f.Allocate(0, 100), ReadOnly)
					if n != 0 {
						t.Errorf("%d bytes written", n)
					}
				}
			})
		}
	})
}

func closeIf(f *File) {
	if f != nil {
		f.Close()
	}
}

// In a grant for reading and writing, a file that was opened for reading is not
// written either; that is the guest's own choice and no denial.
func TestOpenedForReading(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		plant(t, base, "file=content")
		v := impl.view(t, Config{Roots: []Root{root(t, "/in", base)}})
		_, f, _ := v.at("/in").Open("file", OpenFlags{Read: true})
		defer f.Close()
		unchanged(t, base, func() {
			f.Append = true
			_, errno := f.Write([]byte("x"))
			want(t, "write", errno, BadFile)
			want(t, "set size", f.SetSize(0), BadFile)
			want(t, "allocate", f.Allocate(0, 100), BadFile)
		})
		v.recorded()
	})
}

// What is granted for writing alone is not read or listed.
func TestWriteOnlyGrant(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		plant(t, base, "file=content", "dir/", "link->file")
		r := root(t, "/in", base)
		r.Read = false
		v := impl.view(t, Config{Roots: []Root{r}})
		d := v.at("/in")
		_, errno := read(d, "file")
		want(t, "read", errno, Access)
		_, errno = d.ReadDir(0)
		want(t, "list", errno, Access)
		_, errno = d.Readlink("link")
		want(t, "read a link", errno, Access)
		_, f, errno := d.Open("new", OpenFlags{Read: true, Write: true, Create: true})
		closeIf(f)
		want(t, "create for reading", errno, Access)
		v.recorded(Denial{"path_open", "/in/file", "r", NotReadable}, Denial{"fd_readdir", "/in", "r", NotReadable},
			Denial{"path_readlink", "/in/link", "r", NotReadable}, Denial{"path_open", "/in/new", "r", NotReadable})
		want(t, "write", write(d, "file", "guest"), Success)
		if b, _ := os.ReadFile(base + "/file"); string(b) != "guest" {
			t.Errorf("it holds %q", b)
		}
	})
}

// A carve-out that exists is out of reach under every name, and stays.
func TestCarveOut(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		in := filepath.Join(base, "in")
		plant(t, in, "own=own", "open/file=file", "dir/secret/file=secret", "key=key", "way->dir", "toit->dir/secret", "tokey->key")
		if err := os.Link(in+"/key", in+"/key-by-another-name"); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(in + "/toit/file"); string(b) != "secret" { // the control
			t.Fatalf("%q, %v", b, err)
		}
		control := impl.view(t, Config{Roots: []Root{root(t, "/in", in)}})
		if got, errno := read(control.at("/in"), "toit/file"); got != "secret" {
			t.Fatalf("without the carve-out: %q, %v", got, errno)
		}
		v := impl.view(t, Config{Roots: []Root{root(t, "/in", in)}, CarveOuts: []string{"/in/dir/secret", "/in/key"}})
		d := v.at("/in")
		unchanged(t, base, func() {
			for _, name := range []string{"dir/secret", "dir/secret/file", "dir/secret/new", "way/secret", "way/secret/file", "toit/file",
				"key", "key-by-another-name", "dir/../key", "dir/secret/../../own"} {
				for what, act := range acts(d, name) {
					if errno := act(); errno != Access && !(errno == Exists && (what == "mkdir" || what == "symlink" || what == "link-to")) {
						t.Errorf("%s %s: %v", what, name, errno)
					}
				}
			}
			for _, link := range []string{"toit", "tokey"} {
				for _, what := range []string{"read", "write", "truncate", "stat", "times", "link-from"} {
					want(t, what+" through "+link, acts(d, link)[what](), Access)
				}
			}
			want(t, "what holds it", d.Rename("dir", d, "dir2"), Busy)
			want(t, "the other way", d.Rename("open", d, "dir"), Busy)
		})
		for _, denied := range v.denied {
			if denied.Reason != TakenOut && denied.Reason != Pinned {
				t.Errorf("%+v", denied)
			}
		}
		list, _ := v.at("/in/dir").ReadDir(0)
		if len(list) != 2 {
			t.Errorf("it is listed: %+v", list)
		}
		if got, errno := read(d, "way/../open/file"); got != "file" {
			t.Errorf("beside it: %q, %v", got, errno)
		}
		// The host moves it, and the directory that holds it.
		os.Rename(in+"/dir/secret", in+"/dir/moved")
		os.Rename(in+"/dir", in+"/away")
		for _, name := range []string{"away/moved/file", "away/moved"} {
			_, errno := read(d, name)
			want(t, "moved by the host: "+name, errno, Access)
		}
	})
}

// A carve-out that does not exist yet: nothing comes to be there.
func TestCarveOutOfWhatDoesNotExist(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		plant(t, base, "own=own", "g/hooks/pre=evil", "tog->g")
		v := impl.view(t, Config{Roots: []Root{root(t, "/in", base)}, CarveOuts: []string{"/in/.git/hooks", "/in/.env"}})
		d := v.at("/in")
		for _, name := range []string{".env", ".env/x", "g/../.env"} {
			for what, act := range acts(d, name) {
				want(t, what+" "+name, act(), Access)
			}
		}
		// Nothing with a past can become the way to it.
		want(t, "rename", d.Rename("g", d, ".git"), Busy)
		want(t, "rename a link", d.Rename("tog", d, ".git"), Busy)
		want(t, "symlink", d.Symlink("g", ".git"), Busy)
		want(t, "link", d.Link("own", false, d, ".git"), Busy)
		want(t, "the way", d.Mkdir(".git"), Success)
		want(t, "beside it", d.Mkdir(".git/objects"), Success)
		want(t, "the way moved", d.Rename(".git", d, "g2"), Busy)
		for what, act := range acts(d, ".git/hooks") {
			want(t, what+" .git/hooks", act(), Access)
		}
		git := v.at("/in/.git")
		for what, act := range acts(git, "hooks") {
			if errno := act(); errno != Access && errno != NotFound { // there is no "own" here
				t.Errorf("%s hooks, from below: %v", what, errno)
			}
		}
		want(t, "rename from below", git.Rename("objects", git, "hooks"), Access)
		want(t, "the way goes", d.Rmdir(".git/objects"), Success)
		want(t, "the way goes", d.Rmdir(".git"), Success)
		if got, want := tree(t, base), []string{"./", "g/", "g/hooks/", "g/hooks/pre=evil", "own=own", "tog->g"}; !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
		// The host makes it.
		plant(t, base, ".git/hooks/pre=host")
		_, errno := read(d, ".git/hooks/pre")
		want(t, "made by the host", errno, Access)
		list, _ := v.at("/in/.git").ReadDir(0)
		if len(list) != 2 {
			t.Errorf("it is listed: %+v", list)
		}
	})
}

// A carve-out that cannot be held is refused before the guest starts.
func TestCarveOutsThatCannotBeHeld(t *testing.T) {
	base := t.TempDir()
	plant(t, base, "dir/", "link->dir")
	for _, p := range []string{"/elsewhere/x", "/in/link/x", "in/x", "/in/../x", "/in", "/in/dir", "/"} {
		if _, err := New(Config{Roots: []Root{root(t, "/in", base), root(t, "/in/dir/again", base)}, CarveOuts: []string{p}}); err == nil {
			t.Errorf("%s was accepted", p)
		}
	}
	if _, err := newFS(Config{Roots: []Root{root(t, "/in", base)}, CarveOuts: []string{"/in/absent"}}, openRootDir, true); err == nil {
		t.Error("an absent one was accepted where it cannot be told by its name")
	}
}

// A grant that is not recursive holds its own files and nothing below.
func TestNonRecursive(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		plant(t, base, "own=own", "file=file", "dir/file=below", "link->dir/file")
		r := root(t, "/in", base)
		r.NonRecursive = true
		v := impl.view(t, Config{Roots: []Root{r}})
		d := v.at("/in")
		if got, errno := read(d, "file"); got != "file" {
			t.Errorf("%q, %v", got, errno)
		}
		want(t, "write", write(d, "new", "x"), Success)
		want(t, "unlink", d.Unlink("new"), Success)
		v.recorded()
		unchanged(t, base, func() {
			for _, name := range []string{"dir/file", "dir/new", "dir/../file"} {
				for what, act := range acts(d, name) {
					want(t, what+" "+name, act(), Access)
				}
			}
			for what, want := range map[string]Errno{"read": Access, "mkdir": Exists, "rmdir": Access, "rename": Access, "times": Access} {
				if errno := acts(d, "dir")[what](); errno != want {
					t.Errorf("%s dir: %v", what, errno)
				}
			}
			_, errno := read(d, "link")
			want(t, "through a link", errno, Access)
			want(t, "mkdir", d.Mkdir("newdir"), Access)
		})
	})
}

// Of two grants one in the other the inner one says what holds in it, under
// whatever name.
func TestGrantInGrant(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		plant(t, base, "own=own", "ro/file=file", "config=config", "toro->ro")
		ro := root(t, "/in/ro", base+"/ro")
		ro.Write = false
		config := Root{Path: "/in/config", File: openFile(t, base+"/config", os.O_RDONLY), Read: true}
		v := impl.view(t, Config{Roots: []Root{config, ro, root(t, "/in", base)}})
		d := v.at("/in")
		inner := func() {
			t.Helper()
			unchanged(t, base, func() {
				for _, dir := range []string{"ro", "toro", "renamed"} {
					if _, errno := read(d, dir+"/file"); errno == NotFound {
						continue
					}
					want(t, "write "+dir, write(d, dir+"/file", "guest"), ReadOnly)
					want(t, "create "+dir, write(d, dir+"/new", "guest"), ReadOnly)
					want(t, "unlink "+dir, d.Unlink(dir+"/file"), ReadOnly)
					want(t, "rename out of "+dir, d.Rename(dir+"/file", d, "x"), ReadOnly)
					want(t, "link out of "+dir, d.Link(dir+"/file", false, d, "x"), OtherDevice)
				}
				for _, name := range []string{"config", "config2"} {
					if _, errno := read(d, name); errno == NotFound {
						continue
					}
					want(t, "write "+name, write(d, name, "guest"), ReadOnly)
					want(t, "times of "+name, d.SetTimes(name, false, Time{}, Time{Set: true, Nano: 1}), ReadOnly)
					want(t, "link "+name, d.Link(name, false, d, "x"), OtherDevice)
					want(t, "unlink "+name, d.Unlink(name), Busy)
					want(t, "rename "+name, d.Rename(name, d, "x"), Busy)
					want(t, "replace "+name, d.Rename("own", d, name), Busy)
				}
				want(t, "rename", d.Rename("ro", d, "x"), Busy)
				want(t, "rmdir", d.Rmdir("ro"), Busy)
			})
		}
		inner()
		if got, errno := read(d, "toro/file"); got != "file" {
			t.Errorf("%q, %v", got, errno)
		}
		if got, errno := read(d, "config"); got != "config" {
			t.Errorf("%q, %v", got, errno)
		}
		want(t, "beside it", write(d, "new", "x"), Success)
		os.Rename(base+"/ro", base+"/renamed") // by the host
		os.Rename(base+"/config", base+"/config2")
		inner()
		if got, errno := read(d, "renamed/file"); got != "file" {
			t.Errorf("%q, %v", got, errno)
		}
		if got, errno := read(d, "ro/file"); got != "file" {
			t.Errorf("by its own name: %q, %v", got, errno)
		}
		v.denied = nil

		// Granted a second time elsewhere, it holds there alone.
		again := ro
		again.Path = "/elsewhere"
		w := impl.view(t, Config{Roots: []Root{root(t, "/in", base), {Path: "/elsewhere", File: openPath(t, base+"/renamed"), Read: true}}})
		want(t, "where writing is granted", write(w.at("/in"), "renamed/file", "guest"), Success)
		want(t, "where it is not", write(w.at("/elsewhere"), "file", "guest"), ReadOnly)
	})
}

// The root of the view shows the way to the grants and nothing else.
func TestRootOfTheView(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		plant(t, base, "a/file=a", "hosts=hosts")
		v := impl.view(t, Config{Dir: "/srv/a", Roots: []Root{root(t, "/srv/a", base+"/a"),
			{Path: "/etc/hosts", File: openFile(t, base+"/hosts", os.O_RDONLY), Read: true}}})
		d := v.at("/")
		for dir, names := range map[string]string{"/": ". .. etc srv", "/etc": ". .. hosts", "/srv": ". .. a", "/srv/a": ". .. file"} {
			list, errno := v.at(dir).ReadDir(0)
			var got []string
			for _, e := range list {
				got = append(got, e.Name)
			}
			if strings.Join(got, " ") != names || errno != Success {
				t.Errorf("%s holds %q, %v", dir, got, errno)
			}
		}
		if got, errno := read(d, "etc/hosts"); got != "hosts" {
			t.Errorf("%q, %v", got, errno)
		}
		if got, errno := read(d, "srv/../srv/a/file"); got != "a" {
			t.Errorf("%q, %v", got, errno)
		}
		_, errno := read(d, "etc/hosts/x")
		want(t, "below a file", errno, NotDir)
		v.recorded()
		for _, name := range []string{"etc/passwd", "srv/b", "root/.ssh/id", "proc/self/environ"} {
			for what, act := range acts(d, name) {
				if errno := act(); errno != NotFound && errno != Access {
					t.Errorf("%s %s: %v", what, name, errno)
				}
			}
		}
		for _, denied := range v.denied {
			if denied.Reason != Outside {
				t.Errorf("%+v", denied)
			}
		}
		v.denied = nil
		read(d, "etc/passwd")
		d.Mkdir("srv/b")
		v.recorded(Denial{"path_open", "/etc/passwd", "", Outside}, Denial{"path_create_directory", "/srv/b", "w", Outside})
		names := []string{}
		pre, err := v.Preopens()
		for _, p := range pre {
			names = append(names, p.Name)
		}
		if err != nil || !slices.Equal(names, []string{"/srv/a", "/", "/etc", "."}) {
			t.Errorf("%q, %v", names, err)
		}
	})
}

// A file that is granted by itself, for writing.
func TestFileAsGrant(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		plant(t, base, "file=content", "beside=beside")
		budget := NewBudget(100)
		v := impl.view(t, Config{Roots: []Root{{Path: "/data/file", File: openFile(t, base+"/file", os.O_RDWR), Read: true, Write: true, Storage: budget}}})
		d := v.at("/data")
		for range 2 { // a position is the opened file's, not the grant's
			if got, errno := read(d, "file"); got != "content" {
				t.Errorf("%q, %v", got, errno)
			}
		}
		want(t, "write", write(d, "file", "guest"), Success)
		want(t, "too much", write(d, "file", strings.Repeat("x", 200)), Success) // and 95 of them are written
		if budget.Used() != 100 || !budget.Exceeded() {
			t.Errorf("%d bytes used", budget.Used())
		}
		want(t, "times", d.SetTimes("file", false, Time{}, Time{Set: true, Nano: 1000}), Success)
		if info, _ := os.Stat(base + "/file"); info.ModTime().UnixNano() != 1000 {
			t.Errorf("it is of %v", info.ModTime())
		}
		want(t, "unlink", d.Unlink("file"), Busy)
		want(t, "rename", d.Rename("file", d, "other"), Busy)
		_, errno := read(d, "beside")
		want(t, "beside it", errno, NotFound)
		if b, _ := os.ReadFile(base + "/file"); string(b) != strings.Repeat("x", 95) {
			t.Errorf("it holds %d bytes", len(b))
		}
	})
}

func TestGrantsThatContradict(t *testing.T) {
	base := t.TempDir()
	plant(t, base, "file=x")
	r := root(t, "/in", base)
	file := Root{Path: "/f", File: openFile(t, base+"/file", os.O_RDONLY), Read: true, NonRecursive: true}
	for _, roots := range [][]Root{{r, r}, {root(t, "in", base)}, {root(t, "/in/../x", base)}, {root(t, "/in/", base)}, {file}} {
		if _, err := New(Config{Roots: roots}); err == nil {
			t.Errorf("%+v was accepted", roots)
		}
	}
}

// Whether it is a minute later is no question of the view: times of what is not
// on the disk are zero, so that equal runs see equal things.
func TestViewHasNoTimes(t *testing.T) {
	v := implementations[0].view(t, Config{Roots: []Root{root(t, "/a/in", t.TempDir())}})
	st, errno := v.at("/").Stat("a", false)
	if errno != Success || st.Mtim != 0 || st.Type != TypeDirectory || st.Ino == 0 {
		t.Errorf("%+v, %v at %v", st, errno, time.Now())
	}
}
