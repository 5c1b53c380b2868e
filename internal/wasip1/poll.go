package wasip1

import (
	"context"
	"math"
	"time"

	"github.com/bvisor/bvisor/internal/wasmfs"
)

// maxSubscriptions bounds one call of poll_oneoff.
const maxSubscriptions = 4096

const (
	subscriptionSize = 48
	eventSize        = 32

	eventClock = 0
	eventRead  = 1
	eventWrite = 2

	clockAbsolute = 1
	eventHangup   = 1
)

// subscription is what a guest waits for.
type subscription struct {
	userdata uint64
	kind     byte

	errno  wasmfs.Errno // of the subscription itself: it is an event at once
	wait   time.Duration
	in     *input // that must become ready; nil: it always is
	nbytes uint64
}

// pollOneoff returns what has happened, at least one event: only that, not all
// that was asked for.
func pollOneoff(ctx context.Context, p *Process, m memory, a args) wasmfs.Errno {
	count := a.u32(2)
	if count == 0 || count > maxSubscriptions {
		return wasmfs.Invalid
	}
	given, errno := m.bytes(a.u32(0), count*subscriptionSize)
	if errno != ok {
		return errno
	}
	out, errno := m.bytes(a.u32(1), count*eventSize)
	if errno != ok {
		return errno
	}
	result, errno := m.result(a.u32(3), 4)
	if errno != ok {
		return errno
	}
	subs := make([]subscription, 0, count)
	for ; len(given) > 0; given = given[subscriptionSize:] {
		s, errno := p.subscribe(given)
		if errno != ok {
			return errno
		}
		subs = append(subs, s)
	}
	for _, s := range subs {
		if s.in != nil && !s.in.ready() {
			s.in.await() // or who never waits would never see input
		}
	}
	events := happened(subs, 0)
	if len(events) == 0 {
		passed := p.await(ctx, subs)
		events = happened(subs, passed)
	}
	goOn(ctx)
	for i, s := range events {
		putEvent(out[i*eventSize:][:eventSize], s)
	}
	le.PutUint32(result, uint32(len(events)))
	return ok
}

// subscribe reads one subscription (typenames.witx, subscription).
func (p *Process) subscribe(b []byte) (subscription, wasmfs.Errno) {
	s := subscription{userdata: le.Uint64(b), kind: b[8]}
	switch s.kind {
	case eventClock:
		s.wait, s.errno = p.timeout(le.Uint32(b[16:]), le.Uint64(b[24:]), le.Uint16(b[40:]))
	case eventRead, eventWrite:
		s.in, s.nbytes, s.errno = p.readiness(le.Uint32(b[16:]), s.kind)
	default:
		return s, wasmfs.Invalid
	}
	return s, ok
}

// timeout is how long a clock's subscription waits.
func (p *Process) timeout(id uint32, at uint64, flags uint16) (time.Duration, wasmfs.Errno) {
	now, errno := p.clock(id)
	switch {
	case errno != ok:
		return 0, errno
	case flags&^clockAbsolute != 0:
		return 0, wasmfs.Invalid
	}
	if flags&clockAbsolute != 0 {
		at -= min(at, now())
	}
	return time.Duration(min(at, math.MaxInt64)), ok
}

// readiness is what a descriptor must wait for, if for anything.
func (p *Process) readiness(fd uint32, kind byte) (*input, uint64, wasmfs.Errno) {
	d, errno := p.get(uint64(fd))
	if errno != ok {
		return nil, 0, errno
	}
	need := rightPoll | rightRead
	if kind == eventWrite {
		need = rightPoll | rightWrite
	}
	switch {
	case d.dir != nil:
		return nil, 0, wasmfs.IsDir
	case d.in != nil && kind == eventWrite, d.out != nil && kind == eventRead:
		return nil, 0, wasmfs.BadFile
	case d.base&need != need:
		return nil, 0, wasmfs.NotCapable
	case d.in != nil:
		return d.in, 0, ok
	case kind == eventWrite:
		return nil, maxChunk, ok
	}
	st, errno := d.file.Stat()
	if left := int64(st.Size) - d.file.Tell(); left > 0 {
		return nil, uint64(left), errno
	}
	return nil, 0, errno
}

// happened are the subscriptions that are events after some time has passed.
func happened(subs []subscription, passed time.Duration) []subscription {
	var events []subscription
	for _, s := range subs {
		switch {
		case s.errno != ok:
		case s.kind == eventClock && s.wait > passed:
			continue
		case s.in != nil && !s.in.ready():
			continue
		}
		events = append(events, s)
	}
	return events
}

// await waits for the first of the subscriptions, and says how much time counts
// as passed: all that the earliest timer asked for, once it has run out.
func (p *Process) await(ctx context.Context, subs []subscription) time.Duration {
	var in *input
	shortest := time.Duration(-1)
	for _, s := range subs {
		if s.kind == eventClock && (shortest < 0 || s.wait < shortest) {
			shortest = s.wait
		}
		if s.in != nil {
			in = s.in
		}
	}
	if p.sleep != nil && in == nil {
		p.sleep(ctx, shortest)
		return shortest
	}
	var timer <-chan time.Time
	if shortest >= 0 && p.sleep == nil {
		t := time.NewTimer(shortest)
		defer t.Stop()
		timer = t.C
	}
	var ready <-chan piece
	if in != nil {
		ready = in.await()
	}
	select {
	case <-timer:
		return shortest
	case got := <-ready:
		in.take(got)
	case <-ctx.Done():
		goOn(ctx)
	}
	return 0
}

func putEvent(out []byte, s subscription) {
	clear(out)
	le.PutUint64(out, s.userdata)
	le.PutUint16(out[8:], uint16(s.errno))
	out[10] = s.kind
	if s.kind == eventClock || s.errno != ok {
		return
	}
	if s.in != nil {
		s.nbytes = uint64(len(s.in.buf))
		if s.in.ended && s.nbytes == 0 {
			le.PutUint16(out[24:], eventHangup)
		}
	}
	le.PutUint64(out[16:], s.nbytes)
}
