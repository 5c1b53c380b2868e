//go:build amd64 || arm64

package hostmatrix

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// load installs a filter on the calling thread, for good. Where the thread may,
// it does so without no_new_privs, which is no part of the host. It returns the
// listener, if the flags ask for one.
func load(code []instruction, flags uintptr) (int, error) {
	prog := struct {
		length uint16
		code   *instruction
	}{uint16(len(code)), &code[0]}
	fd, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	if e != 0 {
		return -1, fmt.Errorf("load the filter: %w", e)
	}
	return int(fd), nil
}

// answerCall makes a call that waits for a listener return a value.
func answerCall(listener int, id uint64, value int64) error {
	answer := struct { // struct seccomp_notif_resp
		id    uint64
		value int64
		error int32
		flags uint32
	}{id: id, value: value}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&answer))); e != 0 {
		return e
	}
	return nil
}

// enterDomain enters a Landlock domain that takes away only the making of block
// devices.
func enterDomain() error { return restrict(unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK, nil) }

// closeProc enters one in which no file below /proc can be written.
func closeProc() error {
	entries, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	var open []string
	for _, e := range entries {
		if e.IsDir() && e.Name() != "proc" {
			open = append(open, "/"+e.Name())
		}
	}
	return restrict(unix.LANDLOCK_ACCESS_FS_WRITE_FILE, open)
}

// restrict takes a right away but for what is below some directories.
func restrict(right uint64, open []string) error {
	attr := right
	fd, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if e != 0 {
		return &unmade{"landlock_create_ruleset: " + e.Error()}
	}
	defer unix.Close(int(fd))
	for _, name := range open {
		dir, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		rule := binary.NativeEndian.AppendUint64(nil, right) // struct landlock_path_beneath_attr, packed
		rule = binary.NativeEndian.AppendUint32(rule, uint32(dir))
		_, _, e := unix.RawSyscall6(unix.SYS_LANDLOCK_ADD_RULE, fd, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule[0])), 0, 0, 0)
		unix.Close(dir)
		if e != 0 {
			return fmt.Errorf("landlock_add_rule for %s: %w", name, e)
		}
	}
	if _, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); e != 0 {
		return &unmade{"landlock_restrict_self: " + e.Error()}
	}
	return nil
}

// cloneNothing asks clone3(2) for a process by a structure of no size.
func cloneNothing() error {
	if _, _, e := unix.RawSyscall(unix.SYS_CLONE3, 0, 0, 0); e != unix.EINVAL {
		return e
	}
	return nil
}
