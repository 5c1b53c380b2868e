package wasip1

import (
	"context"
	"io"

	"github.com/bvisor/bvisor/internal/wasmfs"
)

const ok = wasmfs.Success

func fdAdvise(_ context.Context, p *Process, _ memory, a args) wasmfs.Errno {
	_, errno := p.regular(a[0], rightAdvise)
	switch {
	case errno != ok:
		return errno
	case int64(a[1]) < 0 || int64(a[2]) < 0 || a.u32(3) > 5:
		return wasmfs.Invalid
	}
	return ok // advice need not be taken
}

func fdAllocate(_ context.Context, p *Process, _ memory, a args) wasmfs.Errno {
	f, errno := p.regular(a[0], rightAllocate)
	if errno != ok {
		return errno
	}
	return f.Allocate(a[1], a[2])
}

func fdClose(_ context.Context, p *Process, _ memory, a args) wasmfs.Errno {
	d, errno := p.get(a[0])
	if errno != ok {
		return errno
	}
	p.table[a.u32(0)] = nil
	return d.close()
}

// syncer is what fd_sync and fd_datasync can do for a descriptor.
func (d *descriptor) sync(dataOnly bool) wasmfs.Errno {
	switch {
	case d.dir != nil:
		return d.dir.Sync()
	case d.file != nil && dataOnly:
		return d.file.Datasync()
	case d.file != nil:
		return d.file.Sync()
	}
	return wasmfs.Invalid // as fsync(2) answers for what is not on a disk
}

func fdDatasync(_ context.Context, p *Process, _ memory, a args) wasmfs.Errno {
	return p.sync(a, rightDatasync)
}

func fdSync(_ context.Context, p *Process, _ memory, a args) wasmfs.Errno {
	return p.sync(a, rightSync)
}

func (p *Process) sync(a args, need rights) wasmfs.Errno {
	d, errno := p.get(a[0])
	if errno == ok && !d.stream() && d.base&need == 0 {
		errno = wasmfs.NotCapable
	}
	if errno != ok {
		return errno
	}
	return d.sync(need == rightDatasync)
}

func (d *descriptor) filetype() wasmfs.Filetype {
	switch {
	case d.dir != nil:
		return wasmfs.TypeDirectory
	case d.file != nil:
		return wasmfs.TypeFile
	}
	return wasmfs.TypeUnknown // a character device would be taken for a terminal
}

func fdFdstatGet(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	d, errno := p.get(a[0])
	if errno != ok {
		return errno
	}
	out, errno := m.result(a.u32(1), 24)
	if errno != ok {
		return errno
	}
	clear(out)
	out[0] = byte(d.filetype())
	le.PutUint16(out[2:], d.flags())
	le.PutUint64(out[8:], uint64(d.base))
	le.PutUint64(out[16:], uint64(d.inheriting))
	return ok
}

func fdFdstatSetFlags(_ context.Context, p *Process, _ memory, a args) wasmfs.Errno {
	d, errno := p.with(a[0], rightSetFlags)
	if errno != ok {
		return errno
	}
	if a.u32(1) > allFlags {
		return wasmfs.Invalid
	}
	return d.setFlags(uint16(a.u32(1)))
}

func fdFdstatSetRights(_ context.Context, p *Process, _ memory, a args) wasmfs.Errno {
	d, errno := p.get(a[0])
	if errno != ok {
		return errno
	}
	base, inheriting := rights(a[1]), rights(a[2])
	if base&^d.base != 0 || inheriting&^d.inheriting != 0 {
		return wasmfs.NotCapable
	}
	d.base, d.inheriting = base, inheriting
	return ok
}

func fdFilestatGet(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	d, errno := p.with(a[0], rightStat)
	if errno != ok {
		return errno
	}
	out, errno := m.result(a.u32(1), 64)
	if errno != ok {
		return errno
	}
	st := wasmfs.Stat{Type: wasmfs.TypeUnknown, Nlink: 1}
	switch {
	case d.dir != nil:
		st, errno = d.dir.Self()
	case d.file != nil:
		st, errno = d.file.Stat()
	}
	if errno == ok {
		p.putStat(out, st)
	}
	return errno
}

func (p *Process) putStat(out []byte, st wasmfs.Stat) {
	if p.hideTimes {
		st.Atim, st.Mtim, st.Ctim = 0, 0, 0
	}
	clear(out)
	le.PutUint64(out[0:], st.Dev)
	le.PutUint64(out[8:], st.Ino)
	out[16] = byte(st.Type)
	for i, v := range []uint64{st.Nlink, st.Size, st.Atim, st.Mtim, st.Ctim} {
		le.PutUint64(out[24+8*i:], v)
	}
}

func fdFilestatSetSize(_ context.Context, p *Process, _ memory, a args) wasmfs.Errno {
	f, errno := p.regular(a[0], rightSetSize)
	if errno != ok {
		return errno
	}
	return f.SetSize(a[1])
}

// times reads the flags of the two calls that set times.
func times(atim, mtim uint64, flags uint32) (wasmfs.Time, wasmfs.Time, wasmfs.Errno) {
	const bothA, bothM = setAtim | setAtimNow, setMtim | setMtimNow
	if flags&^allSet != 0 || flags&bothA == bothA || flags&bothM == bothM {
		return wasmfs.Time{}, wasmfs.Time{}, wasmfs.Invalid
	}
	if flags&setAtim != 0 && int64(atim) < 0 || flags&setMtim != 0 && int64(mtim) < 0 {
		return wasmfs.Time{}, wasmfs.Time{}, wasmfs.Overflow
	}
	return wasmfs.Time{Set: flags&bothA != 0, Now: flags&setAtimNow != 0, Nano: atim},
		wasmfs.Time{Set: flags&bothM != 0, Now: flags&setMtimNow != 0, Nano: mtim}, ok
}

func fdFilestatSetTimes(_ context.Context, p *Process, _ memory, a args) wasmfs.Errno {
	d, errno := p.get(a[0])
	switch {
	case errno != ok:
		return errno
	case d.stream():
		return wasmfs.Invalid
	case d.base&rightSetTimes == 0:
		return wasmfs.NotCapable
	}
	atim, mtim, errno := times(a[1], a[2], a.u32(3))
	if errno != ok {
		return errno
	}
	if d.dir != nil {
		return d.dir.SetOwnTimes(atim, mtim)
	}
	return d.file.SetTimes(atim, mtim)
}

func fdPrestatGet(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	d, errno := p.get(a[0])
	if errno != ok {
		return errno
	}
	if d.preopen == "" {
		return wasmfs.BadFile
	}
	out, errno := m.result(a.u32(1), 8)
	if errno != ok {
		return errno
	}
	le.PutUint32(out, 0) // the tag of a directory, and padding
	le.PutUint32(out[4:], uint32(len(d.preopen)))
	return ok
}

func fdPrestatDirName(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	d, errno := p.get(a[0])
	switch {
	case errno != ok:
		return errno
	case d.preopen == "":
		return wasmfs.BadFile
	case uint64(a.u32(2)) < uint64(len(d.preopen)):
		return wasmfs.NameTooLong
	}
	out, errno := m.result(a.u32(1), uint32(len(d.preopen)))
	copy(out, d.preopen)
	return errno
}

// fdRenumber puts one descriptor in the place of another. Both must be open, as
// the specification's other functions have it: no number is the guest's choice.
func fdRenumber(_ context.Context, p *Process, _ memory, a args) wasmfs.Errno {
	from, errno := p.get(a[0])
	if errno != ok {
		return errno
	}
	to, errno := p.get(a[1])
	if errno != ok || from == to {
		return errno
	}
	to.close()
	p.table[a.u32(1)] = from
	p.table[a.u32(0)] = nil
	return ok
}

func fdSeek(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	need := rightSeek
	if a[1] == 0 && a.u32(2) == 1 {
		need = rightTell
	}
	return p.seek(m, a[0], int64(a[1]), a.u32(2), a.u32(3), need)
}

func fdTell(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	return p.seek(m, a[0], 0, 1, a.u32(1), rightTell)
}

func (p *Process) seek(m memory, fd uint64, off int64, whence, at uint32, need rights) wasmfs.Errno {
	f, errno := p.regular(fd, 0)
	if errno != ok {
		return errno
	}
	if base := p.table[uint32(fd)].base; base&(need|rightSeek) == 0 { // seek implies tell
		return wasmfs.NotCapable
	}
	out, errno := m.result(at, 8)
	if errno != ok {
		return errno
	}
	if whence > 2 {
		return wasmfs.Invalid
	}
	pos, errno := f.SeekTo(off, uint8(whence))
	if errno == ok {
		le.PutUint64(out, uint64(pos))
	}
	return errno
}

// streamErrno is what a guest is told of a stream that cannot be written.
func streamErrno(err error) wasmfs.Errno {
	switch err {
	case nil:
		return ok
	case io.ErrClosedPipe:
		return wasmfs.BrokenPipe
	}
	return wasmfs.IO
}
