package wasip1

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/bvisor/bvisor/internal/wasmfs"
)

// guest is a module that does nothing by itself: it exports its memory and, for
// every function of preview 1, a function that calls it with the arguments that
// it is called with. So a test can make any call, the ones too that no compiler
// makes.
type guest struct {
	t    testing.TB
	ctx  context.Context
	mod  api.Module
	p    *Process
	top  uint32 // where the next bytes are put
	deny *[]wasmfs.Denial

	ending bool // a call may end the guest
	ended  error
}

// memoryPages of 64 KiB is the guest's memory.
const memoryPages = 64

const memorySize = memoryPages << 16

// callerModule assembles the module (WebAssembly core specification, 5.5).
func callerModule() []byte {
	uleb := func(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }
	vec := func(items [][]byte) []byte { return append(uleb(len(items)), bytes.Join(items, nil)...) }
	name := func(s string) []byte { return append(uleb(len(s)), s...) }
	section := func(id byte, body []byte) []byte { return append(append([]byte{id}, uleb(len(body))...), body...) }

	type signature struct{ params, results []api.ValueType }
	sigs := map[string]signature{}
	names := []string{"proc_exit"}
	for _, f := range functions {
		names = append(names, f.name)
	}
	for _, n := range names {
		params, results, _ := Signature(n)
		sigs[n] = signature{params, results}
	}
	var types, imports, funcs, exports, codes [][]byte
	exports = append(exports, append(name("memory"), 2, 0))
	for i, n := range names {
		sig := sigs[n]
		t := append([]byte{0x60}, uleb(len(sig.params))...)
		t = append(t, sig.params...)
		t = append(t, uleb(len(sig.results))...)
		types = append(types, append(t, sig.results...))
		imports = append(imports, slices.Concat(name(ModuleName), name(n), []byte{0}, uleb(i)))
		funcs = append(funcs, uleb(i))
		exports = append(exports, slices.Concat(name(n), []byte{0}, uleb(len(names)+i)))
		body := []byte{0} // no locals
		for j := range sig.params {
			body = append(append(body, 0x20), uleb(j)...) // local.get
		}
		body = slices.Concat(body, []byte{0x10}, uleb(i), []byte{0x0b}) // call, end
		codes = append(codes, append(uleb(len(body)), body...))
	}
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		section(1, vec(types)), section(2, vec(imports)), section(3, vec(funcs)),
		section(5, slices.Concat([]byte{1, 0}, uleb(memoryPages))),
		section(7, vec(exports)), section(10, vec(codes)))
}

// newGuest starts the module with a process.
func newGuest(t testing.TB, c Config) *guest {
	t.Helper()
	return newGuestWith(t, context.Background(), c)
}

func newGuestWith(t testing.TB, ctx context.Context, c Config) *guest {
	t.Helper()
	g := &guest{t: t, top: 1024, deny: new([]wasmfs.Denial)}
	c.Denied = func(d wasmfs.Denial) { *g.deny = append(*g.deny, d) }
	var err error
	if g.p, err = New(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.p.Close)
	g.ctx = g.p.Context(ctx)
	r := wazero.NewRuntimeWithConfig(context.Background(), wazero.NewRuntimeConfigInterpreter())
	t.Cleanup(func() { r.Close(context.Background()) })
	if _, err := Instantiate(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	if g.mod, err = r.Instantiate(g.ctx, callerModule()); err != nil {
		t.Fatal(err)
	}
	return g
}

// call makes a call. Numbers may be of any integer type, signed ones are
// extended as the guest would.
func (g *guest) call(name string, params ...any) wasmfs.Errno {
	g.t.Helper()
	errno, err := g.try(name, params...)
	if err != nil && g.ending {
		g.ended = err
	} else if err != nil {
		g.t.Fatalf("%s: %v", name, err)
	}
	return errno
}

func (g *guest) try(name string, params ...any) (wasmfs.Errno, error) {
	raw := make([]uint64, len(params))
	for i, p := range params {
		switch p := p.(type) {
		case int:
			raw[i] = uint64(p)
		case uint32:
			raw[i] = uint64(p)
		case uint64:
			raw[i] = p
		case int64:
			raw[i] = uint64(p)
		case rights:
			raw[i] = uint64(p)
		default:
			g.t.Fatalf("%s: argument %d is a %T", name, i, p)
		}
		if sig, _, _ := Signature(name); sig[i] == api.ValueTypeI32 {
			raw[i] = uint64(uint32(raw[i]))
		}
	}
	res, err := g.mod.ExportedFunction(name).Call(g.ctx, raw...)
	if err != nil || len(res) == 0 {
		return 0, err
	}
	return wasmfs.Errno(res[0]), nil
}

// put copies bytes into the guest's memory and returns where they are.
func (g *guest) put(b []byte) uint32 {
	g.t.Helper()
	at := g.top
	if !g.mod.Memory().Write(at, b) {
		g.t.Fatal("the guest's memory is full")
	}
	g.top = (at + uint32(len(b)) + 16) &^ 7
	return at
}

// room makes place for a result.
func (g *guest) room(size int) uint32 { return g.put(make([]byte, size)) }

func (g *guest) u32(at uint32) uint32 {
	v, _ := g.mod.Memory().ReadUint32Le(at)
	return v
}

func (g *guest) u64(at uint32) uint64 {
	v, _ := g.mod.Memory().ReadUint64Le(at)
	return v
}

func (g *guest) bytes(at, size uint32) []byte {
	b, _ := g.mod.Memory().Read(at, size)
	return slices.Clone(b)
}

// vec puts an iovec array over parts of the memory.
func (g *guest) vec(parts ...uint32) (at uint32, count int) {
	var b []byte
	for _, p := range parts {
		b = binary.LittleEndian.AppendUint32(b, p)
	}
	return g.put(b), len(parts) / 2
}

// Calls with paths and results, as a guest's library would make them.

func (g *guest) mkdir(fd uint32, path string) wasmfs.Errno {
	return g.call("path_create_directory", fd, g.put([]byte(path)), len(path))
}

func (g *guest) unlink(fd uint32, path string) wasmfs.Errno {
	return g.call("path_unlink_file", fd, g.put([]byte(path)), len(path))
}

func (g *guest) rmdir(fd uint32, path string) wasmfs.Errno {
	return g.call("path_remove_directory", fd, g.put([]byte(path)), len(path))
}

func (g *guest) symlink(target string, fd uint32, path string) wasmfs.Errno {
	return g.call("path_symlink", g.put([]byte(target)), len(target), fd, g.put([]byte(path)), len(path))
}

func (g *guest) link(fd uint32, flags int, path string, to uint32, newPath string) wasmfs.Errno {
	return g.call("path_link", fd, flags, g.put([]byte(path)), len(path), to, g.put([]byte(newPath)), len(newPath))
}

func (g *guest) rename(fd uint32, path string, to uint32, newPath string) wasmfs.Errno {
	return g.call("path_rename", fd, g.put([]byte(path)), len(path), to, g.put([]byte(newPath)), len(newPath))
}

func (g *guest) readlink(fd uint32, path string, size int) (string, wasmfs.Errno) {
	buf, used := g.room(size), g.room(4)
	errno := g.call("path_readlink", fd, g.put([]byte(path)), len(path), buf, size, used)
	return string(g.bytes(buf, g.u32(used))), errno
}

// open is path_open with all rights that may be passed on, but for what is left
// out by base.
func (g *guest) open(fd uint32, path string, oflags int, base rights, fdflags int) (uint32, wasmfs.Errno) {
	return g.openLook(fd, lookupFollow, path, oflags, base, fdflags)
}

func (g *guest) openLook(fd uint32, look int, path string, oflags int, base rights, fdflags int) (uint32, wasmfs.Errno) {
	out := g.room(4)
	errno := g.call("path_open", fd, look, g.put([]byte(path)), len(path), oflags, base, rights(allRights), fdflags, out)
	return g.u32(out), errno
}

type filestat struct {
	dev, ino               uint64
	filetype               byte
	nlink, size, atim, mti uint64
}

func (g *guest) decodeStat(at uint32) filestat {
	return filestat{g.u64(at), g.u64(at + 8), g.bytes(at+16, 1)[0], g.u64(at + 24), g.u64(at + 32), g.u64(at + 40), g.u64(at + 48)}
}

func (g *guest) stat(fd uint32, look int, path string) (filestat, wasmfs.Errno) {
	out := g.room(64)
	errno := g.call("path_filestat_get", fd, look, g.put([]byte(path)), len(path), out)
	return g.decodeStat(out), errno
}

func (g *guest) fstat(fd uint32) (filestat, wasmfs.Errno) {
	out := g.room(64)
	errno := g.call("fd_filestat_get", fd, out)
	return g.decodeStat(out), errno
}

func (g *guest) write(fd uint32, data string) (uint32, wasmfs.Errno) {
	at, n := g.vec(g.put([]byte(data)), uint32(len(data)))
	out := g.room(4)
	errno := g.call("fd_write", fd, at, n, out)
	return g.u32(out), errno
}

func (g *guest) pwrite(fd uint32, data string, off int64) (uint32, wasmfs.Errno) {
	at, n := g.vec(g.put([]byte(data)), uint32(len(data)))
	out := g.room(4)
	errno := g.call("fd_pwrite", fd, at, n, off, out)
	return g.u32(out), errno
}

func (g *guest) read(fd uint32, size int) (string, wasmfs.Errno) {
	buf := g.room(size)
	at, n := g.vec(buf, uint32(size))
	out := g.room(4)
	errno := g.call("fd_read", fd, at, n, out)
	return string(g.bytes(buf, g.u32(out))), errno
}

func (g *guest) seek(fd uint32, off int64, whence int) (uint64, wasmfs.Errno) {
	out := g.room(8)
	errno := g.call("fd_seek", fd, off, whence, out)
	return g.u64(out), errno
}

func (g *guest) fdstat(fd uint32) (filetype byte, flags uint16, base, inheriting rights, errno wasmfs.Errno) {
	out := g.room(24)
	errno = g.call("fd_fdstat_get", fd, out)
	b := g.bytes(out, 24)
	return b[0], binary.LittleEndian.Uint16(b[2:]), rights(g.u64(out + 8)), rights(g.u64(out + 16)), errno
}

type dirent struct {
	next, ino uint64
	typ       byte
	name      string
}

// readdir makes one call and decodes what it can of the answer.
func (g *guest) readdir(fd uint32, cookie uint64, size int) (entries []dirent, used uint32, errno wasmfs.Errno) {
	buf, out := g.room(size), g.room(4)
	errno = g.call("fd_readdir", fd, buf, size, cookie, out)
	used = g.u32(out)
	for b := g.bytes(buf, used); len(b) >= 24; {
		e := dirent{next: binary.LittleEndian.Uint64(b), ino: binary.LittleEndian.Uint64(b[8:]), typ: b[20]}
		n := int(binary.LittleEndian.Uint32(b[16:]))
		if len(b) < 24+n {
			break
		}
		e.name, b = string(b[24:24+n]), b[24+n:]
		entries = append(entries, e)
	}
	return entries, used, errno
}

// work is a guest with one granted directory at /tree, which is descriptor 3
// and the working directory.
func work(t testing.TB, c wasmfs.Config) (*guest, string) {
	t.Helper()
	dir := t.TempDir()
	c.Roots = append(c.Roots, wasmfs.Root{Path: "/tree", File: opened(t, dir), Read: true, Write: true})
	c.Dir = "/tree"
	deny := new([]wasmfs.Denial)
	c.Denied = func(d wasmfs.Denial) { *deny = append(*deny, d) }
	files, err := wasmfs.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(files.Close)
	g := newGuest(t, Config{FS: files})
	g.deny = deny
	return g, dir
}

func opened(t testing.TB, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
