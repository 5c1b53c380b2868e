package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Left opens the leaf of that name which a process that is gone left below
// parent, as Find understands it; nil is none. It makes nothing. The caller
// closes or removes it.
func Left(parent, name string) (*Leaf, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	kind, mount := Hierarchy(mounts)
	if kind != KindV2 {
		return nil, nil
	}
	base := parent
	if base == "" {
		if base, err = topmost(mount, Own()); err != nil {
			if _, ok := errors.AsType[*Lack](err); ok {
				return nil, nil // nothing can have been made
			}
			return nil, err
		}
	}
	path := filepath.Join(base, home, name)
	dir, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	if !isLeft(dir, path) {
		unix.Close(dir)
		return nil, nil
	}
	return &Leaf{Name: name, path: path, dir: dir}, nil
}

// Path is the leaf's directory.
func (l *Leaf) Path() string { return l.path }

// Close gives up the lock and leaves the group as it is.
func (l *Leaf) Close() error { return unix.Close(l.dir) }
