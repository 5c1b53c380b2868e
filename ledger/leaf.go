package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Entry is what the log says of one entry: its leaf, and the place of that.
type Entry struct {
	Index   int64
	Kind    Kind
	Attempt string
	Time    time.Time // by the clock of the host then, which may have been set back since
	Size    int64
	SHA256  string // of the entry's bytes, in hex
}

// leafVersion begins every leaf.
const leafVersion = "bvisor-entry-1"

// leafTime has nine digits always: one moment, one spelling.
const leafTime = "2006-01-02T15:04:05.000000000Z"

// maxLeaf is far more than any leaf takes; an entry bundle allows 65535.
const maxLeaf = 512

// Leaf is the record that stands in the tree for e.
func (e *Entry) Leaf() []byte {
	return []byte(strings.Join([]string{leafVersion, string(e.Kind), e.Attempt, e.Time.UTC().Format(leafTime), strconv.FormatInt(e.Size, 10), e.SHA256}, " ") + "\n")
}

// ParseLeaf reads what Leaf writes, and nothing else.
func ParseLeaf(leaf []byte) (Entry, error) {
	if len(leaf) > maxLeaf {
		return Entry{}, fmt.Errorf("a leaf has %d bytes, expected at most %d", len(leaf), maxLeaf)
	}
	f := strings.Split(strings.TrimSuffix(string(leaf), "\n"), " ")
	if len(f) != 6 {
		return Entry{}, fmt.Errorf("leaf %.80q: %d fields, expected 6", leaf, len(f))
	}
	e := Entry{Kind: Kind(f[1]), Attempt: f[2], SHA256: f[5]}
	var err error
	if e.Time, err = time.Parse(leafTime, f[3]); err != nil {
		return Entry{}, fmt.Errorf("leaf %.80q: %w", leaf, err)
	}
	if e.Size, err = strconv.ParseInt(f[4], 10, 64); err != nil {
		return Entry{}, fmt.Errorf("leaf %.80q: %w", leaf, err)
	}
	switch {
	case !slices.Contains(kinds, e.Kind):
		return Entry{}, fmt.Errorf("leaf %.80q: unknown kind %q", leaf, e.Kind)
	case !isAttempt(e.Attempt):
		return Entry{}, fmt.Errorf("leaf %.80q: %q is no attempt id", leaf, e.Attempt)
	case e.Size < 1 || len(e.SHA256) != 2*sha256.Size || !isHex(e.SHA256):
		return Entry{}, fmt.Errorf("leaf %.80q: no size or no digest", leaf)
	case string(e.Leaf()) != string(leaf):
		return Entry{}, fmt.Errorf("leaf %.80q: expected the spelling %.200q", leaf, e.Leaf())
	}
	return e, nil
}

// Matches says whether body is the entry that e names.
func (e *Entry) Matches(body []byte) bool {
	return int64(len(body)) == e.Size && digest(body) == e.SHA256
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// attemptLen is the length of an attempt id: 16 bytes in hex.
const attemptLen = 32

func isAttempt(s string) bool { return len(s) == attemptLen && isHex(s) }

// isHex says whether s holds lower-case hexadecimal digits only.
func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// attemptID is an attempt id's 16 bytes.
type attemptID [attemptLen / 2]byte

func idOf(attempt string) (id attemptID) {
	_, _ = hex.Decode(id[:], []byte(attempt)) // isAttempt has been asked
	return id
}

func (id attemptID) String() string { return hex.EncodeToString(id[:]) }
