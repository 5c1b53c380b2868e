package ledger

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/bvisor/bvisor/internal/need"
)

var golden = flag.Bool("golden", false, "rewrite the vectors")

// client reads tiles as a client of the Go checksum database does, from the
// files that a static server would serve.
type client struct {
	t   testing.TB
	dir string
}

func (c client) Height() int { return height }

func (c client) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, tile := range tiles {
		b, err := os.ReadFile(filepath.Join(c.dir, filepath.FromSlash(tilePath(tile))))
		if err != nil {
			return nil, err
		}
		data = append(data, b)
	}
	return data, nil
}

func (client) SaveTiles([]tlog.Tile, [][]byte) {}

// What is published is enough for a client that we did not write: it checks the
// checkpoint's signature, authenticates the tiles against its root, and proves
// entries and older trees from them.
func TestAClientOfTiles(t *testing.T) {
	d := open(t)
	var old []byte
	for _, size := range []int{1, 255, 256, 700, max(need.Rounds(t, 3000, 70_000), 1000)} {
		n, err := d.Len()
		if err != nil {
			t.Fatal(err)
		}
		fillFrom(t, d, int(n), size, 20)
		head, err := d.Publish()
		if err != nil {
			t.Fatal(err)
		}
		vkey, err := VerifierKey(d.Origin(), public(key))
		if err != nil {
			t.Fatal(err)
		}
		v, err := note.NewVerifier(vkey)
		if err != nil {
			t.Fatal(err)
		}
		n1, err := note.Open(head, note.VerifierList(v))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(n1.Text, "\n")
		root, err := tlog.ParseHash(lines[2])
		if err != nil || lines[0] != d.Origin() || lines[1] != fmt.Sprint(size) {
			t.Fatalf("%q, %v", lines, err)
		}
		dir := filepath.Join(d.Path(), "public")
		hashes := tlog.TileHashReader(tlog.Tree{N: int64(size), Hash: root}, client{t, dir})
		for _, i := range []int64{0, int64(size) / 3, int64(size) - 1} {
			leaf := leafOf(t, dir, int64(size), i)
			path, err := tlog.ProveRecord(int64(size), i, hashes)
			if err == nil {
				err = tlog.CheckRecord(path, int64(size), root, i, tlog.RecordHash(leaf))
			}
			if err != nil {
				t.Errorf("entry %d of %d: %v", i, size, err)
			}
			ours, err := d.Prove(i)
			if err != nil || fmt.Sprint(ours.Hashes) != fmt.Sprint([]tlog.Hash(path)) || !bytes.Equal(ours.Entry.Leaf(), leaf) {
				t.Errorf("our own proof of entry %d of %d differs, %v", i, size, err)
			}
		}
		if old != nil {
			was, err := ParseCheckpoint(old)
			if err != nil {
				t.Fatal(err)
			}
			path, err := tlog.ProveTree(int64(size), was.Size, hashes)
			if err == nil {
				err = tlog.CheckTree(path, int64(size), root, was.Size, was.Root)
			}
			if err != nil {
				t.Errorf("from %d to %d: %v", was.Size, size, err)
			}
		}
		old = head
		for _, name := range Published(int64(size)) {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Error(err)
			}
		}
	}
	// A tile that was changed is none of the tree.
	tile := filepath.Join(d.Path(), "public", "tile", "0", "000")
	data, err := os.ReadFile(tile)
	if err != nil {
		t.Fatal(err)
	}
	data[77] ^= 1
	if err := os.WriteFile(tile, data, 0o600); err != nil {
		t.Fatal(err)
	}
	c, _ := ParseCheckpoint(old)
	hashes := tlog.TileHashReader(tlog.Tree{N: c.Size, Hash: c.Root}, client{t, filepath.Join(d.Path(), "public")})
	if _, err := tlog.ProveRecord(c.Size, 0, hashes); err == nil {
		t.Error("the client takes a changed tile")
	}
	if _, err := d.Prove(0); err == nil {
		t.Error("we prove from a changed tile")
	}
}

// leafOf takes a leaf out of a published bundle.
func leafOf(t testing.TB, dir string, size, i int64) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(bundlePath(i/width, int(min(width, size-i/width*width))))))
	if err != nil {
		t.Fatal(err)
	}
	for range i % width {
		b = b[2+binary.BigEndian.Uint16(b):]
	}
	return b[2 : 2+binary.BigEndian.Uint16(b)]
}

const vectors = "testdata/vectors"

// The vectors are a log, with what is proved of it, for verifiers in other
// languages. Go and Python agree on them.
func TestVectors(t *testing.T) {
	made := makeVectors(t)
	if *golden {
		if err := os.RemoveAll(vectors); err != nil {
			t.Fatal(err)
		}
		made.write(t, vectors)
	}
	kept := readFiles(t, vectors)
	if len(kept) != len(made) {
		t.Errorf("%d files, expected %d", len(kept), len(made))
	}
	for name, data := range made {
		if !bytes.Equal(kept[name], data) {
			t.Errorf("%s differs from what is written now; make golden rewrites it", name)
		}
	}
	python := need.Program(t, "python3")
	verifier := func(args ...string) (string, error) {
		cmd := exec.Command(python, append([]string{"../docs/formats/verify.py", "--key", "../report/testdata/vectors/public.pem"}, args...)...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	log := vectors + "/log"
	for _, args := range [][]string{
		{"log", log},
		{"log", log, vectors + "/older-checkpoint"},
		{"receipt", vectors + "/receipt.tlog-proof", log + "/entries/000000301.report"},
		{"consistency", vectors + "/consistency"},
	} {
		if out, err := verifier(args...); err != nil || !strings.HasPrefix(out, "verified: ") {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
	for _, args := range [][]string{
		{"log", log, vectors + "/bad/fork-checkpoint"},
		{"receipt", vectors + "/receipt.tlog-proof", log + "/entries/000000300.intent"},
		{"receipt", vectors + "/bad/other-index.tlog-proof", log + "/entries/000000301.report"},
		{"receipt", vectors + "/bad/other-leaf.tlog-proof", log + "/entries/000000301.report"},
		{"receipt", vectors + "/bad/no-signature.tlog-proof", log + "/entries/000000301.report"},
		{"consistency", vectors + "/bad/consistency-cut"},
		{"consistency", vectors + "/bad/consistency-fork"},
	} {
		if out, err := verifier(args...); err == nil || !strings.HasPrefix(out, "verify.py: ") || strings.Contains(out, "Error") {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
	// The same of a log in which any one file was changed.
	rounds := need.Rounds(t, 12, 200)
	for i, name := range kept.names() {
		file, ok := strings.CutPrefix(name, "log/")
		if !ok || i%max(len(kept)/rounds, 1) != 0 {
			continue
		}
		dir := t.TempDir()
		all := readFiles(t, log)
		data := bytes.Clone(all[file])
		data[(i*7919)%len(data)] ^= 1
		all[file] = data
		all.write(t, dir)
		if out, err := verifier("log", dir); err == nil {
			t.Errorf("%s was changed, and Python says %s", file, out)
		}
	}
}

// makeVectors is a log of two segments with a report in it.
func makeVectors(t *testing.T) files {
	dir := filepath.Join(t.TempDir(), "ledger")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	files{"origin": []byte(originPrefix + strings.Repeat("0", 32) + "\n")}.write(t, dir)
	fork := filepath.Join(t.TempDir(), "fork")
	files{"origin": []byte(originPrefix + strings.Repeat("0", 32) + "\n")}.write(t, fork)
	if err := os.Chmod(fork, 0o700); err != nil {
		t.Fatal(err)
	}
	at := func(d *Dir) *Dir {
		now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
		d.now = func() time.Time { now = now.Add(time.Second); return now }
		return d
	}
	d, f := at(openAt(t, dir)), at(openAt(t, fork))
	for i := range 300 {
		add(t, d, []Kind{Intent, Recovery}[i%2], id("", i/2), fmt.Sprintf("entry %d", i))
	}
	for i := range 302 {
		add(t, f, Intent, id("f", i), "of a fork")
	}
	older, err := d.Head()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := os.ReadFile("../report/testdata/vectors/completed.envelope.json")
	if err != nil {
		t.Fatal(err)
	}
	attempt := "0123456789abcdef0123456789abcdef"
	add(t, d, Intent, attempt, "its intent")
	add(t, d, Report, attempt, string(sealed))
	add(t, d, Disposition, attempt, "and what became of its artifacts")
	if _, err := d.Publish(); err != nil {
		t.Fatal(err)
	}
	p, err := d.Prove(301)
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Since(older, keys)
	if err != nil {
		t.Fatal(err)
	}
	forked, err := f.Head()
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := VerifierKey(d.Origin(), public(key))
	if err != nil {
		t.Fatal(err)
	}
	all := files{"older-checkpoint": older, "receipt.tlog-proof": p.Marshal(), "consistency": c.Marshal(), "verifier-key": []byte(vkey + "\n"),
		"bad/fork-checkpoint":         forked,
		"bad/no-signature.tlog-proof": p.Marshal()[:bytes.Index(p.Marshal(), []byte("— "))],
		"bad/consistency-cut":         (&Consistency{c.Hashes[1:], c.Old, c.New}).Marshal(),
		"bad/consistency-fork":        (&Consistency{c.Hashes, c.Old, forked}).Marshal()}
	moved := *p
	moved.Entry.Index--
	all["bad/other-index.tlog-proof"] = moved.Marshal()
	moved = *p
	moved.Entry.Time = moved.Entry.Time.Add(1)
	all["bad/other-leaf.tlog-proof"] = moved.Marshal()
	public := readFiles(t, filepath.Join(dir, "public"))
	for _, name := range append(Published(303), "checkpoint") {
		all["log/"+name] = public[name]
	}
	for e, read := range d.Walk(0) {
		body, err := read()
		if err != nil {
			t.Fatal(err)
		}
		all[fmt.Sprintf("log/entries/%09d.%s", e.Index, e.Kind)] = body
	}
	return all
}

// fillFrom adds entries with the numbers from first up to n.
func fillFrom(t testing.TB, d *Dir, first, n, size int) {
	t.Helper()
	for i := first; i < n; i += width {
		var batch []*request
		for j := i; j < min(n, i+width); j++ {
			batch = append(batch, &request{kind: []Kind{Intent, Report}[j%2], attempt: id("", j/2), entry: bytes.Repeat([]byte{byte(j)}, size), done: make(chan struct{})})
		}
		for rest := batch; len(rest) > 0; {
			rest = rest[d.commit(rest):]
		}
		for _, r := range batch {
			if r.err != nil {
				t.Fatal(r.err)
			}
		}
	}
}
