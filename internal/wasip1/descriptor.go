package wasip1

import (
	"io"

	"github.com/bvisor/bvisor/internal/wasmfs"
)

// descriptor is one of dir, file, in and out.
type descriptor struct {
	dir  *wasmfs.Dir
	file *wasmfs.File
	in   *input
	out  io.Writer

	preopen          string // the name of a directory that was open from the start
	base, inheriting rights
	nonblock, rsync  bool
}

func (d *descriptor) close() wasmfs.Errno {
	switch {
	case d.dir != nil:
		return d.dir.Close()
	case d.file != nil:
		return d.file.Close()
	}
	return wasmfs.Success
}

func (d *descriptor) stream() bool { return d.in != nil || d.out != nil }

// flags are the fdflags that are in force.
func (d *descriptor) flags() uint16 {
	var flags uint16
	if d.nonblock {
		flags |= flagNonblock
	}
	if d.rsync {
		flags |= flagRsync
	}
	if f := d.file; f != nil {
		if f.Append {
			flags |= flagAppend
		}
		if f.SyncData {
			flags |= flagDsync
		}
		if f.SyncWhole {
			flags |= flagSync
		}
	}
	return flags
}

// setFlags puts fdflags in force. What a stream or a directory cannot do is
// refused.
func (d *descriptor) setFlags(flags uint16) wasmfs.Errno {
	if flags&^allFlags != 0 {
		return wasmfs.Invalid
	}
	f := d.file
	if f == nil && flags&^flagNonblock != 0 {
		return wasmfs.Invalid
	}
	d.nonblock = flags&flagNonblock != 0
	d.rsync = flags&flagRsync != 0
	if f != nil {
		f.Append = flags&flagAppend != 0
		f.SyncData = flags&flagDsync != 0
		f.SyncWhole = flags&flagSync != 0
	}
	return wasmfs.Success
}

// get returns an open descriptor.
func (p *Process) get(fd uint64) (*descriptor, wasmfs.Errno) {
	n := uint32(fd)
	if uint64(n) >= uint64(len(p.table)) || p.table[n] == nil {
		return nil, wasmfs.BadFile
	}
	return p.table[n], wasmfs.Success
}

// with returns an open descriptor that has some rights.
func (p *Process) with(fd uint64, need rights) (*descriptor, wasmfs.Errno) {
	d, errno := p.get(fd)
	if errno == wasmfs.Success && d.base&need != need {
		errno = wasmfs.NotCapable
	}
	return d, errno
}

// directory returns an open directory that has some rights.
func (p *Process) directory(fd uint64, need rights) (*descriptor, wasmfs.Errno) {
	d, errno := p.get(fd)
	switch {
	case errno != wasmfs.Success:
	case d.dir == nil:
		errno = wasmfs.NotDir
	case d.base&need != need:
		errno = wasmfs.NotCapable
	}
	return d, errno
}

// regular returns an open regular file that has some rights.
func (p *Process) regular(fd uint64, need rights) (*wasmfs.File, wasmfs.Errno) {
	d, errno := p.get(fd)
	switch {
	case errno != wasmfs.Success:
		return nil, errno
	case d.dir != nil:
		return nil, wasmfs.IsDir
	case d.stream():
		return nil, wasmfs.NoSeek
	case d.base&need != need:
		return nil, wasmfs.NotCapable
	}
	return d.file, wasmfs.Success
}

// Most is how many descriptors were open at one time. They get the lowest free
// number, so the table grows only while all in it are open.
func (p *Process) Most() int { return len(p.table) }

// insert gives a descriptor the lowest free number.
func (p *Process) insert(d *descriptor) (uint32, wasmfs.Errno) {
	for fd, there := range p.table {
		if there == nil {
			p.table[fd] = d
			return uint32(fd), wasmfs.Success
		}
	}
	if len(p.table) >= p.handles {
		return 0, wasmfs.ManyFiles
	}
	p.table = append(p.table, d)
	return uint32(len(p.table) - 1), wasmfs.Success
}
