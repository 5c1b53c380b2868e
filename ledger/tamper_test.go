package ledger

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/bvisor/bvisor/internal/need"
)

// files are the contents of a ledger, by path.
type files map[string][]byte

func readFiles(t testing.TB, dir string) files {
	t.Helper()
	all := files{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		all[filepath.ToSlash(name)], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (f files) write(t testing.TB, dir string) {
	t.Helper()
	for name, data := range f {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (f files) names() []string {
	var names []string
	for name, data := range f {
		if len(data) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// sample is a ledger of more than one segment, published, with commits of one
// entry and of several.
func sample(t testing.TB) *Dir {
	t.Helper()
	d := open(t)
	for i := range 20 {
		add(t, d, Intent, id("a", i), fmt.Sprintf("intent %d", i))
	}
	fillLarge(t, d, 512, 40)
	if _, err := d.Publish(); err != nil {
		t.Fatal(err)
	}
	for i := range 15 {
		add(t, d, Report, id("a", i), fmt.Sprintf("report %d", i))
	}
	return d
}

// refused opens a ledger's files elsewhere and wants verification to fail, by a
// problem that names a place in them. A log that was cut between two commits is
// a log, too; then the checkpoint that was kept must tell.
func refused(t *testing.T, all files, what string, kept []byte) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ledger")
	all.write(t, dir)
	defer os.RemoveAll(dir)
	d, err := OpenDir(dir)
	if err != nil {
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, which names no place", what, err)
		}
		return
	}
	defer d.Close()
	_, err = d.Verify(VerifyOptions{Keys: keys, Every: true})
	if err == nil && kept != nil {
		if _, err := d.Since(kept, keys); err != nil {
			return
		}
	}
	if err == nil {
		t.Errorf("%s: it is verified", what)
	} else if !strings.Contains(err.Error(), dir) {
		t.Errorf("%s: %v, which names no place", what, err)
	}
}

// accepted is the control.
func accepted(t *testing.T, all files) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ledger")
	all.write(t, dir)
	if _, err := verify(openAt(t, dir)); err != nil {
		t.Fatalf("control: %v", err)
	}
}

// Every change of any byte of any file, at random places, is refused, as is
// every file that is missing, doubled or cut.
func TestRandomEditsAreRefused(t *testing.T) {
	d := sample(t)
	all := readFiles(t, d.Path())
	accepted(t, all)
	kept, err := d.Head()
	if err != nil {
		t.Fatal(err)
	}
	rounds := need.Rounds(t, 150, 2000)
	names := all.names()
	for round := range rounds {
		edited := files{}
		for name, data := range all {
			edited[name] = data
		}
		name := names[rand.IntN(len(names))]
		data := bytes.Clone(all[name])
		at := rand.IntN(len(data))
		what := ""
		switch round % 8 {
		case 0, 1, 2:
			data[at] ^= 1 << rand.IntN(8)
			what = "a bit flipped"
		case 3:
			data = data[:at]
			what = "cut"
		case 4:
			data = slices.Delete(data, at, at+1)
			what = "a byte taken out"
		case 5:
			data = slices.Insert(data, at, byte(rand.IntN(256)))
			what = "a byte put in"
		case 6:
			to := at + rand.IntN(len(data)-at) + 1
			data = append(data, data[at:to]...)
			what = "a part doubled"
		case 7:
			if data = nil; name == "origin" {
				data = []byte{}
			}
			what = "removed"
		}
		if bytes.Equal(data, all[name]) {
			continue
		}
		if edited[name] = data; data == nil {
			delete(edited, name)
			if name == "public/checkpoint" {
				continue // nothing says that one was published
			}
			if strings.Contains(name, ".p/") && !strings.HasPrefix(name, "public/tile/1/") {
				continue // nor partial tiles
			}
		}
		refused(t, edited, fmt.Sprintf("round %d: %s, byte %d: %s", round, name, at, what), kept)
		if t.Failed() {
			return
		}
	}
}

// forged is a segment taken apart, to be put together in another way, with
// checksums that are right.
type forged struct {
	frames [][]byte
	marks  []mark // behind the frame with that number
	after  []int
}

func takeApart(t testing.TB, segment []byte) *forged {
	t.Helper()
	f := &forged{}
	list, _, stop, err := scan(memory(segment), 0, int64(len(segment)), 0, true, nil, func(at int64, m *mark) {
		f.marks, f.after = append(f.marks, *m), append(f.after, int(m.size))
	})
	if err != nil || stop != int64(len(segment)) {
		t.Fatal(stop, err)
	}
	for _, p := range list {
		leaf := p.Leaf()
		f.frames = append(f.frames, appendFrame(nil, leaf, segment[p.body:p.body+p.Size]))
	}
	return f
}

// join writes it, with each mark as it was but its place.
func (f *forged) join() []byte {
	var out []byte
	next := 0
	for i, frame := range f.frames {
		out = append(out, frame...)
		for next < len(f.marks) && f.after[next] == i+1 {
			out = f.marks[next].append(out)
			next++
		}
	}
	return out
}

// small is one segment of single commits.
func small(t testing.TB, by testKey, seed string) (*Dir, files) {
	t.Helper()
	d := open(t)
	d.Signer = by
	for i := range 12 {
		add(t, d, Intent, id("a", i), seed+fmt.Sprintf(" intent %d", i))
		add(t, d, Report, id("a", i), seed+fmt.Sprintf(" report %d", i))
	}
	return d, readFiles(t, d.Path())
}

const segment0 = "segments/000000000"

// What somebody does who knows the format and lacks the key.
func TestForgeriesAreRefused(t *testing.T) {
	_, all := small(t, key, "one")
	_, other := small(t, key, "two")
	_, foreign := small(t, newKey(2), "one")
	accepted(t, all)
	edit := func(do func(f *forged)) files {
		f := takeApart(t, all[segment0])
		if !bytes.Equal(f.join(), all[segment0]) {
			t.Fatal("control: the segment does not come out the same")
		}
		do(f)
		edited := files{}
		for name, data := range all {
			edited[name] = data
		}
		edited[segment0] = f.join()
		return edited
	}
	with := func(name string, data []byte) files {
		edited := files{}
		for n, d := range all {
			edited[n] = d
		}
		edited[name] = data
		return edited
	}
	body := func(f *forged, i int) ([]byte, []byte) {
		frame := f.frames[i]
		leafLen := binary.BigEndian.Uint32(frame[4:])
		return frame[frameHead : frameHead+leafLen], frame[frameHead+leafLen : len(frame)-checkLen]
	}
	theirs := takeApart(t, other[segment0])
	for what, edited := range map[string]files{
		"an entry changed":              edit(func(f *forged) { l, b := body(f, 5); f.frames[5] = appendFrame(nil, l, bytes.ToUpper(b)) }),
		"an entry and its leaf changed": edit(func(f *forged) { f.frames[5] = reframe(t, f.frames[5], bytes.ToUpper) }),
		"an entry dropped, renumbered": edit(func(f *forged) {
			f.frames = slices.Delete(f.frames, 4, 6)
			f.marks = slices.Delete(f.marks, 4, 6)
			f.after = f.after[:len(f.after)-2]
			for i := range f.marks {
				f.marks[i].size = int64(f.after[i])
				f.marks[i].tree = make(frontier, len(onesOf(f.marks[i].size)))
			}
		}),
		"two entries exchanged":   edit(func(f *forged) { f.frames[4], f.frames[6] = f.frames[6], f.frames[4] }),
		"an entry doubled":        edit(func(f *forged) { f.frames[7] = f.frames[5] }),
		"an entry of another log": edit(func(f *forged) { f.frames[5] = theirs.frames[5] }),
		"the end of another log": edit(func(f *forged) {
			f.frames, f.marks = append(f.frames[:10], theirs.frames[10:]...), append(f.marks[:10], theirs.marks[10:]...)
		}),
		"another log under this name": with(segment0, other[segment0]),
		"another name":                with("origin", other["origin"]),
		"all of another key":          foreign,
		"a signature of another commit": edit(func(f *forged) {
			f.marks[7].note = append(bytes.Clone(f.marks[7].note[:bytes.Index(f.marks[7].note, []byte("\n\n"))]), f.marks[8].note[bytes.Index(f.marks[8].note, []byte("\n\n")):]...)
		}),
		"no signature": edit(func(f *forged) { n := f.marks[23].note; f.marks[23].note = n[:bytes.Index(n, []byte("\n\n"))+2] }),
		"two signatures": edit(func(f *forged) {
			n := f.marks[23].note
			f.marks[23].note = append(n, n[bytes.Index(n, []byte("— ")):]...)
		}),
		"subtrees changed": edit(func(f *forged) {
			f.marks[9].tree = append(frontier(nil), f.marks[9].tree...)
			f.marks[9].tree[0][3] ^= 1
		}),
		"an open attempt less": edit(func(f *forged) { f.marks[8].open = nil }),
		"an open attempt more": edit(func(f *forged) { f.marks[9].open = []running{{index: 3}} }),
		"re-encoded leaf":      edit(func(f *forged) { f.frames[3] = relead(f.frames[3], "Z ", ".0Z ") }),
		"unknown kind":         edit(func(f *forged) { f.frames[3] = relead(f.frames[3], " report ", " verdict ") }),
	} {
		refused(t, edited, what, nil)
	}
	// An end that is not there any more is no damage by itself: only who kept a
	// checkpoint can tell.
	short := edit(func(f *forged) { f.frames, f.marks, f.after = f.frames[:20], f.marks[:20], f.after[:20] })
	accepted(t, short)
	dir := filepath.Join(t.TempDir(), "cut")
	short.write(t, dir)
	kept := takeApart(t, all[segment0]).marks[21].note
	if _, err := openAt(t, dir).Since(kept, keys); err == nil || !strings.Contains(err.Error(), "had 22 entries and has 20") {
		t.Errorf("a log that was cut: %v", err)
	}
	// A fork: cut, and gone on with in another way, under the right key.
	d := openAt(t, dir)
	for i := range 5 {
		add(t, d, Intent, id("f", i), "other")
	}
	if _, err := verify(d); err != nil {
		t.Fatalf("control: %v", err)
	}
	if _, err := d.Since(kept, keys); err == nil || !strings.Contains(err.Error(), "forked") {
		t.Errorf("a fork: %v", err)
	}
	if _, err := d.Since(takeApart(t, all[segment0]).marks[19].note, keys); err != nil {
		t.Errorf("what both have in common: %v", err)
	}
	// Somebody else's checkpoint.
	if _, err := d.Since(theirs.marks[3].note, keys); err == nil || !strings.Contains(err.Error(), "one checkpoint is of the log") {
		t.Errorf("another log's checkpoint: %v", err)
	}
}

func onesOf(n int64) (list []int) {
	for ; n > 0; n &= n - 1 {
		list = append(list, 1)
	}
	return list
}

// reframe changes an entry and has its leaf name what it is then.
func reframe(t testing.TB, frame []byte, change func([]byte) []byte) []byte {
	t.Helper()
	leafLen := binary.BigEndian.Uint32(frame[4:])
	e, err := ParseLeaf(frame[frameHead : frameHead+leafLen])
	if err != nil {
		t.Fatal(err)
	}
	b := change(bytes.Clone(frame[frameHead+leafLen : len(frame)-checkLen]))
	e.Size, e.SHA256 = int64(len(b)), digest(b)
	return appendFrame(nil, e.Leaf(), b)
}

// relead changes a leaf's text and leaves the entry.
func relead(frame []byte, from, to string) []byte {
	leafLen := binary.BigEndian.Uint32(frame[4:])
	leaf := strings.Replace(string(frame[frameHead:frameHead+leafLen]), from, to, 1)
	return appendFrame(nil, []byte(leaf), frame[frameHead+leafLen:len(frame)-checkLen])
}

// Appending signs all that is there: what no trusted key signed is not added to.
func TestNothingIsAddedToAForgery(t *testing.T) {
	_, all := small(t, key, "one")
	f := takeApart(t, all[segment0])
	last := &f.marks[len(f.marks)-1]
	f.frames[len(f.frames)-1] = reframe(t, f.frames[len(f.frames)-1], bytes.ToUpper)
	last.tree = append(frontier(nil), last.tree...)
	last.tree[len(last.tree)-1] = tlog.Hash{1}
	all[segment0] = f.join()
	dir := filepath.Join(t.TempDir(), "ledger")
	all.write(t, dir)
	if _, err := openAt(t, dir).Append(Intent, id("b", 1), []byte("x")); !errors.Is(err, ErrDamaged) {
		t.Errorf("a changed end: %v, want it damaged", err)
	}

	_, all = small(t, newKey(2), "one")
	dir = filepath.Join(t.TempDir(), "ledger")
	all.write(t, dir)
	d := openAt(t, dir)
	if _, err := d.Append(Intent, id("b", 1), []byte("x")); !errors.Is(err, ErrUntrusted) {
		t.Errorf("signed by another key: %v, want ErrUntrusted", err)
	}
	// The control: the key of before is trusted after a rotation.
	d.Trusted = func() ([]ed25519.PublicKey, error) { return []ed25519.PublicKey{public(newKey(2))}, nil }
	add(t, d, Intent, id("b", 1), "x")
	if _, err := d.Verify(VerifyOptions{Keys: append(keys, public(newKey(2))), Every: true}); err != nil {
		t.Error(err)
	}
}

// A proof is refused in every other spelling and after every change.
func TestEveryByteOfAProofMatters(t *testing.T) {
	d, _ := small(t, key, "one")
	p, err := d.Prove(7)
	if err != nil {
		t.Fatal(err)
	}
	check := func(data []byte) error {
		p, err := ParseProof(data)
		if err != nil {
			return err
		}
		if _, err = p.Check(keys); err == nil && p.Entry.Index != 7 {
			err = errors.New("another index")
		}
		return err
	}
	good := p.Marshal()
	if err := check(good); err != nil {
		t.Fatalf("control: %v", err)
	}
	for i := range good {
		for _, change := range []func([]byte) []byte{
			func(b []byte) []byte { b[i] ^= 1; return b },
			func(b []byte) []byte { b[i] ^= 0x20; return b },
			func(b []byte) []byte { b[i] ^= 0x80; return b },
			func(b []byte) []byte { return append(b[:i], b[i+1:]...) },
			func(b []byte) []byte { return b[:i] },
			func(b []byte) []byte { return append(b[:i:i], append([]byte{' '}, b[i:]...)...) },
			func(b []byte) []byte { return append(b[:i:i], append([]byte{'\n'}, b[i:]...)...) },
		} {
			if b := change(bytes.Clone(good)); check(b) == nil {
				t.Fatalf("byte %d (%q): holds as %q", i, good[i], b)
			}
		}
	}
}

func FuzzParseProof(f *testing.F) {
	d, _ := small(f, key, "one")
	for i := range int64(3) {
		p, err := d.Prove(i * 9)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p.Marshal())
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := ParseProof(in)
		if err == nil && !bytes.Equal(p.Marshal(), in) {
			t.Errorf("accepted %q but writes %q", in, p.Marshal())
		}
	})
}

func FuzzParseLeaf(f *testing.F) {
	e := Entry{Kind: Report, Attempt: id("a", 1), Size: 7, SHA256: digest([]byte("x"))}
	f.Add(e.Leaf())
	f.Fuzz(func(t *testing.T, in []byte) {
		e, err := ParseLeaf(in)
		if err == nil && !bytes.Equal(e.Leaf(), in) {
			t.Errorf("accepted %q but writes %q", in, e.Leaf())
		}
	})
}

// A segment that anybody could have written makes no reader panic, allocate
// without bound, or see entries where there are none.
func FuzzScan(f *testing.F) {
	_, all := small(f, key, "one")
	f.Add(all[segment0])
	f.Add(all[segment0][:len(all[segment0])-3])
	f.Fuzz(func(t *testing.T, in []byte) {
		list, last, stop, err := scan(memory(in), 0, int64(len(in)), 0, true, nil, nil)
		if stop > int64(len(in)) || (last == nil) != (len(list) == 0) || err == nil && last != nil && last.size != int64(len(list)) {
			t.Errorf("%d entries, mark %+v, stop %d of %d, %v", len(list), last, stop, len(in), err)
		}
		if m, err := lastMark(memory(in), int64(len(in))); err == nil {
			if b := m.append(nil); !bytes.HasSuffix(in, b) {
				t.Errorf("accepted a mark but writes %q", b)
			}
		}
	})
}
