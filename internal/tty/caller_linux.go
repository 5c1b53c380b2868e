package tty

import (
	"os"

	"golang.org/x/sys/unix"
)

// Flush throws away what was typed and not read yet.
func Flush(f *os.File) error {
	return unix.IoctlSetInt(int(f.Fd()), unix.TCFLSH, unix.TCIFLUSH)
}

// Foreground says whether this process may change the modes of a terminal
// without being stopped for it (SIGTTOU): it stands in the foreground, or the
// terminal is not its controlling one.
func Foreground(f *os.File) bool {
	group, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

// Await returns when this process may set the modes of a terminal. In the
// background the kernel stops it until then (SIGTTOU), or says EIO where nobody
// is there to continue it. It changes nothing: there is no such queue to flush,
// which is looked at last (tty_perform_flush in drivers/tty/tty_ioctl.c).
func Await(f *os.File) error {
	const noQueue = 3
	for {
		switch err := unix.IoctlSetInt(int(f.Fd()), unix.TCFLSH, noQueue); err {
		case unix.EINTR:
		case unix.EINVAL:
			return nil
		default:
			return err
		}
	}
}
