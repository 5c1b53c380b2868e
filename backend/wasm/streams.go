package wasm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"sync/atomic"
	"time"

	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// output is all that a run writes: counted together against one budget.
type output struct {
	limit   int64 // less than 0 is none
	written atomic.Int64
}

// admit counts n more bytes and says how many of them may pass.
func (o *output) admit(n int) (pass int, over bool) {
	total := o.written.Add(int64(n))
	if o.limit < 0 || total <= o.limit {
		return n, false
	}
	return int(max(int64(n)-(total-o.limit), 0)), true
}

// stream is one captured stream: counted and hashed whole, kept up to its
// limit, and passed on by a goroutine of its own, so that a reader that does
// not read cannot keep a run from its deadline.
type stream struct {
	name  string
	keep  int64
	all   *output
	ctx   context.Context
	relay chan []byte // nil until something is written, or where nobody reads
	done  chan struct{}
	out   io.Writer

	hash  hash.Hash
	bytes int64
	kept  []byte
}

func newStream(ctx context.Context, c spec.Capture, all *output, out io.Writer) *stream {
	return &stream{name: c.Stream, keep: c.Limit, all: all, ctx: ctx, out: out, hash: sha256.New()}
}

// Write implements io.Writer, for the engine. It panics where the run is over:
// that goes up through the guest, as with every budget.
func (s *stream) Write(p []byte) (int, error) {
	pass, over := s.all.admit(len(p))
	s.bytes += int64(len(p))
	s.hash.Write(p)
	b := p[:pass]
	if room := s.keep - int64(len(s.kept)); room > 0 {
		s.kept = append(s.kept, b[:min(int64(len(b)), room)]...)
	}
	if s.out != nil && len(b) > 0 {
		if s.relay == nil {
			s.relay, s.done = make(chan []byte, relayed), make(chan struct{})
			go s.pass()
		}
		select {
		case s.relay <- append([]byte(nil), b...):
		case <-s.ctx.Done():
		}
	}
	if over {
		panic(&breach{spec.Output})
	}
	return len(p), nil
}

// relayed is how many writes wait for a slow reader before the guest does.
const relayed = 16

func (s *stream) pass() {
	defer close(s.done)
	for b := range s.relay {
		// A reader that went away does not stop the guest.
		if s.out != nil {
			if _, err := s.out.Write(b); err != nil {
				s.out = nil
			}
		}
	}
}

// finish returns when all is passed on. A run that was ended by force does not
// wait longer than a moment for a reader that does not read.
func (s *stream) finish(forced bool) {
	if s.relay == nil {
		return
	}
	close(s.relay)
	var enough <-chan time.Time
	if forced {
		t := time.NewTimer(stuckReader)
		defer t.Stop()
		enough = t.C
	}
	select {
	case <-s.done:
	case <-enough:
	}
}

const stuckReader = time.Second

func (s *stream) result() report.Stream {
	kept := sha256.Sum256(s.kept)
	return report.Stream{Name: s.name, Bytes: s.bytes, Kept: int64(len(s.kept)), SHA256: hex.EncodeToString(s.hash.Sum(nil)),
		KeptSHA: hex.EncodeToString(kept[:]), Truncated: s.bytes > int64(len(s.kept))}
}
