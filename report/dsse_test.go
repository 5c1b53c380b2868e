package report

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/bvisor/bvisor/internal/canonical"
)

// signer makes our key usable by an independent DSSE implementation. It shares
// nothing with our code but the key.
type signer struct {
	private ed25519.PrivateKey
	id      string
}

func (s signer) Sign(_ context.Context, data []byte) ([]byte, error) {
	return ed25519.Sign(s.private, data), nil
}

func (s signer) Verify(_ context.Context, data, sig []byte) error {
	if !ed25519.Verify(s.private.Public().(ed25519.PublicKey), data, sig) {
		return errors.New("wrong signature")
	}
	return nil
}

func (s signer) KeyID() (string, error)   { return s.id, nil }
func (s signer) Public() crypto.PublicKey { return s.private.Public() }

func TestOthersVerifyOurs(t *testing.T) {
	k := fixedKey(t, 1)
	env := seal(t, sample(t), k)
	var e dsse.Envelope
	if err := json.Unmarshal(env, &e); err != nil {
		t.Fatal(err)
	}
	v, err := dsse.NewEnvelopeVerifier(signer{k.halves().private, k.ID()})
	if err != nil {
		t.Fatal(err)
	}
	accepted, payload, err := v.VerifyAndDecode(context.Background(), &e)
	if err != nil || len(accepted) != 1 || accepted[0].KeyID != k.ID() {
		t.Fatalf("%v, %v", accepted, err)
	}
	var st struct {
		Type          string `json:"_type"`
		PredicateType string `json:"predicateType"`
		Subject       []struct {
			Name   string            `json:"name"`
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
	}
	if err := json.Unmarshal(payload, &st); err != nil {
		t.Fatal(err)
	}
	if st.Type != StatementType || st.PredicateType != PredicateType || len(st.Subject) != 5 || st.Subject[0].Digest["sha256"] != hash("build") {
		t.Errorf("got %+v", st)
	}
	e.Payload = e.Payload[:8] + "AAAA" + e.Payload[12:]
	if _, err := v.Verify(context.Background(), &e); err == nil {
		t.Error("control: a changed payload is accepted there")
	}
}

func TestWeVerifyOthers(t *testing.T) {
	k := fixedKey(t, 1)
	s, err := Parse(seal(t, sample(t), k))
	if err != nil {
		t.Fatal(err)
	}
	by, err := dsse.NewEnvelopeSigner(signer{k.halves().private, k.ID()})
	if err != nil {
		t.Fatal(err)
	}
	e, err := by.SignPayload(context.Background(), PayloadType, s.Payload)
	if err != nil {
		t.Fatal(err)
	}
	// Their tools order and space the envelope as they like; ours reads the
	// canonical form of it.
	var theirs struct {
		Payload     string           `json:"payload"`
		PayloadType string           `json:"payloadType"`
		Signatures  []dsse.Signature `json:"signatures"`
	}
	theirs.Payload, theirs.PayloadType, theirs.Signatures = e.Payload, e.PayloadType, e.Signatures
	b, err := canonical.Marshal(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(b, []PublicKey{k.Public()}); err != nil {
		t.Error(err)
	}
}

// FuzzEnvelope: nobody but the holder of the key can change a byte of what is
// sealed, not even where the signature does not reach; an envelope has one
// encoding; and what ours reads, another implementation reads alike.
func FuzzEnvelope(f *testing.F) {
	k := fixedKey(f, 1)
	v, err := dsse.NewEnvelopeVerifier(signer{k.halves().private, k.ID()})
	if err != nil {
		f.Fatal(err)
	}
	sealed := map[string]bool{}
	for _, r := range []*Report{compact(f), small(f)} {
		env := seal(f, r, k)
		sealed[string(env)] = true
		f.Add(env)
		f.Add(seal(f, r, fixedKey(f, 2)))
		f.Add(append(bytes.Clone(env), '\n'))
	}
	for _, s := range []string{
		`{"payload":"","payloadType":"","signatures":[]}`,
		`{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{"keyid":"","sig":"AA=="}]}`,
		`{"payload":"e30","payloadType":"application/vnd.in-toto+json","signatures":[{"keyid":"","sig":"AA=="}]}`,
		`{"payload":"e31=","payloadType":"application/vnd.in-toto+json","signatures":[{"keyid":"","sig":"AA=="}]}`,
		`{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{"keyid":"","sig":"AA=="},{"keyid":"","sig":"AA=="}]}`,
	} {
		f.Add([]byte(s))
	}
	bad, err := filepath.Glob("testdata/vectors/bad/*.json")
	if err != nil || len(bad) == 0 {
		f.Fatal("no vectors", err)
	}
	for _, name := range bad {
		env, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(env)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		_, err := Verify(in, []PublicKey{k.Public()})
		if (err == nil) != sealed[string(in)] {
			t.Fatalf("%q: sealed is %t, and verifying says %v", in, sealed[string(in)], err)
		}
		e, bad := open(in)
		if bad != nil {
			return
		}
		if out, err := canonical.Marshal(e); err != nil || !bytes.Equal(in, out) {
			t.Errorf("accepted %q but writes %q, %v", in, out, err)
		}
		var theirs dsse.Envelope
		if err := json.Unmarshal(in, &theirs); err != nil {
			t.Fatalf("%q is read here, and elsewhere %v", in, err)
		}
		payload, err := theirs.DecodeB64Payload()
		if err != nil || !bytes.Equal(payload, e.Payload) || theirs.PayloadType != e.PayloadType {
			t.Errorf("%q holds %q here and %q elsewhere, %v", in, e.Payload, payload, err)
		}
		if !bytes.Equal(appendPreAuth(nil, e.PayloadType, e.Payload), dsse.PAE(theirs.PayloadType, payload)) {
			t.Errorf("%q: other bytes are signed elsewhere", in)
		}
		_, err = v.Verify(context.Background(), &theirs)
		if e.Signatures[0].KeyID == k.ID() && (err == nil) != k.Public().verifies(appendPreAuth(nil, e.PayloadType, e.Payload), e.Signatures[0].Sig) {
			t.Errorf("%q: elsewhere its signature is judged %v, here not", in, err)
		}
	})
}
