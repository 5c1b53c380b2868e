package durable

import (
	"errors"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// createNameless writes to a file that has no name until it is complete, so a
// crash leaves nothing behind (open(2), O_TMPFILE; Linux 3.11). done is false
// when the kernel, the file system or a missing /proc rules that out; nothing
// was made then, and the way with a temporary name says what is wrong, if
// anything is.
func (d *Dir) createNameless(name string, data []byte, perm fs.FileMode) (done bool, err error) {
	f, err := d.root.OpenFile(".", os.O_WRONLY|unix.O_TMPFILE, perm)
	if err != nil {
		return false, nil
	}
	defer f.Close()
	if err := fill(f, data); err != nil {
		return true, err
	}
	// AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH before Linux 6.10; the
	// link in /proc needs no privilege. linkat never replaces.
	from := "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
	switch err := unix.Linkat(unix.AT_FDCWD, from, int(d.sync.Fd()), name, unix.AT_SYMLINK_FOLLOW); {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EEXIST):
		return true, err
	default:
		return false, nil
	}
}

// tryNameless writes data to a file that never gets a name.
func (d *Dir) tryNameless(data []byte) (done bool, err error) {
	f, err := d.root.OpenFile(".", os.O_WRONLY|unix.O_TMPFILE, 0o600)
	if err != nil {
		return false, nil
	}
	defer f.Close()
	_, err = f.Write(data)
	return true, err
}
