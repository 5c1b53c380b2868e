package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Notification is struct seccomp_notif of linux/seccomp.h: one call that waits
// for the listener's answer. PID is the thread's number as the reader sees it.
type Notification struct {
	ID     uint64
	PID    uint32
	Flags  uint32
	Number int32 // with Arch, IP and Args struct seccomp_data
	Arch   uint32
	IP     uint64
	Args   [6]uint64
}

// NotifyReceive takes the next call from a listener: ENOENT when its caller
// ended meanwhile. It waits when there is none; poll(2) tells.
func NotifyReceive(listener int) (Notification, error) {
	var n Notification // the kernel wants zeroes (seccomp_unotify(2))
	err := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n))
	return n, err
}

// NotifyContinue lets a call go on as if it had not been looked at: what the
// kernel decides about it is not ours. ENOENT means that nobody waits any more.
func NotifyContinue(listener int, id uint64) error {
	answer := struct { // struct seccomp_notif_resp
		id    uint64
		value int64
		error int32
		flags uint32
	}{id: id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	return ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&answer))
}

// NotifyValid says whether the caller still waits: until then its number names
// no other process.
func NotifyValid(listener int, id uint64) bool {
	return ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id)) == nil
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); e != 0 {
		return e
	}
	return nil
}
