package ledger

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func verify(d *Dir) (Verified, error) {
	return d.Verify(VerifyOptions{Keys: keys, Every: true})
}

func TestVerify(t *testing.T) {
	d := open(t)
	if v, err := verify(d); err != nil || v.Entries != 0 {
		t.Errorf("empty: %+v, %v", v, err)
	}
	if head, err := d.Publish(); err != nil || head != nil {
		t.Errorf("publish nothing: %q, %v", head, err)
	}
	for n := range 300 {
		add(t, d, Intent, id("a", n), fmt.Sprintf("intent %d", n))
		if n%17 == 0 || n == 255 {
			if _, err := d.Publish(); err != nil {
				t.Fatal(err)
			}
		}
		if n%50 == 49 || n > 250 && n < 260 {
			if v, err := verify(d); err != nil || v.Entries != int64(n+1) || v.Open != n+1 || v.Signatures < int64(n+1) {
				t.Fatalf("with %d: %+v, %v", n+1, v, err)
			}
		}
	}
	fill(t, d, "f", 2400) // more than sixteen segments
	v, err := verify(d)
	if err != nil || v.Entries != 5100 {
		t.Fatalf("%+v, %v", v, err)
	}
	other := []ed25519.PublicKey{public(newKey(2))}
	var bad *Problem
	if _, err := d.Verify(VerifyOptions{Keys: other}); !errors.As(err, &bad) || bad.Check != CheckPublished {
		t.Errorf("with another key: %v", err)
	}
	asked := 0
	_, err = d.Verify(VerifyOptions{Keys: keys, Entry: func(e Entry, b []byte) error {
		if e.Index == 4000 {
			return errors.New("not liked")
		}
		return nil
	}, Progress: func(int64, int64) { asked++ }})
	if !errors.As(err, &bad) || bad.Check != CheckEntry || bad.What != "not liked" || asked == 0 {
		t.Errorf("with a check of entries: %v", err)
	}
}

// A segment that is not read at once is verified all the same.
func TestVerifyOfALargeSegment(t *testing.T) {
	d := open(t)
	for i := range 3 {
		add(t, d, Disposition, id("a", i), strings.Repeat("x", atOnce/2))
	}
	if v, err := verify(d); err != nil || v.Entries != 3 {
		t.Fatalf("%+v, %v", v, err)
	}
	all := readFiles(t, d.Path())
	all[segment0][atOnce/4] ^= 1
	refused(t, all, "a byte of a large entry changed", nil)
}

func BenchmarkVerify(b *testing.B) {
	d := open(b)
	fillLarge(b, d, 100*width, 4096)
	for b.Loop() {
		if v, err := d.Verify(VerifyOptions{Keys: keys}); err != nil || v.Entries != 100*width {
			b.Fatal(v, err)
		}
	}
	b.ReportMetric(float64(100*width*b.N)/b.Elapsed().Seconds(), "entries/s")
}

// fillLarge adds n entries of size bytes, in large commits.
func fillLarge(t testing.TB, d *Dir, n, size int) {
	t.Helper()
	fillFrom(t, d, 0, n, size)
}
