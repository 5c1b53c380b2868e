//go:build amd64 || arm64

package linux_test

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/victim"
)

// Acts with calls that golang.org/x/sys/unix does not wrap.
var _ = victim.Register(map[string]victim.Act{
	"memfd-execveat": memfdExecveat,
	"execveat":       execveatPath,
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
