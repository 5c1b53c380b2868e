//go:build amd64 || arm64

package linux_test

import (
	"errors"
	"fmt"
	"syscall"
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
