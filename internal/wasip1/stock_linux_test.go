package wasip1

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/bvisor/bvisor/internal/wasmfs"
)

// stock is the same guest with wazero's own host module and a directory mount:
// the control of what is said of it, and of the attacks.
func stock(t *testing.T, readOnly bool) (*guest, string) {
	t.Helper()
	dir := t.TempDir()
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	t.Cleanup(func() { r.Close(ctx) })
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	mount := wazero.NewFSConfig().WithDirMount(dir, "/tree")
	if readOnly {
		mount = wazero.NewFSConfig().WithReadOnlyDirMount(dir, "/tree")
	}
	g := &guest{t: t, ctx: ctx, top: 1024}
	var err error
	if g.mod, err = r.InstantiateWithConfig(ctx, callerModule(), wazero.NewModuleConfig().WithFSConfig(mount)); err != nil {
		t.Fatal(err)
	}
	return g, dir
}

// What docs/wasi.md says of wazero, and what its directory mounts let through
// (WAS-01, WAS-02, WAS-05 and WAS-07 of the attacks that our own stop).
func TestWhatStockWazeroDoes(t *testing.T) {
	g, dir := stock(t, false)
	c := &checker{g, dir}
	c.scene()
	outside := t.TempDir()
	os.WriteFile(outside+"/secret", []byte("secret"), 0o644)
	rel, err := filepath.Rel(dir, outside+"/secret")
	if err != nil {
		t.Fatal(err)
	}
	c.want("a link out", c.symlink(rel, workFD, "exit"), ok)
	fd, errno := c.open(workFD, "exit", 0, readWrite, 0)
	c.want("open through it", errno, ok)
	if got, _ := c.read(fd, 100); got != "secret" {
		t.Errorf("through the link it reads %q", got)
	}
	c.write(fd, "!")
	if b, _ := os.ReadFile(outside + "/secret"); string(b) != "secret!" {
		t.Errorf("through the link it wrote %q", b)
	}

	_, errno = c.readlink(workFD, "link", 3)
	c.want("readlink into a short buffer", errno, wasmfs.Range)
	f := c.file("f", "0123456789")
	c.want("renumber to any number", c.call("fd_renumber", f, 77), ok)
	c.want("renumber over a preopen", c.call("fd_renumber", 77, workFD), wasmfs.NotSupp)
	c.want("set rights", c.call("fd_fdstat_set_rights", 77, 0, 0), wasmfs.NoCall)
	c.want("advice of a directory", c.call("fd_advise", workFD, 0, 0, 0), ok)
	c.want("allocate", c.call("fd_allocate", 77, 0, 1<<20), ok)
	if info, _ := os.Stat(dir + "/f"); info.Size() != 1<<20 || info.Sys().(*syscall.Stat_t).Blocks > 16 {
		t.Errorf("allocate made %+v", info.Sys())
	}
	_, _, errno = c.readdir(workFD, 0, 20)
	c.want("a short buffer for entries", errno, wasmfs.Invalid)
	c.want("a long buffer for a name", c.call("fd_prestat_dir_name", workFD, c.room(100), 100), wasmfs.NameTooLong)
	if typ, _, _, _, _ := c.fdstat(1); typ != 1 {
		t.Errorf("standard output is of type %d", typ)
	}
	in, _ := c.vec(c.room(4), 4)
	c.want("a count that wraps", c.call("fd_read", 77, in, 0x20000000, c.room(4)), ok)
	c.want("link through a link", c.link(workFD, lookupFollow, "toplain", workFD, "followed"), ok)
	if info, _ := os.Lstat(dir + "/followed"); info.Mode()&os.ModeSymlink == 0 {
		t.Error("it followed the link")
	}
	app, _ := c.open(workFD, "plain", 0, readWrite, flagAppend)
	_, errno = c.pwrite(app, "X", 0)
	c.want("pwrite to what is open for appending", errno, wasmfs.IO)
	events, _ := c.poll(fdSub(1, eventWrite, 1))
	if len(events) != 1 || events[0].errno != wasmfs.NotSupp {
		t.Errorf("%+v", events)
	}
	_, errno = c.poll(clockSub(1, 1, clockAbsolute))
	c.want("an absolute time", errno, wasmfs.NotSupp)
	if events, _ = c.poll(clockSub(1, time.Nanosecond, 0), clockSub(2, 2*time.Nanosecond, 0), fdSub(3, eventWrite, 1)); len(events) != 3 {
		t.Errorf("of two timers and an error it tells %+v", events)
	}
	sub, _ := c.open(workFD, "known", openDirectory, dirRights, 0)
	os.Rename(dir+"/known", dir+"/elsewhere")
	os.Mkdir(dir+"/known", 0o755)
	c.want("a directory that was moved while it was open", c.mkdir(sub, "new"), ok)
	if _, err := os.Stat(dir + "/known/new"); err != nil {
		t.Error("it is itself, not what has taken its place")
	}
	c.want("sync of a stream", c.call("fd_sync", 1), ok)
	_, errno = c.seek(1, 0, 1)
	c.want("seek of a stream", errno, wasmfs.NoCall)
	c.want("times of a link that leads nowhere", c.setTimes(workFD, 0, "dangling", 3000, setMtim), wasmfs.NotFound)
}

// A read-only mount follows links out, too.
func TestWhatAStockReadOnlyMountDoes(t *testing.T) {
	g, dir := stock(t, true)
	outside := t.TempDir()
	os.WriteFile(outside+"/secret", []byte("secret"), 0o644)
	os.Symlink(outside+"/secret", dir+"/planted")
	fd, errno := g.open(workFD, "planted", 0, rightRead, 0)
	if got, _ := g.read(fd, 100); errno != ok || got != "secret" {
		t.Errorf("%q, %v", got, errno)
	}
}

// WAS-07: a number is a number. What is put in the place of a granted directory
// has its own rights, and the directory's are gone.
func TestRenumberGainsNothing(t *testing.T) {
	base := t.TempDir()
	files, denied := view(t, base)
	g := newGuest(t, Config{FS: files})
	c := &checker{guest: g}
	const readOnly = 6 // /tree, /, /etc, /ro, /tree as "."
	st, errno := g.fstat(readOnly)
	if info, err := os.Stat(base + "/ro"); err != nil || errno != ok || info.Sys().(*syscall.Stat_t).Ino != st.ino {
		t.Fatalf("descriptor %d is not the read-only directory: %+v", readOnly, st)
	}
	_, errno = g.open(workFD, "new", openCreate, readWrite, 0)
	c.want("writing in the working directory", errno, ok) // the control
	c.want("the read-only one in its place", g.call("fd_renumber", readOnly, workFD), ok)
	_, errno = g.open(workFD, "new2", openCreate, readWrite, 0)
	c.want("writing by its number", errno, wasmfs.ReadOnly)
	_, errno = g.open(workFD, "file", 0, rightWrite, 0)
	c.want("opening by its number", errno, wasmfs.ReadOnly)
	c.want("by the number that it had", g.mkdir(readOnly, "x"), wasmfs.BadFile)
	bound, errno := g.open(7, "sub", openDirectory, dirRights, 0)
	c.want("a directory below", errno, ok)
	c.want("in the place of the root", g.call("fd_renumber", bound, rootFD), ok)
	_, errno = g.open(rootFD, "../file", 0, rightRead, 0)
	c.want("which is a bound, too", errno, wasmfs.Permission)
	if len(*denied) != 3 {
		t.Errorf("%+v", *denied)
	}
	for _, name := range []string{"ro/new2", "ro/x", "rw/new2"} {
		if _, err := os.Stat(filepath.Join(base, name)); err == nil {
			t.Errorf("%s was made", name)
		}
	}
}
