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
	f, err := d.openNameless(perm)
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

// tryNameless takes n bytes for a file that never gets a name.
func (d *Dir) tryNameless(n int) (done bool, err error) {
	f, err := d.openNameless(0o600)
	if err != nil {
		return false, nil
	}
	defer f.Close()
	err = unix.Fallocate(int(f.Fd()), 0, 0, int64(n))
	if errors.Is(err, unix.EOPNOTSUPP) {
		_, err = f.Write(make([]byte, n))
	}
	return true, err
}

// openNameless does not go through os.Root, which would offer the file to the
// poller first: four system calls more for each entry of a ledger.
func (d *Dir) openNameless(perm fs.FileMode) (*os.File, error) {
	fd, err := unix.Openat(int(d.sync.Fd()), ".", unix.O_WRONLY|unix.O_TMPFILE|unix.O_CLOEXEC, uint32(perm.Perm()))
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), d.path), nil
}
