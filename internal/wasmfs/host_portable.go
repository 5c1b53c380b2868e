package wasmfs

import (
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"time"
)

// rootDir is a directory behind an os.Root, for systems without openat2(2), and
// the slow twin of the other implementation in tests. os.Root follows links
// beneath it, so what was opened is compared with what was looked at.
type rootDir struct {
	root *os.Root // of this directory
	top  *os.Root // of the grant: names are moved within one root only
	path string   // from top to here, as it was when this was opened
}

// openRootDir opens a granted directory by its path, and makes sure that it is
// the one that the descriptor is of.
func openRootDir(f *os.File) (hostDir, error) {
	root, err := os.OpenRoot(f.Name())
	if err != nil {
		return nil, err
	}
	want, err := f.Stat()
	if err == nil {
		var got os.FileInfo
		if got, err = root.Stat("."); err == nil && !os.SameFile(want, got) {
			err = errors.New("another directory has taken its place")
		}
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return &rootDir{root: root, top: root, path: "."}, nil
}

// look is Lstat for a name that can be one on this system.
func (d *rootDir) look(name string) (os.FileInfo, error) {
	if !validName(name) {
		return nil, Invalid
	}
	return d.root.Lstat(name)
}

func (d *rootDir) openDir(name string) (hostDir, error) {
	want, err := d.look(name)
	if err != nil {
		return nil, err
	}
	if !want.IsDir() {
		return nil, NotDir
	}
	return d.enter(name, want, path.Join(d.path, name))
}

func (d *rootDir) again() (hostDir, error) {
	want, err := d.root.Stat(".")
	if err != nil {
		return nil, err
	}
	return d.enter(".", want, d.path)
}

func (d *rootDir) enter(name string, want os.FileInfo, at string) (hostDir, error) {
	sub, err := d.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	if got, err := sub.Stat("."); err != nil || !os.SameFile(want, got) {
		sub.Close()
		return nil, NotFound // it went while we looked
	}
	return &rootDir{root: sub, top: d.top, path: at}, nil
}

func (d *rootDir) openFile(name string, how openHow) (hostFile, error) {
	if !validName(name) {
		return nil, Invalid
	}
	flags := dontWait
	switch {
	case how.read && how.write:
		flags |= os.O_RDWR
	case how.write:
		flags |= os.O_WRONLY
	}
	if how.create {
		f, err := d.root.OpenFile(name, flags|os.O_CREATE|os.O_EXCL, newFileMode)
		if err != nil {
			return nil, err
		}
		return d.file(f, name), nil
	}
	want, err := d.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if want.Mode()&os.ModeSymlink != 0 {
		return nil, Loop
	}
	if !want.Mode().IsRegular() {
		return nil, errSpecial
	}
	f, err := d.root.OpenFile(name, flags, 0)
	if err != nil {
		return nil, err
	}
	if got, err := f.Stat(); err != nil || !os.SameFile(want, got) {
		f.Close()
		return nil, NotFound
	}
	return d.file(f, name), nil
}

// file sets times by the file's name, as long as it is still the file's.
func (d *rootDir) file(f *os.File, name string) hostFile {
	return osFile{File: f, times: func(atim, mtim Time) error {
		named, err := d.root.Lstat(name)
		if err != nil {
			return err
		}
		if info, err := f.Stat(); err != nil || !os.SameFile(info, named) {
			return NotSupp
		}
		return d.setTimes(name, atim, mtim)
	}}
}

func (d *rootDir) readlink(name string) (string, error) {
	if info, err := d.look(name); err != nil {
		return "", err
	} else if info.Mode()&os.ModeSymlink == 0 {
		return "", Invalid
	}
	return d.root.Readlink(name)
}

func (d *rootDir) stat(name string) (Stat, error) {
	info, err := d.look(name)
	if err != nil {
		return Stat{}, err
	}
	return statOf(info), nil
}

func (d *rootDir) self() (Stat, error) {
	info, err := d.root.Stat(".")
	if err != nil {
		return Stat{}, err
	}
	return statOf(info), nil
}

func (d *rootDir) mkdir(name string) error {
	if !validName(name) {
		return Invalid
	}
	return d.root.Mkdir(name, newDirMode)
}

func (d *rootDir) unlink(name string) error { return d.remove(name, false) }
func (d *rootDir) rmdir(name string) error  { return d.remove(name, true) }

func (d *rootDir) remove(name string, dir bool) error {
	info, err := d.look(name)
	switch {
	case err != nil:
		return err
	case dir && !info.IsDir():
		return NotDir
	case !dir && info.IsDir():
		return IsDir
	}
	return d.root.Remove(name)
}

func (d *rootDir) symlink(target, name string) error {
	if !validName(name) {
		return Invalid
	}
	return d.root.Symlink(target, name)
}

func (d *rootDir) link(name string, to hostDir, newName string) error {
	return d.between(name, to, newName, d.top.Link)
}

func (d *rootDir) rename(name string, to hostDir, newName string) error {
	return d.between(name, to, newName, func(from, to string) error {
		info, err := d.top.Lstat(from)
		if err != nil {
			return err
		}
		there, err := d.top.Lstat(to)
		switch {
		case err != nil:
		case os.SameFile(info, there):
			return nil
		case info.IsDir() && !there.IsDir():
			return NotDir
		case !info.IsDir() && there.IsDir():
			return IsDir
		case there.IsDir(): // Rename of package os does not replace one, not even an empty one
			if within(to, from) {
				return Invalid
			}
			if err := d.top.Remove(to); err != nil {
				return err
			}
		}
		return d.top.Rename(from, to)
	})
}

// between makes a call with two paths from the grant's directory, if both
// directories still are where they were when they were opened.
func (d *rootDir) between(name string, to hostDir, newName string, do func(from, to string) error) error {
	other, ok := to.(*rootDir)
	if !ok || other.top != d.top {
		return OtherDevice
	}
	if !validName(name) || !validName(newName) {
		return Invalid
	}
	for _, dir := range []*rootDir{d, other} {
		now, err := d.top.Stat(dir.path)
		if err != nil {
			return err
		}
		if then, err := dir.root.Stat("."); err != nil || !os.SameFile(then, now) {
			return Stale
		}
	}
	return do(path.Join(d.path, name), path.Join(other.path, newName))
}

// within says whether a clean path is below another.
func within(p, dir string) bool { return strings.HasPrefix(p, dir+"/") }

func (d *rootDir) setTimes(name string, atim, mtim Time) error {
	info, err := d.look(name)
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSymlink != 0 {
		return NotSupp
	}
	return d.root.Chtimes(name, goTime(atim), goTime(mtim))
}

func (d *rootDir) setOwnTimes(atim, mtim Time) error {
	return d.root.Chtimes(".", goTime(atim), goTime(mtim))
}

// goTime is the time as os.Chtimes wants it: zero leaves it as it is.
func goTime(t Time) time.Time {
	switch {
	case !t.Set:
		return time.Time{}
	case t.Now:
		return time.Now()
	}
	return time.Unix(0, int64(t.Nano))
}

func (d *rootDir) list(atMost int) ([]Entry, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []Entry
	for {
		some, err := f.ReadDir(256)
		for _, e := range some {
			if atMost -= entryOverhead + len(e.Name()); atMost < 0 {
				return nil, NoMemory
			}
			info, err := d.root.Lstat(e.Name())
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			st := statOf(info)
			all = append(all, Entry{Name: e.Name(), Ino: st.Ino, Type: st.Type})
		}
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (d *rootDir) sync() error {
	f, err := d.root.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func (d *rootDir) close() error { return d.root.Close() }
