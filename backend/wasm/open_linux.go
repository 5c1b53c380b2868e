package wasm

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/spec"
)

// openRoot opens a canonical path, without following any link that somebody
// may have put there since. A directory is opened for nothing but looking up
// names in it.
func openRoot(name string, access spec.Access) (*os.File, spec.FileKind, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(unix.AT_FDCWD, name, &how)
	if err != nil {
		return nil, "", &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, "", err
	}
	switch {
	case info.IsDir():
		return f, spec.KindDirectory, nil
	case !info.Mode().IsRegular():
		return f, spec.KindOther, nil
	}
	f.Close()
	how.Flags = unix.O_CLOEXEC | unix.O_NONBLOCK | uint64(openMode(access)) // never waits, should it be a FIFO by now
	if fd, err = unix.Openat2(unix.AT_FDCWD, name, &how); err != nil {
		return nil, "", &os.PathError{Op: "open", Path: name, Err: err}
	}
	again := os.NewFile(uintptr(fd), name)
	now, err := again.Stat()
	if err != nil || !os.SameFile(info, now) {
		again.Close()
		return nil, spec.KindOther, err
	}
	return again, spec.KindFile, nil
}

func openMode(access spec.Access) int {
	switch {
	case access.Write() && access.Read():
		return os.O_RDWR
	case access.Write():
		return os.O_WRONLY
	}
	return os.O_RDONLY
}
