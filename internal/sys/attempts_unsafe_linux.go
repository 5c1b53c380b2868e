package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// What follows only victims ask for: calls that every boundary takes away.

// IOUringSetup makes a ring with one entry and returns its descriptor,
// io_uring_setup(2).
func IOUringSetup() (int, error) {
	var params [120]byte // struct io_uring_params
	fd, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	if e != 0 {
		return -1, e
	}
	return int(fd), nil
}

// BPFArray makes an array map with one entry of four bytes and returns its
// descriptor, bpf(2) with BPF_MAP_CREATE.
func BPFArray() (int, error) {
	attr := struct{ kind, key, value, entries uint32 }{2, 4, 4, 1} // BPF_MAP_TYPE_ARRAY
	fd, _, e := unix.Syscall(unix.SYS_BPF, 0, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if e != 0 {
		return -1, e
	}
	return int(fd), nil
}

// Userfaultfd returns a descriptor that tells of page faults in user mode,
// userfaultfd(2), Linux 5.11.
func Userfaultfd() (int, error) {
	const userModeOnly = 1
	fd, _, e := unix.Syscall(unix.SYS_USERFAULTFD, userModeOnly, 0, 0)
	if e != 0 {
		return -1, e
	}
	return int(fd), nil
}
