package report

import (
	"errors"
	"fmt"
	"strings"

	"github.com/bvisor/bvisor/internal/terminal"
)

// Errors a caller of Verify branches on; they are wrapped in a *CheckError.
var (
	ErrUntrustedKey     = errors.New("the key is not among the trusted ones")
	ErrSignature        = errors.New("the signature does not match the bytes")
	ErrUnknownPredicate = errors.New("the statement is about something else than a bvisor report")
)

// Check is one check that passed.
type Check struct {
	Name   string
	Detail string // what was found to agree
}

// CheckError is a check that failed.
type CheckError struct {
	Check    string
	Where    string // place in the envelope or the payload
	Expected string
	Found    string
	Err      error   // cause, may be nil
	Passed   []Check // the checks before this one
}

func (e *CheckError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "check %s: %s: expected %s", e.Check, e.Where, terminal.Sanitize(e.Expected))
	if e.Found != "" || e.Err == nil {
		fmt.Fprintf(&b, ", found %s", terminal.Sanitize(orNothing(e.Found)))
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %s", terminal.Sanitize(e.Err.Error()))
	}
	return b.String()
}

func (e *CheckError) Unwrap() error { return e.Err }

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

func mismatch(where, expected, found string) *CheckError {
	return &CheckError{Where: where, Expected: orNothing(expected), Found: found}
}

// Verified is a report whose every check passed.
type Verified struct {
	Sealed
	Key    PublicKey // that made the seal
	Checks []Check   // in the order they were made
}

// Names of the checks that come before the content can be looked at.
const (
	checkEnvelope  = "envelope"
	checkKey       = "key"
	checkSignature = "signature"
	checkStatement = "statement"
)

// Verify checks the signature over the bytes as they stand in the envelope,
// then that the report is true to itself. It needs nothing but its arguments.
// The error is a *CheckError.
//
// A report that verifies was sealed by the holder of one of keys and has not
// been changed since. It shows what that supervisor saw; it does not prove
// that the host was honest.
func Verify(envelope []byte, keys []PublicKey) (*Verified, error) {
	var passed []Check
	fail := func(name string, bad *CheckError) (*Verified, error) {
		bad.Check, bad.Passed = name, passed
		return nil, bad
	}

	e, bad := open(envelope)
	if bad != nil {
		return fail(checkEnvelope, bad)
	}
	passed = append(passed, Check{checkEnvelope, "canonical DSSE envelope, one signature"})

	sig := e.Signatures[0]
	key, bad := trusted(keys, sig.KeyID)
	if bad != nil {
		return fail(checkKey, bad)
	}
	passed = append(passed, Check{checkKey, key.id})

	if !key.verifies(appendPreAuth(nil, e.PayloadType, e.Payload), sig.Sig) {
		return fail(checkSignature, &CheckError{Where: "signatures[0].sig", Expected: "an Ed25519 signature of the payload by key " + key.id, Err: ErrSignature})
	}
	passed = append(passed, Check{checkSignature, fmt.Sprintf("Ed25519 over %d bytes, sha256 %s", len(e.Payload), digest(e.Payload))})

	s, bad := e.statement()
	if bad != nil {
		return fail(checkStatement, bad)
	}
	passed = append(passed, Check{checkStatement, PredicateType})

	for _, c := range checks {
		detail, bad := c.run(s)
		if bad != nil {
			return fail(c.name, bad)
		}
		passed = append(passed, Check{c.name, detail})
	}
	return &Verified{*s, key, passed}, nil
}

// trusted finds the key an envelope names. The name chooses, the signature
// decides.
func trusted(keys []PublicKey, id string) (PublicKey, *CheckError) {
	for _, k := range keys {
		if k.id != "" && k.id == id {
			return k, nil
		}
	}
	expected := "one of no trusted keys"
	if len(keys) > 0 {
		ids := make([]string, len(keys))
		for i, k := range keys {
			ids[i] = k.id
		}
		expected = "one of " + strings.Join(ids, ", ")
	}
	bad := mismatch("signatures[0].keyid", expected, id)
	bad.Err = ErrUntrustedKey
	return PublicKey{}, bad
}
