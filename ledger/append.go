package ledger

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// request is one entry on its way into the log.
type request struct {
	kind    Kind
	attempt string
	entry   []byte
	index   int64
	err     error
	done    chan struct{}
}

// Append implements Log. Entries that come at the same time are flushed together.
func (d *Dir) Append(kind Kind, attempt string, entry []byte) (Receipt, error) {
	switch {
	case !slices.Contains(kinds, kind):
		return Receipt{}, fmt.Errorf("ledger: bug: unknown entry kind %q", kind)
	case !isAttempt(attempt):
		return Receipt{}, fmt.Errorf("ledger: attempt id %q: want %d lower-case hexadecimal digits", attempt, attemptLen)
	case len(entry) == 0:
		return Receipt{}, fmt.Errorf("ledger: bug: empty %s of %s", kind, attempt)
	case len(entry) > maxEntry:
		return Receipt{}, fmt.Errorf("ledger: %s of %s: %d bytes, expected at most %d", kind, attempt, len(entry), maxEntry)
	}
	r := &request{kind: kind, attempt: attempt, entry: entry, done: make(chan struct{})}
	d.mu.Lock()
	d.pending = append(d.pending, r)
	first := !d.busy
	d.busy = true
	d.mu.Unlock()
	if first {
		d.drain(r) // who is alone need not wake anybody
	}
	<-r.done
	if r.err != nil {
		return Receipt{}, fmt.Errorf("ledger: %s: %w", kind, r.err)
	}
	return Receipt{r.index}, nil
}

// drain commits what is pending until nothing is. Whose own request it is, which
// comes first, leaves what came behind it to somebody else.
func (d *Dir) drain(own *request) {
	for {
		runtime.Gosched() // those just acknowledged may have more
		d.mu.Lock()
		batch := d.pending
		if len(batch) == 0 {
			d.busy = false
			d.mu.Unlock()
			return
		}
		if own != nil && batch[0] != own {
			d.mu.Unlock()
			go d.drain(nil)
			return
		}
		d.pending = nil
		d.mu.Unlock()
		for len(batch) > 0 {
			batch = batch[d.commit(batch):]
		}
	}
}

// commit adds the first of the requests, as many as fit into one segment, and
// answers them. It returns how many those were.
func (d *Dir) commit(batch []*request) int {
	d.turn.Lock()
	defer d.turn.Unlock()
	n := len(batch)
	err := d.broken
	if err == nil {
		err = d.locked(true, func() (err error) {
			n, err = d.write(batch)
			return err
		})
	}
	// Others may write behind this already: flushing the file flushes all of it.
	if err == nil && d.tail != nil {
		if err = d.tail.file.Sync(); err != nil {
			d.broken = fmt.Errorf("an earlier flush failed, so it is not known what is kept: %w", err)
		} else if d.tail.mark != nil {
			d.kept = d.tail.size
		}
	}
	for _, r := range batch[:n] {
		if r.err == nil {
			r.err = err
		}
		close(r.done)
	}
	return n
}

// write adds a commit to the tail, without flushing it.
func (d *Dir) write(batch []*request) (n int, err error) {
	n = len(batch)
	if err := d.authentic(); err != nil {
		return n, err
	}
	fresh := d.tail == nil || d.tail.mark == nil
	if !fresh && len(d.tail.entries) == width {
		if err := d.finish(); err != nil {
			return n, err
		}
		fresh = true
	}
	m, t := d.next(fresh)
	n = min(n, width-len(t.entries))
	var data []byte
	var list []placed
	for _, r := range batch[:n] {
		if r.err = d.admit(r, m, list); r.err != nil {
			continue
		}
		e := Entry{Index: m.size, Kind: r.kind, Attempt: r.attempt, Time: d.now(), Size: int64(len(r.entry)), SHA256: digest(r.entry)}
		leaf := e.Leaf()
		p := placed{Entry: e, hash: tlog.RecordHash(leaf)}
		data = appendFrame(data, leaf, r.entry)
		p.next = t.end + int64(len(data))
		p.body = p.next - checkLen - e.Size
		list = append(list, p)
		m.tree = m.tree.add(m.size, p.hash)
		m.size++
		r.index = e.Index
		switch {
		case r.kind == Intent:
			m.open = append(m.open, running{idOf(r.attempt), e.Index})
		case r.kind.Ends():
			m.open = slices.DeleteFunc(m.open, func(o running) bool { return o.attempt == idOf(r.attempt) })
		}
	}
	if len(list) == 0 {
		return n, nil
	}
	if m.note, err = sign(d.by, d.origin, m.size, m.tree.root()); err != nil {
		return n, err
	}
	data = m.append(data)
	if fresh && t.file == nil {
		// The end was found without a look at all of them.
		names, err := d.segments.Names()
		if err != nil {
			return n, err
		}
		if last := len(names) - 1; last >= 0 && names[last] >= segmentName(t.number) {
			return n, fmt.Errorf("%w: %s has %s, and not all before it; restore what is missing from a backup", ErrDamaged, d.segments.Path(), names[last])
		}
		if t.file, err = d.segments.NewFile(segmentName(t.number)); err != nil {
			return n, err
		}
		if err := d.segments.Sync(); err != nil {
			t.file.Close()
			return n, err
		}
	}
	if err := t.file.Append(data, t.end); err != nil {
		if d.tail == nil || d.tail.file != t.file {
			t.file.Close()
		}
		return n, err
	}
	if d.tail != nil && d.tail.file != t.file {
		d.tail.file.Close()
	}
	t.entries, t.end, t.mark = append(t.entries, list...), t.end+int64(len(data)), m
	d.tail = t
	return n, nil
}

// next is the mark to continue from, as a copy, and the tail to write to.
func (d *Dir) next(fresh bool) (*mark, *tail) {
	m := &mark{boot: d.boot}
	if d.tail != nil && d.tail.mark != nil {
		m.size, m.tree, m.open = d.tail.size, d.tail.tree, slices.Clone(d.tail.open)
		m.kept = max(d.tail.kept, d.kept)
	}
	switch {
	case !fresh:
		return m, d.tail
	case d.tail != nil && d.tail.mark == nil:
		return m, &tail{number: d.tail.number, file: d.tail.file} // made, and then a crash came
	case d.tail != nil:
		return m, &tail{number: d.tail.number + 1}
	}
	return m, &tail{}
}

// authentic checks, once, that what the log ends with was signed: adding to it
// signs all of it again.
func (d *Dir) authentic() error {
	if d.Signer == nil {
		return errors.New("bug: the ledger was opened for reading")
	}
	if d.by == nil {
		own, err := d.Signer.Public()
		if err != nil {
			return err
		}
		v, err := verifier(d.origin, own)
		if err != nil {
			return err
		}
		if d.tail != nil && d.tail.mark != nil {
			if err := d.checkEnd(own); err != nil {
				return err
			}
		}
		d.by = &signer{v, d.Signer}
	}
	return nil
}

func (d *Dir) checkEnd(own ed25519.PublicKey) error {
	keys := []ed25519.PublicKey{own}
	c, err := OpenCheckpoint(d.tail.note, keys)
	if errors.Is(err, ErrUntrusted) && d.Trusted != nil {
		var more []ed25519.PublicKey
		if more, err = d.Trusted(); err != nil {
			return err
		}
		c, err = OpenCheckpoint(d.tail.note, append(keys, more...))
	}
	if errors.Is(err, ErrUntrusted) {
		return fmt.Errorf("%w; put the key that did back, or move %s away to begin a new ledger", err, d.path)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, d.tail.file.Path(), err)
	}
	if c.Origin != d.origin || c.Size != d.tail.size || c.Root != d.tail.tree.root() {
		return fmt.Errorf("%w: %s ends with a checkpoint of something else", ErrDamaged, d.tail.file.Path())
	}
	return nil
}

// admit refuses what an attempt can have once only. Who opens an attempt gives
// it an id that is fresh and random, so an intent is compared with what is near
// only; an end of an attempt that is not open is looked for in the whole log.
// list is what is on its way in the same commit.
func (d *Dir) admit(r *request, m *mark, list []placed) error {
	id := idOf(r.attempt)
	if r.kind == Disposition {
		return nil
	}
	exists := func(k Kind, index int64) error {
		return fmt.Errorf("attempt %s has a %s already, entry %d: %w", r.attempt, k, index, fs.ErrExist)
	}
	// Who is open has its intent and no end.
	if i := slices.IndexFunc(m.open, func(o running) bool { return o.attempt == id }); i >= 0 {
		if r.kind == Intent {
			return exists(Intent, m.open[i].index)
		}
		return nil
	}
	near := [][]placed{list}
	if d.tail != nil {
		near = append(near, d.tail.entries)
	}
	same := func(k Kind) bool { return k == r.kind || k.Ends() && r.kind.Ends() }
	for _, entries := range near {
		for i := range entries {
			if p := &entries[i]; p.Attempt == r.attempt && same(p.Kind) {
				return exists(p.Kind, p.Index)
			}
		}
	}
	if r.kind == Intent || d.tail == nil {
		return nil
	}
	found, err := d.lookup(r.attempt, d.tail.number)
	if err != nil {
		return err
	}
	for _, f := range found {
		if same(f.kind()) {
			return exists(f.kind(), f.index())
		}
	}
	return nil
}
