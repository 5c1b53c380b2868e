// Package durable is the one place that writes files which must survive.
//
// A file written here is either wholly there or not there at all, whenever the
// process or the machine stops. When a call returns nil, the file and its name
// have been handed to the disk. The sequence is the one that POSIX and ext4's
// documentation ask for: write under no name or a temporary one, fsync the
// file, give it its name in one step, fsync the directory. Without the last
// step the name may be lost although the contents are not (fsync(2)).
//
// What is not promised: a disk that acknowledges a flush it did not make loses
// data no matter what is done here. Windows has no way to flush a directory,
// so there the name's survival is left to NTFS's own journal.
package durable

import (
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// tempPrefix begins the names of files that are not finished. A crash may
// leave some behind; Names does not show them.
const tempPrefix = ".tmp-"

// Dir is a directory held open. Its methods may be called concurrently, and
// other processes may write to the same directory.
type Dir struct {
	path string
	root *os.Root
	sync *os.File // the same directory, opened for fsync
}

// OpenDir opens an existing directory for keeping files that others must not
// be able to alter: it has to be a directory, not a link to one, belong to the
// caller, and be writable by nobody else.
//
// Parents are not judged. Whoever can write to one can move the directory
// away, but cannot put one of their own in its place that passes this check.
func OpenDir(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, explain("open directory", path, err)
	}
	named, err := os.Lstat(path)
	if err != nil {
		return nil, explain("open directory", path, err)
	}
	if err := directory(named, path); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, explain("open directory", path, err)
	}
	d := &Dir{path: path, root: root}
	if d.sync, err = root.Open("."); err != nil {
		root.Close()
		return nil, explain("open directory", path, err)
	}
	if err := d.check(named); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// check looks at what was opened, which Lstat of a path cannot do.
func (d *Dir) check(named fs.FileInfo) error {
	opened, err := d.sync.Stat()
	if err != nil {
		return explain("open directory", d.path, err)
	}
	if !os.SameFile(named, opened) {
		return fmt.Errorf("open directory %s: it was replaced after it was opened; try again once nothing else changes it", d.path)
	}
	return private(opened, d.path)
}

func directory(info fs.FileInfo, path string) error {
	switch {
	case info.IsDir():
		return nil
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("open directory %s: it is a symbolic link, want the directory itself; name the link's target instead", path)
	default:
		return fmt.Errorf("open directory %s: it is not a directory; move it away or name another path", path)
	}
}

// Path is the absolute name the directory was opened by.
func (d *Dir) Path() string { return d.path }

// Close gives up the directory. Files already written stay.
func (d *Dir) Close() error {
	err := d.sync.Close()
	if rerr := d.root.Close(); err == nil {
		err = rerr
	}
	return err
}

// Create makes name with data, durably. It never replaces: if name exists, the
// error is fs.ErrExist and the file is untouched. After any other error the
// file is absent or complete, but which of the two is not known.
func (d *Dir) Create(name string, data []byte, perm fs.FileMode) error {
	if err := plainName(name); err != nil {
		return err
	}
	done, err := d.createNameless(name, data, perm)
	if !done {
		err = d.createNamed(name, data, perm)
	}
	if err != nil {
		return explain("create", filepath.Join(d.path, name), err)
	}
	return d.Sync()
}

// createNamed is Create for systems and file systems without nameless files.
// link(2) fails if the new name exists; rename(2) would replace it.
func (d *Dir) createNamed(name string, data []byte, perm fs.FileMode) error {
	temp, err := d.writeTemp(data, perm)
	if err != nil {
		return err
	}
	err = d.root.Link(temp, name)
	if rerr := d.root.Remove(temp); err == nil {
		err = rerr
	}
	return err
}

// WriteFile makes name hold data, durably, replacing in one step what was
// there: a reader finds the old contents or the new ones.
func (d *Dir) WriteFile(name string, data []byte, perm fs.FileMode) error {
	if err := plainName(name); err != nil {
		return err
	}
	temp, err := d.writeTemp(data, perm)
	if err == nil {
		if err = d.root.Rename(temp, name); err != nil {
			d.root.Remove(temp)
		}
	}
	if err != nil {
		return explain("write", filepath.Join(d.path, name), err)
	}
	return d.Sync()
}

// writeTemp writes data to a new file under a temporary name and flushes it.
func (d *Dir) writeTemp(data []byte, perm fs.FileMode) (string, error) {
	// 26 random characters: a file of that name is not there, and O_EXCL says so.
	temp := tempPrefix + rand.Text()
	f, err := d.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return "", err
	}
	err = fill(f, data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		d.root.Remove(temp)
		return "", err
	}
	return temp, nil
}

// fill writes data and flushes it. A failed fsync is final: the kernel may
// have dropped the pages, and a second fsync would report success (fsync(2)).
func fill(f *os.File, data []byte) error {
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// Sync flushes the directory: names made or removed before survive.
func (d *Dir) Sync() error {
	if err := syncDir(d.sync); err != nil {
		return explain("flush directory", d.path, err)
	}
	return nil
}

// Remove takes name away, durably.
func (d *Dir) Remove(name string) error {
	if err := plainName(name); err != nil {
		return err
	}
	if err := d.root.Remove(name); err != nil {
		return explain("remove", filepath.Join(d.path, name), err)
	}
	return d.Sync()
}

// ReadFile returns what name holds.
func (d *Dir) ReadFile(name string) ([]byte, error) {
	if err := plainName(name); err != nil {
		return nil, err
	}
	data, err := d.root.ReadFile(name)
	if err != nil {
		return nil, explain("read", filepath.Join(d.path, name), err)
	}
	return data, nil
}

// Stat describes name itself, not what it may link to.
func (d *Dir) Stat(name string) (fs.FileInfo, error) {
	if err := plainName(name); err != nil {
		return nil, err
	}
	info, err := d.root.Lstat(name)
	if err != nil {
		return nil, explain("stat", filepath.Join(d.path, name), err)
	}
	return info, nil
}

// Writable proves that n more bytes could be written now: it writes them to a
// file that goes away again. It finds a missing permission, a read-only or
// full file system, a quota, a file size limit, and a directory that was moved
// or removed since it was opened (tmpfs takes files in a removed one).
func (d *Dir) Writable(n int) error {
	named, err := os.Lstat(d.path)
	if err != nil {
		return explain("open directory", d.path, err)
	}
	if err := d.check(named); err != nil {
		return err
	}
	done, err := d.tryNameless(n)
	if !done {
		err = d.tryNamed(make([]byte, n))
	}
	if err != nil {
		return explain(fmt.Sprintf("try to write %d bytes in", n), d.path, err)
	}
	return nil
}

func (d *Dir) tryNamed(data []byte) error {
	temp := tempPrefix + rand.Text()
	f, err := d.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if rerr := d.root.Remove(temp); err == nil {
		err = rerr
	}
	return err
}

// Names lists the finished regular files, in order of name.
func (d *Dir) Names() ([]string, error) {
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return nil, explain("list", d.path, err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && plainName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// plainName keeps callers to one directory: os.Root would hold paths below it,
// too, but Sync flushes only this one.
func plainName(name string) error {
	if name == "" || name == "." || name == ".." || filepath.Base(name) != name || len(name) >= len(tempPrefix) && name[:len(tempPrefix)] == tempPrefix {
		return fmt.Errorf("bug: %q is not a plain file name", name)
	}
	return nil
}
