package ledger

import (
	"cmp"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/bvisor/bvisor/internal/durable"
)

// snapshot is the log at one moment. mark is nil for an empty one.
type snapshot struct {
	dir *Dir
	*mark
	number  int64    // of the last segment
	entries []placed // of that
	damaged error    // what is behind

	cached  int64 // the segment that was read last, and its entries
	segment []placed
}

func (s *snapshot) length() int64 {
	if s.mark == nil {
		return 0
	}
	return s.size
}

// of returns the entries of a segment.
func (s *snapshot) of(n int64) ([]placed, error) {
	if n == s.number {
		return s.entries, nil
	}
	if s.segment != nil && s.cached == n {
		return s.segment, nil
	}
	f, err := s.dir.segments.OpenFile(segmentName(n), false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := s.dir.readSegment(f, n)
	if err != nil {
		return nil, err
	}
	s.cached, s.segment = n, list
	return list, nil
}

// readSegment lists the entries of a full segment.
func (d *Dir) readSegment(f *durable.File, n int64) ([]placed, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	list, _, _, err := scan(f, 0, size, n*width, false, nil, nil)
	if err == nil && len(list) != width {
		err = fmt.Errorf("%w: it holds %d whole entries, expected %d", ErrDamaged, len(list), width)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path(), err)
	}
	return list, nil
}

func (s *snapshot) at(index int64) (placed, error) {
	if index < 0 || index >= s.length() {
		return placed{}, fmt.Errorf("there is no entry %d: the log holds %d: %w", index, s.length(), fs.ErrNotExist)
	}
	list, err := s.of(index / width)
	if err != nil {
		return placed{}, err
	}
	return list[index%width], nil
}

// body reads an entry's bytes. That they are what the leaf names is checked.
func (s *snapshot) body(p placed) ([]byte, error) {
	f, err := s.dir.segments.OpenFile(segmentName(p.Index/width), false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, p.Size)
	if _, err := f.ReadAt(data, p.body); err != nil {
		return nil, fmt.Errorf("%s: entry %d: %w", f.Path(), p.Index, err)
	}
	if !p.Matches(data) {
		return nil, fmt.Errorf("%w: %s: the bytes of entry %d, from %d on, are not those that its leaf names", ErrDamaged, f.Path(), p.Index, p.body)
	}
	return data, nil
}

// find returns the entries of the attempts that start with prefix, in order.
func (s *snapshot) find(prefix string) ([]Entry, error) {
	if s.mark == nil {
		return nil, nil
	}
	records, err := s.dir.lookup(prefix, s.number)
	if err != nil {
		return nil, err
	}
	var list []Entry
	for _, r := range records {
		p, err := s.at(r.index())
		if err != nil {
			return nil, err
		}
		if newRecord(&p.Entry) != r {
			return nil, fmt.Errorf("%w: the index names entry %d, which is another's; \"bvisor ledger fsck --repair\" makes it again", ErrDamaged, p.Index)
		}
		list = append(list, p.Entry)
	}
	for _, p := range s.entries {
		if strings.HasPrefix(p.Attempt, prefix) {
			list = append(list, p.Entry)
		}
	}
	slices.SortFunc(list, func(a, b Entry) int { return cmp.Compare(a.Index, b.Index) })
	return list, nil
}

// hash is that of the tree at a place.
func (s *snapshot) hash(level int, n int64) (tlog.Hash, error) {
	within := level % height
	tile := tlog.Tile{H: height, L: level / height, N: n << within >> height}
	var row []tlog.Hash
	if tile.L == 0 && tile.N == s.number {
		for _, p := range s.entries {
			row = append(row, p.hash)
		}
	} else {
		total := s.number * width >> (height * tile.L)
		tile.W = int(min(width, total-tile.N*width))
		data, err := s.dir.derived("public/" + tilePath(tile))
		if err == nil {
			row, err = splitTile(data, tile.W)
		}
		if err != nil {
			return tlog.Hash{}, err
		}
	}
	from := n << within & (width - 1)
	if to := from + 1<<within; to <= int64(len(row)) {
		return subtree(row[from:to]), nil
	}
	return tlog.Hash{}, fmt.Errorf("bug: the hash %d of level %d is outside a log of %d entries", n, level, s.size)
}

// List returns up to limit entries, the newest first, that are older than
// before and that want wants; a negative before is the log's end, a nil want
// wants all. More is the before to go on with, and 0 when that was all.
func (d *Dir) List(before int64, limit int, want func(Entry) (bool, error)) (list []Entry, more int64, err error) {
	s, err := d.snapshot()
	if err != nil {
		return nil, 0, err
	}
	if before < 0 || before > s.length() {
		before = s.length()
	}
	for before > 0 && len(list) < limit {
		before--
		p, err := s.at(before)
		if err != nil {
			return nil, 0, fmt.Errorf("ledger: %w", err)
		}
		ok := want == nil
		if !ok {
			if ok, err = want(p.Entry); err != nil {
				return nil, 0, err
			}
		}
		if ok {
			list = append(list, p.Entry)
		}
	}
	return list, before, nil
}

// Len is how many entries there are.
func (d *Dir) Len() (int64, error) {
	s, err := d.snapshot()
	if err != nil {
		return 0, err
	}
	return s.length(), nil
}

// Entry describes the entry at index. One that is not there is fs.ErrNotExist.
func (d *Dir) Entry(index int64) (Entry, error) {
	s, err := d.snapshot()
	if err != nil {
		return Entry{}, err
	}
	p, err := s.at(index)
	if err != nil {
		return Entry{}, fmt.Errorf("ledger: %w", err)
	}
	return p.Entry, nil
}

// ReadAt returns the entry at index, as it was appended.
func (d *Dir) ReadAt(index int64) (Entry, []byte, error) {
	s, err := d.snapshot()
	if err != nil {
		return Entry{}, nil, err
	}
	p, err := s.at(index)
	if err != nil {
		return Entry{}, nil, fmt.Errorf("ledger: %w", err)
	}
	body, err := s.body(p)
	if err != nil {
		return Entry{}, nil, fmt.Errorf("ledger: %w", err)
	}
	return p.Entry, body, nil
}

// Walk goes through the entries with their bytes, from first on.
func (d *Dir) Walk(first int64) iter.Seq2[Entry, func() ([]byte, error)] {
	return func(yield func(Entry, func() ([]byte, error)) bool) {
		s, err := d.snapshot()
		if err != nil {
			yield(Entry{}, func() ([]byte, error) { return nil, err })
			return
		}
		for i := first; i < s.length(); i++ {
			p, err := s.at(i)
			read := func() ([]byte, error) {
				if err != nil {
					return nil, fmt.Errorf("ledger: %w", err)
				}
				return s.body(p)
			}
			if !yield(p.Entry, read) || err != nil {
				return
			}
		}
	}
}

// Attempt lists the entries of an attempt, in the order in which they came.
func (d *Dir) Attempt(attempt string) ([]Entry, error) {
	if !isAttempt(attempt) {
		return nil, fmt.Errorf("ledger: attempt id %q: want %d lower-case hexadecimal digits", attempt, attemptLen)
	}
	s, err := d.snapshot()
	if err != nil {
		return nil, err
	}
	list, err := s.find(attempt)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return list, nil
}

// Read returns the first entry of a kind that an attempt has. One that is not
// there is fs.ErrNotExist.
func (d *Dir) Read(kind Kind, attempt string) ([]byte, error) {
	list, err := d.Attempt(attempt)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if e.Kind == kind {
			_, body, err := d.ReadAt(e.Index)
			return body, err
		}
	}
	return nil, fmt.Errorf("ledger: %s of %s: %w", kind, attempt, fs.ErrNotExist)
}

// All returns the entries of one kind that an attempt has, in the order in
// which they came.
func (d *Dir) All(kind Kind, attempt string) (all [][]byte, err error) {
	list, err := d.Attempt(attempt)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if e.Kind != kind {
			continue
		}
		_, body, err := d.ReadAt(e.Index)
		if err != nil {
			return nil, err
		}
		all = append(all, body)
	}
	return all, nil
}

// Open returns the intents of the attempts that have no end, the oldest first:
// they are running now, or a crash left them.
func (d *Dir) Open() ([]Entry, error) {
	s, err := d.snapshot()
	if err != nil || s.mark == nil {
		return nil, err
	}
	var list []Entry
	for _, o := range s.open {
		p, err := s.at(o.index)
		if err == nil && (p.Kind != Intent || idOf(p.Attempt) != o.attempt) {
			err = fmt.Errorf("%w: entry %d is said to be an open intent, and is none", ErrDamaged, o.index)
		}
		if err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
		list = append(list, p.Entry)
	}
	return list, nil
}

// Waiting is how many attempts had no end when the log was last looked at. It
// reads nothing.
func (d *Dir) Waiting() int {
	d.turn.Lock()
	defer d.turn.Unlock()
	if d.tail == nil || d.tail.mark == nil {
		return 0
	}
	return len(d.tail.open)
}

// candidates is how many attempts an ambiguous prefix's error names.
const candidates = 8

// Find returns the one attempt whose id starts with prefix. None is
// fs.ErrNotExist; several are an error that names them.
func (d *Dir) Find(prefix string) (string, error) {
	if prefix == "" || len(prefix) > attemptLen || !isHex(prefix) {
		return "", fmt.Errorf("ledger: attempt %q: want the first lower-case hexadecimal digits of an attempt id", prefix)
	}
	s, err := d.snapshot()
	if err != nil {
		return "", err
	}
	entries, err := s.find(prefix)
	if err != nil {
		return "", fmt.Errorf("ledger: %w", err)
	}
	var found []string
	for _, e := range entries {
		found = append(found, e.Attempt)
	}
	slices.Sort(found)
	found = slices.Compact(found)
	switch {
	case len(found) == 0:
		return "", fmt.Errorf("ledger: attempt %s: none in %s: %w", prefix, d.path, fs.ErrNotExist)
	case len(found) == 1:
		return found[0], nil
	case len(found) > candidates:
		return "", fmt.Errorf("ledger: attempt %s is ambiguous: %s and %d more; write more digits", prefix, strings.Join(found[:candidates], ", "), len(found)-candidates)
	default:
		return "", fmt.Errorf("ledger: attempt %s is ambiguous: %s; write more digits", prefix, strings.Join(found, ", "))
	}
}
