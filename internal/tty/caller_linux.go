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
