package ledger

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/bvisor/bvisor/internal/durable"
)

// Dir is a Log in a directory. Any number of processes may use the same one at
// the same time.
//
//	origin      the log's name
//	lock        held while something is added or the end is looked up
//	segments/   the entries: all that is needed, the rest follows from it
//	index/      where the entries of an attempt are
//	public/     tiles, bundles and a checkpoint, for a static file server
//	torn/       what crashes left behind the last whole commit
type Dir struct {
	// Signer signs the checkpoint of every commit. Without it a Dir can only
	// be read.
	Signer Signer
	// Trusted are the keys besides the signer's own whose checkpoints may
	// stand at the log's end when something is added: those it had before.
	Trusted func() ([]ed25519.PublicKey, error)

	path     string
	origin   string
	segments *durable.Dir
	boot     [16]byte
	now      func() time.Time

	mu      sync.Mutex // for what follows
	pending []*request
	busy    bool

	turn   sync.Mutex // for what follows, and for the lock
	lock   *durable.Lock
	tail   *tail
	kept   int64 // how many entries this process has flushed, with all before them
	by     *signer
	broken error // a flush failed: nothing is known of the log's end any more
	torn   []Torn
}

// Torn is what a crash left behind the last whole commit. It was never
// acknowledged. Adding to the log moves it to torn/.
type Torn struct {
	Segment string // its path
	Offset  int64
	Bytes   int64
	Kept    string // where it was moved to; empty when it was only seen
}

// OpenDir opens the ledger at path and makes it if it is missing. It refuses a
// directory that others can write to.
func OpenDir(path string) (*Dir, error) {
	if err := durable.MkdirAll(path); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	top, err := durable.OpenDir(path)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	defer top.Close()
	d := &Dir{path: top.Path(), now: time.Now}
	if boot := strings.ReplaceAll(durable.BootID(), "-", ""); isAttempt(boot) {
		d.boot = idOf(boot)
	}
	if d.origin, err = originOf(top); err == nil {
		err = durable.MkdirAll(filepath.Join(d.path, "segments"))
	}
	if err == nil {
		d.segments, err = durable.OpenDir(filepath.Join(d.path, "segments"))
	}
	if err == nil {
		d.lock, err = top.OpenLock("lock")
	}
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return d, nil
}

const originPrefix = "bvisor.dev/ledger/"

// originOf reads the log's name, and gives it one on first use. However many
// processes come first at once, there is one.
func originOf(top *durable.Dir) (string, error) {
	data, err := top.ReadFile("origin")
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := top.Stat("intents"); err == nil {
			return "", fmt.Errorf("%s holds records of a development version, as plain files, which are not read; move it away to begin a new ledger", top.Path())
		}
		id := make([]byte, 16)
		rand.Read(id) // never fails: crypto/rand ends the program instead
		err = top.Create("origin", []byte(originPrefix+hex.EncodeToString(id)+"\n"), 0o600)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
		data, err = top.ReadFile("origin")
	}
	if err != nil {
		return "", err
	}
	origin, ok := strings.CutSuffix(string(data), "\n")
	if id, named := strings.CutPrefix(origin, originPrefix); !ok || !named || !isAttempt(id) {
		return "", fmt.Errorf("%w: %s holds %.80q, expected %s and 32 hexadecimal digits", ErrDamaged, filepath.Join(top.Path(), "origin"), data, originPrefix)
	}
	return origin, nil
}

// Path is the ledger's directory, absolute.
func (d *Dir) Path() string { return d.path }

// Origin names the log in its checkpoints.
func (d *Dir) Origin() string { return d.origin }

// Close gives up the directory. Entries stay. Nothing may be under way.
func (d *Dir) Close() error {
	d.turn.Lock()
	defer d.turn.Unlock()
	var errs []error
	if d.tail != nil {
		errs = append(errs, d.tail.file.Close())
		d.tail = nil
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	if d.segments != nil {
		errs = append(errs, d.segments.Close())
	}
	return errors.Join(errs...)
}

// reserve is what Preflight wants to see free for the entry that ends a run:
// far more than a report of a large plan takes.
const reserve = 256 << 10

// Preflight finds a ledger that cannot take entries before anything is started.
// Appending the intent proves that an intent fits; this proves that the report
// will fit, too, as far as that can be known beforehand.
func (d *Dir) Preflight() error {
	if err := d.segments.Writable(reserve); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}

// Torn is what of torn tails was seen or moved away since the ledger was opened.
func (d *Dir) Torn() []Torn {
	d.turn.Lock()
	defer d.turn.Unlock()
	return d.torn
}

// tail is the segment that the log ends with.
type tail struct {
	number  int64
	file    *durable.File
	end     int64    // behind its last whole commit
	entries []placed // of it
	*mark            // what the log is
	damaged error    // seen while reading: something behind it was flushed
}

func segmentName(n int64) string { return fmt.Sprintf("%09d", n) }

// locked calls do with the lock held, alone or shared, and the tail looked up.
// The tail is nil when the log is empty.
func (d *Dir) locked(alone bool, do func() error) error {
	if err := d.lock.Lock(alone); err != nil {
		return err
	}
	defer d.lock.Unlock()
	if err := d.look(alone); err != nil {
		return err
	}
	return do()
}

// look brings the tail up to what is on the disk.
func (d *Dir) look(write bool) error {
	if t := d.tail; t != nil {
		size, err := t.file.Size()
		if err != nil {
			return err
		}
		if size < t.end {
			return fmt.Errorf("%w: %s has %d bytes, and had %d: somebody cut it", ErrDamaged, t.file.Path(), size, t.end)
		}
		if err := d.catchUp(write); err != nil {
			return err
		}
		if len(d.tail.entries) < width {
			return nil
		}
		// Others may have gone on in the next one, and in those behind it.
		_, err = d.segments.Stat(segmentName(d.tail.number + 1))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		d.tail.file.Close()
		d.tail = nil
	}
	if err := d.openTail(); err != nil || d.tail == nil {
		return err
	}
	return d.catchUp(write)
}

// openTail finds the last segment. Their numbers have no gaps, so it need not
// list them.
func (d *Dir) openTail() error {
	there := func(n int64) (bool, error) {
		_, err := d.segments.Stat(segmentName(n))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil, err
	}
	low, high := int64(-1), int64(0) // low is there, or nothing; high may be
	for {
		ok, err := there(high)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		low, high = high, 2*high+1
	}
	for high-low > 1 {
		middle := (low + high) / 2
		ok, err := there(middle)
		if err != nil {
			return err
		}
		if ok {
			low = middle
		} else {
			high = middle
		}
	}
	if low < 0 {
		return nil
	}
	f, err := d.segments.OpenFile(segmentName(low), true)
	if err != nil {
		return err
	}
	d.tail = &tail{number: low, file: f}
	return nil
}

// catchUp reads what was added to the tail since. The commits of this boot are
// whole if their mark is: a process that was killed cannot have lost the first
// half of a write and kept the second. After a power cut it can be so, then
// checksums decide.
func (d *Dir) catchUp(write bool) error {
	t := d.tail
	t.damaged = nil
	size, err := t.file.Size()
	if err != nil {
		return err
	}
	if size == 0 && t.number > 0 {
		return d.stepBack(write)
	}
	if size == t.end {
		return nil
	}
	whole := true
	if m, err := lastMark(t.file, size); err == nil && d.boot != [16]byte{} && m.boot == d.boot {
		whole = false
	}
	list, last, stop, err := scan(t.file, t.end, size, t.number*width+int64(len(t.entries)), whole, nil, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", t.file.Path(), err)
	}
	if last != nil {
		t.entries, t.mark, t.end = append(t.entries, list...), last, stop
	}
	if len(t.entries) > width {
		return fmt.Errorf("%w: %s holds %d entries, expected at most %d", ErrDamaged, t.file.Path(), len(t.entries), width)
	}
	if stop < size {
		kept, err := promised(t.file, stop, size)
		if err != nil {
			return err
		}
		if n := t.number*width + int64(len(t.entries)); kept > n {
			// No crash does that, and to move it away would be to lose it.
			t.damaged = fmt.Errorf("%w: %s at byte %d: entry %d was flushed, and is not whole any more; restore the file from a backup", ErrDamaged, t.file.Path(), stop, n)
		} else if err := d.tear(write, size); err != nil {
			return err
		}
	}
	damaged := t.damaged
	if write && damaged != nil {
		return damaged
	}
	if t.mark == nil && t.number > 0 {
		// Nothing of the new segment survived: the log ends with the one before.
		if err := d.stepBack(write); err != nil {
			return err
		}
		d.tail.damaged = damaged
	}
	return nil
}

// tear deals with what stands behind the last whole commit.
func (d *Dir) tear(write bool, size int64) error {
	t := d.tail
	torn := Torn{Segment: t.file.Path(), Offset: t.end, Bytes: size - t.end}
	if !write {
		if len(d.torn) == 0 || d.torn[len(d.torn)-1] != torn {
			d.torn = append(d.torn, torn)
		}
		return nil
	}
	data := make([]byte, torn.Bytes)
	if _, err := t.file.ReadAt(data, t.end); err != nil {
		return err
	}
	kept, err := d.below("torn")
	if err != nil {
		return err
	}
	defer kept.Close()
	name := fmt.Sprintf("%s-%d-%s", segmentName(t.number), t.end, digest(data)[:16])
	if err := kept.Create(name, data, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	torn.Kept = filepath.Join(kept.Path(), name)
	if err := t.file.Cut(t.end); err != nil {
		return err
	}
	d.torn = append(d.torn, torn)
	return nil
}

// stepBack gives up an empty last segment: a crash came between its making and
// its first commit.
func (d *Dir) stepBack(write bool) error {
	empty := d.tail
	before, err := d.segments.OpenFile(segmentName(empty.number-1), true)
	if err != nil {
		return err
	}
	empty.file.Close()
	d.tail = &tail{number: empty.number - 1, file: before}
	if write {
		if err := d.segments.Remove(segmentName(empty.number)); err != nil {
			return err
		}
	}
	if err := d.catchUp(write); err != nil {
		return err
	}
	if d.tail.mark == nil || len(d.tail.entries) != width {
		return fmt.Errorf("%w: %s is not full, and is not the last segment", ErrDamaged, before.Path())
	}
	return nil
}

// below opens a directory of the ledger, making it if it is missing.
func (d *Dir) below(names ...string) (*durable.Dir, error) {
	path := filepath.Join(append([]string{d.path}, names...)...)
	if err := durable.MkdirAll(path); err != nil {
		return nil, err
	}
	return durable.OpenDir(path)
}

// Head is the log's checkpoint as it stands, flushed. It is nil for an empty log.
func (d *Dir) Head() ([]byte, error) {
	s, err := d.flushed()
	if err != nil || s.mark == nil {
		return nil, err
	}
	return s.note, nil
}

// snapshot is the log at one moment. What it holds does not change any more.
func (d *Dir) snapshot() (*snapshot, error) {
	d.turn.Lock()
	defer d.turn.Unlock()
	s := &snapshot{dir: d}
	err := d.locked(false, func() error {
		if d.tail != nil {
			s.damaged = d.tail.damaged
		}
		if d.tail == nil || d.tail.mark == nil {
			return nil
		}
		s.mark, s.number, s.entries = d.tail.mark, d.tail.number, d.tail.entries[:len(d.tail.entries):len(d.tail.entries)]
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return s, nil
}

// flushed is a snapshot of which a checkpoint may be handed out. What another
// process has written and not flushed yet must not be proved to be there: a
// power cut would take it back.
func (d *Dir) flushed() (*snapshot, error) {
	s, err := d.snapshot()
	if err == nil && s.damaged != nil {
		err = fmt.Errorf("ledger: %w", s.damaged) // an older checkpoint would hide it
	}
	if err != nil || s.mark == nil {
		return s, err
	}
	f, err := d.segments.OpenFile(segmentName(s.number), false)
	if err == nil {
		err = f.Sync()
		f.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return s, nil
}
