//go:build amd64 || arm64

package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bvisor/bvisor/ledger"
	"github.com/bvisor/bvisor/report"
)

// entrySize is that of an entry: a block of the disk.
const entrySize = 4096

// signing makes a key's signatures those of checkpoints.
type signing struct{ *report.Key }

func (s signing) Public() (ed25519.PublicKey, error) { return s.Key.Public().Ed25519(), nil }

// log is a ledger of our own below dir.
func (b *bench) log(dir string) (*ledger.Dir, ed25519.PublicKey, error) {
	path, err := os.MkdirTemp(dir, "ledger-")
	if err != nil {
		return nil, nil, err
	}
	key, err := report.NewKey()
	if err != nil {
		return nil, nil, err
	}
	d, err := ledger.OpenDir(path)
	if err != nil {
		return nil, nil, err
	}
	d.Signer = signing{key}
	return d, key.Public().Ed25519(), nil
}

// fresh makes an attempt id.
func fresh() string {
	id := make([]byte, 16)
	rand.Read(id)
	return hex.EncodeToString(id)
}

// appends adds one entry after the other: the intent and the report of attempts.
func appends(d *ledger.Dir, entry []byte) func() error {
	var mu sync.Mutex
	var open []string
	return func() error {
		mu.Lock()
		kind, attempt := ledger.Intent, ""
		if n := len(open); n > 0 {
			kind, attempt, open = ledger.Report, open[n-1], open[:n-1]
		}
		mu.Unlock()
		if kind == ledger.Report {
			_, err := d.Append(kind, attempt, entry)
			return err
		}
		attempt = fresh()
		if _, err := d.Append(kind, attempt, entry); err != nil {
			return err
		}
		mu.Lock()
		open = append(open, attempt)
		mu.Unlock()
		return nil
	}
}

// bareAppend writes and flushes at the end of one file.
func bareAppend(dir string, data []byte) (once func() error, done func() error, err error) {
	f, err := os.CreateTemp(dir, "bare")
	if err != nil {
		return nil, nil, err
	}
	return func() error {
		if _, err := f.Write(data); err != nil {
			return err
		}
		return f.Sync()
	}, f.Close, nil
}

// unrecorded is a log that keeps nothing.
type unrecorded struct{}

func (unrecorded) Append(ledger.Kind, string, []byte) (ledger.Receipt, error) {
	return ledger.Receipt{}, nil
}

// million is how many entries the large log has.
const million = 1_000_000

func (b *bench) ledger() (*table, error) {
	small, _, err := b.log(b.dir)
	if err != nil {
		return nil, err
	}
	defer small.Close()
	entry := bytes.Repeat([]byte("x"), entrySize)
	plain, closePlain, err := bareAppend(b.dir, entry)
	if err != nil {
		return nil, err
	}
	defer closePlain()
	bare := &subject{name: "a bare 4 KiB write and fsync at a file's end", block: repeat(plain)}
	one := &subject{name: "one append of 4 KiB, acknowledged", block: repeat(appends(small, entry))}

	recorded, err := b.confined(b.dir, "recorded")
	if err != nil {
		return nil, err
	}
	defer recorded.close()
	without, err := b.confined(b.dir, "unrecorded")
	if err != nil {
		return nil, err
	}
	defer without.close()
	without.supervisor.Log = unrecorded{}
	run := &subject{name: "a run in process, intent and report recorded on disk", block: repeat(recorded.once(truth))}
	noLog := &subject{name: "the same without a ledger", block: repeat(without.once(truth))}
	subjects := []*subject{bare, one, noLog, run}
	busy := interleave(subjects, b.rounds, block, b.patience)

	t := &table{title: "Ledger", head: []string{"", "p50", "p90", "ratio"}}
	for _, s := range subjects {
		if s.skip != "" {
			t.row(s.name, s.skip)
			continue
		}
		against := ""
		switch s {
		case one:
			against = one.times.against(&bare.times).String() + " × the bare one"
		case run:
			against = run.times.against(&noLog.times).String() + " × without"
		}
		all := s.times.all()
		t.row(s.name, short(quantile(all, 0.5)), short(quantile(all, 0.9)), against)
	}

	const alone, many = "the bare ones", "64 appenders at once"
	rates, _, err := throughputOf(b, map[string]func() error{alone: plain, many: appends(small, entry)},
		map[string]int{alone: 1, many: 64})
	if err != nil {
		return nil, err
	}
	t.row(alone, rates[alone].median()+"/s")
	t.row(many, rates[many].median()+"/s", "", rates[many].against(*rates[alone]).String()+" × the bare rate")

	if err := b.large(t); err != nil {
		return nil, err
	}
	t.disturbed(busy, b.rounds)
	return t, nil
}

// throughputOf measures rates in turn, each subject with its number of workers.
func throughputOf(b *bench, once map[string]func() error, workers map[string]int) (map[string]*rates, int, error) {
	got, busy := map[string]*rates{}, 0
	for name := range once {
		got[name] = &rates{}
	}
	for range max(b.rounds/3, 3) {
		if !awaitIdle(b.patience) {
			busy++
		}
		for name, do := range once {
			rate, err := perSecond(do, workers[name], time.Second)
			if err != nil {
				return nil, 0, fmt.Errorf("%s: %w", name, err)
			}
			got[name].perSecond = append(got[name].perSecond, rate)
		}
	}
	return got, busy, nil
}

// large measures a log of a million entries. It is filled where a flush costs
// nothing, if there is such a place: reading comes from memory either way.
func (b *bench) large(t *table) error {
	dir := b.memory
	if b.noShm != nil {
		dir = b.dir
	}
	d, key, err := b.log(dir)
	if err != nil {
		return err
	}
	defer os.RemoveAll(d.Path())
	defer d.Close()
	attempt, err := fill(d, million)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "bench: a million entries are there")
	var failed error
	check := func(err error) {
		if err != nil && failed == nil {
			failed = err
		}
	}
	// Each opens the log anew, as a command does.
	times := func(do func(*ledger.Dir) error) []time.Duration {
		var list []time.Duration
		for range 5 * b.rounds {
			start := time.Now()
			again, err := ledger.OpenDir(d.Path())
			check(err)
			if err != nil {
				return nil
			}
			check(do(again))
			list = append(list, time.Since(start))
			check(again.Close())
		}
		return list
	}
	for _, c := range []struct {
		name string
		do   func(*ledger.Dir) error
	}{
		{"of a million entries: list the last 50", func(d *ledger.Dir) error { _, _, err := d.List(-1, 50, nil); return err }},
		{"list 50 in the middle", func(d *ledger.Dir) error { _, _, err := d.List(million/2, 50, nil); return err }},
		{"show one, by its attempt", func(d *ledger.Dir) error { _, err := d.Read(ledger.Report, attempt); return err }},
		{"prove one", func(d *ledger.Dir) error { _, err := d.Prove(million / 3); return err }},
		{"append one, acknowledged", func(l *ledger.Dir) error {
			l.Signer = d.Signer
			_, err := l.Append(ledger.Disposition, attempt, []byte("x"))
			return err
		}},
	} {
		list := times(c.do)
		if failed != nil {
			return fmt.Errorf("%s: %w", c.name, failed)
		}
		s := samples{blocks: [][]time.Duration{list}}
		t.row(c.name, short(quantile(s.all(), 0.5)), short(quantile(s.all(), 0.9)))
	}
	start := time.Now()
	v, err := d.Verify(ledger.VerifyOptions{Keys: []ed25519.PublicKey{key}})
	if err != nil {
		return err
	}
	t.row("verify all of it", short(time.Since(start)), "", fmt.Sprintf("%.0f entries/s", float64(v.Entries)/time.Since(start).Seconds()))
	t.note("the large log has entries of 200 bytes, is in memory, and is opened anew for each but the last")
	return nil
}

// fill adds n entries from many at once, and returns one of the attempts.
func fill(d *ledger.Dir, n int64) (string, error) {
	entry := bytes.Repeat([]byte("x"), 200)
	var count atomic.Int64
	var failed atomic.Pointer[error]
	var some atomic.Pointer[string]
	var group sync.WaitGroup
	for range 64 {
		group.Go(func() {
			for failed.Load() == nil && count.Add(2) <= n {
				attempt := fresh()
				for _, kind := range []ledger.Kind{ledger.Intent, ledger.Report} {
					if _, err := d.Append(kind, attempt, entry); err != nil {
						failed.Store(&err)
						return
					}
				}
				some.CompareAndSwap(nil, &attempt)
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return "", *err
	}
	return *some.Load(), nil
}
