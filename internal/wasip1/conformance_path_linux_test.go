package wasip1

import (
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bvisor/bvisor/internal/wasmfs"
)

// badPaths are answered alike by every function that takes a path.
func badPaths(c *checker, call func(fd uint32, path string) wasmfs.Errno) {
	c.t.Helper()
	for _, b := range []struct {
		path string
		want wasmfs.Errno
	}{
		{"", wasmfs.NotFound},
		{"/absolute", wasmfs.Permission},
		{"..", wasmfs.Permission},
		{"../x", wasmfs.Permission},
		{"known/../../x", wasmfs.Permission},
		{"./known/.././../x", wasmfs.Permission},
		{"zero\x00byte", wasmfs.Invalid},
		{"\xff", wasmfs.IllegalByte},
		{strings.Repeat("x/", 2048), wasmfs.NameTooLong},
		{strings.Repeat("x", 300), wasmfs.NameTooLong},
		{"nowhere/x", wasmfs.NotFound},
		{"plain/x", wasmfs.NotDir},
		{"loop/x", wasmfs.Loop},
		{"out/x", wasmfs.Permission},
		{"abs/x", wasmfs.Permission},
	} {
		c.want(b.path, call(workFD, b.path), b.want)
	}
	c.want("closed", call(99, "x"), wasmfs.BadFile)
	plain, _ := c.open(workFD, "plain", 0, rightRead, 0)
	c.want("of a file", call(plain, "x"), wasmfs.NotDir)
	c.want("of a stream", call(1, "x"), wasmfs.NotDir)
	bare, _ := c.open(workFD, ".", openDirectory, 0, 0)
	c.want("without the right", call(bare, "x"), wasmfs.NotCapable)
}

// scene makes what badPaths and the cases look at.
func (c *checker) scene() {
	c.t.Helper()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(c.dir, "known/full/x"), 0o755),
		os.WriteFile(filepath.Join(c.dir, "plain"), []byte("plain"), 0o644),
		os.Symlink("loop", filepath.Join(c.dir, "loop")),
		os.Symlink("../..", filepath.Join(c.dir, "out")),
		os.Symlink("/", filepath.Join(c.dir, "abs")),
		os.Symlink("known", filepath.Join(c.dir, "link")),
		os.Symlink("plain", filepath.Join(c.dir, "toplain")),
		os.Symlink("nowhere", filepath.Join(c.dir, "dangling")),
	} {
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *checker) exists(name string) bool {
	_, err := os.Lstat(filepath.Join(c.dir, name))
	return err == nil
}

func mkdirCases(t *testing.T, c *checker) {
	c.scene()
	badPaths(c, c.mkdir)
	c.want("mkdir", c.mkdir(workFD, "new"), ok)
	c.want("with slashes", c.mkdir(workFD, "slashes//"), ok)
	c.want("through a link", c.mkdir(workFD, "link/new"), ok)
	c.want("with ..", c.mkdir(workFD, "known/../two"), ok)
	for _, name := range []string{"new", "plain", "link", "dangling", "loop", ".", "known/.."} {
		c.want("there is one: "+name, c.mkdir(workFD, name), wasmfs.Exists)
	}
	for _, name := range []string{"new", "slashes", "known/new", "two"} {
		if info, err := os.Stat(filepath.Join(c.dir, name)); err != nil || !info.IsDir() {
			t.Errorf("%s was not made: %v", name, err)
		}
	}
	if c.exists("nowhere") {
		t.Error("the link's target was made")
	}
	c.want("in the root of the view", c.mkdir(rootFD, "new"), wasmfs.Access)
	c.want("a grant", c.mkdir(rootFD, "tree"), wasmfs.Exists)
}

func rmdirCases(t *testing.T, c *checker) {
	c.scene()
	badPaths(c, c.rmdir)
	c.mkdir(workFD, "a")
	c.mkdir(workFD, "b")
	c.want("rmdir", c.rmdir(workFD, "a"), ok)
	c.want("with a slash", c.rmdir(workFD, "b/"), ok)
	c.want("not empty", c.rmdir(workFD, "known"), wasmfs.NotEmpty)
	c.want("a file", c.rmdir(workFD, "plain"), wasmfs.NotDir)
	c.want("a file with a slash", c.rmdir(workFD, "plain/"), wasmfs.NotDir)
	c.want("a link", c.rmdir(workFD, "link"), wasmfs.NotDir)
	c.want("a link with a slash", c.rmdir(workFD, "link/"), wasmfs.NotDir)
	c.want("nothing", c.rmdir(workFD, "nothing"), wasmfs.NotFound)
	c.want("itself", c.rmdir(workFD, "."), wasmfs.Invalid)
	c.want("a grant", c.rmdir(rootFD, "tree"), wasmfs.Busy)
	if c.exists("a") || c.exists("b") || !c.exists("known") || !c.exists("plain") {
		t.Error("the disk shows something else")
	}
}

func unlinkCases(t *testing.T, c *checker) {
	c.scene()
	badPaths(c, c.unlink)
	c.want("a link", c.unlink(workFD, "toplain"), ok)
	c.want("a link that leads nowhere", c.unlink(workFD, "dangling"), ok)
	c.want("a file with a slash", c.unlink(workFD, "plain/"), wasmfs.NotDir)
	if !c.exists("plain") {
		t.Error("the file went, too")
	}
	c.want("a file", c.unlink(workFD, "plain"), ok)
	c.want("again", c.unlink(workFD, "plain"), wasmfs.NotFound)
	c.want("a directory", c.unlink(workFD, "known"), wasmfs.IsDir)
	c.want("a directory with a slash", c.unlink(workFD, "known/"), wasmfs.IsDir)
	c.want("itself", c.unlink(workFD, "."), wasmfs.IsDir)
	if c.exists("toplain") || c.exists("plain") || !c.exists("known") {
		t.Error("the disk shows something else")
	}
}

func pathStatCases(t *testing.T, c *checker) {
	c.scene()
	badPaths(c, func(fd uint32, path string) wasmfs.Errno { _, e := c.stat(fd, lookupFollow, path); return e })
	for _, s := range []struct {
		look int
		path string
		typ  byte
		want wasmfs.Errno
	}{
		{0, "known", 3, ok}, {lookupFollow, "known", 3, ok}, {0, "known/", 3, ok}, {0, ".", 3, ok}, {0, "known/..", 3, ok},
		{0, "plain", 4, ok}, {lookupFollow, "toplain", 4, ok}, {0, "toplain", 7, ok}, {0, "link", 7, ok},
		{0, "link/", 3, ok}, {lookupFollow, "link", 3, ok}, {0, "dangling", 7, ok}, {0, "loop", 7, ok}, {0, "out", 7, ok}, {0, "abs", 7, ok},
		{lookupFollow, "dangling", 0, wasmfs.NotFound}, {lookupFollow, "loop", 0, wasmfs.Loop},
		{lookupFollow, "out", 0, wasmfs.Permission}, {lookupFollow, "abs", 0, wasmfs.Permission},
		{0, "plain/", 0, wasmfs.NotDir}, {0, "toplain/", 0, wasmfs.NotDir}, {0, "nothing", 0, wasmfs.NotFound},
		{2, "plain", 0, wasmfs.Invalid},
	} {
		st, errno := c.stat(workFD, s.look, s.path)
		c.want(s.path, errno, s.want)
		if errno == ok && st.filetype != s.typ {
			t.Errorf("%s is of type %d, want %d", s.path, st.filetype, s.typ)
		}
	}
	if st, _ := c.stat(workFD, 0, "toplain"); st.size != 5 {
		t.Errorf("a link to plain has size %d", st.size)
	}
	a, _ := c.stat(rootFD, 0, "tree")
	b, _ := c.stat(workFD, 0, ".")
	if a != b {
		t.Errorf("%+v is not %+v", a, b)
	}
}

func (c *checker) setTimes(fd uint32, look int, path string, mtim, flags int) wasmfs.Errno {
	return c.call("path_filestat_set_times", fd, look, c.put([]byte(path)), len(path), 0, mtim, flags)
}

func pathTimesCases(t *testing.T, c *checker) {
	c.scene()
	badPaths(c, func(fd uint32, path string) wasmfs.Errno { return c.setTimes(fd, lookupFollow, path, 1, setMtim) })
	c.want("a file", c.setTimes(workFD, 0, "plain", 1000, setMtim), ok)
	c.want("through a link", c.setTimes(workFD, lookupFollow, "link", 2000, setMtim), ok)
	c.want("a link itself", c.setTimes(workFD, 0, "dangling", 3000, setMtim), ok)
	c.want("itself", c.setTimes(workFD, 0, ".", 4000, setMtim), ok)
	for name, want := range map[string]int64{"plain": 1000, "known": 2000, "dangling": 3000, ".": 4000} {
		info, err := os.Lstat(filepath.Join(c.dir, name))
		if err != nil || info.ModTime().UnixNano() != want {
			t.Errorf("%s is of %v, %v", name, info.ModTime(), err)
		}
	}
	c.want("both ways", c.setTimes(workFD, 0, "plain", 1, setMtim|setMtimNow), wasmfs.Invalid)
	c.want("no such flag", c.setTimes(workFD, 0, "plain", 1, 16), wasmfs.Invalid)
	c.want("a link that leads nowhere", c.setTimes(workFD, lookupFollow, "dangling", 1, setMtim), wasmfs.NotFound)
	c.want("a file with a slash", c.setTimes(workFD, 0, "plain/", 1, setMtim), wasmfs.NotDir)
	c.want("the root of the view", c.setTimes(rootFD, 0, ".", 1, setMtim), wasmfs.ReadOnly)
}

func linkCases(t *testing.T, c *checker) {
	c.scene()
	badPaths(c, func(fd uint32, path string) wasmfs.Errno { return c.link(fd, 0, path, workFD, "fresh") })
	badPaths(c, func(fd uint32, path string) wasmfs.Errno { return c.link(workFD, 0, "plain", fd, path) })
	c.want("link", c.link(workFD, 0, "plain", workFD, "other"), ok)
	sub, _ := c.open(workFD, "known", openDirectory, dirRights, 0)
	c.want("to another directory", c.link(workFD, 0, "plain", sub, "other"), ok)
	if st, _ := c.stat(workFD, 0, "known/other"); st.nlink != 3 {
		t.Errorf("%+v", st)
	}
	c.want("a link itself", c.link(workFD, 0, "dangling", workFD, "dangling2"), ok)
	c.want("through a link", c.link(workFD, lookupFollow, "toplain", workFD, "followed"), ok)
	if target, err := os.Readlink(filepath.Join(c.dir, "dangling2")); target != "nowhere" {
		t.Errorf("%q, %v", target, err)
	}
	if info, err := os.Lstat(filepath.Join(c.dir, "followed")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("%v, %v", info, err)
	}
	for _, name := range []string{"other", "plain", "known", "dangling", "link", "."} {
		c.want("there is one: "+name, c.link(workFD, 0, "plain", workFD, name), wasmfs.Exists)
	}
	c.want("a directory", c.link(workFD, 0, "known", workFD, "fresh"), wasmfs.Permission)
	c.want("itself", c.link(workFD, 0, ".", workFD, "fresh"), wasmfs.Permission)
	c.want("nothing", c.link(workFD, 0, "nothing", workFD, "fresh"), wasmfs.NotFound)
	c.want("through a link that leads nowhere", c.link(workFD, lookupFollow, "dangling", workFD, "fresh"), wasmfs.NotFound)
	c.want("to a path with a slash", c.link(workFD, 0, "plain", workFD, "fresh/"), wasmfs.NotFound)
	c.want("from a path with a slash", c.link(workFD, 0, "plain/", workFD, "fresh"), wasmfs.NotDir)
	c.want("no such flag", c.link(workFD, 2, "plain", workFD, "fresh"), wasmfs.Invalid)
	if c.exists("fresh") {
		t.Error("a link was made that was refused")
	}
}

func symlinkCases(t *testing.T, c *checker) {
	c.scene()
	badPaths(c, func(fd uint32, path string) wasmfs.Errno { return c.symlink("target", fd, path) })
	c.want("symlink", c.symlink("known/full", workFD, "new"), ok)
	c.want("to nowhere", c.symlink("no/where", workFD, "new2"), ok)
	if target, _ := os.Readlink(filepath.Join(c.dir, "new")); target != "known/full" {
		t.Errorf("%q", target)
	}
	for _, name := range []string{"new", "plain", "known", "known/", "plain/", "dangling", "."} {
		c.want("there is one: "+name, c.symlink("x", workFD, name), wasmfs.Exists)
	}
	c.want("with a slash", c.symlink("x", workFD, "fresh/"), wasmfs.NotFound)
	c.want("to an absolute path", c.symlink("/x", workFD, "fresh"), wasmfs.Permission)
	c.want("to nothing", c.symlink("", workFD, "fresh"), wasmfs.NotFound)
	c.want("to what is no text", c.symlink("\xff", workFD, "fresh"), wasmfs.IllegalByte)
	if c.exists("fresh") {
		t.Error("a link was made that was refused")
	}
}

func readlinkCases(t *testing.T, c *checker) {
	c.scene()
	badPaths(c, func(fd uint32, path string) wasmfs.Errno { _, e := c.readlink(fd, path, 100); return e })
	for _, r := range []struct {
		path string
		size int
		want string
	}{{"link", 100, "known"}, {"link", 5, "known"}, {"link", 3, "kno"}, {"link", 0, ""}, {"out", 100, "../.."}, {"dangling", 100, "nowhere"}} {
		target, errno := c.readlink(workFD, r.path, r.size)
		c.want(r.path, errno, ok)
		if target != r.want {
			t.Errorf("%s, %d bytes: %q", r.path, r.size, target)
		}
	}
	for path, want := range map[string]wasmfs.Errno{"plain": wasmfs.Invalid, "known": wasmfs.Invalid, ".": wasmfs.Invalid,
		"nothing": wasmfs.NotFound, "abs": wasmfs.Permission, "plain/": wasmfs.NotDir} {
		_, errno := c.readlink(workFD, path, 100)
		c.want(path, errno, want)
	}
}

func renameCases(t *testing.T, c *checker) {
	c.scene()
	badPaths(c, func(fd uint32, path string) wasmfs.Errno { return c.rename(fd, path, workFD, "fresh") })
	badPaths(c, func(fd uint32, path string) wasmfs.Errno { return c.rename(workFD, "known", fd, path) })
	c.mkdir(workFD, "a")
	c.mkdir(workFD, "empty")
	c.file("f1", "1")
	c.file("f2", "2")
	c.want("a directory over a full one", c.rename(workFD, "a", workFD, "known"), wasmfs.NotEmpty)
	c.want("a directory over a file", c.rename(workFD, "a", workFD, "plain"), wasmfs.NotDir)
	c.want("a file over a directory", c.rename(workFD, "plain", workFD, "empty"), wasmfs.IsDir)
	c.want("a directory over an empty one", c.rename(workFD, "a", workFD, "empty"), ok)
	c.want("a directory with slashes", c.rename(workFD, "empty/", workFD, "moved/"), ok)
	c.want("a file over a file", c.rename(workFD, "f1", workFD, "f2"), ok)
	if c.content("f2") != "1" || c.exists("f1") {
		t.Error("the file was not put in the other's place")
	}
	c.want("a file with a slash", c.rename(workFD, "f2/", workFD, "f3"), wasmfs.NotDir)
	c.want("a file to a path with a slash", c.rename(workFD, "f2", workFD, "f3/"), wasmfs.NotDir)
	c.want("a directory into itself", c.rename(workFD, "known", workFD, "known/full/y"), wasmfs.Invalid)
	c.want("nothing", c.rename(workFD, "nothing", workFD, "x"), wasmfs.NotFound)
	c.want("itself", c.rename(workFD, ".", workFD, "x"), wasmfs.Busy)
	c.want("over itself", c.rename(workFD, "f2", workFD, "known/.."), wasmfs.Busy)
	c.want("a link", c.rename(workFD, "link", workFD, "link2"), ok)
	if target, _ := os.Readlink(filepath.Join(c.dir, "link2")); target != "known" {
		t.Errorf("%q", target)
	}
	sub, _ := c.open(workFD, "known", openDirectory, dirRights, 0)
	c.want("to another directory", c.rename(workFD, "f2", sub, "f2"), ok)
	c.want("under another name of the grant", c.rename(workFD, "plain", dotFD, "plain2"), ok)
	if !c.exists("known/f2") || !c.exists("plain2") {
		t.Error("the disk shows something else")
	}
	// A directory that is open stays itself when it is moved.
	c.want("a directory that is open", c.rename(workFD, "known", workFD, "elsewhere"), ok)
	c.want("and goes on", c.mkdir(sub, "made-after"), ok)
	if !c.exists("elsewhere/made-after") || c.exists("known") {
		t.Error("what was made through it is not in it")
	}
}

func openCases(t *testing.T, c *checker) {
	c.scene()
	badPaths(c, func(fd uint32, path string) wasmfs.Errno { _, e := c.open(fd, path, 0, rightRead, 0); return e })
	for _, o := range []struct {
		path         string
		look, oflags int
		base         rights
		want         wasmfs.Errno
	}{
		{"plain", 0, 0, rightRead, ok}, {"plain", 0, 0, 0, ok}, {"plain", 0, openCreate, rightRead, ok},
		{"known", 0, 0, 0, ok}, {"known", 0, openDirectory, rightRead, ok}, {".", 0, 0, dirRights, ok}, {"known//", 0, 0, 0, ok},
		{"known/.//full/../../known/full/..///x", 0, 0, 0, wasmfs.NotFound},
		{"known/.//full/../../known/full///x", 0, openDirectory, 0, ok},
		{"known", 0, 0, rightWrite, wasmfs.IsDir}, {"known", 0, openDirectory, readWrite, wasmfs.IsDir},
		{"known", 0, openTruncate, 0, wasmfs.IsDir}, {"known", 0, openCreate, 0, wasmfs.IsDir},
		{"known", 0, openCreate | openExclusive, 0, wasmfs.Exists}, {".", 0, openCreate | openExclusive, 0, wasmfs.Exists},
		{"plain", 0, openDirectory, 0, wasmfs.NotDir}, {"plain/", 0, 0, 0, wasmfs.NotDir}, {"plain///", 0, 0, 0, wasmfs.NotDir},
		{"plain", 0, openCreate | openExclusive, 0, wasmfs.Exists},
		{"new1", 0, openCreate | openDirectory, 0, wasmfs.Invalid}, {"new2/", 0, openCreate, 0, wasmfs.IsDir},
		{"link", 0, 0, 0, wasmfs.Loop}, {"link", 0, openDirectory, 0, wasmfs.Loop}, {"link", lookupFollow, openDirectory, 0, ok},
		{"toplain", lookupFollow, 0, rightRead, ok}, {"toplain", 0, 0, rightRead, wasmfs.Loop},
		{"toplain", lookupFollow, openDirectory, 0, wasmfs.NotDir}, {"dangling", 0, 0, 0, wasmfs.Loop},
		{"dangling", 0, openCreate, 0, wasmfs.Loop}, {"dangling", lookupFollow, 0, 0, wasmfs.NotFound},
		{"dangling", lookupFollow, openCreate | openExclusive, rightWrite, wasmfs.Exists},
		{"loop", lookupFollow, 0, 0, wasmfs.Loop}, {"out", lookupFollow, 0, 0, wasmfs.Permission}, {"abs", lookupFollow, 0, 0, wasmfs.Permission},
		{"nothing", 0, 0, 0, wasmfs.NotFound}, {"plain", 0, 16, 0, wasmfs.Invalid}, {"plain", 2, 0, 0, wasmfs.Invalid},
	} {
		fd, errno := c.openLook(workFD, o.look, o.path, o.oflags, o.base, 0)
		if errno != o.want {
			t.Errorf("%+v: %v", o, errno)
		}
		if errno == ok {
			c.call("fd_close", fd)
		}
	}
	if c.exists("new1") || c.exists("new2") || c.exists("nowhere") {
		t.Error("something was made that was refused")
	}
	_, errno := c.open(workFD, "dangling", openCreate, rightWrite, 0)
	c.want("through a link that leads nowhere", errno, ok)
	if !c.exists("nowhere") {
		t.Error("its target was not made")
	}
	_, errno = c.open(workFD, "plain", openTruncate, 0, 0)
	c.want("truncate without a right to write", errno, ok)
	if c.content("plain") != "" {
		t.Error("it was not cut")
	}
	_, errno = c.open(workFD, "plain", 0, 0, 32)
	c.want("no such fdflag", errno, wasmfs.Invalid)
	_, errno = c.open(workFD, ".", 0, 0, flagNonblock)
	c.want("a directory with nonblock", errno, ok)
	// Flags that write through need the right to do so, of those passed on.
	narrow := c.room(4)
	c.want("a narrow directory", c.call("path_open", workFD, 0, c.put([]byte(".")), 1, openDirectory,
		rightOpen|rightCreateFile, rightRead|rightWrite|rightSync, 0, narrow), ok)
	for _, f := range []struct {
		flags int
		want  wasmfs.Errno
	}{{flagAppend | flagSync, ok}, {flagRsync, ok}, {flagDsync, wasmfs.NotCapable}} {
		_, errno := c.open(c.u32(narrow), "narrow", openCreate, rightRead|rightWrite, f.flags)
		c.want("with flags that write through", errno, f.want)
	}
	// Rights that do not apply to what is opened are left out.
	fd, errno := c.open(workFD, "plain", 0, allRights, 0)
	c.want("all rights", errno, ok)
	if _, _, base, _, _ := c.fdstat(fd); base != fileRights {
		t.Errorf("a file has %#x", base)
	}
	fd, _ = c.open(workFD, "known", 0, allRights&^rightWrite, 0)
	if _, _, base, inheriting, _ := c.fdstat(fd); base != dirRights || inheriting != dirRights|fileRights {
		t.Errorf("a directory has %#x and passes on %#x", base, inheriting)
	}
	g := newGuestHandles(t, c.dir, 8)
	for i := range 2 {
		if fd, errno := g.open(workFD, ".", 0, 0, 0); errno != ok || fd != uint32(6+i) {
			t.Fatalf("%d, %v", fd, errno)
		}
	}
	_, errno = g.open(workFD, "too-many", openCreate, rightWrite, 0)
	c.want("one too many", errno, wasmfs.ManyFiles)
	if c.exists("too-many") {
		t.Error("it was made all the same")
	}
}

func newGuestHandles(t *testing.T, dir string, handles int) *guest {
	t.Helper()
	files, err := wasmfs.New(wasmfs.Config{Roots: []wasmfs.Root{{Path: "/tree", File: opened(t, dir), Read: true, Write: true}}, Dir: "/tree"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(files.Close)
	return newGuest(t, Config{FS: files, Handles: handles})
}

// Subscriptions and events of poll_oneoff.

func clockSub(userdata uint64, d time.Duration, flags uint16) []byte {
	b := make([]byte, subscriptionSize)
	binary.LittleEndian.PutUint64(b, userdata)
	binary.LittleEndian.PutUint32(b[16:], 1)
	binary.LittleEndian.PutUint64(b[24:], uint64(d))
	binary.LittleEndian.PutUint16(b[40:], flags)
	return b
}

func fdSub(userdata uint64, kind byte, fd uint32) []byte {
	b := make([]byte, subscriptionSize)
	binary.LittleEndian.PutUint64(b, userdata)
	b[8] = kind
	binary.LittleEndian.PutUint32(b[16:], fd)
	return b
}

type event struct {
	userdata uint64
	errno    wasmfs.Errno
	kind     byte
	nbytes   uint64
	flags    uint16
}

func (g *guest) poll(subs ...[]byte) ([]event, wasmfs.Errno) {
	g.t.Helper()
	var in []byte
	for _, s := range subs {
		in = append(in, s...)
	}
	out, result := g.room(eventSize*len(subs)), g.room(4)
	errno := g.call("poll_oneoff", g.put(in), out, len(subs), result)
	var events []event
	if errno == ok {
		for i := range g.u32(result) {
			b := g.bytes(out+i*eventSize, eventSize)
			events = append(events, event{binary.LittleEndian.Uint64(b), wasmfs.Errno(binary.LittleEndian.Uint16(b[8:])), b[10],
				binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint16(b[24:])})
		}
	}
	return events, errno
}

func pollCases(t *testing.T, _ *checker) {
	in, feed := io.Pipe()
	defer feed.Close()
	now := func() uint64 { return 1000 }
	g := newGuest(t, Config{Stdin: in, Monotonic: now})
	c := &checker{guest: g}
	single := func(what string, want event, subs ...[]byte) {
		t.Helper()
		events, errno := g.poll(subs...)
		c.want(what, errno, ok)
		if len(events) != 1 || events[0] != want {
			t.Errorf("%s: %+v, want %+v", what, events, want)
		}
	}
	single("a timer", event{userdata: 7}, clockSub(7, time.Millisecond, 0))
	single("a timer of no time", event{userdata: 7}, clockSub(7, 0, 0), clockSub(8, time.Hour, 0))
	single("the shorter of two", event{userdata: 8}, clockSub(7, time.Hour, 0), clockSub(8, time.Millisecond, 0))
	single("a time that has passed", event{userdata: 7}, clockSub(7, 500, clockAbsolute))
	single("a time that comes", event{userdata: 7}, clockSub(7, 2000, clockAbsolute))
	single("output can be written", event{userdata: 9, kind: eventWrite, nbytes: maxChunk}, clockSub(7, time.Hour, 0), fdSub(9, eventWrite, 1))
	single("input that does not come, and a timer", event{userdata: 7}, fdSub(9, eventRead, 0), clockSub(7, time.Millisecond, 0))
	c.call("fd_fdstat_set_flags", 0, flagNonblock)
	_, errno := g.read(0, 10)
	c.want("input that has not come, without waiting", errno, wasmfs.Again)
	go feed.Write([]byte("abc"))
	single("input that comes", event{userdata: 9, kind: eventRead, nbytes: 3}, fdSub(9, eventRead, 0), clockSub(7, time.Hour, 0))
	if got, errno := g.read(0, 10); got != "abc" || errno != ok {
		t.Errorf("%q, %v", got, errno)
	}
	go feed.Close()
	single("input that ends", event{userdata: 9, kind: eventRead, flags: eventHangup}, fdSub(9, eventRead, 0))
	single("a closed descriptor", event{userdata: 9, kind: eventRead, errno: wasmfs.BadFile}, fdSub(9, eventRead, 99), clockSub(7, time.Hour, 0))
	single("read what is for writing", event{userdata: 9, kind: eventRead, errno: wasmfs.BadFile}, fdSub(9, eventRead, 1))
	single("write what is for reading", event{userdata: 9, kind: eventWrite, errno: wasmfs.BadFile}, fdSub(9, eventWrite, 0))
	wrong := clockSub(7, 0, 0)
	wrong[16] = 0
	single("a clock that does not exist", event{userdata: 7, errno: wasmfs.Invalid}, wrong)
	single("no such flag", event{userdata: 7, errno: wasmfs.Invalid}, clockSub(7, 0, 2))
	_, errno = g.poll(fdSub(1, 3, 0))
	c.want("no such event", errno, wasmfs.Invalid)
	c.want("nothing", g.call("poll_oneoff", 0, 0, 0, g.room(4)), wasmfs.Invalid)
	c.want("too many", g.call("poll_oneoff", 0, 0, 1<<30, g.room(4)), wasmfs.Invalid)
	c.want("beyond the memory", g.call("poll_oneoff", memorySize-10, 0, 1, g.room(4)), wasmfs.Fault)
	both, errno := g.poll(fdSub(1, eventWrite, 1), fdSub(2, eventWrite, 2), clockSub(3, time.Hour, 0))
	c.want("two at once", errno, ok)
	if len(both) != 2 {
		t.Errorf("%+v", both)
	}

	files, dir := work(t, wasmfs.Config{})
	f := (&checker{files, dir}).file("f", "four")
	events, _ := files.poll(fdSub(1, eventRead, f))
	if len(events) != 1 || events[0].nbytes != 4 || events[0].errno != ok {
		t.Errorf("a file: %+v", events)
	}
	if events, _ = files.poll(fdSub(1, eventRead, workFD)); len(events) != 1 || events[0].errno != wasmfs.IsDir {
		t.Errorf("a directory: %+v", events)
	}
}

// Who polls again and again without waiting sees input some time.
func TestPollWithoutWaiting(t *testing.T) {
	g := newGuest(t, Config{Stdin: strings.NewReader("x"), Monotonic: func() uint64 { return 0 }})
	for {
		events, errno := g.poll(fdSub(1, eventRead, 0), clockSub(2, 0, 0))
		if errno != ok {
			t.Fatal(errno)
		}
		if slices.ContainsFunc(events, func(e event) bool { return e.userdata == 1 }) {
			return
		}
		runtime.Gosched()
	}
}

// With clocks that are not the world's nothing depends on when input comes.
func TestVirtualTime(t *testing.T) {
	in, feed := io.Pipe()
	var slept time.Duration
	g := newGuest(t, Config{Stdin: in, Monotonic: func() uint64 { return uint64(slept) },
		Sleep: func(_ context.Context, d time.Duration) { slept += d }})
	if events, _ := g.poll(clockSub(1, 1000*time.Hour, 0)); len(events) != 1 || slept != 1000*time.Hour {
		t.Errorf("%+v after %v", events, slept)
	}
	g.call("fd_fdstat_set_flags", 0, flagNonblock)
	go func() {
		runtime.Gosched()
		feed.Write([]byte("abc"))
	}()
	events, _ := g.poll(fdSub(2, eventRead, 0), clockSub(1, time.Nanosecond, 0))
	if len(events) != 1 || events[0].userdata != 2 {
		t.Errorf("%+v", events)
	}
	g.read(0, 3)
	go feed.Write([]byte("def"))
	if got, errno := g.read(0, 3); got != "def" || errno != ok {
		t.Errorf("%q, %v", got, errno)
	}
}
