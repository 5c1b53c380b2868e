package sys

import "golang.org/x/sys/unix"

// PtyPeer wraps ioctl(TIOCGPTPEER), Linux 4.13: it opens the slave of a master
// without looking up a name (ioctl_tty(2)).
func PtyPeer(master, flags int) (fd int, err error) {
	n, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, uintptr(flags))
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}
