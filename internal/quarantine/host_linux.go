package quarantine

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Host reads the host's own file at a path below the tree, of at most limit
// bytes. It follows no link and opens nothing but a regular file.
func (m *Manifest) Host(rel string, limit int64) ([]byte, error) {
	root, err := unix.Openat2(unix.AT_FDCWD, m.Header.Path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	fd, err := beneath(root, rel, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "host")
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is no regular file now")
	case info.Size() > limit:
		return nil, fmt.Errorf("%d bytes, at most %d are read", info.Size(), limit)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}
