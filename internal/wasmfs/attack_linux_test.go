package wasmfs

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/need"
)

// acts are everything that a guest can do to a name that is not its to do. Each
// says what the host would do in its place, as the control.
func acts(d *Dir, name string) map[string]func() Errno {
	open := func(o OpenFlags) func() Errno {
		return func() Errno {
			o.Follow = true
			dir, f, errno := d.Open(name, o)
			if dir != nil {
				dir.Close()
			}
			if f != nil {
				f.Write([]byte("guest"))
				f.Close()
			}
			return errno
		}
	}
	return map[string]func() Errno{
		"read":      open(OpenFlags{Read: true}),
		"write":     open(OpenFlags{Write: true}),
		"truncate":  open(OpenFlags{Truncate: true}),
		"create":    open(OpenFlags{Write: true, Create: true}),
		"exclusive": open(OpenFlags{Write: true, Create: true, Exclusive: true}),
		"stat":      func() Errno { _, e := d.Stat(name, true); return e },
		"lstat":     func() Errno { _, e := d.Stat(name, false); return e },
		"times":     func() Errno { return d.SetTimes(name, true, Time{}, Time{Set: true, Nano: 1}) },
		"mkdir":     func() Errno { return d.Mkdir(name) },
		"rmdir":     func() Errno { return d.Rmdir(name) },
		"unlink":    func() Errno { return d.Unlink(name) },
		"readlink":  func() Errno { _, e := d.Readlink(name); return e },
		"symlink":   func() Errno { return d.Symlink("x", name) },
		"link-from": func() Errno { return d.Link(name, true, d, "stolen") },
		"link-to":   func() Errno { return d.Link("own", false, d, name) },
		"rename":    func() Errno { return d.Rename(name, d, "stolen") },
		"replace":   func() Errno { return d.Rename("own", d, name) },
	}
}

// WAS-02 and WAS-06: links that the host left in a grant lead nowhere, and say
// nothing of where they would lead if that is a path of the host's.
func TestHostPlantedLinks(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		plant(t, base, "secret=secret", "dir/file=outside", "in/own=own", "in/up->../secret", "in/updir->../dir",
			"in/abs->"+base+"/secret", "in/absdir->"+base+"/dir", "in/chain->up", "in/magic->/proc/self/root"+base+"/secret")
		for _, link := range []string{"up", "updir/file", "abs", "absdir/file", "chain", "magic"} {
			if b, err := os.ReadFile(filepath.Join(base, "in", link)); err != nil { // the control
				t.Fatalf("the host cannot read through %s: %q, %v", link, b, err)
			}
		}
		for _, write := range []bool{false, true} {
			r := root(t, "/in", filepath.Join(base, "in"))
			r.Write = write
			v := impl.view(t, Config{Roots: []Root{r}})
			d := v.at("/in")
			unchanged(t, base, func() {
				for _, link := range []string{"up", "updir/file", "abs", "absdir/file", "chain", "magic"} {
					for _, what := range []string{"read", "write", "truncate", "create", "stat", "times", "link-from"} {
						want(t, what+" "+link, acts(d, link)[what](), Permission)
					}
				}
				for _, dir := range []string{"updir/x", "absdir/x"} {
					for what, act := range acts(d, dir) {
						if errno := act(); errno != Permission && !(errno == ReadOnly && !write) {
							t.Errorf("%s %s: %v", what, dir, errno)
						}
					}
				}
			})
			for _, denied := range v.denied {
				if denied.Reason != Above && denied.Reason != Absolute && denied.Reason != NotWritable {
					t.Errorf("%+v", denied)
				}
			}
			if target, errno := d.Readlink("up"); target != "../secret" || errno != Success {
				t.Errorf("%q, %v", target, errno)
			}
			if target, errno := d.Readlink("abs"); target != "" || errno != Permission {
				t.Errorf("%q, %v", target, errno)
			}
		}
	})
}

// WAS-01: a link that the guest makes leads nowhere outside, and nothing is
// written through it.
func TestGuestMadeLinks(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		plant(t, base, "secret=secret", "in/sub/")
		v := impl.view(t, Config{Roots: []Root{root(t, "/in", filepath.Join(base, "in"))}})
		d := v.at("/in")
		want(t, "symlink", d.Symlink("../secret", "l"), Success)
		want(t, "symlink", d.Symlink("sub/../../secret", "m"), Success)
		want(t, "absolute", d.Symlink(base+"/secret", "n"), Permission)
		for _, link := range []string{"l", "m"} {
			if b, err := os.ReadFile(filepath.Join(base, "in", link)); string(b) != "secret" { // the control
				t.Fatalf("the host cannot read through it: %q, %v", b, err)
			}
			want(t, "write", write(d, link, "guest"), Permission)
			_, errno := read(d, link)
			want(t, "read", errno, Permission)
		}
		// Beneath the bound it leads, and a deeper bound is a bound, too.
		plant(t, base, "in/file=file")
		want(t, "symlink", d.Symlink("../file", "sub/up"), Success)
		if got, errno := read(d, "sub/up"); got != "file" {
			t.Errorf("%q, %v", got, errno)
		}
		_, errno := read(v.at("/in/sub"), "up")
		want(t, "through the deeper directory", errno, Permission)
		if b, _ := os.ReadFile(filepath.Join(base, "secret")); string(b) != "secret" {
			t.Errorf("the secret is %q", b)
		}
	})
}

// WAS-03: no path leads above what it is asked of.
func TestDotDot(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		plant(t, base, "secret=secret", "in/sub/deep/", "in/own=own", "in/file=file")
		if b, err := os.ReadFile(filepath.Join(base, "in/sub/../../secret")); string(b) != "secret" { // the control
			t.Fatalf("%q, %v", b, err)
		}
		v := impl.view(t, Config{Roots: []Root{root(t, "/in", filepath.Join(base, "in"))}})
		unchanged(t, base, func() {
			for _, from := range []struct{ dir, path string }{
				{"/in", "../secret"}, {"/in", "sub/../../secret"}, {"/in", "sub/deep/../../../secret"}, {"/in", "/secret"},
				{"/in", "//" + base + "/secret"}, {"/in/sub", "../../secret"}, {"/in/sub", "../file"}, {"/", "../" + base + "/secret"},
			} {
				for what, act := range acts(v.at(from.dir), from.path) {
					if errno := act(); errno != Permission && errno != NotFound && !(from.dir == "/" && errno == Access) {
						t.Errorf("%s %s of %s: %v", what, from.path, from.dir, errno)
					}
				}
			}
		})
		v.denied = nil
		v.at("/in/sub").Open("../../secret", OpenFlags{Read: true})
		v.recorded(Denial{Call: "path_open", Path: "/secret", Reason: Above})
		if got, errno := read(v.at("/in"), "sub/deep/../../file"); got != "file" {
			t.Errorf("within its bound .. leads to %q, %v", got, errno)
		}
	})
}

// WAS-04: nothing is renamed or linked from one grant to another.
func TestAcrossGrants(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		plant(t, base, "a/file=a", "a/dir/", "b/file=b", "ro/file=ro")
		ro := root(t, "/ro", filepath.Join(base, "ro"))
		ro.Write = false
		v := impl.view(t, Config{Roots: []Root{root(t, "/a", filepath.Join(base, "a")), root(t, "/b", filepath.Join(base, "b")), ro}})
		a, b, r := v.at("/a"), v.at("/b"), v.at("/ro")
		unchanged(t, base, func() {
			want(t, "rename", a.Rename("file", b, "new"), OtherDevice)
			want(t, "rename a directory", a.Rename("dir", b, "new"), OtherDevice)
			want(t, "link", a.Link("file", false, b, "new"), OtherDevice)
			want(t, "over another", a.Rename("file", b, "file"), OtherDevice)
			want(t, "link out of what is read-only", r.Link("file", false, a, "new"), OtherDevice)
			want(t, "rename out of what is read-only", r.Rename("file", a, "new"), ReadOnly)
			want(t, "link into what is read-only", a.Link("file", false, r, "new"), ReadOnly)
			want(t, "rename into what is read-only", a.Rename("file", r, "new"), ReadOnly)
			top := v.at("/")
			want(t, "through the root of the view", top.Rename("a/file", top, "b/new"), OtherDevice)
			want(t, "a grant", top.Rename("a", top, "c"), Busy)
			want(t, "into the root of the view", top.Rename("a/file", top, "new"), Access)
		})
		if err := os.Rename(filepath.Join(base, "a/file"), filepath.Join(base, "b/new")); err != nil { // the control
			t.Errorf("the host cannot: %v", err)
		}
	})
}

// WAS-05: a directory that becomes a link to the outside, and back, while the
// guest walks through it.
func TestLinkSwapRace(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		plant(t, base, "outside/file=outside", "outside/empty/", "in/d/file=inside", "in/d/empty/", "in/l->../outside")
		in := filepath.Join(base, "in")
		v := impl.view(t, Config{Roots: []Root{root(t, "/in", in)}})
		d := v.at("/in")
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				default:
					unix.Renameat2(unix.AT_FDCWD, in+"/d", unix.AT_FDCWD, in+"/l", unix.RENAME_EXCHANGE)
				}
			}
		}()
		inside, outside := 0, 0
		rounds := need.Rounds(t, 3000, 100000)
		for i := 0; i < rounds || (inside == 0 || outside == 0) && i < 100*rounds; i++ {
			if b, _ := os.ReadFile(in + "/d/file"); string(b) == "outside" { // the control: whoever follows, gets there
				outside++
			}
			switch got, errno := read(d, "d/file"); {
			case got == "inside":
				inside++
			case errno == Success:
				t.Fatalf("it read %q", got)
			}
			write(d, "d/new", "guest")
			d.Unlink("d/new")
			d.Mkdir("d/newdir")
			d.Rmdir("d/newdir")
			d.Rmdir("d/empty")
			d.Rename("d/file", d, "d/file2")
			d.Rename("d/file2", d, "d/file")
			d.SetTimes("d/file", true, Time{}, Time{Set: true, Nano: 1})
		}
		close(stop)
		<-stopped
		if inside == 0 || outside == 0 {
			t.Fatalf("the race did not happen: %d times inside, %d times out", inside, outside)
		}
		got := tree(t, filepath.Join(base, "outside"))
		if fmt.Sprint(got) != "[./ empty/ file=outside]" {
			t.Errorf("outside there is %q", got)
		}
		if info, _ := os.Stat(filepath.Join(base, "outside/file")); info.ModTime().UnixNano() == 1 {
			t.Error("the times of the file outside were set")
		}
	})
}

// A file that becomes a link to the outside, and a FIFO, and back, between the
// look and the open.
func TestFileSwapRace(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		in := filepath.Join(base, "in")
		plant(t, base, "secret=secret", "in/f=inside", "in/l->../secret")
		if err := unix.Mkfifo(in+"/p", 0o666); err != nil {
			t.Fatal(err)
		}
		d := impl.view(t, Config{Roots: []Root{root(t, "/in", in)}}).at("/in")
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					unix.Renameat2(unix.AT_FDCWD, in+"/f", unix.AT_FDCWD, in+"/"+[]string{"l", "p"}[i/2%2], unix.RENAME_EXCHANGE)
				}
			}
		}()
		answers := map[Errno]int{}
		rounds := need.Rounds(t, 3000, 100000)
		for i := 0; i < rounds || (answers[Success] == 0 || answers[Permission] == 0 || answers[Access] == 0) && i < 100*rounds; i++ {
			got, errno := read(d, "f")
			if errno == Success && got != "inside" {
				t.Fatalf("it read %q", got)
			}
			answers[errno]++
			_, f, _ := d.Open("f", OpenFlags{Write: true, Truncate: i%2 == 0})
			if f != nil {
				f.Write([]byte("inside"))
				f.Close()
			}
		}
		close(stop)
		<-stopped
		if answers[Success] == 0 || answers[Permission] == 0 || answers[Access] == 0 {
			t.Fatalf("the race did not happen: %v", answers)
		}
		if b, _ := os.ReadFile(base + "/secret"); string(b) != "secret" {
			t.Errorf("the secret is %q", b)
		}
	})
}

// WAS-12: FIFOs, sockets and devices in a grant are not opened; nothing waits
// and nobody on the other side notices.
func TestSpecialFiles(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		in := filepath.Join(base, "in")
		plant(t, in, "own=own", "tofifo->fifo")
		if err := unix.Mkfifo(in+"/fifo", 0o666); err != nil {
			t.Fatal(err)
		}
		listener, err := net.Listen("unix", in+"/socket")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		names := []string{"fifo", "tofifo", "socket"}
		if os.Geteuid() == 0 && unix.Mknod(in+"/device", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) == nil {
			names = append(names, "device")
		} else {
			t.Log("no device node can be made here")
		}
		v := impl.view(t, Config{Roots: []Root{root(t, "/in", in)}})
		d := v.at("/in")
		for _, name := range names {
			for _, o := range []OpenFlags{{Read: true}, {Write: true}, {Read: true, Write: true}, {Truncate: true}, {Write: true, Create: true}, {}} {
				o.Follow = true
				dir, f, errno := d.Open(name, o)
				if dir != nil || f != nil {
					t.Fatalf("%s was opened", name)
				}
				want(t, name, errno, Access)
			}
			if last := v.denied[len(v.denied)-1]; last.Reason != Special || last.Path != "/in/"+name {
				t.Errorf("%+v", last)
			}
		}
		if len(v.denied) != 6*len(names) {
			t.Errorf("%d denials of %d", len(v.denied), 6*len(names))
		}
		// The control: opened without waiting the FIFO is there, with nobody at the
		// other end.
		if _, err := unix.Open(in+"/fifo", unix.O_WRONLY|unix.O_NONBLOCK, 0); err != unix.ENXIO {
			t.Errorf("somebody reads the FIFO: %v", err)
		}
		if st, errno := d.Stat("fifo", false); errno != Success || st.Type != TypeUnknown {
			t.Errorf("%+v, %v", st, errno)
		}
		if st, errno := d.Stat("socket", false); errno != Success || st.Type != TypeSocket {
			t.Errorf("%+v, %v", st, errno)
		}
		want(t, "unlink", d.Unlink("fifo"), Success)
	})
}

// A grant of a path that is no file and no directory is refused.
func TestSpecialFileAsGrant(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		f := openFile(t, "/dev/null", os.O_RDWR)
		if _, err := impl.try(t, Config{Roots: []Root{{Path: "/dev/null", File: f, Read: true}}}); err == nil {
			t.Error("a device was granted")
		}
	})
}

// WAS-13: what the guest makes the host keep of directories is bounded.
func TestListingsAreBounded(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		for i := range 100 {
			plant(t, base, fmt.Sprintf("%0200d=", i))
		}
		v := impl.view(t, Config{Roots: []Root{root(t, "/in", base)}})
		a, b := v.at("/in"), v.at("/in")
		all, errno := a.ReadDir(0)
		if len(all) != 102 || errno != Success {
			t.Fatalf("%d entries, %v", len(all), errno)
		}
		one := v.listed
		if one < 100*200 {
			t.Errorf("%d bytes are accounted for", one)
		}
		for range 10 {
			a.ReadDir(0)
			a.ReadDir(50)
		}
		if v.listed != one {
			t.Errorf("read again it takes %d, not %d", v.listed, one)
		}
		v.listed += maxListed - one - 1000 // others hold the rest
		_, errno = b.ReadDir(0)
		want(t, "no room", errno, NoMemory)
		a.Close()
		v.listed -= maxListed - one - 1000
		if v.listed != 0 {
			t.Errorf("closed it takes %d", v.listed)
		}
		_, errno = b.ReadDir(0)
		want(t, "room again", errno, Success)
		if _, errno := b.ReadDir(1 << 63); errno != Invalid {
			t.Errorf("a cookie from nowhere: %v", errno)
		}
	})
}

// No call, refused or not, leaves a descriptor open.
func TestNoDescriptorIsLeft(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		plant(t, base, "in/a/b/c=c", "in/own=own", "in/a/up->../..", "in/loop->loop", "in/gone->nowhere", "in/deep->a/b")
		v := impl.view(t, Config{Roots: []Root{root(t, "/in", filepath.Join(base, "in"))}, CarveOuts: []string{"/in/none", "/in/a/none"}})
		d, _ := v.rootDir().openDirectory("in")
		count := func() int {
			list, err := os.ReadDir("/proc/self/fd")
			if err != nil {
				t.Fatal(err)
			}
			return len(list)
		}
		round := func() {
			for _, name := range []string{"a/b/c", "a/b", "deep/c", "loop/x", "gone", "a/up/x", "none/x", "a/none", "a/b/c/d", "nowhere/x",
				"a/../a/../../x", "own/", ".", "a/b/..", strings.Repeat("a/../", 100) + "own"} {
				for _, what := range []string{"read", "write", "stat", "lstat", "readlink", "mkdir", "link-to", "times"} {
					acts(d, name)[what]()
				}
			}
			d.ReadDir(0)
			d.Sync()
		}
		round()
		before := count()
		for range 20 {
			round()
		}
		if after := count(); after > before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
}

// A path that leads through many directories holds few descriptors, and one that
// leads too deep is refused.
func TestLongWays(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		plant(t, base, strings.Repeat("d/", 300), "own=own")
		v := impl.view(t, Config{Roots: []Root{root(t, "/in", base)}})
		d := v.at("/in")
		if got, errno := read(d, strings.Repeat("d/../", 800)+"own"); got != "own" {
			t.Errorf("%q, %v", got, errno)
		}
		w, err := d.walk(strings.Repeat("d/../", 800)+"d/own", nameOnly)
		if err != nil || len(w.way) != 2 {
			t.Errorf("%d directories are held, %v", len(w.way), err)
		}
		w.close()
		_, errno := d.Stat(strings.Repeat("d/", maxDepth-1)+"d", false)
		want(t, "as deep as may be", errno, Success)
		_, errno = d.Stat(strings.Repeat("d/", maxDepth)+"d", false)
		want(t, "deeper", errno, NameTooLong)
		_, errno = v.at("/in/"+strings.Repeat("d/", 200)).Stat(strings.Repeat("d/", 90)+"d", false)
		want(t, "deeper, in two steps", errno, Success)
	})
}

// A directory is itself when it, or what holds it, is moved while it is open:
// nothing is done to what has taken its place. Where the system moves names by
// path alone, moving and linking in it is refused.
func TestMovedWhileOpen(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		plant(t, base, "a/b/own=own", "a/b/old=old")
		v := impl.view(t, Config{Roots: []Root{root(t, "/in", base)}})
		d, b := v.at("/in"), v.at("/in/a/b")
		want(t, "rename what holds it", d.Rename("a", d, "c"), Success)
		plant(t, base, "a/b/own=decoy", "a/b/old=decoy") // by the host
		want(t, "write", write(b, "new", "guest"), Success)
		if got, errno := read(b, "own"); got != "own" {
			t.Errorf("%q, %v", got, errno)
		}
		want(t, "unlink", b.Unlink("own"), Success)
		moved := Success
		if impl.name == "os.Root" {
			moved = Stale
		}
		want(t, "rename", b.Rename("new", b, "newer"), moved)
		want(t, "link", b.Link("old", false, b, "older"), moved)
		should := []string{"./", "a/", "a/b/", "a/b/old=decoy", "a/b/own=decoy", "c/", "c/b/", "c/b/newer=guest", "c/b/old=old", "c/b/older=old"}
		if moved == Stale {
			should = []string{"./", "a/", "a/b/", "a/b/old=decoy", "a/b/own=decoy", "c/", "c/b/", "c/b/new=guest", "c/b/old=old"}
		}
		if got := tree(t, base); fmt.Sprint(got) != fmt.Sprint(should) {
			t.Errorf("%q, want %q", got, should)
		}
	})
}
