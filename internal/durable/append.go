package durable

import (
	"os"
	"path/filepath"
)

// File is an open file whose bytes, once flushed, are only added to. What it
// gives of itself is for one process at a time: see Lock.
type File struct {
	f    *os.File
	path string
}

// OpenFile opens name for reading, and for adding to it. Where nothing can be
// written it is for reading only, and Append says why.
func (d *Dir) OpenFile(name string, write bool) (*File, error) {
	if err := plainName(name); err != nil {
		return nil, err
	}
	f, err := d.openFile(name, write, 0)
	if write && onlyReading(err) {
		return d.openFile(name, false, 0)
	}
	return f, err
}

// NewFile makes name, empty, which must not exist. The name is not durable
// before Dir.Sync.
func (d *Dir) NewFile(name string) (*File, error) {
	if err := plainName(name); err != nil {
		return nil, err
	}
	return d.openFile(name, true, os.O_CREATE|os.O_EXCL)
}

func (d *Dir) openFile(name string, write bool, flags int) (*File, error) {
	path := filepath.Join(d.path, name)
	if write {
		flags |= os.O_RDWR
	}
	f, err := d.root.OpenFile(name, flags, 0o600)
	if err != nil {
		return nil, explain("open", path, err)
	}
	return &File{f, path}, nil
}

// Path is the file's name.
func (f *File) Path() string { return f.path }

// Size is how many bytes there are.
func (f *File) Size() (int64, error) {
	info, err := f.f.Stat()
	if err != nil {
		return 0, explain("stat", f.path, err)
	}
	return info.Size(), nil
}

// ReadAt is io.ReaderAt. End of file is not explained.
func (f *File) ReadAt(b []byte, at int64) (int, error) { return f.f.ReadAt(b, at) }

// Append writes b behind the first at bytes, which are all there is. What a
// failed write left is cut off again.
func (f *File) Append(b []byte, at int64) error {
	if _, err := f.f.WriteAt(b, at); err != nil {
		_ = f.f.Truncate(at) // a reader finds what is left, and knows it for a torn tail
		return explain("write", f.path, err)
	}
	return nil
}

// Cut leaves the first n bytes, durably.
func (f *File) Cut(n int64) error {
	if err := f.f.Truncate(n); err != nil {
		return explain("truncate", f.path, err)
	}
	return f.Sync()
}

// Sync flushes the bytes and the file's length. A failed flush is final: the
// kernel may have dropped the pages, and a second one would report success
// (fsync(2)).
func (f *File) Sync() error {
	if err := dataSync(f.f); err != nil {
		return explain("flush", f.path, err)
	}
	return nil
}

// Close gives up the file.
func (f *File) Close() error { return f.f.Close() }
