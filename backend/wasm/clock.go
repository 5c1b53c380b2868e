package wasm

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/sys"

	"github.com/bvisor/bvisor/spec"
)

// clock is what a guest reads the time from.
type clock struct {
	kind    spec.Clock
	started time.Time
	read    int64 // fixed: what it shows next, in nanoseconds
}

// step is how much later each reading of a fixed clock is: a guest that waits
// for time to pass must see it pass.
const step = int64(time.Millisecond)

// epoch is where clocks that do not tell the time begin: 2000-01-01.
const epoch = int64(946684800) * 1e9

func newClock(j *job, started time.Time) clock { return clock{kind: j.Clock, started: started} }

// monotonic is the time since the run began.
func (c *clock) monotonic() int64 {
	if c.kind == spec.ClockFixed {
		c.read += step
		return c.read
	}
	return int64(time.Since(c.started)) + 1
}

func (c *clock) wall() int64 {
	if c.kind == spec.ClockMonotonic || c.kind == spec.ClockFixed {
		return epoch + c.monotonic()
	}
	return time.Now().UnixNano()
}

// sleep passes the time. It ends with the run's context, and a fixed clock only
// moves on.
func (c *clock) sleep(r *run, ns int64) {
	if c.kind == spec.ClockFixed {
		c.read += max(ns, 0)
		r.look()
		return
	}
	t := time.NewTimer(time.Duration(ns))
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.ctx.Done():
		panic(r.why())
	}
}

func (c *clock) configure(m wazero.ModuleConfig, r *run) wazero.ModuleConfig {
	resolution := sys.ClockResolution(1)
	if c.kind == spec.ClockFixed {
		resolution = sys.ClockResolution(step)
	}
	return m.WithWalltime(func() (int64, int32) { t := r.clock.wall(); return t / 1e9, int32(t % 1e9) }, resolution).
		WithNanotime(func() int64 { return r.clock.monotonic() }, resolution).
		WithNanosleep(func(ns int64) { r.clock.sleep(r, ns) })
}

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
