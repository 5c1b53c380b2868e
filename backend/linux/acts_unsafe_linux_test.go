//go:build amd64 || arm64

package linux_test

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/victim"
)

// Acts with calls that golang.org/x/sys/unix does not wrap.
var _ = victim.Register(map[string]victim.Act{
	"memfd-execveat": memfdExecveat,
	"execveat":       execveatPath,
	"bad-pointers":   victim.One(badPointers),
})

// memfdExecveat becomes a copy of args[0] by descriptor alone: no path, not
// even below /proc.
func memfdExecveat(args []string) error {
	fd, err := victim.Memfd(args[0])
	if err != nil {
		return err
	}
	return execveat(fd, args)
}

// execveatPath becomes the file args[0], opened first.
func execveatPath(args []string) error {
	fd, err := unix.Open(args[0], unix.O_PATH, 0)
	if err != nil {
		return err
	}
	return execveat(fd, args)
}

func execveat(fd int, args []string) error {
	argv, err := syscall.SlicePtrFromStrings(args)
	if err != nil {
		return err
	}
	empty, err := unix.BytePtrFromString("")
	if err != nil {
		return err
	}
	_, _, e := unix.Syscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(empty)), uintptr(unsafe.Pointer(&argv[0])), 0, unix.AT_EMPTY_PATH, 0)
	return e
}

// badPointers names files by addresses where nothing is: none, the kernel's, the
// end of a mapping.
func badPointers(string) error {
	page, err := unix.Mmap(-1, 0, 2*4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	if err := unix.Mprotect(page[4096:], unix.PROT_NONE); err != nil {
		return err
	}
	page[4095] = '/'
	end := uintptr(unsafe.Pointer(&page[4095]))
	for _, at := range []uintptr{0, 1, 1 << 63, ^uintptr(0) - 8, end} {
		for _, nr := range []uintptr{unix.SYS_OPENAT, unix.SYS_EXECVEAT, unix.SYS_MKDIRAT, unix.SYS_OPENAT2} {
			if _, _, e := unix.Syscall6(nr, ^uintptr(99), at, 0, 24, 0, 0); e != unix.EFAULT {
				return fmt.Errorf("call %d at %#x: %w", nr, at, e)
			}
		}
		if _, _, e := unix.Syscall(unix.SYS_CONNECT, 1, at, 110); e == 0 {
			return errors.New("connect succeeded")
		}
	}
	return nil
}

// fork makes a child that does nothing and never ends: it goes on in a copy of
// this process, of which the runtime knows nothing.
func fork() error {
	pid, _, e := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if e != 0 {
		return e
	}
	for pid == 0 {
		unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
	}
	return nil
}

// resident is how many bytes of a file the kernel has in memory (mincore(2)).
func resident(t *testing.T, name string) int64 {
	t.Helper()
	f, err := os.Open(name)
	must(t, err)
	defer f.Close()
	st, err := f.Stat()
	must(t, err)
	data, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	must(t, err)
	defer unix.Munmap(data)
	page := os.Getpagesize()
	pages := make([]byte, (len(data)+page-1)/page)
	if _, _, e := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)), uintptr(unsafe.Pointer(&pages[0]))); e != 0 {
		t.Fatalf("mincore: %v", e)
	}
	var n int64
	for _, p := range pages {
		n += int64(p & 1)
	}
	return n * int64(page)
}
