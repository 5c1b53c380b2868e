package ledger

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// Proof shows that an entry is in a log: https://c2sp.org/tlog-proof. Its leaf
// travels as the extra data.
type Proof struct {
	Entry      Entry
	Hashes     []tlog.Hash
	Checkpoint []byte // a signed note
}

const (
	proofHeader       = "c2sp.org/tlog-proof@v1\n"
	consistencyHeader = "bvisor-consistency-1\n"
)

// Marshal writes p in its one form.
func (p *Proof) Marshal() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%sextra %s\nindex %d\n", proofHeader, base64.StdEncoding.EncodeToString(p.Entry.Leaf()), p.Entry.Index)
	for _, h := range p.Hashes {
		fmt.Fprintf(&b, "%s\n", h)
	}
	return append(append([]byte(b.String()), '\n'), p.Checkpoint...)
}

// maxProof is how many hashes a path in a tree of less than 2^63 leaves has.
const maxProof = 63

// ParseProof reads what Marshal writes. Nothing of it is to be believed yet.
func ParseProof(data []byte) (*Proof, error) {
	head, checkpoint, ok := strings.Cut(string(data), "\n\n")
	rest, named := strings.CutPrefix(head+"\n", proofHeader)
	lines := strings.Split(strings.TrimSuffix(rest, "\n"), "\n")
	if !ok || !named || len(lines) < 2 || len(lines) > 2+maxProof {
		return nil, fmt.Errorf("proof %.60q: expected the form of c2sp.org/tlog-proof@v1 with an extra line", data)
	}
	extra, ok1 := strings.CutPrefix(lines[0], "extra ")
	index, ok2 := strings.CutPrefix(lines[1], "index ")
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("proof: expected the lines extra and index")
	}
	leaf, err := base64.StdEncoding.DecodeString(extra)
	if err != nil {
		return nil, fmt.Errorf("proof: extra: %w", err)
	}
	p := &Proof{Checkpoint: []byte(checkpoint)}
	if p.Entry, err = ParseLeaf(leaf); err != nil {
		return nil, fmt.Errorf("proof: extra: %w", err)
	}
	if p.Entry.Index, err = strconv.ParseInt(index, 10, 64); err != nil || p.Entry.Index < 0 {
		return nil, fmt.Errorf("proof: index %q", index)
	}
	for _, line := range lines[2:] {
		h, err := tlog.ParseHash(line)
		if err != nil {
			return nil, fmt.Errorf("proof: %q: %w", line, err)
		}
		p.Hashes = append(p.Hashes, h)
	}
	if string(p.Marshal()) != string(data) {
		return nil, fmt.Errorf("proof: not in its one spelling")
	}
	return p, nil
}

// Check says whether the log whose checkpoint one of keys signed holds the entry.
func (p *Proof) Check(keys []ed25519.PublicKey) (Checkpoint, error) {
	c, err := OpenCheckpoint(p.Checkpoint, keys)
	if err != nil {
		return Checkpoint{}, err
	}
	if err := tlog.CheckRecord(p.Hashes, c.Size, c.Root, p.Entry.Index, tlog.RecordHash(p.Entry.Leaf())); err != nil {
		return Checkpoint{}, fmt.Errorf("entry %d is not shown to be in the log of size %d: %w", p.Entry.Index, c.Size, err)
	}
	return c, nil
}

// Prove proves that the entry at index is in the log as it is now.
func (d *Dir) Prove(index int64) (*Proof, error) {
	s, err := d.flushed()
	if err != nil {
		return nil, err
	}
	p, err := s.at(index)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	hashes, err := tlog.ProveRecord(s.size, index, hashReader(s.hash))
	if err == nil {
		// A tile that was changed would make a proof of nothing.
		err = tlog.CheckRecord(hashes, s.size, s.tree.root(), index, p.hash)
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: %w: prove entry %d: %w; \"bvisor ledger fsck\" tells where", ErrDamaged, index, err)
	}
	return &Proof{p.Entry, hashes, s.note}, nil
}

// Consistency shows that one tree is the beginning of another.
type Consistency struct {
	Hashes []tlog.Hash
	Old    []byte // signed notes
	New    []byte
}

// Marshal writes c in its one form.
func (c *Consistency) Marshal() []byte {
	var b strings.Builder
	b.WriteString(consistencyHeader)
	for _, h := range c.Hashes {
		fmt.Fprintf(&b, "%s\n", h)
	}
	return append(append(append([]byte(b.String()), '\n'), c.Old...), append([]byte{'\n'}, c.New...)...)
}

// Check says whether one of keys signed both, they are of one log, and the old
// tree is the beginning of the new one.
func (c *Consistency) Check(keys []ed25519.PublicKey) (from, to Checkpoint, err error) {
	if from, err = OpenCheckpoint(c.Old, keys); err != nil {
		return from, to, fmt.Errorf("the older checkpoint: %w", err)
	}
	if to, err = OpenCheckpoint(c.New, keys); err != nil {
		return from, to, fmt.Errorf("the newer checkpoint: %w", err)
	}
	return from, to, consistent(c.Hashes, from, to)
}

func consistent(hashes []tlog.Hash, from, to Checkpoint) error {
	switch {
	case from.Origin != to.Origin:
		return fmt.Errorf("one checkpoint is of the log %s, the other of %s", from.Origin, to.Origin)
	case from.Size > to.Size:
		return fmt.Errorf("the log had %d entries and has %d: it was cut, or an older copy of it was put back", from.Size, to.Size)
	case from.Size == 0:
		return nil // of nothing everything is a continuation
	}
	if err := tlog.CheckTree(hashes, to.Size, to.Root, from.Size, from.Root); err != nil {
		return fmt.Errorf("the log of %d entries is no continuation of the one of %d entries: it was rewritten, or forked: %w", to.Size, from.Size, err)
	}
	return nil
}

// Since proves that the log as it is now continues the tree of an older
// checkpoint, and checks that. What it returns with an error is why it does not.
func (d *Dir) Since(old []byte, keys []ed25519.PublicKey) (*Consistency, error) {
	from, err := OpenCheckpoint(old, keys)
	if err != nil {
		return nil, err
	}
	s, err := d.flushed()
	if err != nil {
		return nil, err
	}
	if s.mark == nil {
		return nil, fmt.Errorf("the log had %d entries and is empty: %w", from.Size, fs.ErrNotExist)
	}
	c := &Consistency{Old: old, New: s.note}
	if from.Size > 0 && from.Size <= s.size {
		if c.Hashes, err = tlog.ProveTree(s.size, from.Size, hashReader(s.hash)); err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
	}
	_, _, err = c.Check(keys)
	return c, err
}
