package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// hints say what to do about an error of the file system. The numbers exist on
// every system Go builds for, though not every system produces each.
var hints = []struct {
	err  error
	hint string
}{
	{syscall.ENOSPC, "free space or inodes on that file system, or name a directory on another one"},
	{syscall.EDQUOT, "the disk quota is used up; free space or have it raised"},
	{syscall.EFBIG, "the limit on file sizes is too low; raise it (ulimit -f)"},
	{syscall.EROFS, "the file system is mounted read-only; name a directory on a writable one"},
	{fs.ErrPermission, "it must belong to the user that runs bvisor and be writable by it"},
	{syscall.ENOTDIR, "a part of the path is a file; name another path"},
	{syscall.ELOOP, "a part of the path is a symbolic link where none is allowed"},
	{syscall.EIO, "the disk reported a failure; whether the data is kept is unknown"},
	{syscall.EMFILE, "too many open files in this process; raise the limit (ulimit -n)"},
}

// explain says what was being done, where, what went wrong and what to do.
func explain(op, path string, err error) error {
	// The operation's own name and path are ours to say once.
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	} else if le, ok := errors.AsType[*os.LinkError](err); ok {
		err = le.Err
	}
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return fmt.Errorf("%s %s: %w; %s", op, path, err, h.hint)
		}
	}
	return fmt.Errorf("%s %s: %w", op, path, err)
}
