// Package ledger keeps entries. It knows nothing about what they say: an entry
// is bytes.
package ledger

// Kind is what an entry is about; it names the file, nothing more.
type Kind string

// The entry kinds.
const (
	Intent  Kind = "intent"
	Report  Kind = "report"
	Refusal Kind = "refusal"

	// Disposition entries are two for each decision over what a run left: that it
	// was made, and what came of it. An attempt has any number of them.
	Disposition Kind = "disposition"
)

// Receipt says where an acknowledged entry is.
type Receipt struct {
	Path string // file that holds the entry
}

// Log takes entries.
type Log interface {
	// Append returns when the entry is durable. attempt names what it belongs
	// to: lower-case hex. After an error nothing may be assumed to be kept.
	Append(kind Kind, attempt string, entry []byte) (Receipt, error)
}
