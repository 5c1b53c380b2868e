package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// Lock is a file whose lock processes share or have alone. The lock belongs to
// the open file, so it ends with the process that holds it, however that ends.
// Within a process one Lock must not be used by two goroutines at once.
type Lock struct {
	f    *os.File
	path string
}

// OpenLock opens name in d for locking and makes it if it is missing.
func (d *Dir) OpenLock(name string) (*Lock, error) {
	if err := plainName(name); err != nil {
		return nil, err
	}
	path := filepath.Join(d.path, name)
	f, err := d.root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if onlyReading(err) {
		f, err = d.root.Open(name) // a lock for those who only read
	}
	if err != nil {
		return nil, explain("open", path, err)
	}
	return &Lock{f, path}, nil
}

// onlyReading says whether an error means that only writing is ruled out.
func onlyReading(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)
}

// Lock waits for the lock: alone, or shared with others that share it. It
// fails when the file is not the one at its path any more: whoever came later
// would lock another one.
func (l *Lock) Lock(alone bool) error {
	if err := lockFile(l.f, alone); err != nil {
		return explain("lock", l.path, err)
	}
	held, err := l.f.Stat()
	if err == nil {
		var named os.FileInfo
		if named, err = os.Lstat(l.path); err == nil && !os.SameFile(held, named) {
			err = fmt.Errorf("the file was replaced while it was in use")
		}
	}
	if err != nil {
		return fmt.Errorf("the lock %s is lost: %w; end what uses that directory, then start again", l.path, explain("look at", l.path, err))
	}
	return nil
}

// Unlock gives the lock up.
func (l *Lock) Unlock() error {
	if err := unlockFile(l.f); err != nil {
		return explain("unlock", l.path, err)
	}
	return nil
}

// Close gives the lock up, too.
func (l *Lock) Close() error { return l.f.Close() }

// BootID names the time since this machine started, and is empty where that
// has no name: what was written before it and not flushed may be gone.
var BootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // not Linux
	}
	return strings.TrimSpace(string(b))
})
