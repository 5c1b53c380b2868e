package wasip1

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/bvisor/bvisor/internal/wasmfs"
)

// Config is what one guest sees. The zero value is the closed one: streams that
// are at their end, no files, no clocks, no randomness.
type Config struct {
	Args []string
	Env  []string // NAME=value

	Stdin          io.Reader // nil is at its end; read by a goroutine of its own, which must not panic
	Stdout, Stderr io.Writer // nil forgets what is written

	FS *wasmfs.FS // nil has no directories

	// Clocks in nanoseconds. A nil one does not exist: the guest gets inval.
	Realtime, Monotonic func() uint64
	Resolution          uint64 // of both; 0 is a nanosecond

	// Sleep passes the time of clocks that are not the world's; nil waits. With
	// it standard input is always waited for, so that what the guest sees does
	// not depend on when its input came.
	Sleep func(ctx context.Context, d time.Duration)

	// HideTimes shows the times of files as zero. Without the world's clock the
	// guest could write a file and see from it what time it is.
	HideTimes bool

	Random io.Reader // nil: random_get answers notsup

	Handles int // how many descriptors may be open at once; 0 is DefaultHandles

	Denied func(wasmfs.Denial) // told of every attempt to use a socket; may be nil
}

// DefaultHandles is the usual number of descriptors of a process on Linux.
const DefaultHandles = 1024

// NoSockets is why a call of a socket function was refused.
const NoSockets wasmfs.Reason = "there are no sockets"

// Process is one guest's side of the interface.
type Process struct {
	args, env           []string
	realtime, monotonic func() uint64
	resolution          uint64
	sleep               func(context.Context, time.Duration)
	hideTimes           bool
	random              io.Reader
	denied              func(wasmfs.Denial)
	table               []*descriptor // by number; nil is closed
	handles             int
}

// New makes the process and opens its streams and directories.
func New(c Config) (*Process, error) {
	p := &Process{args: c.Args, env: c.Env, realtime: c.Realtime, monotonic: c.Monotonic, random: c.Random,
		resolution: max(c.Resolution, 1), sleep: c.Sleep, hideTimes: c.HideTimes, denied: c.Denied, handles: c.Handles}
	if p.handles == 0 {
		p.handles = DefaultHandles
	}
	for _, s := range append(append([]string{}, c.Args...), c.Env...) {
		if strings.IndexByte(s, 0) >= 0 {
			return nil, errors.New("an argument or a variable holds a zero byte")
		}
	}
	p.table = []*descriptor{
		{in: newInput(c.Stdin), base: streamRights | rightRead},
		{out: writer(c.Stdout), base: streamRights | rightWrite},
		{out: writer(c.Stderr), base: streamRights | rightWrite},
	}
	if c.FS == nil {
		return p, nil
	}
	preopens, err := c.FS.Preopens()
	if err != nil {
		return nil, err
	}
	for _, pre := range preopens {
		p.table = append(p.table, &descriptor{dir: pre.Dir, preopen: pre.Name, base: dirRights, inheriting: dirRights | fileRights})
	}
	if len(p.table) > p.handles {
		p.Close()
		return nil, errors.New("more directories are granted than descriptors")
	}
	return p, nil
}

func writer(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// Close gives back every descriptor of the guest.
func (p *Process) Close() {
	for fd, d := range p.table {
		if d != nil {
			d.close()
			p.table[fd] = nil
		}
	}
}

type key struct{}

// Context returns the context with which the guest is to be instantiated and
// called. When it ends, the next call of a function that waits, moves bytes of
// a stream or works through much of something panics with its cause, which the
// engine returns from the call into the guest.
func (p *Process) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, key{}, p)
}

// goOn ends the guest if its context has ended.
func goOn(ctx context.Context) {
	if ctx.Err() != nil {
		panic(context.Cause(ctx))
	}
}

func (p *Process) deny(call string) {
	if p.denied != nil {
		p.denied(wasmfs.Denial{Call: call, Reason: NoSockets})
	}
}
