package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Entry describes one entry of a Dir.
type Entry struct {
	Kind    Kind
	Attempt string
	Path    string
	Size    int64
	Time    time.Time // when the file was written, by the clock of the host then
}

// List returns all entries in order of time; what happened at one moment is in
// order of attempt, intent first. Files that are no entries are left out.
func (d *Dir) List() ([]Entry, error) {
	var list []Entry
	for _, k := range kinds {
		attempts, err := d.attempts(k.kind)
		if err != nil {
			return nil, err
		}
		for _, attempt := range attempts {
			e, err := d.entry(k.kind, attempt)
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed since the directory was read
			}
			if err != nil {
				return nil, err
			}
			list = append(list, e)
		}
	}
	// kinds holds intents first and the sort is stable.
	slices.SortStableFunc(list, func(a, b Entry) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Attempt, b.Attempt))
	})
	return list, nil
}

func (d *Dir) entry(kind Kind, attempt string) (Entry, error) {
	sub := d.dirs[kind]
	info, err := sub.Stat(attempt + suffix)
	if err != nil {
		return Entry{}, fmt.Errorf("ledger: %w", err)
	}
	return Entry{
		Kind:    kind,
		Attempt: attempt,
		Path:    filepath.Join(sub.Path(), attempt+suffix),
		Size:    info.Size(),
		Time:    info.ModTime(),
	}, nil
}

// attempts lists the attempts that have an entry of one kind, in order.
func (d *Dir) attempts(kind Kind) ([]string, error) {
	names, err := d.dirs[kind].Names()
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	var attempts []string
	for _, name := range names {
		if attempt, ok := strings.CutSuffix(name, suffix); ok && isAttempt(attempt) {
			attempts = append(attempts, attempt)
		}
	}
	return attempts, nil
}

// Read returns one entry as it was appended. An entry that is not there is
// fs.ErrNotExist.
func (d *Dir) Read(kind Kind, attempt string) ([]byte, error) {
	sub, err := d.of(kind)
	if err != nil {
		return nil, err
	}
	if err := checkAttempt(attempt); err != nil {
		return nil, err
	}
	data, err := sub.ReadFile(attempt + suffix)
	if err != nil {
		return nil, fmt.Errorf("ledger: %s: %w", kind, err)
	}
	return data, nil
}

// Open returns the attempts that have an intent and no end, oldest first:
// they are running now, or a crash left them.
func (d *Dir) Open() ([]string, error) {
	// Intents are read first: a run that ends meanwhile then has its end seen,
	// and one that starts meanwhile is left out.
	open, err := d.attempts(Intent)
	if err != nil {
		return nil, err
	}
	for _, kind := range []Kind{Report, Refusal} {
		ended, err := d.attempts(kind)
		if err != nil {
			return nil, err
		}
		open = slices.DeleteFunc(open, func(a string) bool {
			_, found := slices.BinarySearch(ended, a)
			return found
		})
	}
	return d.byTime(open)
}

func (d *Dir) byTime(attempts []string) ([]string, error) {
	times := map[string]time.Time{}
	for _, a := range attempts {
		e, err := d.entry(Intent, a)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		times[a] = e.Time
	}
	slices.SortStableFunc(attempts, func(a, b string) int { return times[a].Compare(times[b]) })
	return attempts, nil
}

// candidates is how many attempts an ambiguous prefix's error names.
const candidates = 8

// Find returns the one attempt whose id starts with prefix. None is
// fs.ErrNotExist; several are an error that names them.
func (d *Dir) Find(prefix string) (string, error) {
	if prefix == "" || len(prefix) > attemptLen || !isHex(prefix) {
		return "", fmt.Errorf("ledger: attempt %q: want the first lower-case hexadecimal digits of an attempt id", prefix)
	}
	var found []string
	for _, k := range kinds {
		attempts, err := d.attempts(k.kind)
		if err != nil {
			return "", err
		}
		for _, a := range attempts {
			if strings.HasPrefix(a, prefix) {
				found = append(found, a)
			}
		}
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
