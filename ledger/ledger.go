// Package ledger is an append-only log whose every entry can be proved to be in
// it: a Merkle tree of RFC 6962 over small records, the leaves, each of which
// names one entry by its digest. It knows nothing about what entries say: an
// entry is bytes.
//
// The format is docs/formats/ledger.md.
package ledger

import "errors"

// Kind is what an entry is about.
type Kind string

// The entry kinds. An intent opens an attempt; a report, a refusal or a recovery
// ends it. An attempt has at most one intent and one end, and any number of
// dispositions.
const (
	Intent      Kind = "intent"
	Report      Kind = "report"
	Refusal     Kind = "refusal"
	Disposition Kind = "disposition"
	Recovery    Kind = "recovery"
)

// kinds are all of them. The number of one in files is its place here, and 1.
var kinds = []Kind{Intent, Report, Refusal, Disposition, Recovery}

// Ends says whether an entry of this kind ends its attempt.
func (k Kind) Ends() bool { return k == Report || k == Refusal || k == Recovery }

// Receipt says where in the log an acknowledged entry is. Dir.Prove makes the
// proof of it.
type Receipt struct {
	Index int64
}

// Log takes entries.
type Log interface {
	// Append returns when the entry is durable. attempt names what it belongs
	// to: 32 lower-case hex digits, fresh and random for an intent. After an
	// error nothing may be assumed to be kept. A second end of an attempt, or an
	// intent of one that is open, is fs.ErrExist.
	Append(kind Kind, attempt string, entry []byte) (Receipt, error)
}

// ErrDamaged is what a ledger is that does not hold what its own files say.
var ErrDamaged = errors.New("the ledger is damaged")
