package tty

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/sys"
)

// Open makes a pseudo-terminal. Neither end becomes the controlling terminal of
// this process. The slave is opened by its master, not by a name: another mount
// can have taken the name. The master does not block: who waits in a write to
// it would go on waiting when nobody has the slave open any more, because the
// master itself counts as one who has (pty_common_install in drivers/tty/pty.c).
func Open() (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	if slave, err = open(fd); err != nil {
		master.Close()
		return nil, nil, err
	}
	return master, slave, nil
}

func open(master int) (*os.File, error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("unlock the terminal: %w", err)
	}
	// O_CLOEXEC would stay among the open file's own flags (ptm_open_peer in
	// drivers/tty/pty.c), and every copy of the descriptor would look
	// close-on-exec in /proc.
	syscall.ForkLock.RLock()
	fd, err := sys.PtyPeer(master, unix.O_RDWR|unix.O_NOCTTY)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, fmt.Errorf("open the terminal: %w", err)
	}
	slave := os.NewFile(uintptr(fd), "terminal")
	modes, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err == nil {
		modes.Iflag |= unix.IUTF8 // erase characters, not bytes
		err = unix.IoctlSetTermios(fd, unix.TCSETS, modes)
	}
	if err != nil {
		slave.Close()
		return nil, fmt.Errorf("modes of the terminal: %w", err)
	}
	return slave, nil
}

// Resize sets the size that the programs on a terminal are told. The kernel
// sends SIGWINCH to those in the foreground when it changes.
func Resize(master *os.File, rows, columns uint16) error {
	return unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
}

// Is says whether a descriptor is a terminal.
func Is(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}
