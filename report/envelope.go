package report

import (
	"slices"
	"strconv"

	"github.com/bvisor/bvisor/internal/canonical"
)

// envelope is a DSSE envelope. Ours is canonical JSON, too: a signature covers
// the payload only, and without one spelling the envelope around it could be
// changed unnoticed.
type envelope struct {
	Payload     []byte      `json:"payload"`
	PayloadType string      `json:"payloadType"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

// appendPreAuth appends what is signed: DSSE's pre-authentication encoding,
// which binds the type to the bytes.
func appendPreAuth(b []byte, payloadType string, payload []byte) []byte {
	b = slices.Grow(b, len(payload)+len(payloadType)+48)
	b = append(b, "DSSEv1 "...)
	b = strconv.AppendInt(b, int64(len(payloadType)), 10)
	b = append(b, ' ')
	b = append(b, payloadType...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(payload)), 10)
	b = append(b, ' ')
	return append(b, payload...)
}

// open reads an envelope with exactly one signature. Nothing in it is to be
// believed yet.
func open(data []byte) (*envelope, *CheckError) {
	var e envelope
	if err := canonical.Unmarshal(data, &e); err != nil {
		return nil, &CheckError{Where: "envelope", Expected: "a DSSE envelope in canonical JSON", Err: err}
	}
	if e.PayloadType != PayloadType {
		return nil, mismatch("payloadType", PayloadType, e.PayloadType)
	}
	if n := len(e.Signatures); n != 1 {
		return nil, mismatch("signatures", "exactly 1 signature", strconv.Itoa(n))
	}
	return &e, nil
}
