package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/bvisor/bvisor/internal/durable"
)

// kinds are the entry kinds and the directory that keeps each.
var kinds = []struct {
	kind Kind
	dir  string
}{
	{Intent, "intents"},
	{Report, "reports"},
	{Refusal, "refusals"},
	{Disposition, "dispositions"},
}

const suffix = ".json"

// entryMode: an entry names paths and commands of its user and nobody else's.
const entryMode = 0o600

// Dir is a Log of plain files: PATH/intents/ATTEMPT.json and so on. An entry is
// one file that was never there in part and is never replaced. Any number of
// processes may use the same directory at the same time.
//
// Files can be removed or altered by whoever owns the directory: a Dir shows
// what is there, it does not prove that nothing is missing.
type Dir struct {
	path string
	dirs map[Kind]*durable.Dir
}

// OpenDir opens the state directory at path and makes it if it is missing. It
// refuses one that others can write to.
func OpenDir(path string) (*Dir, error) {
	if err := durable.MkdirAll(path); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	top, err := durable.OpenDir(path)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	top.Close() // opened to be judged only

	d := &Dir{path: top.Path(), dirs: map[Kind]*durable.Dir{}}
	for _, k := range kinds {
		sub := filepath.Join(d.path, k.dir)
		err := durable.MkdirAll(sub)
		if err == nil {
			d.dirs[k.kind], err = durable.OpenDir(sub)
		}
		if err != nil {
			d.Close()
			return nil, fmt.Errorf("ledger: %w", err)
		}
	}
	return d, nil
}

// Path is the state directory, absolute.
func (d *Dir) Path() string { return d.path }

// Close gives up the directory. Entries stay.
func (d *Dir) Close() error {
	var errs []error
	for _, k := range kinds {
		if sub := d.dirs[k.kind]; sub != nil {
			errs = append(errs, sub.Close())
		}
	}
	return errors.Join(errs...)
}

// Append implements Log. A second entry of the same kind and attempt is an
// error that is fs.ErrExist; the first one stays.
func (d *Dir) Append(kind Kind, attempt string, entry []byte) (Receipt, error) {
	sub, err := d.of(kind)
	if err != nil {
		return Receipt{}, err
	}
	if err := checkAttempt(attempt); err != nil {
		return Receipt{}, err
	}
	if len(entry) == 0 {
		return Receipt{}, fmt.Errorf("ledger: bug: empty %s of %s", kind, attempt)
	}
	name := attempt + suffix
	for n := 0; ; n++ {
		if kind == Disposition {
			name = attempt + "-" + strconv.Itoa(n) + suffix
		}
		err := sub.Create(name, entry, entryMode)
		if kind == Disposition && errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return Receipt{}, fmt.Errorf("ledger: %s: %w", kind, err)
		}
		return Receipt{Path: filepath.Join(sub.Path(), name)}, nil
	}
}

// All returns the entries of one kind that an attempt has, in the order in
// which they were appended.
func (d *Dir) All(kind Kind, attempt string) ([][]byte, error) {
	if kind != Disposition {
		entry, err := d.Read(kind, attempt)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return [][]byte{entry}, err
	}
	if err := checkAttempt(attempt); err != nil {
		return nil, err
	}
	var all [][]byte
	for n := 0; ; n++ {
		entry, err := d.dirs[kind].ReadFile(attempt + "-" + strconv.Itoa(n) + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("ledger: %s: %w", kind, err)
		}
		all = append(all, entry)
	}
}

// reserve is what Preflight wants to see free for the entry that ends a run:
// far more than a report of a large plan takes.
const reserve = 256 << 10

// Preflight finds a state directory that cannot take entries before anything
// is started. Appending the intent proves that an intent fits; this proves
// that the report will fit, too, as far as that can be known beforehand.
func (d *Dir) Preflight() error {
	for _, k := range kinds {
		n := 1
		if k.kind == Report {
			n = reserve
		}
		if err := d.dirs[k.kind].Writable(n); err != nil {
			return fmt.Errorf("ledger: %s: %w", k.kind, err)
		}
	}
	return nil
}

func (d *Dir) of(kind Kind) (*durable.Dir, error) {
	if sub := d.dirs[kind]; sub != nil {
		return sub, nil
	}
	return nil, fmt.Errorf("ledger: bug: unknown entry kind %q, want intent, report, refusal or disposition", kind)
}

// attemptLen is the length of an attempt id: 16 random bytes in hex.
const attemptLen = 32

func isAttempt(s string) bool { return len(s) == attemptLen && isHex(s) }

// isHex says whether s holds lower-case hexadecimal digits only.
func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

func checkAttempt(attempt string) error {
	if !isAttempt(attempt) {
		return fmt.Errorf("ledger: attempt id %q: want %d lower-case hexadecimal digits", attempt, attemptLen)
	}
	return nil
}
