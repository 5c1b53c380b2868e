package wasmfs

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/need"
)

// kernel does what a Dir does with the system calls themselves: paths are
// resolved by openat2(2), with RESOLVE_BENEATH in the place of our walk.
type kernel struct{ fd int }

func (k kernel) open(p string, flags uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	if flags&unix.O_CREAT != 0 {
		how.Mode = newFileMode
	}
	return unix.Openat2(k.fd, p, &how)
}

// in makes a call with the directory that holds a path's last name, and that
// name with the slashes behind it.
func (k kernel) in(p string, call func(fd int, name string) error) error {
	stem := strings.TrimRight(p, "/")
	dir, name := ".", p
	if i := strings.LastIndexByte(stem, '/'); i >= 0 {
		dir, name = p[:i+1], p[i+1:]
	}
	fd, err := k.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return call(fd, name)
}

func (k kernel) do(o op) error {
	switch o.kind {
	case opMkdir:
		return k.in(o.a, func(fd int, name string) error { return unix.Mkdirat(fd, name, newDirMode) })
	case opRmdir:
		return k.in(o.a, func(fd int, name string) error { return unix.Unlinkat(fd, name, unix.AT_REMOVEDIR) })
	case opUnlink:
		return k.in(o.a, func(fd int, name string) error { return unix.Unlinkat(fd, name, 0) })
	case opSymlink:
		return k.in(o.b, func(fd int, name string) error { return unix.Symlinkat(o.a, fd, name) })
	case opRename:
		return k.in(o.a, func(from int, name string) error {
			return k.in(o.b, func(to int, newName string) error { return unix.Renameat(from, name, to, newName) })
		})
	case opLink:
		return k.in(o.a, func(from int, name string) error {
			return k.in(o.b, func(to int, newName string) error { return unix.Linkat(from, name, to, newName, 0) })
		})
	case opStat:
		fd, err := k.open(o.a, unix.O_PATH|o.nofollow())
		if err == nil {
			unix.Close(fd)
		}
		return err
	case opReadlink:
		fd, err := k.open(o.a, unix.O_PATH|unix.O_NOFOLLOW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		_, err = unix.Readlinkat(fd, "", make([]byte, 100))
		if err == unix.ENOENT { // no link, without a name
			err = unix.EINVAL
		}
		return err
	case opOpen:
		return k.write(o, unix.O_RDONLY)
	case opWrite:
		return k.write(o, unix.O_WRONLY|unix.O_CREAT)
	case opTruncate:
		return k.write(o, unix.O_WRONLY|unix.O_TRUNC)
	case opExclusive:
		return k.write(o, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	}
	panic("no such operation")
}

func (k kernel) write(o op, flags uint64) error {
	fd, err := k.open(o.a, flags|o.nofollow())
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if flags&unix.O_WRONLY != 0 {
		_, err = unix.Pwrite(fd, []byte(o.kind.String()), 0)
	}
	return err
}

type opKind uint8

const (
	opMkdir opKind = iota
	opRmdir
	opUnlink
	opSymlink
	opRename
	opLink
	opStat
	opReadlink
	opOpen
	opWrite
	opTruncate
	opExclusive
	opKinds
)

func (k opKind) String() string {
	return [...]string{"mkdir", "rmdir", "unlink", "symlink", "rename", "link", "stat", "readlink", "open", "write", "truncate", "exclusive"}[k]
}

type op struct {
	kind   opKind
	follow bool
	a, b   string
}

func (o op) String() string { return fmt.Sprintf("%v %q %q follow=%v", o.kind, o.a, o.b, o.follow) }

func (o op) nofollow() uint64 {
	if o.follow {
		return 0
	}
	return unix.O_NOFOLLOW
}

// through does an operation with a directory of the view.
func (o op) through(d *Dir) Errno {
	switch o.kind {
	case opMkdir:
		return d.Mkdir(o.a)
	case opRmdir:
		return d.Rmdir(o.a)
	case opUnlink:
		return d.Unlink(o.a)
	case opSymlink:
		return d.Symlink(o.a, o.b)
	case opRename:
		return d.Rename(o.a, d, o.b)
	case opLink:
		return d.Link(o.a, false, d, o.b)
	case opStat:
		_, errno := d.Stat(o.a, o.follow)
		return errno
	case opReadlink:
		_, errno := d.Readlink(o.a)
		return errno
	}
	flags := map[opKind]OpenFlags{opOpen: {Read: true}, opWrite: {Write: true, Create: true},
		opTruncate: {Write: true, Truncate: true}, opExclusive: {Write: true, Create: true, Exclusive: true}}[o.kind]
	flags.Follow = o.follow
	dir, f, errno := d.Open(o.a, flags)
	if dir != nil {
		dir.Close()
	}
	if f != nil {
		if flags.Write {
			f.Write([]byte(o.kind.String()))
		}
		f.Close()
	}
	return errno
}

// script reads operations from bytes. Its paths are few, so that they meet.
type script struct{ *bytes.Reader }

func (s script) next(n int) int {
	b, _ := s.ReadByte()
	return int(b) % n
}

func (s script) path() string {
	names := []string{"a", "b", "c", "a", "b", "..", "."}
	var parts []string
	for range 1 + s.next(4) {
		parts = append(parts, names[s.next(len(names))])
	}
	p := strings.Join(parts, "/")
	if s.next(8) == 0 {
		p += "/"
	}
	return p
}

func (s script) op() op {
	return op{kind: opKind(s.next(int(opKinds))), follow: s.next(2) == 0, a: s.path(), b: s.path()}
}

// FuzzAgainstKernel does the same operations with both implementations and with
// the kernel's own resolution, each in a directory of its own, and compares
// answers and disks.
func FuzzAgainstKernel(f *testing.F) {
	for i := range 4 {
		f.Add(noise(uint64(i), 400))
	}
	f.Fuzz(compareWithKernel)
}

func TestAgainstKernel(t *testing.T) {
	for i := range need.Rounds(t, 60, 3000) {
		compareWithKernel(t, noise(uint64(i), 600))
	}
}

// noise is bytes that look random and are always the same.
func noise(seed uint64, n int) []byte {
	var out []byte
	for i := uint64(0); len(out) < n; i++ {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, seed), i))
		out = append(out, sum[:]...)
	}
	return out[:n]
}

func compareWithKernel(t *testing.T, input []byte) {
	base, err := os.MkdirTemp("", "bvisor-wasmfs-fuzz-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	dirs := []string{filepath.Join(base, "kernel"), filepath.Join(base, "fd"), filepath.Join(base, "root")}
	for _, dir := range dirs {
		plant(t, dir, "inside/")
	}
	plant(t, base, "secret=secret")
	fd, err := unix.Open(filepath.Join(dirs[0], "inside"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var views []*Dir
	for i, impl := range implementations {
		file, err := os.Open(filepath.Join(dirs[i+1], "inside"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		view, err := newFS(Config{Roots: []Root{{Path: "/in", File: file, Read: true, Write: true}}}, impl.open, false)
		if err != nil {
			t.Fatal(err)
		}
		defer view.Close()
		views = append(views, view.enter(view.grants[0], nil))
	}
	s := script{bytes.NewReader(input)}
	for s.Len() > 0 {
		o := s.op()
		should := kernelErrno(kernel{fd}.do(o))
		for i, view := range views {
			got := o.through(view)
			if got != should && !alike(o, got, should) {
				t.Fatalf("%v with %s: %v, the kernel says %v", o, implementations[i].name, got, should)
			}
		}
	}
	wanted := tree(t, dirs[0])
	for i := range views {
		if got := tree(t, dirs[i+1]); !slices.Equal(got, wanted) {
			t.Fatalf("%s left\n%q\nthe kernel\n%q", implementations[i].name, got, wanted)
		}
	}
	if b, err := os.ReadFile(filepath.Join(base, "secret")); string(b) != "secret" {
		t.Fatalf("what is outside holds %q, %v", b, err)
	}
}

// kernelErrno is the errno in our words: RESOLVE_BENEATH answers EXDEV.
func kernelErrno(err error) Errno {
	if err == unix.EXDEV {
		return Permission
	}
	return errnoOf(err)
}

// alike says whether two errnos are both right. Of two paths that are both
// wrong either can be told of; and a path that ends on ".." leads above, to us,
// and is a name that is taken, to the kernel.
func alike(o op, got, kernel Errno) bool {
	switch {
	case got == Success || kernel == Success:
		return false
	case o.kind == opLink || o.kind == opRename:
		return true
	case o.kind == opSymlink:
		return endsAbove(o.b)
	case o.kind == opWrite && kernel == IsDir: // a link whose target ends with a slash is not looked up to be made
		return true
	}
	return endsAbove(o.a)
}

func endsAbove(p string) bool { return strings.HasSuffix(strings.TrimRight(p, "/"), "..") }
