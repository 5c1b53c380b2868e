package wasip1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero/sys"

	"github.com/bvisor/bvisor/internal/wasmfs"
)

// Descriptors of a guest made by work: 3 is the working directory, 4 the root
// of the view, 5 the working directory again, as ".".
const (
	workFD = 3
	rootFD = 4
	dotFD  = 5
	free   = 6
)

const readWrite = rightRead | rightWrite | rightSeek | rightTell | rightStat | rightSetSize | rightSetTimes |
	rightAllocate | rightSetFlags | rightAdvise | rightSync | rightDatasync | rightPoll

// cases are the errnos of one function each. A function without a case fails
// TestEveryFunctionHasACase.
var cases = map[string]func(t *testing.T, c *checker){
	"args_get":                argsCases,
	"args_sizes_get":          argsCases,
	"environ_get":             environCases,
	"environ_sizes_get":       environCases,
	"clock_res_get":           clockCases,
	"clock_time_get":          clockCases,
	"fd_advise":               adviseCases,
	"fd_allocate":             allocateCases,
	"fd_close":                closeCases,
	"fd_datasync":             syncCases,
	"fd_fdstat_get":           fdstatCases,
	"fd_fdstat_set_flags":     flagCases,
	"fd_fdstat_set_rights":    rightsCases,
	"fd_filestat_get":         filestatCases,
	"fd_filestat_set_size":    setSizeCases,
	"fd_filestat_set_times":   setTimesCases,
	"fd_pread":                preadCases,
	"fd_prestat_get":          prestatCases,
	"fd_prestat_dir_name":     prestatCases,
	"fd_pwrite":               pwriteCases,
	"fd_read":                 readCases,
	"fd_readdir":              readdirCases,
	"fd_renumber":             renumberCases,
	"fd_seek":                 seekCases,
	"fd_sync":                 syncCases,
	"fd_tell":                 seekCases,
	"fd_write":                writeCases,
	"path_create_directory":   mkdirCases,
	"path_filestat_get":       pathStatCases,
	"path_filestat_set_times": pathTimesCases,
	"path_link":               linkCases,
	"path_open":               openCases,
	"path_readlink":           readlinkCases,
	"path_remove_directory":   rmdirCases,
	"path_rename":             renameCases,
	"path_symlink":            symlinkCases,
	"path_unlink_file":        unlinkCases,
	"poll_oneoff":             pollCases,
	"proc_exit":               exitCases,
	"proc_raise":              raiseCases,
	"random_get":              randomCases,
	"sched_yield":             yieldCases,
	"sock_accept":             socketCases,
	"sock_recv":               socketCases,
	"sock_send":               socketCases,
	"sock_shutdown":           socketCases,
}

// checker asserts on errnos.
type checker struct {
	*guest
	dir string // what is granted at /tree
}

func (c *checker) want(what string, got, want wasmfs.Errno) {
	c.t.Helper()
	if got != want {
		c.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// file opens a file that holds data.
func (c *checker) file(name, data string) uint32 {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(data), 0o644); err != nil {
		c.t.Fatal(err)
	}
	fd, errno := c.open(workFD, name, 0, readWrite, 0)
	if errno != ok {
		c.t.Fatalf("open %s: %v", name, errno)
	}
	return fd
}

func (c *checker) content(name string) string {
	b, err := os.ReadFile(filepath.Join(c.dir, name))
	if err != nil {
		c.t.Error(err)
	}
	return string(b)
}

func TestConformance(t *testing.T) {
	for name, run := range cases {
		t.Run(name, func(t *testing.T) {
			g, dir := work(t, wasmfs.Config{})
			run(t, &checker{g, dir})
		})
	}
}

func TestEveryFunctionHasACase(t *testing.T) {
	names := []string{"proc_exit"}
	for _, f := range functions {
		names = append(names, f.name)
	}
	for _, n := range names {
		if cases[n] == nil {
			t.Errorf("%s has no case", n)
		}
		if _, _, ok := Signature(n); !ok {
			t.Errorf("%s has no signature", n)
		}
	}
	if len(names) != len(cases) {
		t.Errorf("%d functions, %d cases", len(names), len(cases))
	}
	if _, _, ok := Signature("fd_dup"); ok {
		t.Error("fd_dup, which preview 1 does not have, has a signature")
	}
}

// Results that lie outside of the guest's memory are faults, and nothing has
// happened when a call answers so.
func TestFaultsComeBeforeEffects(t *testing.T) {
	g, dir := work(t, wasmfs.Config{})
	c := &checker{g, dir}
	fd := c.file("f", "content")
	const out = memorySize - 3
	in, n := g.vec(g.room(4), 4)
	name := g.put([]byte("new"))
	for what, errno := range map[string]wasmfs.Errno{
		"path_open":         g.call("path_open", workFD, 0, name, 3, openCreate, readWrite, 0, 0, out),
		"fd_write":          g.call("fd_write", fd, in, n, out),
		"fd_pwrite":         g.call("fd_pwrite", fd, in, n, 0, out),
		"fd_read":           g.call("fd_read", fd, in, n, out),
		"fd_seek":           g.call("fd_seek", fd, 3, 0, out),
		"fd_readdir":        g.call("fd_readdir", workFD, g.room(64), 64, 0, out),
		"path_readlink":     g.call("path_readlink", workFD, name, 3, g.room(4), 4, out),
		"path_filestat_get": g.call("path_filestat_get", workFD, 0, name, 3, out),
		"fd_filestat_get":   g.call("fd_filestat_get", fd, out),
		"fd_fdstat_get":     g.call("fd_fdstat_get", fd, out),
		"fd_prestat_get":    g.call("fd_prestat_get", workFD, out),
		"path":              g.call("path_create_directory", workFD, out, 100),
		"vectors":           g.call("fd_write", fd, out, 1, g.room(4)),
	} {
		c.want(what, errno, wasmfs.Fault)
	}
	bad, n := g.vec(out, 100)
	c.want("vector", g.call("fd_write", fd, bad, n, g.room(4)), wasmfs.Fault)
	c.want("a length that wraps", g.call("fd_write", fd, in, 0x20000001, g.room(4)), wasmfs.Invalid)
	if entries, _ := os.ReadDir(dir); len(entries) != 1 || c.content("f") != "content" {
		t.Error("a call that answered fault has done something")
	}
	if pos, _ := g.seek(fd, 0, 1); pos != 0 {
		t.Errorf("the position is %d", pos)
	}
}

func argsCases(t *testing.T, _ *checker) { stringCases(t, "args", []string{"prog", "", "größe"}) }

func environCases(t *testing.T, _ *checker) { stringCases(t, "environ", []string{"A=1", "B="}) }

func stringCases(t *testing.T, what string, list []string) {
	g := newGuest(t, Config{Args: list, Env: list})
	c := &checker{guest: g}
	count, size := g.room(4), g.room(4)
	c.want("sizes", g.call(what+"_sizes_get", count, size), ok)
	want := strings.Join(list, "\x00") + "\x00"
	if int(g.u32(count)) != len(list) || int(g.u32(size)) != len(want) {
		t.Fatalf("%d strings of %d bytes", g.u32(count), g.u32(size))
	}
	heads, body := g.room(4*len(list)), g.room(len(want))
	c.want("get", g.call(what+"_get", heads, body), ok)
	if got := string(g.bytes(body, uint32(len(want)))); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for i, s := range list {
		if at := g.u32(heads + uint32(4*i)); string(g.bytes(at, uint32(len(s)))) != s {
			t.Errorf("string %d is not %q", i, s)
		}
	}
	c.want("sizes beyond the memory", g.call(what+"_sizes_get", count, memorySize-3), wasmfs.Fault)
	c.want("pointers beyond the memory", g.call(what+"_get", memorySize-3, body), wasmfs.Fault)
	c.want("strings beyond the memory", g.call(what+"_get", heads, memorySize-3), wasmfs.Fault)
	none := newGuest(t, Config{})
	c.want("none at all", none.call(what+"_get", memorySize, memorySize), ok)
}

func TestStringsWithAZeroByteAreRefused(t *testing.T) {
	for _, c := range []Config{{Args: []string{"a\x00b"}}, {Env: []string{"A=a\x00b"}}} {
		if _, err := New(c); err == nil {
			t.Errorf("%q became a guest's", append(c.Args, c.Env...))
		}
	}
}

func clockCases(t *testing.T, c *checker) {
	out := c.room(8)
	for id := range 4 {
		c.want("a clock that does not exist", c.call("clock_time_get", id, 0, out), wasmfs.Invalid)
		c.want("resolution of a clock that does not exist", c.call("clock_res_get", id, out), wasmfs.Invalid)
	}
	g := newGuest(t, Config{Realtime: func() uint64 { return 7 }, Monotonic: func() uint64 { return 8 }, Resolution: 100})
	out = g.room(8)
	for id, want := range []uint64{7, 8} {
		c.want("time", g.call("clock_time_get", id, 0, out), ok)
		if g.u64(out) != want {
			t.Errorf("clock %d shows %d", id, g.u64(out))
		}
		c.want("resolution", g.call("clock_res_get", id, out), ok)
		if g.u64(out) != 100 {
			t.Errorf("the resolution is %d", g.u64(out))
		}
	}
	for _, id := range []int{2, 3, 4} { // CPU time of process and thread, and nothing
		c.want("another clock", g.call("clock_time_get", id, 0, out), wasmfs.Invalid)
	}
	c.want("time beyond the memory", g.call("clock_time_get", 0, 0, memorySize-7), wasmfs.Fault)
	only := newGuest(t, Config{Monotonic: func() uint64 { return 8 }})
	c.want("the other clock alone", only.call("clock_time_get", 0, 0, out), wasmfs.Invalid)
}

func adviseCases(_ *testing.T, c *checker) {
	fd := c.file("f", "x")
	for advice := range 6 {
		c.want("advice", c.call("fd_advise", fd, 0, 100, advice), ok)
	}
	c.want("no such advice", c.call("fd_advise", fd, 0, 0, 6), wasmfs.Invalid)
	c.want("a negative offset", c.call("fd_advise", fd, -1, 0, 0), wasmfs.Invalid)
	c.want("a negative length", c.call("fd_advise", fd, 0, -1, 0), wasmfs.Invalid)
	c.want("of a directory", c.call("fd_advise", workFD, 0, 0, 0), wasmfs.IsDir)
	c.want("of a stream", c.call("fd_advise", 1, 0, 0, 0), wasmfs.NoSeek)
	c.want("closed", c.call("fd_advise", 99, 0, 0, 0), wasmfs.BadFile)
}

func allocateCases(t *testing.T, c *checker) {
	fd := c.file("f", "")
	for _, step := range []struct{ off, size, want int }{{0, 100, 100}, {10, 10, 100}, {90, 20, 110}} {
		c.want("allocate", c.call("fd_allocate", fd, step.off, step.size), ok)
		if st, _ := c.fstat(fd); st.size != uint64(step.want) {
			t.Errorf("after %+v the size is %d", step, st.size)
		}
	}
	c.want("nothing", c.call("fd_allocate", fd, 0, 0), wasmfs.Invalid)
	c.want("more than there can be", c.call("fd_allocate", fd, 1, int64(-1)), wasmfs.FileTooBig)
	c.want("of a directory", c.call("fd_allocate", workFD, 0, 1), wasmfs.IsDir)
	c.want("of a stream", c.call("fd_allocate", 1, 0, 1), wasmfs.NoSeek)
	c.want("closed", c.call("fd_allocate", 99, 0, 1), wasmfs.BadFile)
	r, _ := c.open(workFD, "f", 0, rightRead|rightAllocate, 0)
	c.want("opened for reading", c.call("fd_allocate", r, 0, 1000), wasmfs.NotCapable)
}

func closeCases(_ *testing.T, c *checker) {
	fd := c.file("f", "")
	c.want("close", c.call("fd_close", fd), ok)
	c.want("close again", c.call("fd_close", fd), wasmfs.BadFile)
	c.want("never open", c.call("fd_close", 1<<31), wasmfs.BadFile)
	c.want("minus one", c.call("fd_close", -1), wasmfs.BadFile)
	c.want("a directory that was open from the start", c.call("fd_close", workFD), ok)
	c.want("and now", c.mkdir(workFD, "d"), wasmfs.BadFile)
	c.want("the others stay", c.mkdir(dotFD, "d"), ok)
	c.want("a stream", c.call("fd_close", 0), ok)
	if again, errno := c.open(dotFD, "f", 0, rightRead, 0); errno != ok || again != 0 {
		c.t.Errorf("the lowest number is not given out again: %d, %v", again, errno)
	}
}

func syncCases(_ *testing.T, c *checker) {
	fd := c.file("f", "")
	for _, call := range []string{"fd_sync", "fd_datasync"} {
		c.want(call, c.call(call, fd), ok)
		c.want(call+" of a directory", c.call(call, workFD), ok)
		c.want(call+" of a stream", c.call(call, 1), wasmfs.Invalid)
		c.want(call+" of what is closed", c.call(call, 99), wasmfs.BadFile)
	}
	bare, _ := c.open(workFD, "f", 0, rightRead, 0)
	c.want("without the right", c.call("fd_sync", bare), wasmfs.NotCapable)
}

func fdstatCases(t *testing.T, c *checker) {
	for _, want := range []struct {
		fd      uint32
		typ     byte
		has, no rights
	}{
		{0, 0, rightRead | rightPoll, rightWrite | rightSeek | rightTell},
		{1, 0, rightWrite | rightPoll, rightRead | rightSeek | rightTell},
		{2, 0, rightWrite | rightPoll, rightRead | rightSeek | rightTell},
		{workFD, 3, dirRights, rightRead | rightWrite | rightSeek | rightSetSize},
		{rootFD, 3, dirRights, rightRead | rightWrite | rightSeek},
		{c.file("f", ""), 4, readWrite, rightReaddir | rightOpen},
	} {
		typ, flags, base, inheriting, errno := c.fdstat(want.fd)
		c.want("fdstat", errno, ok)
		if typ != want.typ || flags != 0 || base&want.has != want.has || base&want.no != 0 {
			t.Errorf("%d: type %d, flags %d, rights %#x", want.fd, typ, flags, base)
		}
		if typ == 3 && inheriting != dirRights|fileRights || typ != 3 && inheriting != 0 {
			t.Errorf("%d: passes on %#x", want.fd, inheriting)
		}
	}
	fd, _ := c.open(workFD, "f", 0, rightWrite, flagAppend|flagDsync|flagRsync|flagSync|flagNonblock)
	if _, flags, _, _, _ := c.fdstat(fd); flags != allFlags {
		t.Errorf("opened with all flags, has %#x", flags)
	}
	c.want("closed", c.call("fd_fdstat_get", 99, c.room(24)), wasmfs.BadFile)
}

func flagCases(t *testing.T, c *checker) {
	fd, errno := c.open(workFD, "f", openCreate, readWrite, flagAppend)
	c.want("open", errno, ok)
	c.write(fd, "one")
	c.seek(fd, 0, 0)
	c.write(fd, "two")
	c.want("append off", c.call("fd_fdstat_set_flags", fd, 0), ok)
	c.seek(fd, 0, 0)
	c.write(fd, "ONE")
	c.want("append on", c.call("fd_fdstat_set_flags", fd, flagAppend), ok)
	c.seek(fd, 0, 0)
	c.write(fd, "three")
	if got := c.content("f"); got != "ONEtwothree" {
		t.Errorf("the file holds %q", got)
	}
	c.want("all", c.call("fd_fdstat_set_flags", fd, allFlags), ok)
	if _, flags, _, _, _ := c.fdstat(fd); flags != allFlags {
		t.Errorf("flags are %#x", flags)
	}
	c.want("no such flag", c.call("fd_fdstat_set_flags", fd, 32), wasmfs.Invalid)
	c.want("nonblock of a stream", c.call("fd_fdstat_set_flags", 0, flagNonblock), ok)
	if _, flags, _, _, _ := c.fdstat(0); flags != flagNonblock {
		t.Errorf("flags of the stream are %#x", flags)
	}
	c.want("append of a stream", c.call("fd_fdstat_set_flags", 1, flagAppend), wasmfs.Invalid)
	c.want("append of a directory", c.call("fd_fdstat_set_flags", workFD, flagAppend), wasmfs.Invalid)
	c.want("closed", c.call("fd_fdstat_set_flags", 99, 0), wasmfs.BadFile)
	bare, _ := c.open(workFD, "f", 0, rightRead, 0)
	c.want("without the right", c.call("fd_fdstat_set_flags", bare, 0), wasmfs.NotCapable)
}

func rightsCases(t *testing.T, c *checker) {
	fd := c.file("f", "abc")
	_, _, base, _, _ := c.fdstat(fd)
	c.want("give up", c.call("fd_fdstat_set_rights", fd, base&^(rightRead|rightWrite), 0), ok)
	_, errno := c.read(fd, 1)
	c.want("read", errno, wasmfs.NotCapable)
	_, errno = c.write(fd, "x")
	c.want("write", errno, wasmfs.NotCapable)
	c.want("take back", c.call("fd_fdstat_set_rights", fd, base, 0), wasmfs.NotCapable)
	c.want("pass on more", c.call("fd_fdstat_set_rights", workFD, dirRights, rights(allRights)), wasmfs.NotCapable)

	c.want("keep from truncating", c.call("fd_fdstat_set_rights", workFD, dirRights&^rightPathSetSize, dirRights|fileRights), ok)
	_, errno = c.open(workFD, "f", openTruncate, 0, 0)
	c.want("truncate", errno, wasmfs.NotCapable)
	c.want("keep from writing", c.call("fd_fdstat_set_rights", workFD, dirRights&^(rightPathSetSize|rightCreateDirectory), (dirRights|fileRights)&^rightWrite), ok)
	_, errno = c.open(workFD, "f", 0, rightWrite, 0)
	c.want("open for writing", errno, wasmfs.NotCapable)
	_, errno = c.open(workFD, "new", openCreate, rightWrite, 0)
	c.want("create for writing", errno, wasmfs.NotCapable)
	if _, err := os.Stat(filepath.Join(c.dir, "new")); err == nil {
		t.Error("it was created all the same")
	}
	c.want("mkdir", c.mkdir(workFD, "d"), wasmfs.NotCapable)
	os.Mkdir(filepath.Join(c.dir, "sub"), 0o755)
	sub, errno := c.open(workFD, "sub", openDirectory, dirRights&^(rightPathSetSize|rightCreateDirectory), 0)
	c.want("open below", errno, ok)
	_, errno = c.open(sub, "new", openCreate, rightWrite, 0)
	c.want("create for writing below", errno, wasmfs.NotCapable)
	if c.content("f") != "abc" {
		t.Errorf("the file holds %q", c.content("f"))
	}
	c.want("closed", c.call("fd_fdstat_set_rights", 99, 0, 0), wasmfs.BadFile)
}

func filestatCases(t *testing.T, c *checker) {
	fd := c.file("f", "four")
	if err := os.Link(filepath.Join(c.dir, "f"), filepath.Join(c.dir, "g")); err != nil {
		t.Fatal(err)
	}
	st, errno := c.fstat(fd)
	c.want("file", errno, ok)
	named, _ := c.stat(workFD, 0, "g")
	if st.filetype != 4 || st.size != 4 || st.nlink != 2 || st.ino == 0 || st != named {
		t.Errorf("%+v, by its other name %+v", st, named)
	}
	d, errno := c.fstat(workFD)
	c.want("directory", errno, ok)
	if d.filetype != 3 {
		t.Errorf("%+v", d)
	}
	for fd := range uint32(3) {
		st, errno := c.fstat(fd)
		c.want("stream", errno, ok)
		if st.filetype != 0 {
			t.Errorf("stream %d: %+v", fd, st)
		}
	}
	c.want("closed", c.call("fd_filestat_get", 99, c.room(64)), wasmfs.BadFile)
	bare, _ := c.open(workFD, "f", 0, rightRead, 0)
	_, errno = c.fstat(bare)
	c.want("without the right", errno, wasmfs.NotCapable)
}

// Without the world's clock files do not tell the time either.
func TestHiddenTimes(t *testing.T) {
	for _, hidden := range []bool{false, true} {
		files, err := wasmfs.New(wasmfs.Config{Dir: "/tree", Roots: []wasmfs.Root{{Path: "/tree", File: opened(t, t.TempDir()), Read: true, Write: true}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(files.Close)
		g := newGuest(t, Config{FS: files, HideTimes: hidden})
		fd, _ := g.open(workFD, "f", openCreate, readWrite, 0)
		byFD, _ := g.fstat(fd)
		byPath, _ := g.stat(workFD, 0, "f")
		dir, _ := g.fstat(workFD)
		for _, st := range []filestat{byFD, byPath, dir} {
			if st.nlink == 0 || hidden != (st.atim == 0) || hidden != (st.mti == 0) {
				t.Errorf("hidden=%v: %+v", hidden, st)
			}
		}
	}
}

func setSizeCases(t *testing.T, c *checker) {
	fd := c.file("f", "abcdef")
	c.want("shorter", c.call("fd_filestat_set_size", fd, 3), ok)
	c.want("longer", c.call("fd_filestat_set_size", fd, 5), ok)
	if got := c.content("f"); got != "abc\x00\x00" {
		t.Errorf("the file holds %q", got)
	}
	c.want("too long", c.call("fd_filestat_set_size", fd, int64(-1)), wasmfs.FileTooBig)
	c.want("of a directory", c.call("fd_filestat_set_size", workFD, 0), wasmfs.IsDir)
	c.want("of a stream", c.call("fd_filestat_set_size", 1, 0), wasmfs.NoSeek)
	c.want("closed", c.call("fd_filestat_set_size", 99, 0), wasmfs.BadFile)
	r, _ := c.open(workFD, "f", 0, rightRead|rightSetSize, 0)
	c.want("opened for reading", c.call("fd_filestat_set_size", r, 0), wasmfs.NotCapable)
	a, _ := c.open(workFD, "f", 0, rightRead|rightSetSize|rightSetFlags, flagAppend)
	c.want("opened for reading, with append", c.call("fd_filestat_set_size", a, 0), wasmfs.NotCapable)
	if len(c.content("f")) != 5 {
		t.Error("it was cut all the same")
	}
}

func setTimesCases(t *testing.T, c *checker) {
	fd := c.file("f", "")
	before, _ := c.fstat(fd)
	c.want("mtim", c.call("fd_filestat_set_times", fd, 5, 1_500_000_000_123_456_789, setMtim), ok)
	st, _ := c.fstat(fd)
	if st.mti != 1_500_000_000_123_456_789 || st.atim != before.atim {
		t.Errorf("%+v", st)
	}
	c.want("both", c.call("fd_filestat_set_times", fd, 1000, 2000, setAtim|setMtim), ok)
	if st, _ = c.fstat(fd); st.atim != 1000 || st.mti != 2000 {
		t.Errorf("%+v", st)
	}
	c.want("now", c.call("fd_filestat_set_times", fd, 0, 0, setMtimNow), ok)
	if st, _ = c.fstat(fd); st.atim != 1000 || st.mti < before.mti {
		t.Errorf("%+v", st)
	}
	c.want("a directory", c.call("fd_filestat_set_times", workFD, 0, 3000, setMtim), ok)
	if info, _ := os.Stat(c.dir); info.ModTime().UnixNano() != 3000 {
		t.Errorf("the directory is of %v", info.ModTime())
	}
	c.want("both ways", c.call("fd_filestat_set_times", fd, 0, 0, setMtim|setMtimNow), wasmfs.Invalid)
	c.want("both ways", c.call("fd_filestat_set_times", fd, 0, 0, setAtim|setAtimNow), wasmfs.Invalid)
	c.want("no such flag", c.call("fd_filestat_set_times", fd, 0, 0, 16), wasmfs.Invalid)
	c.want("after 2262", c.call("fd_filestat_set_times", fd, 0, int64(-1), setMtim), wasmfs.Overflow)
	c.want("of a stream", c.call("fd_filestat_set_times", 1, 0, 0, setMtim), wasmfs.Invalid)
	c.want("closed", c.call("fd_filestat_set_times", 99, 0, 0, setMtim), wasmfs.BadFile)
	bare, _ := c.open(workFD, "f", 0, rightRead, 0)
	c.want("without the right", c.call("fd_filestat_set_times", bare, 0, 0, setMtim), wasmfs.NotCapable)
}

func preadCases(t *testing.T, c *checker) {
	fd := c.file("f", "0123456789")
	a, b := c.room(4), c.room(8)
	in, n := c.vec(a, 4, b, 8)
	out := c.room(4)
	c.want("pread", c.call("fd_pread", fd, in, n, 3, out), ok)
	if got := string(c.bytes(a, 4)) + string(c.bytes(b, 3)); c.u32(out) != 7 || got != "3456789" {
		t.Errorf("%d bytes, %q", c.u32(out), got)
	}
	if pos, _ := c.seek(fd, 0, 1); pos != 0 {
		t.Errorf("the position moved to %d", pos)
	}
	c.want("at the end", c.call("fd_pread", fd, in, n, 10, out), ok)
	if c.u32(out) != 0 {
		t.Errorf("%d bytes at the end", c.u32(out))
	}
	c.want("a negative offset", c.call("fd_pread", fd, in, n, -1, out), wasmfs.Invalid)
	c.want("of a directory", c.call("fd_pread", workFD, in, n, 0, out), wasmfs.IsDir)
	c.want("of a stream", c.call("fd_pread", 0, in, n, 0, out), wasmfs.NoSeek)
	c.want("closed", c.call("fd_pread", 99, in, n, 0, out), wasmfs.BadFile)
	bare, _ := c.open(workFD, "f", 0, rightRead, 0)
	c.want("without the right to seek", c.call("fd_pread", bare, in, n, 0, out), wasmfs.NotCapable)
}

func prestatCases(t *testing.T, c *checker) {
	var names []string
	for fd := uint32(3); ; fd++ {
		out := c.room(8)
		if errno := c.call("fd_prestat_get", fd, out); errno != ok {
			c.want("the end of the list", errno, wasmfs.BadFile)
			break
		}
		size := c.u32(out + 4)
		buf := c.room(int(size) + 1)
		c.want("a buffer that is too short", c.call("fd_prestat_dir_name", fd, buf, size-1), wasmfs.NameTooLong)
		c.want("a longer buffer", c.call("fd_prestat_dir_name", fd, buf, size+1), ok)
		if c.u32(out) != 0 {
			t.Errorf("tag %d", c.u32(out))
		}
		names = append(names, string(c.bytes(buf, size)))
	}
	if want := []string{"/tree", "/", "."}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	fd := c.file("f", "")
	c.want("of a file", c.call("fd_prestat_get", fd, c.room(8)), wasmfs.BadFile)
	c.want("of a stream", c.call("fd_prestat_get", 0, c.room(8)), wasmfs.BadFile)
	c.want("name of a file", c.call("fd_prestat_dir_name", fd, c.room(8), 8), wasmfs.BadFile)
	c.want("name of what is closed", c.call("fd_prestat_dir_name", 99, c.room(8), 8), wasmfs.BadFile)
}

func pwriteCases(t *testing.T, c *checker) {
	fd := c.file("f", "0123456789")
	n, errno := c.pwrite(fd, "abc", 4)
	c.want("pwrite", errno, ok)
	_, errno = c.pwrite(fd, "z", 12)
	c.want("behind the end", errno, ok)
	if got := c.content("f"); n != 3 || got != "0123abc789\x00\x00z" {
		t.Errorf("%d bytes, the file holds %q", n, got)
	}
	if pos, _ := c.seek(fd, 0, 1); pos != 0 {
		t.Errorf("the position moved to %d", pos)
	}
	app, _ := c.open(workFD, "f", 0, readWrite, flagAppend)
	c.pwrite(app, "A", 0)
	if got := c.content("f"); got[0] != 'A' || len(got) != 13 {
		t.Errorf("open for appending, pwrite at 0 made it %q", got)
	}
	_, errno = c.pwrite(fd, "x", -1)
	c.want("a negative offset", errno, wasmfs.Invalid)
	_, errno = c.pwrite(fd, "xx", 1<<63-1)
	c.want("behind all ends", errno, wasmfs.FileTooBig)
	_, errno = c.pwrite(workFD, "x", 0)
	c.want("to a directory", errno, wasmfs.IsDir)
	_, errno = c.pwrite(1, "x", 0)
	c.want("to a stream", errno, wasmfs.NoSeek)
	_, errno = c.pwrite(99, "x", 0)
	c.want("closed", errno, wasmfs.BadFile)
	r, _ := c.open(workFD, "f", 0, rightRead|rightSeek, 0)
	_, errno = c.pwrite(r, "x", 0)
	c.want("opened for reading", errno, wasmfs.NotCapable)
}

func readCases(t *testing.T, c *checker) {
	fd := c.file("f", "0123456789")
	for _, want := range []string{"0123", "4567", "89", ""} {
		got, errno := c.read(fd, 4)
		c.want("read", errno, ok)
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	out := c.room(4)
	c.want("no vectors", c.call("fd_read", fd, 0, 0, out), ok)
	c.want("too many vectors", c.call("fd_read", fd, c.room(8*1025), 1025, out), wasmfs.Invalid)
	parts := make([]uint32, 0, 2048)
	for range 1024 {
		parts = append(parts, 0, memorySize)
	}
	in, n := c.vec(parts...)
	c.want("more than can be counted", c.call("fd_read", fd, in, n, out), wasmfs.Invalid)
	_, errno := c.read(workFD, 1)
	c.want("of a directory", errno, wasmfs.IsDir)
	_, errno = c.read(1, 1)
	c.want("of standard output", errno, wasmfs.NotCapable)
	_, errno = c.read(99, 1)
	c.want("closed", errno, wasmfs.BadFile)
	w, _ := c.open(workFD, "f", 0, rightWrite, 0)
	_, errno = c.read(w, 1)
	c.want("opened for writing", errno, wasmfs.NotCapable)
	got, errno := c.read(0, 1)
	c.want("input at its end", errno, ok)
	if got != "" {
		t.Errorf("%q", got)
	}
	in2 := newGuest(t, Config{Stdin: strings.NewReader("some words")})
	if got, errno := in2.read(0, 4); got != "some" || errno != ok {
		t.Errorf("%q, %v", got, errno)
	}
	if got, errno := in2.read(0, 100); got != " words" || errno != ok {
		t.Errorf("%q, %v", got, errno)
	}
	if got, errno := in2.read(0, 100); got != "" || errno != ok {
		t.Errorf("%q, %v", got, errno)
	}
	broken := newGuest(t, Config{Stdin: io.MultiReader(strings.NewReader("x"), errReader{})})
	broken.read(0, 1)
	_, errno = broken.read(0, 1)
	c.want("input that fails", errno, wasmfs.IO)
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("broken") }

func readdirCases(t *testing.T, c *checker) {
	for _, name := range []string{"b", "a", "dir/x", "\xff\xfe"} {
		os.MkdirAll(filepath.Dir(filepath.Join(c.dir, name)), 0o755)
		os.WriteFile(filepath.Join(c.dir, name), nil, 0o644)
	}
	os.Symlink("a", filepath.Join(c.dir, "link"))
	all, used, errno := c.readdir(workFD, 0, 4096)
	c.want("readdir", errno, ok)
	var names []string
	for i, e := range all {
		names = append(names, fmt.Sprintf("%s:%d", e.name, e.typ))
		if e.next != uint64(i+1) || e.ino == 0 && e.name != ".." {
			t.Errorf("%+v", e)
		}
	}
	if want := []string{".:3", "..:3", "a:4", "b:4", "dir:3", "link:7", "\xff\xfe:4"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	if st, _ := c.stat(workFD, 0, "b"); st.ino != all[3].ino {
		t.Error("the entry has another number than the file")
	}
	// Buffers of every size: full unless the end is reached, and going on from
	// the last whole entry leads to the same list.
	for size := 1; size <= int(used)+1; size++ {
		c.top = 1024
		_, got, errno := c.readdir(workFD, 0, size)
		c.want("a short buffer", errno, ok)
		if want := min(size, int(used)); int(got) != want {
			t.Fatalf("a buffer of %d: %d used, want %d", size, got, want)
		}
	}
	var again []dirent
	for cookie := uint64(0); ; {
		some, used, _ := c.readdir(workFD, cookie, 40)
		again = append(again, some...)
		if used < 40 || len(some) == 0 {
			break
		}
		cookie = some[len(some)-1].next
	}
	if !slices.Equal(all, again) {
		t.Errorf("piece by piece: %v", again)
	}
	if _, used, _ := c.readdir(workFD, 7, 4096); used != 0 {
		t.Errorf("%d bytes behind the end", used)
	}
	_, _, errno = c.readdir(workFD, 8, 4096)
	c.want("no such cookie", errno, wasmfs.Invalid)
	_, _, errno = c.readdir(c.file("f", ""), 0, 100)
	c.want("of a file", errno, wasmfs.BadFile)
	_, _, errno = c.readdir(99, 0, 100)
	c.want("closed", errno, wasmfs.BadFile)
	if some, _, _ := c.readdir(workFD, 0, 4096); len(some) != 8 {
		t.Errorf("read from the start it shows %d entries", len(some))
	}
	root, _, errno := c.readdir(rootFD, 0, 4096)
	c.want("the root of the view", errno, ok)
	if len(root) != 3 || root[2].name != "tree" {
		t.Errorf("%+v", root)
	}
	bare, _ := c.open(workFD, ".", openDirectory, rightOpen, 0)
	_, _, errno = c.readdir(bare, 0, 100)
	c.want("without the right", errno, wasmfs.NotCapable)
}

func renumberCases(t *testing.T, c *checker) {
	a, b := c.file("a", "A"), c.file("b", "B")
	c.want("renumber", c.call("fd_renumber", a, b), ok)
	if got, _ := c.read(b, 1); got != "A" {
		t.Errorf("it reads %q", got)
	}
	_, errno := c.read(a, 1)
	c.want("the old number", errno, wasmfs.BadFile)
	c.want("to what is closed", c.call("fd_renumber", b, a), wasmfs.BadFile)
	c.want("to what never was", c.call("fd_renumber", b, 1<<30), wasmfs.BadFile)
	c.want("from what is closed", c.call("fd_renumber", a, b), wasmfs.BadFile)
	c.want("to itself", c.call("fd_renumber", b, b), ok)
	if _, errno := c.fstat(b); errno != ok {
		t.Errorf("it is gone: %v", errno)
	}
	for fd := range uint32(3) {
		to := c.file("to", "")
		c.want("a stream", c.call("fd_renumber", fd, to), ok)
		_, _, _, _, errno := c.fdstat(to)
		c.want("has it", errno, ok)
		_, _, _, _, errno = c.fdstat(fd)
		c.want("has moved", errno, wasmfs.BadFile)
	}
	c.want("over a directory that was open from the start", c.call("fd_renumber", b, workFD), ok)
	c.want("which it is no more", c.call("fd_prestat_get", workFD, c.room(8)), wasmfs.BadFile)
	_, errno = c.open(workFD, "b", 0, rightRead, 0)
	c.want("nor a directory", errno, wasmfs.NotDir)
}

func seekCases(t *testing.T, c *checker) {
	fd := c.file("f", "0123456789")
	for _, s := range []struct {
		off    int64
		whence int
		want   uint64
		errno  wasmfs.Errno
	}{
		{4, 0, 4, ok}, {2, 1, 6, ok}, {-1, 2, 9, ok}, {100, 2, 110, ok}, {0, 1, 110, ok},
		{-1, 0, 0, wasmfs.Invalid}, {-111, 1, 0, wasmfs.Invalid}, {0, 3, 0, wasmfs.Invalid}, {0, 256, 0, wasmfs.Invalid},
		{1<<63 - 1, 1, 0, wasmfs.Overflow}, {0, 1, 110, ok},
	} {
		pos, errno := c.seek(fd, s.off, s.whence)
		c.want(fmt.Sprintf("seek %+v", s), errno, s.errno)
		if errno == ok && pos != s.want {
			t.Errorf("%+v: %d", s, pos)
		}
	}
	out := c.room(8)
	c.want("tell", c.call("fd_tell", fd, out), ok)
	if c.u64(out) != 110 {
		t.Errorf("tell says %d", c.u64(out))
	}
	for fd, want := range map[uint32]wasmfs.Errno{workFD: wasmfs.IsDir, 0: wasmfs.NoSeek, 1: wasmfs.NoSeek, 99: wasmfs.BadFile} {
		_, errno := c.seek(fd, 0, 1)
		c.want("seek", errno, want)
		c.want("tell", c.call("fd_tell", fd, out), want)
	}
	tell, _ := c.open(workFD, "f", 0, rightRead|rightTell, 0)
	_, errno := c.seek(tell, 0, 1)
	c.want("the right to tell, seek nowhere", errno, ok)
	_, errno = c.seek(tell, 1, 1)
	c.want("the right to tell, seek", errno, wasmfs.NotCapable)
	bare, _ := c.open(workFD, "f", 0, rightRead, 0)
	c.want("no right to tell", c.call("fd_tell", bare, out), wasmfs.NotCapable)
}

func writeCases(t *testing.T, c *checker) {
	fd, _ := c.open(workFD, "f", openCreate, readWrite, 0)
	a, b := c.put([]byte("ab")), c.put([]byte("cde"))
	in, n := c.vec(a, 2, 0, 0, b, 3)
	out := c.room(4)
	c.want("write", c.call("fd_write", fd, in, n, out), ok)
	c.want("and on", c.call("fd_write", fd, in, n, out), ok)
	if got := c.content("f"); c.u32(out) != 5 || got != "abcdeabcde" {
		t.Errorf("%d, %q", c.u32(out), got)
	}
	c.want("no vectors", c.call("fd_write", fd, 0, 0, out), ok)
	r, _ := c.open(workFD, "f", 0, rightRead, 0)
	_, errno := c.write(r, "x")
	c.want("opened for reading", errno, wasmfs.NotCapable)
	_, errno = c.write(workFD, "x")
	c.want("to a directory", errno, wasmfs.IsDir)
	_, errno = c.write(0, "x")
	c.want("to standard input", errno, wasmfs.NotCapable)
	_, errno = c.write(99, "x")
	c.want("closed", errno, wasmfs.BadFile)
	var stdout strings.Builder
	g := newGuest(t, Config{Stdout: &stdout, Stderr: errWriter{io.ErrClosedPipe}})
	g.write(1, "hello ")
	g.write(1, "world")
	if stdout.String() != "hello world" {
		t.Errorf("standard output got %q", stdout.String())
	}
	_, errno = g.write(2, "x")
	c.want("a stream that nobody reads", errno, wasmfs.BrokenPipe)
	g = newGuest(t, Config{Stderr: errWriter{errors.New("broken")}})
	_, errno = g.write(2, "x")
	c.want("a stream that fails", errno, wasmfs.IO)
	n32, errno := g.write(1, "nobody reads this")
	c.want("a stream that is not kept", errno, ok)
	if n32 != 17 {
		t.Errorf("%d bytes written", n32)
	}
}

type errWriter struct{ err error }

func (w errWriter) Write([]byte) (int, error) { return 0, w.err }

func exitCases(t *testing.T, c *checker) {
	_, err := c.try("proc_exit", 42)
	exit, is := errors.AsType[*sys.ExitError](err)
	if !is || exit.ExitCode() != 42 {
		t.Errorf("%v", err)
	}
	if _, err := c.try("sched_yield"); err == nil {
		t.Error("the guest can be called after it ended")
	}
}

func raiseCases(_ *testing.T, c *checker) {
	c.want("raise", c.call("proc_raise", 9), wasmfs.NoCall)
}

func yieldCases(_ *testing.T, c *checker) { c.want("yield", c.call("sched_yield"), ok) }

func randomCases(t *testing.T, c *checker) {
	out := c.room(8)
	c.want("there is none", c.call("random_get", out, 8), wasmfs.NotSupp)
	g := newGuest(t, Config{Random: strings.NewReader("0123456789")})
	out = g.room(8)
	c.want("random", g.call("random_get", out, 8), ok)
	if got := string(g.bytes(out, 8)); got != "01234567" {
		t.Errorf("%q", got)
	}
	c.want("nothing", g.call("random_get", out, 0), ok)
	c.want("a source that has run dry", g.call("random_get", out, 8), wasmfs.IO)
	c.want("beyond the memory", g.call("random_get", memorySize-4, 8), wasmfs.Fault)
}

func socketCases(t *testing.T, _ *checker) {
	g := newGuest(t, Config{})
	c := &checker{guest: g}
	calls := map[string][]any{
		"sock_accept":   {0, 0, 64},
		"sock_recv":     {0, 0, 0, 0, 64, 64},
		"sock_send":     {0, 0, 0, 0, 64},
		"sock_shutdown": {0, 0},
	}
	for name, params := range calls {
		for fd := range 3 {
			params[0] = fd
			c.want(name, g.call(name, params...), wasmfs.NotSocket)
		}
		params[0] = 99
		c.want(name+" of what is closed", g.call(name, params...), wasmfs.BadFile)
	}
	if len(*g.deny) != 16 {
		t.Errorf("%d of 16 attempts recorded", len(*g.deny))
	}
	for _, d := range *g.deny {
		if d.Reason != NoSockets || calls[d.Call] == nil {
			t.Errorf("%+v", d)
		}
	}
}

func TestGuestEndsWithItsContext(t *testing.T) {
	why := errors.New("deadline")
	for name, call := range map[string]func(*guest){
		"poll_oneoff": func(g *guest) { g.poll(clockSub(1, time.Hour, 0)) },
		"fd_read":     func(g *guest) { g.read(0, 1) },
		"fd_write":    func(g *guest) { g.write(1, "x") },
		"random_get":  func(g *guest) { g.call("random_get", 0, memorySize) },
		"sched_yield": func(g *guest) { g.call("sched_yield") },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(context.Background())
			in, feed := io.Pipe()
			defer feed.Close()
			g := newGuestWith(t, ctx, Config{Monotonic: func() uint64 { return 0 }, Stdin: in, Random: zeros{}})
			g.ending = true
			go cancel(why)
			for { // until the context has ended and the call with it
				if call(g); g.ended != nil {
					break
				}
			}
			if !errors.Is(g.ended, why) {
				t.Errorf("%v, want %v", g.ended, why)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
