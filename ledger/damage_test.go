package ledger

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A byte that changed in what was acknowledged is no torn tail, also behind a
// power cut: nothing is moved away, and nothing is added.
func TestDamageIsNoTornTail(t *testing.T) {
	for _, n := range []int{0, width} { // the first segment, and the second
		d := open(t)
		d.boot = [16]byte{1}
		fillLarge(t, d, n, 10)
		for i := range 3 {
			add(t, d, Intent, id("d", i), strings.Repeat("body", 50))
		}
		name := "segments/" + segmentName(int64(n/width))
		all := readFiles(t, d.Path())
		good := all[name]
		for at, want := range map[int]int{50: 0, len(good) / 2: 1} { // which entries are left
			dir := filepath.Join(t.TempDir(), "ledger")
			all[name] = bytes.Clone(good)
			all[name][at] ^= 1
			all.write(t, dir)
			d := openAt(t, dir)
			if got, err := d.Len(); err != nil || got != int64(n+want) || len(d.Torn()) != 0 {
				t.Errorf("byte %d of %s: %d entries, torn %v, %v; want %d", at, name, got, d.Torn(), err, n+want)
			}
			for what, do := range map[string]func() error{
				"append":     func() error { _, err := d.Append(Intent, id("e", 1), []byte("x")); return err },
				"repair":     func() error { _, err := d.Repair(); return err },
				"checkpoint": func() error { _, err := d.Head(); return err },
			} {
				if err := do(); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), filepath.Join(dir, name)+" at byte ") || !strings.Contains(err.Error(), "backup") {
					t.Errorf("%s over a changed byte %d of %s: %v", what, at, name, err)
				}
			}
			var bad *Problem
			if _, err := verify(d); !errors.As(err, &bad) || bad.Check != CheckSegment || !strings.Contains(bad.What, "damage, since") {
				t.Errorf("byte %d of %s: %v", at, name, err)
			}
			if left, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(left, all[name]) {
				t.Errorf("%s was changed, %v", name, err)
			}
			d.Close()
		}
	}
}

// A log that lacks a segment is not gone on with from where that was.
func TestMissingSegment(t *testing.T) {
	d := open(t)
	fillLarge(t, d, 5*width+1, 10)
	for n := range int64(5) {
		all := readFiles(t, d.Path())
		delete(all, "segments/"+segmentName(n))
		dir := filepath.Join(t.TempDir(), "ledger")
		all.write(t, dir)
		d := openAt(t, dir)
		_, err := d.Append(Disposition, id("e", 1), []byte("x"))
		if _, verr := verify(d); verr == nil {
			t.Errorf("without segment %d it is verified", n)
		}
		if _, there := readFiles(t, dir)["segments/"+segmentName(n)]; there {
			t.Errorf("segment %d was made again: %v", n, err)
		}
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("without segment %d: %v", n, err)
		}
		d.Close()
	}
}

// What a development version wrote is no torn tail either.
func TestOldMarksAreNotMovedAway(t *testing.T) {
	_, all := small(t, key, "one")
	all[segment0] = bytes.ReplaceAll(all[segment0], []byte(markMagic), []byte(oldMagic))
	dir := filepath.Join(t.TempDir(), "ledger")
	all.write(t, dir)
	d := openAt(t, dir)
	if _, err := d.Append(Intent, id("b", 1), []byte("x")); err == nil || !strings.Contains(err.Error(), "development version") {
		t.Errorf("it said %v", err)
	}
	if left := readFiles(t, dir); !bytes.Equal(left[segment0], all[segment0]) {
		t.Error("it was changed")
	}
}
