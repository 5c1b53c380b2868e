package report

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/bvisor/bvisor/internal/canonical"
)

// Types of the sealed document, as https://github.com/in-toto/attestation
// (spec/v1) and https://github.com/secure-systems-lab/dsse define them.
const (
	StatementType = "https://in-toto.io/Statement/v1"
	PredicateType = "https://bvisor.dev/report/v1"
	PayloadType   = "application/vnd.in-toto+json"
)

// statement is the payload of the envelope.
type statement struct {
	Type          string    `json:"_type"`
	Subject       []Subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     *Report   `json:"predicate"`
}

// Subject is one thing the report is about, found by its digest.
type Subject struct {
	Name   string `json:"name"`
	Digest Digest `json:"digest"`
}

// Digest is a set of digests with SHA-256 as the only algorithm.
type Digest struct {
	SHA256 string `json:"sha256"` // hex
}

// Names of subjects. A stream's subject has the stream's name and covers all
// that was relayed; KeptSuffix marks that of the bytes that were kept, when
// those differ.
const (
	SubjectExecutable = "executable"
	SubjectPlan       = "plan"
	SubjectRefusal    = "refusal"
	KeptSuffix        = ".kept"
)

// subjects derives the subjects from the report. refusal is the digest of its
// refusal.
func subjects(r *Report, refusal string) []Subject {
	list := make([]Subject, 0, 4)
	add := func(name, digest string) {
		if digest != "" {
			list = append(list, Subject{name, Digest{digest}})
		}
	}
	add(SubjectExecutable, r.Identity.Executable)
	add(SubjectPlan, r.Identity.Plan)
	add(SubjectRefusal, refusal)
	for i := range r.Streams {
		s := &r.Streams[i]
		add(s.Name, s.SHA256)
		if s.KeptSHA != s.SHA256 {
			add(s.Name+KeptSuffix, s.KeptSHA)
		}
	}
	artifactSubjects(r, add)
	return list
}

// DescriptorsDigest is what stands in Identity.Descriptors: the SHA-256 of the
// table's canonical encoding, and empty for no table.
func DescriptorsDigest(table []Descriptor) (string, error) {
	if len(table) == 0 {
		return "", nil
	}
	b, err := canonical.Marshal(table)
	if err != nil {
		return "", err
	}
	return digest(b), nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// isDigest tells whether s is spelt as digest spells.
func isDigest(s string) bool {
	return len(s) == 2*sha256.Size && isHex(s)
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}
