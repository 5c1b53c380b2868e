package wasip1

import (
	"context"
	"math"

	"github.com/bvisor/bvisor/internal/wasmfs"
)

// maxVectors is IOV_MAX of wasi-libc.
const maxVectors = 1024

// maxChunk is what is moved at once, so that a guest's context is looked at
// between. One call may move gigabytes.
const maxChunk = 1 << 20

// vectors are the parts of memory that an iovec array names. All of them are
// looked at before the first byte moves.
func (m memory) vectors(at, count uint32) ([][]byte, wasmfs.Errno) {
	if count > maxVectors {
		return nil, wasmfs.Invalid
	}
	list, errno := m.bytes(at, count*8)
	if errno != ok {
		return nil, errno
	}
	total := uint64(0)
	var parts [][]byte
	for ; len(list) > 0; list = list[8:] {
		b, errno := m.bytes(le.Uint32(list), le.Uint32(list[4:]))
		if errno != ok {
			return nil, errno
		}
		if total += uint64(len(b)); total > math.MaxInt32 {
			return nil, wasmfs.Invalid
		}
		if len(b) > 0 {
			parts = append(parts, b)
		}
	}
	return parts, ok
}

// move hands the vectors to a call, piece by piece, until one is not taken
// whole. An errno after something moved is not told: the guest will meet it
// again.
func move(ctx context.Context, parts [][]byte, call func([]byte) (int, wasmfs.Errno)) (total uint32, errno wasmfs.Errno) {
	if len(parts) == 0 { // the descriptor is looked at all the same
		_, errno := call(nil)
		return 0, errno
	}
	for _, part := range parts {
		for len(part) > 0 {
			goOn(ctx)
			piece := part[:min(len(part), maxChunk)]
			n, errno := call(piece)
			total += uint32(n)
			if errno != ok && total > 0 {
				return total, ok
			}
			if errno != ok || n < len(piece) {
				return total, errno
			}
			part = part[n:]
		}
	}
	return total, ok
}

// transfer is what the four calls have in common: descriptor, vectors, result.
func (p *Process) transfer(ctx context.Context, m memory, a args, at uint32, need rights,
	call func(d *descriptor, b []byte) (int, wasmfs.Errno)) wasmfs.Errno {
	d, errno := p.get(a[0])
	switch {
	case errno != ok:
		return errno
	case d.dir != nil:
		return wasmfs.IsDir
	case d.base&need != need:
		return wasmfs.NotCapable
	}
	out, errno := m.result(at, 4)
	if errno != ok {
		return errno
	}
	parts, errno := m.vectors(a.u32(1), a.u32(2))
	if errno != ok {
		return errno
	}
	n, errno := move(ctx, parts, func(b []byte) (int, wasmfs.Errno) { return call(d, b) })
	if errno == ok {
		le.PutUint32(out, n)
	}
	return errno
}

func fdRead(ctx context.Context, p *Process, m memory, a args) wasmfs.Errno {
	moved := false // a stream is waited for only before its first byte
	return p.transfer(ctx, m, a, a.u32(3), rightRead, func(d *descriptor, b []byte) (int, wasmfs.Errno) {
		if d.in == nil {
			return d.file.Read(b)
		}
		if len(b) == 0 {
			return 0, ok
		}
		n, errno := d.in.read(ctx, b, moved || d.nonblock && p.sleep == nil)
		moved = true
		return n, errno
	})
}

func fdWrite(ctx context.Context, p *Process, m memory, a args) wasmfs.Errno {
	return p.transfer(ctx, m, a, a.u32(3), rightWrite, func(d *descriptor, b []byte) (int, wasmfs.Errno) {
		if d.out == nil {
			return d.file.Write(b)
		}
		if len(b) == 0 {
			return 0, ok
		}
		n, err := d.out.Write(b)
		goOn(ctx) // whoever takes the stream may have ended the guest
		return n, streamErrno(err)
	})
}

func fdPread(ctx context.Context, p *Process, m memory, a args) wasmfs.Errno {
	return p.positioned(ctx, m, a, rightRead, (*wasmfs.File).ReadAt)
}

func fdPwrite(ctx context.Context, p *Process, m memory, a args) wasmfs.Errno {
	return p.positioned(ctx, m, a, rightWrite, (*wasmfs.File).WriteAt)
}

// positioned needs the right to seek besides (typenames.witx, fd_seek).
func (p *Process) positioned(ctx context.Context, m memory, a args, need rights,
	call func(*wasmfs.File, []byte, int64) (int, wasmfs.Errno)) wasmfs.Errno {
	if d, errno := p.get(a[0]); errno == ok && d.stream() {
		return wasmfs.NoSeek
	}
	off := int64(a[3])
	return p.transfer(ctx, m, a, a.u32(4), need|rightSeek, func(d *descriptor, b []byte) (int, wasmfs.Errno) {
		n, errno := call(d.file, b, off)
		off += int64(n)
		return n, errno
	})
}

func fdReaddir(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	d, errno := p.directory(a[0], rightReaddir)
	if errno == wasmfs.NotDir {
		errno = wasmfs.BadFile // wasi-libc knows no other answer for what is no directory
	}
	if errno != ok {
		return errno
	}
	used, errno := m.result(a.u32(4), 4)
	if errno != ok {
		return errno
	}
	buf, errno := m.bytes(a.u32(1), a.u32(2))
	if errno != ok {
		return errno
	}
	entries, errno := d.dir.ReadDir(a[3])
	if errno != ok {
		return errno
	}
	total := len(buf)
	for i, e := range entries {
		if len(buf) == 0 {
			break
		}
		var head [24]byte
		le.PutUint64(head[0:], a[3]+uint64(i)+1)
		le.PutUint64(head[8:], e.Ino)
		le.PutUint32(head[16:], uint32(len(e.Name)))
		head[20] = byte(e.Type)
		buf = buf[copy(buf, head[:]):]
		buf = buf[copy(buf, e.Name):]
	}
	le.PutUint32(used, uint32(total-len(buf)))
	return ok
}
