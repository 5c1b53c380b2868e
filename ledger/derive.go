package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
)

// What follows from a full segment: its entry bundle and tiles, for whoever
// verifies, and its run of the index. All of it is made before the next segment
// begins, is never changed, and can be made again from the segments.

// file is one of them, by its path below the ledger.
type file struct {
	path string
	data []byte
}

// finish makes what follows from the tail, which is full, and flushes that.
func (d *Dir) finish() error {
	t := d.tail
	if err := t.file.Sync(); err != nil {
		return err
	}
	list, err := d.derive(t.number, t.entries, d.derived)
	if err != nil {
		return err
	}
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, f := range list {
		wg.Go(func() { errs[i] = d.put(f) }) // the flushes of several share the disk's journal
	}
	wg.Wait()
	return errors.Join(errs...)
}

// derive lists what follows from segment n. before reads what followed from
// earlier ones.
func (d *Dir) derive(n int64, entries []placed, before func(string) ([]byte, error)) ([]file, error) {
	hashes := make([]tlog.Hash, len(entries))
	for i, e := range entries {
		hashes[i] = e.hash
	}
	list := []file{
		{"public/" + bundlePath(n, width), bundle(entries)},
		{"public/" + tilePath(tlog.Tile{H: height, L: 0, N: n, W: width}), joinTile(hashes)},
	}
	// Each level up holds one hash for each full tile below.
	root, at := subtree(hashes), n
	for level := 1; ; level++ {
		tile := tlog.Tile{H: height, L: level, N: at / width, W: int(at%width) + 1}
		var row []tlog.Hash
		if tile.W > 1 {
			earlier := tile
			earlier.W--
			data, err := before("public/" + tilePath(earlier))
			if err == nil {
				row, err = splitTile(data, earlier.W)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", tilePath(earlier), err)
			}
		}
		row = append(row, root)
		list = append(list, file{"public/" + tilePath(tile), joinTile(row)})
		if tile.W < width {
			break
		}
		root, at = subtree(row), tile.N
	}
	// Each level of the index joins sixteen runs of the one below.
	run := newRun(entries)
	list = append(list, file{runPath(0, n), run})
	for level, at := 1, n; at%fanout == fanout-1; level++ {
		parts := [][]byte{run}
		for i := at - fanout + 1; i < at; i++ {
			part, err := before(runPath(level-1, i))
			if err != nil {
				return nil, err
			}
			parts = append(parts, part)
		}
		run, at = joinRuns(parts), at/fanout
		list = append(list, file{runPath(level, at), run})
	}
	return list, nil
}

// bundle is the leaves as https://c2sp.org/tlog-tiles keeps them: each with its
// length before it, in two bytes.
func bundle(entries []placed) []byte {
	var b []byte
	for _, e := range entries {
		leaf := e.Leaf()
		b = binary.BigEndian.AppendUint16(b, uint16(len(leaf)))
		b = append(b, leaf...)
	}
	return b
}

// put makes a file, durably. One that a crash left there is as good.
func (d *Dir) put(f file) error {
	dir, err := d.below(strings.Split(path.Dir(f.path), "/")...)
	if err != nil {
		return err
	}
	defer dir.Close()
	err = dir.Create(path.Base(f.path), f.data, 0o600)
	if errors.Is(err, fs.ErrExist) {
		there, rerr := dir.ReadFile(path.Base(f.path))
		if rerr == nil && !bytes.Equal(there, f.data) {
			rerr = fmt.Errorf("%w: %s is there and holds something else; \"bvisor ledger fsck\" tells more", ErrDamaged, filepath.Join(d.path, f.path))
		}
		return rerr
	}
	return err
}

// derived reads one of the files.
func (d *Dir) derived(name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(d.path, filepath.FromSlash(name)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w; \"bvisor ledger fsck --repair\" makes it again", ErrDamaged, err)
	}
	return data, nil
}

// A run of the index is records in order: the attempt, then kind and index of
// an entry of it.
const (
	fanout    = 16
	recordLen = len(attemptID{}) + 8
)

type record [recordLen]byte

func newRecord(e *Entry) (r record) {
	id := idOf(e.Attempt)
	copy(r[:], id[:])
	binary.BigEndian.PutUint64(r[len(id):], uint64(slices.Index(kinds, e.Kind)+1)<<56|uint64(e.Index))
	return r
}

func (r record) id() attemptID { return attemptID(r[:len(attemptID{})]) }
func (r record) index() int64 {
	return int64(binary.BigEndian.Uint64(r[len(attemptID{}):]) & (1<<56 - 1))
}

func (r record) kind() Kind {
	if n := int(r[len(attemptID{})]) - 1; n >= 0 && n < len(kinds) {
		return kinds[n]
	}
	return ""
}

func runPath(level int, n int64) string { return fmt.Sprintf("index/%d/%09d", level, n) }

func newRun(entries []placed) []byte {
	list := make([]record, len(entries))
	for i := range entries {
		list[i] = newRecord(&entries[i].Entry)
	}
	return packRun(list)
}

func packRun(list []record) []byte {
	slices.SortFunc(list, func(a, b record) int { return bytes.Compare(a[:], b[:]) })
	b := make([]byte, 0, len(list)*recordLen)
	for _, r := range list {
		b = append(b, r[:]...)
	}
	return b
}

func joinRuns(parts [][]byte) []byte {
	var list []record
	for _, p := range parts {
		for ; len(p) >= recordLen; p = p[recordLen:] {
			list = append(list, record(p))
		}
	}
	return packRun(list)
}

// runsOf are the fewest runs that hold the first n segments.
func runsOf(n int64) (paths []string) {
	level, size := 0, int64(1)
	for size*fanout <= n {
		level, size = level+1, size*fanout
	}
	for at := int64(0); at < n; level, size = level-1, size/fanout {
		for ; at+size <= n; at += size {
			paths = append(paths, runPath(level, at/size))
		}
	}
	return paths
}

// lookup finds the records of the attempts that start with prefix in the index
// of the first n segments.
func (d *Dir) lookup(prefix string, n int64) (found []record, err error) {
	low := idOf(prefix + strings.Repeat("0", attemptLen-len(prefix)))
	high := idOf(prefix + strings.Repeat("f", attemptLen-len(prefix)))
	for _, name := range runsOf(n) {
		if found, err = d.search(name, low, high, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// search adds what a run holds from low to high to found.
func (d *Dir) search(name string, low, high attemptID, found []record) ([]record, error) {
	f, err := os.Open(filepath.Join(d.path, filepath.FromSlash(name)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w; \"bvisor ledger fsck --repair\" makes it again", ErrDamaged, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	at, n := int64(0), info.Size()/int64(recordLen)
	var r record
	read := func(i int64) (err error) {
		if _, err = f.ReadAt(r[:], i*int64(recordLen)); err != nil {
			err = fmt.Errorf("%s: %w", f.Name(), err)
		}
		return err
	}
	for high := n; at < high; {
		middle := int64(uint64(at+high) / 2)
		if err := read(middle); err != nil {
			return nil, err
		}
		if id := r.id(); bytes.Compare(id[:], low[:]) < 0 {
			at = middle + 1
		} else {
			high = middle
		}
	}
	for ; at < n; at++ {
		if err := read(at); err != nil {
			return nil, err
		}
		if id := r.id(); bytes.Compare(id[:], high[:]) > 0 {
			break
		}
		found = append(found, r)
	}
	return found, nil
}

// rebuild makes what follows from the full segments again where it is missing
// or holds something else, and returns the paths.
func (d *Dir) rebuild(n int64, entries []placed) (made []string, err error) {
	list, err := d.derive(n, entries, d.derived)
	if err != nil {
		return nil, err
	}
	for _, f := range list {
		if there, err := d.derived(f.path); err == nil && bytes.Equal(there, f.data) {
			continue
		}
		dir, err := d.below(strings.Split(path.Dir(f.path), "/")...)
		if err != nil {
			return made, err
		}
		err = dir.WriteFile(path.Base(f.path), f.data, 0o600)
		dir.Close()
		if err != nil {
			return made, err
		}
		made = append(made, f.path)
	}
	return made, nil
}
