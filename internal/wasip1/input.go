package wasip1

import (
	"context"
	"io"

	"github.com/bvisor/bvisor/internal/wasmfs"
)

// input is the guest's standard input. Its reader may block, so it is read
// beside the guest: only when the guest asks, and one piece at a time.
type input struct {
	r     io.Reader
	buf   []byte
	ended bool
	errno wasmfs.Errno
	next  chan piece // of the read that is under way; nil: none is
}

type piece struct {
	b   []byte
	err error
}

// pieceSize is what is read at most, more than a pipe of Linux holds.
const pieceSize = 64 << 10

func newInput(r io.Reader) *input {
	if r == nil {
		return &input{ended: true}
	}
	return &input{r: r}
}

// ready says whether a read would return at once.
func (in *input) ready() bool {
	in.poll()
	return len(in.buf) > 0 || in.ended || in.errno != wasmfs.Success
}

// poll takes what has arrived.
func (in *input) poll() {
	if in.next == nil {
		return
	}
	select {
	case got := <-in.next:
		in.take(got)
	default:
	}
}

func (in *input) take(got piece) {
	in.next = nil
	in.buf = got.b
	switch {
	case got.err == io.EOF:
		in.ended = true
	case got.err != nil:
		in.errno = wasmfs.IO
	}
}

// await starts a read, unless one is under way, and returns where it ends.
func (in *input) await() <-chan piece {
	if in.next == nil {
		next := make(chan piece, 1)
		in.next = next
		go func() {
			b := make([]byte, pieceSize)
			n, err := in.r.Read(b)
			next <- piece{b[:n], err}
		}()
	}
	return in.next
}

// read reads what there is. With nothing there it waits, or answers again.
func (in *input) read(ctx context.Context, p []byte, nonblock bool) (int, wasmfs.Errno) {
	for !in.ready() {
		next := in.await()
		if nonblock {
			in.poll()
			if !in.ready() {
				return 0, wasmfs.Again
			}
			break
		}
		select {
		case got := <-next:
			in.take(got)
		case <-ctx.Done():
			goOn(ctx)
		}
	}
	n := copy(p, in.buf)
	in.buf = in.buf[n:]
	if n == 0 && in.errno != wasmfs.Success {
		errno := in.errno
		in.errno = wasmfs.Success
		return 0, errno
	}
	return n, wasmfs.Success
}
