package wasmfs

import (
	"io"
	"math"
)

// File is an open regular file. What its grant does not allow is refused
// however it is asked for.
type File struct {
	Append              bool // every Write goes to the end
	SyncData, SyncWhole bool // every write is on the disk when it returns

	fs                 *FS
	host               hostFile
	owned              bool // host is this one's to close
	grant              *grant
	path               string // in the view, for records
	readable, writable bool
	at                 int64
}

// Close gives back the descriptor.
func (f *File) Close() Errno {
	if !f.owned {
		return Success
	}
	f.owned = false
	return errnoOf(f.host.close())
}

func (f *File) answer(call string, err error) Errno {
	if r, ok := err.(refusal); ok {
		f.fs.deny(Denial{Call: call, Path: f.path, Access: r.access, Reason: r.reason})
		return r.errno
	}
	return errnoOf(err)
}

// Read reads at the file's position and moves it.
func (f *File) Read(p []byte) (int, Errno) {
	n, errno := f.ReadAt(p, f.at)
	f.at += int64(n)
	return n, errno
}

// ReadAt reads at an offset.
func (f *File) ReadAt(p []byte, off int64) (int, Errno) {
	switch {
	case !f.readable:
		return 0, BadFile
	case off < 0:
		return 0, Invalid
	case len(p) == 0:
		return 0, Success
	}
	n, err := f.host.readAt(p, off)
	if n > 0 || err == io.EOF {
		return n, Success
	}
	return 0, errnoOf(err)
}

// Write writes at the file's position, or at its end if it is open for
// appending, and moves the position behind what was written.
func (f *File) Write(p []byte) (int, Errno) {
	if !f.Append {
		n, errno := f.writeAt("fd_write", p, f.at)
		f.at += int64(n)
		return n, errno
	}
	n, err := f.append(p)
	return n, f.answer("fd_write", err)
}

func (f *File) append(p []byte) (int, error) {
	if !f.writable {
		return 0, BadFile
	}
	got := f.grant.Storage.takeUpTo(int64(len(p)))
	if got == 0 && len(p) > 0 {
		return 0, errBudget
	}
	n, err := f.host.appendTo(p[:got])
	f.grant.Storage.giveBack(got - int64(n))
	if err != nil && n == 0 {
		return 0, errnoOf(err)
	}
	st, err := f.host.stat()
	if err != nil {
		return 0, errnoOf(err)
	}
	f.at = int64(st.Size)
	if err := f.flush(); err != nil {
		return 0, err
	}
	return n, nil
}

// WriteAt writes at an offset, whether or not the file is open for appending,
// as POSIX has it; Linux would append.
func (f *File) WriteAt(p []byte, off int64) (int, Errno) {
	return f.writeAt("fd_pwrite", p, off)
}

func (f *File) writeAt(call string, p []byte, off int64) (int, Errno) {
	switch {
	case !f.writable:
		return 0, BadFile
	case off < 0:
		return 0, Invalid
	case len(p) == 0:
		return 0, Success
	case off > math.MaxInt64-int64(len(p)):
		return 0, FileTooBig
	}
	got, err := f.payWrite(int64(len(p)), off)
	if err != nil {
		return 0, f.answer(call, err)
	}
	n, err := f.host.writeAt(p[:got], off)
	f.grant.Storage.giveBack(got - int64(n)) // but for a hole, which may have come to be
	if n > 0 {
		err = f.flush()
	}
	if err != nil { // also where it was written and may not be on the disk
		return 0, errnoOf(err)
	}
	return n, Success
}

// payWrite counts a write of n bytes at off and says how many may be written.
// A write that leaves a hole is paid for whole or not at all.
func (f *File) payWrite(n, off int64) (int64, error) {
	if f.grant.Storage == nil {
		return n, nil
	}
	st, err := f.host.stat()
	if err != nil {
		return 0, err
	}
	if hole := off - int64(st.Size); hole > 0 {
		return n, f.grant.Storage.take(hole + n)
	}
	if n = f.grant.Storage.takeUpTo(n); n == 0 {
		return 0, errBudget
	}
	return n, nil
}

// flush writes through what the flags ask for.
func (f *File) flush() error {
	switch {
	case f.SyncWhole:
		return asError(f.host.sync())
	case f.SyncData:
		return asError(f.host.datasync())
	}
	return nil
}

// SeekTo moves the position. Whence is 0, 1 or 2, from the start, from where it
// is, from the end.
func (f *File) SeekTo(off int64, whence uint8) (int64, Errno) {
	base := int64(0)
	switch whence {
	case 0:
	case 1:
		base = f.at
	case 2:
		st, err := f.host.stat()
		if err != nil {
			return 0, errnoOf(err)
		}
		base = int64(st.Size)
	default:
		return 0, Invalid
	}
	switch {
	case off > 0 && base > math.MaxInt64-off:
		return 0, Overflow
	case base+off < 0:
		return 0, Invalid
	}
	f.at = base + off
	return f.at, Success
}

// Tell is the position.
func (f *File) Tell() int64 { return f.at }

// SetSize makes the file longer or shorter.
func (f *File) SetSize(size uint64) Errno {
	return f.answer("fd_filestat_set_size", f.setSize(size))
}

func (f *File) setSize(size uint64) error {
	if !f.grant.Write {
		return errNotWritable
	}
	if !f.writable {
		return BadFile
	}
	if size > math.MaxInt64 {
		return FileTooBig
	}
	return f.grow(int64(size), func() error { return f.host.truncate(int64(size)) })
}

// grow pays for what a call adds to the file's size.
func (f *File) grow(size int64, do func() error) error {
	st, err := f.host.stat()
	if err != nil {
		return errnoOf(err)
	}
	more := size - int64(st.Size)
	if err := f.grant.Storage.take(more); err != nil {
		return err
	}
	if err := do(); err != nil {
		f.grant.Storage.giveBack(more)
		return errnoOf(err)
	}
	return nil
}

// Allocate makes sure that a range is on the disk and within the file.
func (f *File) Allocate(off, size uint64) Errno {
	return f.answer("fd_allocate", f.allocate(off, size))
}

func (f *File) allocate(off, size uint64) error {
	if !f.grant.Write {
		return errNotWritable
	}
	if !f.writable {
		return BadFile
	}
	if size == 0 {
		return Invalid
	}
	if off > math.MaxInt64 || size > math.MaxInt64-off {
		return FileTooBig
	}
	return f.grow(int64(off+size), func() error { return f.host.allocate(int64(off), int64(size)) })
}

// Stat says what the file is.
func (f *File) Stat() (Stat, Errno) {
	st, err := f.host.stat()
	return st, errnoOf(err)
}

// SetTimes sets the file's times.
func (f *File) SetTimes(atim, mtim Time) Errno {
	if !f.grant.Write {
		return f.answer("fd_filestat_set_times", errNotWritable)
	}
	st, err := f.host.stat()
	if err == nil {
		err = f.grant.copying(st, func() error { return f.host.setTimes(atim, mtim) }, f.host.stat)
	}
	return f.answer("fd_filestat_set_times", err)
}

// Sync writes the file to the disk.
func (f *File) Sync() Errno { return errnoOf(f.host.sync()) }

// Datasync writes the file's content to the disk.
func (f *File) Datasync() Errno { return errnoOf(f.host.datasync()) }
