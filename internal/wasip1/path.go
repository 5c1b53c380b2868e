package wasip1

import (
	"context"

	"github.com/bvisor/bvisor/internal/wasmfs"
)

// at returns the directory and the path of a call.
func (p *Process) at(m memory, fd uint64, path, size uint32, need rights) (*descriptor, string, wasmfs.Errno) {
	d, errno := p.directory(fd, need)
	if errno != ok {
		return nil, "", errno
	}
	name, errno := m.text(path, size)
	return d, name, errno
}

func pathCreateDirectory(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	d, name, errno := p.at(m, a[0], a.u32(1), a.u32(2), rightCreateDirectory)
	if errno != ok {
		return errno
	}
	return d.dir.Mkdir(name)
}

func pathRemoveDirectory(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	d, name, errno := p.at(m, a[0], a.u32(1), a.u32(2), rightRemoveDirectory)
	if errno != ok {
		return errno
	}
	return d.dir.Rmdir(name)
}

func pathUnlinkFile(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	d, name, errno := p.at(m, a[0], a.u32(1), a.u32(2), rightUnlink)
	if errno != ok {
		return errno
	}
	return d.dir.Unlink(name)
}

// follow reads lookupflags.
func follow(flags uint32) (bool, wasmfs.Errno) {
	if flags&^lookupFollow != 0 {
		return false, wasmfs.Invalid
	}
	return flags&lookupFollow != 0, ok
}

func pathFilestatGet(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	d, name, errno := p.at(m, a[0], a.u32(2), a.u32(3), rightPathStat)
	if errno != ok {
		return errno
	}
	last, errno := follow(a.u32(1))
	if errno != ok {
		return errno
	}
	out, errno := m.result(a.u32(4), 64)
	if errno != ok {
		return errno
	}
	st, errno := d.dir.Stat(name, last)
	if errno == ok {
		p.putStat(out, st)
	}
	return errno
}

func pathFilestatSetTimes(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	d, name, errno := p.at(m, a[0], a.u32(2), a.u32(3), rightPathSetTimes)
	if errno != ok {
		return errno
	}
	last, errno := follow(a.u32(1))
	if errno != ok {
		return errno
	}
	atim, mtim, errno := times(a[4], a[5], a.u32(6))
	if errno != ok {
		return errno
	}
	return d.dir.SetTimes(name, last, atim, mtim)
}

func pathLink(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	from, name, errno := p.at(m, a[0], a.u32(2), a.u32(3), rightLinkSource)
	if errno != ok {
		return errno
	}
	last, errno := follow(a.u32(1))
	if errno != ok {
		return errno
	}
	to, newName, errno := p.at(m, a[4], a.u32(5), a.u32(6), rightLinkTarget)
	if errno != ok {
		return errno
	}
	return from.dir.Link(name, last, to.dir, newName)
}

func pathRename(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	from, name, errno := p.at(m, a[0], a.u32(1), a.u32(2), rightRenameSource)
	if errno != ok {
		return errno
	}
	to, newName, errno := p.at(m, a[3], a.u32(4), a.u32(5), rightRenameTarget)
	if errno != ok {
		return errno
	}
	return from.dir.Rename(name, to.dir, newName)
}

func pathSymlink(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	target, errno := m.text(a.u32(0), a.u32(1))
	if errno != ok {
		return errno
	}
	d, name, errno := p.at(m, a[2], a.u32(3), a.u32(4), rightSymlink)
	if errno != ok {
		return errno
	}
	return d.dir.Symlink(target, name)
}

// pathReadlink cuts a target that is longer than the buffer, as readlink(2)
// does.
func pathReadlink(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	d, name, errno := p.at(m, a[0], a.u32(1), a.u32(2), rightReadlink)
	if errno != ok {
		return errno
	}
	used, errno := m.result(a.u32(5), 4)
	if errno != ok {
		return errno
	}
	buf, errno := m.bytes(a.u32(3), a.u32(4))
	if errno != ok {
		return errno
	}
	target, errno := d.dir.Readlink(name)
	if errno == ok {
		le.PutUint32(used, uint32(copy(buf, target)))
	}
	return errno
}

func pathOpen(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	oflags, base, inheriting, fdflags := a.u32(4), rights(a[5])&allRights, rights(a[6])&allRights, a.u32(7)
	if oflags&^allOpen != 0 || fdflags&^allFlags != 0 {
		return wasmfs.Invalid
	}
	need, passed := neededToOpen(oflags, fdflags)
	d, name, errno := p.at(m, a[0], a.u32(2), a.u32(3), need)
	if errno != ok {
		return errno
	}
	if passed&^d.inheriting != 0 {
		return wasmfs.NotCapable
	}
	last, errno := follow(a.u32(1))
	if errno != ok {
		return errno
	}
	out, errno := m.result(a.u32(8), 4)
	if errno != ok {
		return errno
	}
	if !p.room() {
		return wasmfs.ManyFiles
	}
	asFile := forFile(base)
	if oflags&(openCreate|openTruncate) != 0 && asFile&^d.inheriting != 0 {
		return wasmfs.NotCapable
	}
	dir, file, errno := d.dir.Open(name, wasmfs.OpenFlags{
		Read: base&rightRead != 0, Write: base&rightWrite != 0,
		Create: oflags&openCreate != 0, Exclusive: oflags&openExclusive != 0, Truncate: oflags&openTruncate != 0,
		Directory: oflags&openDirectory != 0, Follow: last,
	})
	if errno != ok {
		return errno
	}
	opened := &descriptor{dir: dir, file: file}
	if dir != nil {
		opened.base, opened.inheriting = base&dirRights, inheriting&d.inheriting
		fdflags &= flagNonblock
	} else {
		opened.base = asFile
	}
	if opened.base&^d.inheriting != 0 {
		opened.close()
		return wasmfs.NotCapable
	}
	opened.setFlags(uint16(fdflags))
	fd, errno := p.insert(opened)
	if errno != ok {
		opened.close()
		return errno
	}
	le.PutUint32(out, fd)
	return ok
}

// neededToOpen are the rights that path_open needs: of the directory itself, and
// of those that it passes on (typenames.witx, rights).
func neededToOpen(oflags, fdflags uint32) (base, passed rights) {
	base = rightOpen
	if oflags&openCreate != 0 {
		base |= rightCreateFile
	}
	if oflags&openTruncate != 0 {
		base |= rightPathSetSize
	}
	if fdflags&flagDsync != 0 {
		passed |= rightDatasync
	}
	if fdflags&(flagRsync|flagSync) != 0 {
		passed |= rightSync
	}
	return base, passed
}

// forFile are the rights that apply to a file that is opened with base.
func forFile(base rights) rights {
	r := base & fileRights
	if r&rightWrite == 0 {
		r &^= rightAllocate | rightSetSize
	}
	return r
}

// room says whether another descriptor may be open.
func (p *Process) room() bool {
	if len(p.table) < p.handles {
		return true
	}
	for _, d := range p.table {
		if d == nil {
			return true
		}
	}
	return false
}
