package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"golang.org/x/mod/sumdb/tlog"
)

// A segment is the entries of one bundle, in commits: frames, each with a leaf
// and its entry, and one mark, which says what the log is up to there. A commit
// is written at once and flushed before anything of it is acknowledged, so what
// follows the last whole commit was never acknowledged.
const (
	frameMagic = "BVE1"
	markMagic  = "BVC2"
	oldMagic   = "BVC1" // of marks that did not say what was flushed
	frameHead  = 4 + 4 + 4
	checkLen   = 4
	// maxEntry bounds what a damaged length can make a reader allocate.
	maxEntry = 64 << 20
	maxMark  = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// placed is an entry and where its frame begins in the segment.
type placed struct {
	Entry
	hash tlog.Hash // of its leaf
	body int64     // offset of its bytes
	next int64     // offset behind its frame
}

// appendFrame appends an entry.
func appendFrame(b, leaf, body []byte) []byte {
	from := len(b)
	b = append(b, frameMagic...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(leaf)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	b = append(append(b, leaf...), body...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[from:], castagnoli))
}

// running is an attempt with an intent and no end.
type running struct {
	attempt attemptID
	index   int64 // of its intent
}

// mark ends a commit: what the log is from there on.
type mark struct {
	size int64
	kept int64 // how many entries its writer knew to be flushed
	tree frontier
	boot [16]byte  // names the boot of the machine that it was written in
	open []running // in order of their intents
	note []byte    // the signed checkpoint
}

const openLen = len(attemptID{}) + 8

// append encodes m. Its length stands at both ends, so that the last one of a
// segment is found from there.
func (m *mark) append(b []byte) []byte {
	from := len(b)
	n := 4 + 4 + 8 + 8 + len(m.boot) + 2 + len(m.tree)*tlog.HashSize + 4 + len(m.open)*openLen + 4 + len(m.note) + checkLen + 4
	b = append(b, markMagic...)
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	b = binary.BigEndian.AppendUint64(b, uint64(m.size))
	b = binary.BigEndian.AppendUint64(b, uint64(m.kept))
	b = append(b, m.boot[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.tree)))
	b = append(b, joinTile(m.tree)...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.open)))
	for _, r := range m.open {
		b = append(b, r.attempt[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(r.index))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.note)))
	b = append(b, m.note...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b[from:], castagnoli))
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// errTorn is what a crash in the middle of a write leaves.
var errTorn = errors.New("the commit is not whole")

// parseMark reads what append writes, all of b.
func parseMark(b []byte) (*mark, error) {
	r := reader{b: b}
	m := &mark{}
	if string(r.take(4)) != markMagic || int(r.uint32()) != len(b) {
		return nil, errTorn
	}
	m.size, m.kept = int64(r.uint64()), int64(r.uint64())
	copy(m.boot[:], r.take(len(m.boot)))
	n := int(r.uint16())
	m.tree, _ = splitTile(r.take(n*tlog.HashSize), n)
	n = int(r.uint32())
	if n*openLen > len(b) {
		return nil, errTorn
	}
	for range n {
		m.open = append(m.open, running{attemptID(r.pad(len(attemptID{}))), int64(r.uint64())})
	}
	m.note = bytes.Clone(r.take(int(r.uint32())))
	at := len(b) - len(r.b)
	if check := r.uint32(); r.short || check != crc32.Checksum(b[:at], castagnoli) || int(r.uint32()) != len(b) || r.short || len(r.b) != 0 {
		return nil, errTorn
	}
	if m.size < 1 || !m.tree.fits(m.size) || m.kept < 0 || m.kept >= m.size {
		return nil, fmt.Errorf("%w: a mark of %d entries has %d subtrees, and knows of %d that were flushed", ErrDamaged, m.size, len(m.tree), m.kept)
	}
	return m, nil
}

// reader takes a buffer apart. What is read behind its end is zero, and short
// then says so.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.short = true
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) pad(n int) []byte {
	if b := r.take(n); b != nil {
		return b
	}
	return make([]byte, n)
}

func (r *reader) uint16() uint16 { return binary.BigEndian.Uint16(r.pad(2)) }
func (r *reader) uint32() uint32 { return binary.BigEndian.Uint32(r.pad(4)) }
func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.pad(8)) }

// scan walks the commits of a segment from offset at, of which entry first is
// next, up to end. It returns the entries of whole commits, the last of their
// marks, which is nil when there is none, and where that ends. Bodies are read
// only if whole is set: their checksums are then compared, and each is handed
// to see, if that is not nil, with the mark of its commit to follow.
func scan(f io.ReaderAt, at, end, first int64, whole bool, see func(placed, []byte), marks func(int64, *mark)) (list []placed, last *mark, stop int64, err error) {
	stop = at
	var pending []placed
	buf := make([]byte, frameHead+maxLeaf)
	for at < end {
		n := min(int64(len(buf)), end-at)
		if got, err := f.ReadAt(buf[:n], at); int64(got) < n {
			return list, last, stop, err
		}
		if n < 8 {
			break
		}
		switch string(buf[:4]) {
		case frameMagic:
			p, ok := parseFrame(buf[:n], at, end)
			if !ok {
				return list, last, stop, nil
			}
			p.Index = first + int64(len(list)+len(pending))
			if whole {
				data, err := view(f, at, p.next-at)
				if err != nil {
					return list, last, stop, err
				}
				sum := len(data) - checkLen
				if crc32.Checksum(data[:sum], castagnoli) != binary.BigEndian.Uint32(data[sum:]) {
					return list, last, stop, nil
				}
				if see != nil {
					see(p, data[p.body-at:sum])
				}
			}
			pending = append(pending, p)
			at = p.next
		case markMagic:
			n := int64(binary.BigEndian.Uint32(buf[4:]))
			if n > end-at || n > maxMark {
				return list, last, stop, nil
			}
			b, err := view(f, at, n)
			if err != nil {
				return list, last, stop, err
			}
			m, err := parseMark(b)
			if errors.Is(err, errTorn) {
				return list, last, stop, nil
			}
			if err != nil {
				return list, last, stop, err
			}
			if size := first + int64(len(list)+len(pending)); m.size != size || len(pending) == 0 {
				return list, last, stop, fmt.Errorf("%w: a mark says there are %d entries where there are %d", ErrDamaged, m.size, size)
			}
			list, pending = append(list, pending...), nil
			at += n
			last, stop = m, at
			if marks != nil {
				marks(at-n, m)
			}
		case oldMagic:
			return list, last, stop, errors.New("it is of a development version, and is not read; move the ledger away to begin a new one")
		default:
			return list, last, stop, nil
		}
	}
	return list, last, stop, nil
}

// memory is a segment that was read at once.
type memory []byte

func (m memory) ReadAt(b []byte, at int64) (int, error) {
	n := copy(b, m[min(at, int64(len(m))):])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// view returns n bytes of f from at on.
func view(f io.ReaderAt, at, n int64) ([]byte, error) {
	if m, ok := f.(memory); ok {
		return m[at : at+n], nil
	}
	b := make([]byte, n)
	_, err := f.ReadAt(b, at)
	return b, err
}

// promised is how many entries the marks from offset at on say were flushed. What
// a crash leaves has no mark that says so of what it lacks.
func promised(f io.ReaderAt, at, end int64) (kept int64, err error) {
	data, err := view(f, at, end-at)
	if err != nil {
		return 0, err
	}
	for {
		i := bytes.Index(data, []byte(markMagic))
		if i < 0 || len(data) < i+8 {
			return kept, nil
		}
		data = data[i:]
		if n := int64(binary.BigEndian.Uint32(data[4:])); n <= int64(len(data)) {
			if m, err := parseMark(data[:n]); err == nil {
				kept = max(kept, m.kept)
			}
		}
		data = data[len(markMagic):]
	}
}

// parseFrame reads the beginning of a frame: head and leaf.
func parseFrame(b []byte, at, end int64) (placed, bool) {
	if len(b) < frameHead {
		return placed{}, false
	}
	leafLen, bodyLen := int64(binary.BigEndian.Uint32(b[4:])), int64(binary.BigEndian.Uint32(b[8:]))
	if leafLen > maxLeaf || bodyLen > maxEntry || int64(len(b)) < frameHead+leafLen {
		return placed{}, false
	}
	leaf := b[frameHead : frameHead+leafLen]
	e, err := ParseLeaf(leaf)
	if err != nil || e.Size != bodyLen {
		return placed{}, false
	}
	p := placed{Entry: e, hash: tlog.RecordHash(leaf), body: at + frameHead + leafLen}
	p.next = p.body + bodyLen + checkLen
	return p, p.next <= end
}

// lastMark reads the mark that a segment of size bytes ends with.
func lastMark(f io.ReaderAt, size int64) (*mark, error) {
	buf := make([]byte, min(size, 4096))
	if _, err := f.ReadAt(buf, size-int64(len(buf))); err != nil {
		return nil, err
	}
	if len(buf) < 4 {
		return nil, errTorn
	}
	n := int64(binary.BigEndian.Uint32(buf[len(buf)-4:]))
	if n > size || n > maxMark {
		return nil, errTorn
	}
	if n > int64(len(buf)) {
		buf = make([]byte, n)
		if _, err := f.ReadAt(buf, size-n); err != nil {
			return nil, err
		}
	}
	return parseMark(buf[int64(len(buf))-n:])
}
