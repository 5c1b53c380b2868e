package report

import (
	"errors"
	"fmt"
	"sync"

	"github.com/bvisor/bvisor/internal/canonical"
	"github.com/bvisor/bvisor/plan"
)

// Seal encodes r once, hashes and signs these bytes, and returns the envelope.
// It takes r's identity as it stands: whether the digests there are right is
// for Verify to say, which does not ask the one who sealed.
func Seal(r *Report, key *Key) ([]byte, error) {
	if key == nil {
		return nil, errors.New("seal report: bug: no key")
	}
	if err := key.Ready(); err != nil {
		return nil, fmt.Errorf("seal report: %w", err)
	}
	var refusal string
	if r.Refusal != nil {
		b, err := canonical.Marshal(r.Refusal)
		if err != nil {
			return nil, fmt.Errorf("seal report: refusal: %w", err)
		}
		refusal = digest(b)
	}
	var out []byte
	err := canonical.Lend(&statement{StatementType, subjects(r, refusal), PredicateType, r}, func(payload []byte) (err error) {
		out, err = key.envelope(payload)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("seal report: %w", err)
	}
	return out, nil
}

// Warm makes the encoders of every part of a report, which otherwise the first
// Seal of a process waits for.
var Warm = sync.OnceFunc(func() {
	// An empty report has no encoding that matters, or none at all.
	_, _ = canonical.Marshal(&statement{Predicate: &Report{Plan: &plan.Plan{}, Refusal: &plan.Refusal{}, Posture: &Posture{}, Exit: &Exit{}, Usage: &Usage{}}})
})

func (k *Key) envelope(payload []byte) ([]byte, error) {
	scratch := preAuths.Get().(*[]byte)
	defer func() {
		if cap(*scratch) <= 1<<20 {
			preAuths.Put(scratch)
		}
	}()
	*scratch = appendPreAuth((*scratch)[:0], PayloadType, payload)
	sig := k.sign(*scratch)
	out, err := canonical.Marshal(&envelope{payload, PayloadType, []signature{{k.ID(), sig}}})
	if err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	return out, nil
}

// preAuths are kept for the reason that canonical.Lend gives.
var preAuths = sync.Pool{New: func() any { return new([]byte) }}

// Sealed is a report as its envelope holds it. That it could be read says
// nothing about who sealed it or whether it is true to itself: see Verify.
type Sealed struct {
	Report    *Report
	Subjects  []Subject
	Payload   []byte // the bytes that were signed, with PayloadType
	KeyID     string // of the key the envelope names
	Signature []byte

	members map[string]canonical.Raw // the predicate's, as they stand in Payload
}

// Digest is the SHA-256 of the sealed bytes, which names the document.
func (s *Sealed) Digest() string { return digest(s.Payload) }

// Parse reads an envelope without believing it. It accepts one encoding only,
// no unknown member, and at most 16 MiB.
func Parse(envelope []byte) (*Sealed, error) {
	e, bad := open(envelope)
	if bad != nil {
		bad.Check = checkEnvelope
		return nil, bad
	}
	s, bad := e.statement()
	if bad != nil {
		bad.Check = checkStatement
		return nil, bad
	}
	return s, nil
}

// statement reads the payload.
func (e *envelope) statement() (*Sealed, *CheckError) {
	// First only what says how to read the rest.
	var outer struct {
		Type          string        `json:"_type"`
		Subject       []Subject     `json:"subject"`
		PredicateType string        `json:"predicateType"`
		Predicate     canonical.Raw `json:"predicate"`
	}
	if err := canonical.Unmarshal(e.Payload, &outer); err != nil {
		return nil, &CheckError{Where: "payload", Expected: "an in-toto statement in canonical JSON", Err: err}
	}
	if outer.Type != StatementType {
		return nil, mismatch("payload._type", StatementType, outer.Type)
	}
	if outer.PredicateType != PredicateType {
		bad := mismatch("payload.predicateType", PredicateType, outer.PredicateType)
		bad.Err = ErrUnknownPredicate
		return nil, bad
	}
	members := make(map[string]canonical.Raw)
	if err := canonical.Unmarshal(outer.Predicate, &members); err != nil {
		return nil, &CheckError{Where: "payload.predicate", Expected: "an object", Err: err}
	}
	if v := string(members["version"]); v != "1" {
		return nil, mismatch("payload.predicate.version", "1", v)
	}
	// Then all of it, so that errors name their place in the payload.
	var st statement
	if err := canonical.Unmarshal(e.Payload, &st); err != nil {
		return nil, &CheckError{Where: "payload", Expected: "a report of version 1", Err: err}
	}
	sig := e.Signatures[0]
	return &Sealed{st.Predicate, st.Subject, e.Payload, sig.KeyID, sig.Sig, members}, nil
}
