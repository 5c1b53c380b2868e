package wasm

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"time"

	"github.com/bvisor/bvisor/spec"
)

// clock is what a guest reads the time from, in nanoseconds.
type clock struct {
	kind    spec.Clock
	started time.Time
	read    uint64 // fixed: what it showed last
}

// step is how much later each reading of a fixed clock is: a guest that waits
// for time to pass must see it pass.
const step = uint64(time.Millisecond)

// epoch is where clocks that do not tell the date begin: 2000-01-01.
const epoch = uint64(946684800) * 1e9

func newClock(j *job, started time.Time) clock { return clock{kind: j.Clock, started: started} }

// monotonic is the time since the run began.
func (c *clock) monotonic() uint64 {
	if c.kind == spec.ClockFixed {
		c.read += step
		return c.read
	}
	return uint64(time.Since(c.started)) + 1 // some programs take 0 for no clock
}

// hidden says that the guest is not to learn the date.
func (c *clock) hidden() bool { return c.kind == spec.ClockMonotonic || c.kind == spec.ClockFixed }

func (c *clock) wall() uint64 {
	if c.hidden() {
		return epoch + c.monotonic()
	}
	return uint64(time.Now().UnixNano())
}

// sleep passes the time of a fixed clock: it only moves on.
func (c *clock) sleep(_ context.Context, d time.Duration) { c.read += uint64(max(d, 0)) }

// randomness is what random_get reads.
func randomness(j *job) io.Reader {
	if j.Random != spec.RandomSeeded {
		return rand.Reader
	}
	return &seeded{key: j.Seed}
}

// seeded is SHA-256 over a key and a counter.
type seeded struct {
	key  string
	n    uint64
	rest []byte
}

func (s *seeded) Read(p []byte) (int, error) {
	for done := 0; done < len(p); {
		if len(s.rest) == 0 {
			sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(s.key), s.n))
			s.rest, s.n = sum[:], s.n+1
		}
		n := copy(p[done:], s.rest)
		done, s.rest = done+n, s.rest[n:]
	}
	return len(p), nil
}
