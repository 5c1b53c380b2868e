package wasip1

import (
	"context"
	"io"
	"runtime"

	"github.com/bvisor/bvisor/internal/wasmfs"
)

// putStrings writes the strings, each with a zero behind it, and where each
// begins.
func putStrings(m memory, list []string, pointers, at uint32) wasmfs.Errno {
	count, size := sizes(list)
	heads, errno := m.bytes(pointers, count*4)
	if errno != ok {
		return errno
	}
	body, errno := m.bytes(at, size)
	if errno != ok {
		return errno
	}
	for i, s := range list {
		le.PutUint32(heads[i*4:], at)
		n := copy(body, s)
		body[n] = 0
		body = body[n+1:]
		at += uint32(n) + 1
	}
	return ok
}

func sizes(list []string) (count, size uint32) {
	for _, s := range list {
		size += uint32(len(s)) + 1
	}
	return uint32(len(list)), size
}

func putSizes(m memory, list []string, countAt, sizeAt uint32) wasmfs.Errno {
	count, errno := m.result(countAt, 4)
	if errno != ok {
		return errno
	}
	size, errno := m.result(sizeAt, 4)
	if errno != ok {
		return errno
	}
	c, s := sizes(list)
	le.PutUint32(count, c)
	le.PutUint32(size, s)
	return ok
}

func argsGet(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	return putStrings(m, p.args, a.u32(0), a.u32(1))
}

func argsSizesGet(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	return putSizes(m, p.args, a.u32(0), a.u32(1))
}

func environGet(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	return putStrings(m, p.env, a.u32(0), a.u32(1))
}

func environSizesGet(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	return putSizes(m, p.env, a.u32(0), a.u32(1))
}

// clock returns a clock by its id. The clocks of CPU time do not exist: fuel is
// what a guest uses, and the engine counts it.
func (p *Process) clock(id uint32) (func() uint64, wasmfs.Errno) {
	var now func() uint64
	switch id {
	case 0:
		now = p.realtime
	case 1:
		now = p.monotonic
	}
	if now == nil {
		return nil, wasmfs.Invalid
	}
	return now, ok
}

func clockResGet(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	_, errno := p.clock(a.u32(0))
	if errno != ok {
		return errno
	}
	out, errno := m.result(a.u32(1), 8)
	if errno == ok {
		le.PutUint64(out, p.resolution)
	}
	return errno
}

func clockTimeGet(_ context.Context, p *Process, m memory, a args) wasmfs.Errno {
	now, errno := p.clock(a.u32(0))
	if errno != ok {
		return errno
	}
	out, errno := m.result(a.u32(2), 8)
	if errno == ok {
		le.PutUint64(out, now())
	}
	return errno
}

func randomGet(ctx context.Context, p *Process, m memory, a args) wasmfs.Errno {
	if p.random == nil {
		return wasmfs.NotSupp
	}
	out, errno := m.bytes(a.u32(0), a.u32(1))
	for len(out) > 0 && errno == ok {
		goOn(ctx)
		piece := out[:min(len(out), maxChunk)]
		if _, err := io.ReadFull(p.random, piece); err != nil {
			return wasmfs.IO
		}
		out = out[len(piece):]
	}
	return errno
}

// schedYield lets other goroutines run: the guest's thread is one of ours.
func schedYield(ctx context.Context, _ *Process, _ memory, _ args) wasmfs.Errno {
	runtime.Gosched()
	goOn(ctx)
	return ok
}

// procRaise has no signal to send: a guest ends by proc_exit or by a trap.
func procRaise(context.Context, *Process, memory, args) wasmfs.Errno { return wasmfs.NoCall }

// socket is any of the socket functions. No descriptor is a socket, and the
// functions make none.
func socket(call string) func(context.Context, *Process, memory, args) wasmfs.Errno {
	return func(_ context.Context, p *Process, _ memory, a args) wasmfs.Errno {
		p.deny(call)
		if _, errno := p.get(a[0]); errno != ok {
			return errno
		}
		return wasmfs.NotSocket
	}
}
