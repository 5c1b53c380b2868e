package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// MkdirAll makes path and its missing parents, each with mode 0700, and
// flushes each parent that got a new name. What exists already is left as it
// is; OpenDir judges it.
func MkdirAll(path string) error {
	info, err := os.Lstat(path)
	if err == nil {
		return directory(info, path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return explain("make directory", path, err)
	}
	parent := filepath.Dir(path)
	if parent == path {
		return explain("make directory", path, err)
	}
	if err := mkdirParent(parent); err != nil {
		return err
	}
	// Losing the race against another process is no error, but its flush may
	// not have happened yet, so ours does.
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return explain("make directory", path, err)
	}
	return syncPath(parent)
}

// mkdirParent is MkdirAll for a directory that path leads through: a symbolic
// link to a directory is as good there.
func mkdirParent(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("make directory %s: it is not a directory; move it away or name another path", path)
	}
	return MkdirAll(path)
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return explain("flush directory", path, err)
	}
	defer f.Close()
	if err := syncDir(f); err != nil {
		return explain("flush directory", path, err)
	}
	return nil
}
