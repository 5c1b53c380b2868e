package ledger

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// Problem is something that a ledger must not hold, or lacks.
type Problem struct {
	Check string // which check found it
	Where string // file and place
	What  string
}

func (p *Problem) Error() string {
	return fmt.Sprintf("check %s: %s: %s", p.Check, p.Where, p.What)
}

func (p *Problem) Unwrap() error { return ErrDamaged }

// The checks.
const (
	CheckSegment    = "segment"    // frames, checksums, nothing behind the last commit
	CheckEntry      = "entry"      // an entry's bytes are those that its leaf names
	CheckAttempt    = "attempt"    // one intent and one end for each
	CheckTree       = "tree"       // each mark is what the entries add up to
	CheckSignature  = "signature"  // checkpoints are signed by a trusted key
	CheckDerived    = "derived"    // tiles, bundles and index are what follows from the entries
	CheckPublished  = "published"  // the published checkpoint and what belongs to it
	CheckUnexpected = "unexpected" // there is nothing else
)

// VerifyOptions say how to verify.
type VerifyOptions struct {
	Keys []ed25519.PublicKey // trusted
	// Every checks the signature of every commit, not only of the last of each
	// segment. The others are superseded: nothing rests on them.
	Every    bool
	Progress func(done, total int64)     // now and then
	Entry    func(Entry, []byte) error   // asked about every entry; may be nil
	Found    func(*Problem) (again bool) // told of every problem; false ends it
}

// Verified is what a verification went through.
type Verified struct {
	Entries    int64
	Signatures int64
	Checkpoint []byte // the log's head; nil for an empty log
	Open       int    // attempts without an end
}

// errStop is Found's answer.
var errStop = errors.New("stop")

// verification carries what has been seen.
type verification struct {
	VerifyOptions
	d       *Dir
	s       *snapshot
	done    Verified
	tree    frontier
	before  mark // the mark before, for its numbers
	open    []running
	seen    map[attemptID]uint8 // bits: 1 an intent, 2 an end
	row     map[string][]byte   // derived files that the next segments need
	publish *Checkpoint
	known   map[string]bool // paths below the ledger
	err     error
}

// Verify reads the whole log and checks that everything in it is what the
// entries add up to, and was signed. The error is the first *Problem, unless
// Found says to go on, or what kept it from verifying.
func (d *Dir) Verify(o VerifyOptions) (Verified, error) {
	s, err := d.snapshot()
	if errors.Is(err, ErrDamaged) {
		p := &Problem{CheckSegment, d.path, err.Error()}
		if o.Found != nil {
			o.Found(p)
		}
		return Verified{}, p
	}
	if err != nil {
		return Verified{}, err
	}
	v := &verification{VerifyOptions: o, d: d, s: s, seen: map[attemptID]uint8{}, row: map[string][]byte{}, known: map[string]bool{"origin": true, "lock": true}}
	err = v.all()
	if errors.Is(err, errStop) {
		err = v.err
	}
	if err == nil {
		err = v.err
	}
	return v.done, err
}

// found tells of a problem. What it returns ends the verification.
func (v *verification) found(check, where, format string, args ...any) error {
	p := &Problem{check, where, fmt.Sprintf(format, args...)}
	if v.err == nil {
		v.err = p
	}
	if v.Found != nil && v.Found(p) {
		return nil
	}
	return errStop
}

func (v *verification) all() error {
	if err := v.published(); err != nil {
		return err
	}
	if err := v.walk(); err != nil {
		return err
	}
	if v.s.mark != nil {
		v.done.Checkpoint, v.done.Open = v.s.note, len(v.open)
	}
	return v.unexpected()
}

// read is a segment, taken apart. It is made beside the reading of others.
type read struct {
	path    string
	size    int64
	entries []placed
	bad     []fault
	stop    int64
	marks   []*mark
	places  []int64 // of the marks
	err     error
}

// What verification takes of memory does not grow with what entries hold: so many
// segments are read beside each other, and one of more bytes entry by entry.
const (
	maxAhead = 16
	atOnce   = 16 << 20
)

// walk reads the segments, several at a time, and judges them in order.
func (v *verification) walk() error {
	segments := int64(0)
	if v.s.mark != nil {
		segments = v.s.number + 1
	}
	ahead := min(runtime.GOMAXPROCS(0)+1, maxAhead)
	queue := make([]chan *read, 0, ahead)
	next := int64(0)
	for n := range segments {
		for ; next < segments && len(queue) < ahead; next++ {
			c := make(chan *read, 1)
			queue = append(queue, c)
			go func(n int64) { c <- v.read(n) }(next)
		}
		r := <-queue[0]
		queue = queue[1:]
		if err := v.judge(n, r); err != nil {
			return err
		}
		if v.Progress != nil {
			v.Progress(v.done.Entries, v.s.size)
		}
	}
	if err := v.behind(segments); err != nil {
		return err
	}
	if v.publish != nil {
		return v.found(CheckPublished, v.path("public/checkpoint"), "it is of %d entries, and there are %d", v.publish.Size, v.s.length())
	}
	return nil
}

// behind looks at the segment behind the last one that holds a commit: a crash
// leaves it empty, or with the beginning of one.
func (v *verification) behind(n int64) error {
	name := "segments/" + segmentName(n)
	info, err := os.Stat(v.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	v.known[name] = true
	// Others may have added to the log meanwhile.
	if now, err := v.d.snapshot(); info.Size() == 0 || err == nil && now.length() > v.s.length() {
		return nil
	}
	what := "a torn tail, which was never acknowledged, or damage"
	if v.s.damaged != nil {
		what = "damage, since something of them was flushed"
	}
	return v.found(CheckSegment, v.path(name)+" at byte 0", "%d bytes that are no whole commit: %s", info.Size(), what)
}

func (v *verification) path(name string) string {
	return filepath.Join(v.d.path, filepath.FromSlash(name))
}

// fault is what is wrong with one entry.
type fault struct {
	placed
	what string
}

func (v *verification) read(n int64) *read {
	r := &read{path: v.path("segments/" + segmentName(n))}
	f, err := os.Open(r.path)
	if err != nil {
		r.err = err
		return r
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		r.err = err
		return r
	}
	r.size = info.Size()
	var from io.ReaderAt = f
	if r.size <= atOnce {
		data := make(memory, r.size)
		if _, r.err = io.ReadFull(f, data); r.err != nil {
			return r
		}
		from = data
	}
	r.entries, _, r.stop, r.err = scan(from, 0, r.size, n*width, true, func(p placed, body []byte) {
		if !p.Matches(body) {
			r.bad = append(r.bad, fault{p, "its bytes are not those that its leaf names"})
		} else if v.Entry != nil {
			if err := v.Entry(p.Entry, body); err != nil {
				r.bad = append(r.bad, fault{p, err.Error()})
			}
		}
	}, func(at int64, m *mark) {
		r.places, r.marks = append(r.places, at), append(r.marks, m)
	})
	return r
}

func (v *verification) judge(n int64, r *read) error {
	name := "segments/" + segmentName(n)
	v.known[name] = true
	last := n == v.s.number
	switch {
	case errors.Is(r.err, fs.ErrNotExist):
		return v.found(CheckSegment, r.path, "it is missing")
	case errors.Is(r.err, ErrDamaged):
		return v.found(CheckSegment, fmt.Sprintf("%s at byte %d", r.path, r.stop), "%v", r.err)
	case r.err != nil:
		return r.err
	}
	want := int64(width)
	if last {
		want = int64(len(v.s.entries))
	}
	// The last segment may have grown since.
	if grown := last && int64(len(r.entries)) > want; grown {
		r.entries = r.entries[:want]
		for len(r.marks) > 0 && r.marks[len(r.marks)-1].size > v.s.size {
			r.marks, r.places = r.marks[:len(r.marks)-1], r.places[:len(r.places)-1]
		}
		r.bad = slices.DeleteFunc(r.bad, func(p fault) bool { return p.Index >= v.s.size })
	} else if r.stop < r.size || int64(len(r.entries)) < want {
		what := fmt.Sprintf("%d bytes behind entry %d are no whole commit", r.size-r.stop, n*width+int64(len(r.entries))-1)
		switch {
		case last && v.s.damaged != nil:
			what += ": damage, since something of them was flushed"
		case last:
			what += ": a torn tail, which was never acknowledged, or damage"
		}
		if err := v.found(CheckSegment, fmt.Sprintf("%s at byte %d", r.path, r.stop), "%s", what); err != nil || int64(len(r.entries)) < want {
			return orStop(err)
		}
	}
	for _, p := range r.bad {
		where := fmt.Sprintf("%s at byte %d, entry %d, %s", r.path, p.body, p.Index, p.Attempt)
		if err := v.found(CheckEntry, where, "%s", p.what); err != nil {
			return err
		}
	}
	if err := v.add(r); err != nil {
		return err
	}
	if len(r.entries) == width {
		if err := v.derived(n, r.entries, last); err != nil {
			return err
		}
	}
	return v.partial(n, r.entries)
}

// orStop ends a verification that cannot go on.
func orStop(err error) error {
	if err == nil {
		err = errStop
	}
	return err
}

// add adds a segment's entries to the tree, and compares each mark with it.
func (v *verification) add(r *read) error {
	at := 0
	for _, p := range r.entries {
		if err := v.attempt(r, p); err != nil {
			return err
		}
		v.tree = v.tree.add(p.Index, p.hash)
		v.done.Entries++
		if v.publish != nil && v.publish.Size == v.done.Entries {
			if v.publish.Root != v.tree.root() {
				if err := v.found(CheckPublished, v.path("public/checkpoint"), "its root is not that of the first %d entries: it is of another log", v.publish.Size); err != nil {
					return err
				}
			}
			v.publish = nil
		}
		if at == len(r.marks) || r.marks[at].size != v.done.Entries {
			continue
		}
		m, where := r.marks[at], fmt.Sprintf("%s at byte %d, behind entry %d", r.path, r.places[at], p.Index)
		at++
		if !slices.Equal(m.tree, v.tree) {
			if err := v.found(CheckTree, where, "the subtrees are not those of the entries"); err != nil {
				return err
			}
		}
		if m.kept < v.before.kept || m.kept > v.before.size {
			if err := v.found(CheckTree, where, "it knows of %d entries that were flushed, expected %d to %d", m.kept, v.before.kept, v.before.size); err != nil {
				return err
			}
		}
		v.before.size, v.before.kept = m.size, m.kept
		if !slices.Equal(m.open, v.open) {
			if err := v.found(CheckTree, where, "the attempts without an end are not those of the entries"); err != nil {
				return err
			}
		}
		if !bytes.HasPrefix(m.note, []byte(text(v.d.origin, m.size, v.tree.root())+"\n")) {
			if err := v.found(CheckTree, where, "the checkpoint is not of these %d entries", m.size); err != nil {
				return err
			}
		} else if v.Every || at == len(r.marks) {
			v.done.Signatures++
			if _, err := OpenCheckpoint(m.note, v.Keys); err != nil {
				if err := v.found(CheckSignature, where, "%v", err); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// attempt keeps count of what attempts have.
func (v *verification) attempt(r *read, p placed) error {
	id, bit := idOf(p.Attempt), uint8(0)
	switch {
	case p.Kind == Intent:
		bit = 1
		v.open = append(v.open, running{id, p.Index})
	case p.Kind.Ends():
		bit = 2
		if i := slices.IndexFunc(v.open, func(o running) bool { return o.attempt == id }); i >= 0 {
			v.open = slices.Delete(v.open, i, i+1)
		}
	}
	if bit != 0 && v.seen[id]&bit != 0 {
		if err := v.found(CheckAttempt, fmt.Sprintf("%s, entry %d", r.path, p.Index), "attempt %s has a second %s", p.Attempt, p.Kind); err != nil {
			return err
		}
	}
	v.seen[id] |= bit
	return nil
}

// derived compares what follows from a full segment with what is there. Of the
// last one it need not be there yet.
func (v *verification) derived(n int64, entries []placed, last bool) error {
	list, err := v.d.derive(n, entries, func(name string) ([]byte, error) {
		if data, ok := v.row[name]; ok {
			return data, nil
		}
		return nil, fmt.Errorf("bug: %s was not made", name)
	})
	if err != nil {
		return err
	}
	for _, f := range list {
		v.known[f.path] = true
		there, err := os.ReadFile(v.path(f.path))
		switch {
		case errors.Is(err, fs.ErrNotExist) && last:
			err = nil
		case errors.Is(err, fs.ErrNotExist):
			err = v.found(CheckDerived, v.path(f.path), "it is missing; \"bvisor ledger fsck --repair\" makes it again")
		case err == nil && !bytes.Equal(there, f.data):
			err = v.found(CheckDerived, v.path(f.path), "it differs from what follows from the entries, from byte %d on; \"bvisor ledger fsck --repair\" makes it again", firstDifference(there, f.data))
		}
		if err != nil {
			return err
		}
		v.row[f.path] = f.data
	}
	// Only what later segments are derived from is needed any longer.
	delete(v.row, "public/"+bundlePath(n, width))
	delete(v.row, "public/"+tilePath(tlog.Tile{H: height, L: 0, N: n, W: width}))
	for level, at := 1, n; ; level++ {
		if w := int(at % width); w > 0 {
			delete(v.row, "public/"+tilePath(tlog.Tile{H: height, L: level, N: at / width, W: w}))
		}
		if at%width != width-1 {
			break
		}
		delete(v.row, "public/"+tilePath(tlog.Tile{H: height, L: level, N: at / width, W: width}))
		at /= width
	}
	for level, at := 0, n; at%fanout == fanout-1; level, at = level+1, at/fanout {
		for i := range int64(fanout) {
			delete(v.row, runPath(level, at-i))
		}
	}
	return nil
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// published reads the published checkpoint, if there is one.
func (v *verification) published() error {
	const name = "public/checkpoint"
	data, err := os.ReadFile(v.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	v.known[name] = true
	v.done.Signatures++
	c, err := OpenCheckpoint(data, v.Keys)
	if err == nil && c.Origin != v.d.origin {
		err = fmt.Errorf("it is of the log %s, and this is %s", c.Origin, v.d.origin)
	}
	if err == nil && c.Size == 0 {
		err = errors.New("it is of an empty log")
	}
	if err != nil {
		return v.found(CheckPublished, v.path(name), "%v", err)
	}
	v.publish = &c
	return nil
}

// partial compares the partial tiles and bundles that were published.
func (v *verification) partial(n int64, entries []placed) error {
	for _, t := range []struct {
		path func(w int) string
		data func(w int) []byte
	}{
		{func(w int) string { return bundlePath(n, w) }, func(w int) []byte { return bundle(entries[:w]) }},
		{func(w int) string { return tilePath(tlog.Tile{H: height, L: 0, N: n, W: w}) }, func(w int) []byte { return bundleHashes(entries[:w]) }},
	} {
		dir := "public/" + strings.TrimSuffix(t.path(1), "/1")
		list, err := os.ReadDir(v.path(dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, f := range list {
			for w := 1; w <= min(len(entries), width-1); w++ {
				if name := "public/" + t.path(w); name == dir+"/"+f.Name() {
					v.known[name] = true
					there, err := os.ReadFile(v.path(name))
					if err == nil && !bytes.Equal(there, t.data(w)) {
						err = v.found(CheckPublished, v.path(name), "it differs from what follows from the entries, from byte %d on", firstDifference(there, t.data(w)))
					}
					if err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func bundleHashes(entries []placed) []byte {
	var hashes []tlog.Hash
	for _, e := range entries {
		hashes = append(hashes, e.hash)
	}
	return joinTile(hashes)
}

// unexpected looks for files that are none of the ledger's. What a crash left
// unfinished has no name that anybody reads.
func (v *verification) unexpected() error {
	return filepath.WalkDir(v.d.path, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(v.d.path, path)
		name = filepath.ToSlash(name)
		if err != nil || v.known[name] && e.Type().IsRegular() || strings.HasPrefix(name, "torn/") || strings.HasPrefix(name, "lock-") || strings.HasPrefix(e.Name(), ".tmp-") {
			return err
		}
		// Others may have added to the log meanwhile.
		if now, nerr := v.d.snapshot(); nerr == nil && now.length() > v.s.length() {
			return nil
		}
		return v.found(CheckUnexpected, path, "it is no file of this ledger")
	})
}

// Repair makes again what follows from the full segments, and moves a torn tail
// away. It returns the paths of what it made. It invents nothing: an entry that
// is damaged stays so.
func (d *Dir) Repair() (made []string, err error) {
	d.turn.Lock()
	defer d.turn.Unlock()
	err = d.locked(true, func() error {
		for n := int64(0); d.tail != nil && n < d.tail.number; n++ {
			f, err := d.segments.OpenFile(segmentName(n), false)
			if err != nil {
				return err
			}
			list, err := d.readSegment(f, n)
			f.Close()
			if err != nil {
				return err
			}
			more, err := d.rebuild(n, list)
			made = append(made, more...)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return made, fmt.Errorf("ledger: repair: %w", err)
	}
	return made, nil
}
