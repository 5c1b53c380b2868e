package report

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/bvisor/bvisor/internal/canonical"
	"github.com/bvisor/bvisor/plan"
)

// TestEveryByteMatters changes each byte of an envelope in several ways, and
// takes each away. No change may verify. Only the signature could tell a
// change of the payload, so the envelope is checked in full there; where the
// envelope's own spelling is at stake, Parse alone must object.
func TestEveryByteMatters(t *testing.T) {
	k := fixedKey(t, 1)
	keys := []PublicKey{k.Public()}
	env := seal(t, small(t), k)
	if _, err := Verify(env, keys); err != nil {
		t.Fatalf("control: the envelope as it is: %v", err)
	}
	for i := range env {
		for _, change := range []func([]byte) []byte{
			func(b []byte) []byte { b[i] ^= 1; return b },
			func(b []byte) []byte { b[i] ^= 0x20; return b },
			func(b []byte) []byte { b[i] ^= 0x80; return b },
			func(b []byte) []byte { return append(b[:i], b[i+1:]...) },
			func(b []byte) []byte { return b[:i] },
			func(b []byte) []byte { return append(b[:i:i], append([]byte{' '}, b[i:]...)...) },
		} {
			b := change(bytes.Clone(env))
			if _, err := Verify(b, keys); err == nil {
				t.Fatalf("byte %d (%q): verifies as %q", i, env[i], b[max(0, i-20):min(len(b), i+20)])
			}
		}
	}
}

func TestSwappedPlan(t *testing.T) {
	k := fixedKey(t, 1)
	keys := []PublicKey{k.Public()}
	other := sampleResolved()
	other.Spec.Workload.Command = []string{"harmless"}
	a, b := sample(t), sample(t)
	p, refusal := plan.Make(other, b.Profile)
	if refusal != nil {
		t.Fatal(refusal)
	}
	b.Plan, b.Identity.Plan = &p, p.ID()
	for _, r := range []*Report{a, b} {
		if _, err := Verify(seal(t, r, k), keys); err != nil {
			t.Fatalf("control: %v", err)
		}
	}

	// The plan of one in the payload of the other, under the old signature.
	sa, _ := Parse(seal(t, a, k))
	sb, _ := Parse(seal(t, b, k))
	payload := bytes.Replace(sa.Payload, sa.members["plan"], sb.members["plan"], 1)
	env, err := canonical.Marshal(&envelope{payload, PayloadType, []signature{{sa.KeyID, sa.Signature}}})
	if err != nil {
		t.Fatal(err)
	}
	wantCheck(t, env, keys, "signature", ErrSignature)

	// The same, sealed anew with a trusted key: the digests still tell.
	if env, err = k.envelope(payload); err != nil {
		t.Fatal(err)
	}
	wantCheck(t, env, keys, "plan", nil)

	// With identity and plan both swapped the subject still names the old one.
	payload = bytes.Replace(payload, []byte(`"plan":"`+a.Plan.ID()), []byte(`"plan":"`+b.Plan.ID()), 1)
	if env, err = k.envelope(payload); err != nil {
		t.Fatal(err)
	}
	wantCheck(t, env, keys, "subjects", nil)
}

func wantCheck(t *testing.T, env []byte, keys []PublicKey, check string, cause error) {
	t.Helper()
	_, err := Verify(env, keys)
	var bad *CheckError
	if !errors.As(err, &bad) || bad.Check != check || (cause != nil && !errors.Is(err, cause)) {
		t.Errorf("got %v, want check %s to fail, by %v", err, check, cause)
	}
}

func TestSubstitutedKeys(t *testing.T) {
	mine, theirs := fixedKey(t, 1), fixedKey(t, 2)
	env := seal(t, sample(t), theirs)
	wantCheck(t, env, []PublicKey{mine.Public()}, "key", ErrUntrustedKey)
	wantCheck(t, env, nil, "key", ErrUntrustedKey)
	wantCheck(t, env, []PublicKey{{}}, "key", ErrUntrustedKey)

	// Their signature under my key's name, and my signature under theirs.
	renamed := bytes.Replace(env, []byte(theirs.ID()), []byte(mine.ID()), 1)
	wantCheck(t, renamed, []PublicKey{mine.Public(), theirs.Public()}, "signature", ErrSignature)
	// A nameless signature is not tried against every key.
	nameless := bytes.Replace(env, []byte(theirs.ID()), nil, 1)
	wantCheck(t, nameless, []PublicKey{mine.Public(), theirs.Public(), {}}, "key", ErrUntrustedKey)
}

func TestEnvelopeForms(t *testing.T) {
	k := fixedKey(t, 1)
	keys := []PublicKey{k.Public()}
	good := seal(t, sample(t), k)
	s, err := Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	sig := signature{s.KeyID, s.Signature}
	other := signature{fixedKey(t, 2).ID(), fixedKey(t, 2).sign(appendPreAuth(nil, PayloadType, s.Payload))}
	form := func(payload []byte, payloadType string, sigs ...signature) []byte {
		b, err := canonical.Marshal(&envelope{payload, payloadType, sigs})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if !bytes.Equal(form(s.Payload, PayloadType, sig), good) {
		t.Fatal("control: the envelope does not come out the same")
	}
	var loose map[string]any
	if err := json.Unmarshal(good, &loose); err != nil {
		t.Fatal(err)
	}
	indented, _ := json.MarshalIndent(loose, "", "  ")
	reordered := `{"payloadType":"` + PayloadType + `","payload":"` + loose["payload"].(string) + `",` + string(good[bytes.Index(good, []byte(`"signatures"`)):])

	wantCheck(t, form(s.Payload, PayloadType), keys, "envelope", nil)
	wantCheck(t, form(s.Payload, PayloadType, sig, sig), keys, "envelope", nil)
	wantCheck(t, form(s.Payload, PayloadType, sig, other), keys, "envelope", nil)
	wantCheck(t, form(s.Payload, PayloadType, other, sig), keys, "envelope", nil)
	wantCheck(t, form(s.Payload, "application/json", sig), keys, "envelope", nil)
	wantCheck(t, form(s.Payload, PayloadType, signature{sig.KeyID, nil}), keys, "signature", ErrSignature)
	wantCheck(t, form(s.Payload, PayloadType, signature{sig.KeyID, append(bytes.Clone(sig.Sig), 0)}), keys, "signature", ErrSignature)
	wantCheck(t, form(nil, PayloadType, sig), keys, "signature", ErrSignature)
	for name, in := range map[string]string{
		"nothing":        "",
		"indented":       string(indented),
		"reordered":      reordered,
		"line feed":      string(good) + "\n",
		"duplicate":      strings.Replace(string(good), `,"payloadType"`, `,"payload":"e30=","payloadType"`, 1),
		"unknown member": strings.TrimSuffix(string(good), "}") + `,"zzz":1}`,
		"wrong case":     strings.Replace(string(good), `"signatures"`, `"Signatures"`, 1),
		"base64url":      strings.Replace(string(good), "=", "", 1),
		"null":           `null`,
		"array":          "[" + string(good) + "]",
		"bare payload":   string(s.Payload),
	} {
		if in == string(good) {
			t.Fatalf("%s: nothing was changed", name)
		}
		_, err := Verify([]byte(in), keys)
		var bad *CheckError
		if !errors.As(err, &bad) || bad.Check != "envelope" {
			t.Errorf("%s: got %v, want check envelope to fail", name, err)
		}
		if _, err := Parse([]byte(in)); err == nil {
			t.Errorf("%s: Parse accepts it", name)
		}
	}
}

// TestOtherBytesOfTheSameReport seals other spellings of one payload with a
// trusted key: none is read.
func TestOtherBytesOfTheSameReport(t *testing.T) {
	k := fixedKey(t, 1)
	keys := []PublicKey{k.Public()}
	s, err := Parse(seal(t, sample(t), k))
	if err != nil {
		t.Fatal(err)
	}
	p := string(s.Payload)
	var loose any
	if err := json.Unmarshal(s.Payload, &loose); err != nil {
		t.Fatal(err)
	}
	indented, _ := json.MarshalIndent(loose, "", " ")
	for name, in := range map[string]string{
		"indented":          string(indented),
		"line feed":         p + "\n",
		"float":             strings.Replace(p, `"code":0`, `"code":0.0`, 1),
		"exponent":          strings.Replace(p, `"requested":64`, `"requested":64e0`, 1),
		"minus zero":        strings.Replace(p, `"code":0`, `"code":-0`, 1),
		"large number":      strings.Replace(p, `"requested":64`, `"requested":9007199254740993`, 1),
		"escape":            strings.Replace(p, `"completed"`, `"\u0063ompleted"`, 1),
		"duplicate":         strings.Replace(p, `"exit":{`, `"exit":{"code":0,`, 1),
		"duplicate outcome": strings.Replace(p, `"outcome":{`, `"outcome":{"status":"failed"},"outcome":{`, 1),
		"unknown member":    strings.Replace(p, `"exit":{`, `"exist":{},"exit":{`, 1),
		"null":              strings.Replace(p, `"exit":{"code":0}`, `"exit":null`, 1),
		"empty list":        strings.Replace(p, `"leases":`, `"leases":[],"leasez":`, 1),
		"wrong case":        strings.Replace(p, `"identity"`, `"Identity"`, 1),
		"other predicate":   strings.Replace(p, PredicateType, PredicateType+"1", 1),
		"other statement":   strings.Replace(p, StatementType, "https://in-toto.io/Statement/v0.1", 1),
		"other version":     strings.Replace(p, `"version":1},"predicateType"`, `"version":2},"predicateType"`, 1),
	} {
		if in == p {
			t.Errorf("%s: nothing was changed", name)
			continue
		}
		env, err := k.envelope([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		wantCheck(t, env, keys, "statement", nil)
		if _, err := Parse(env); err == nil {
			t.Errorf("%s: Parse accepts it", name)
		}
	}
	env, _ := k.envelope([]byte(strings.Replace(p, PredicateType, "https://slsa.dev/provenance/v1", 1)))
	wantCheck(t, env, keys, "statement", ErrUnknownPredicate)
}

// TestSignatureHasOneForm: adding the group order to S gives a second number
// with the same meaning, which RFC 8032 section 5.1.7 has verifiers refuse.
func TestSignatureHasOneForm(t *testing.T) {
	k := fixedKey(t, 1)
	s, err := Parse(seal(t, sample(t), k))
	if err != nil {
		t.Fatal(err)
	}
	order := []byte{0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 31: 0x10}
	sig, carry := bytes.Clone(s.Signature), 0
	for i, b := range order {
		carry += int(sig[32+i]) + int(b)
		sig[32+i] = byte(carry)
		carry >>= 8
	}
	env, err := canonical.Marshal(&envelope{s.Payload, PayloadType, []signature{{s.KeyID, sig}}})
	if err != nil {
		t.Fatal(err)
	}
	wantCheck(t, env, []PublicKey{k.Public()}, "signature", ErrSignature)
}

func TestKeysOfOtherKindsAreRefused(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, _ := x509.MarshalPKIXPublicKey(&ec.PublicKey)
	priv, _ := x509.MarshalPKCS8PrivateKey(ec)
	good := fixedKey(t, 1)
	goodPublic := string(good.Public().PEM())
	goodPrivate, _ := good.PEM()
	if p, err := ParsePublicKey([]byte(goodPublic)); err != nil || p.ID() != good.ID() {
		t.Fatalf("control: %v", err)
	}
	if k, err := ParseKey(goodPrivate); err != nil || k.ID() != good.ID() || !bytes.Equal(k.halves().private, good.halves().private) {
		t.Fatalf("control: %v", err)
	}
	for name, in := range map[string]string{
		"ECDSA":    string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub})),
		"private":  string(goodPrivate),
		"two":      goodPublic + goodPublic,
		"trailing": goodPublic + "x",
		"headers":  strings.Replace(goodPublic, "KEY-----\n", "KEY-----\nA: b\n\n", 1),
		"cut":      goodPublic[:40],
		"empty":    "",
		"raw":      base64.StdEncoding.EncodeToString(good.halves().private[32:]),
		"damaged":  strings.Replace(goodPublic, "MC", "MD", 1),
	} {
		if _, err := ParsePublicKey([]byte(in)); err == nil {
			t.Errorf("public, %s: accepted", name)
		}
	}
	for name, in := range map[string]string{
		"ECDSA":   string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: priv})),
		"public":  goodPublic,
		"two":     string(goodPrivate) + string(goodPrivate),
		"empty":   "",
		"PKCS #1": strings.ReplaceAll(string(goodPrivate), "PRIVATE KEY", "RSA PRIVATE KEY"),
		"damaged": strings.Replace(string(goodPrivate), "MC", "MD", 1),
	} {
		if _, err := ParseKey([]byte(in)); err == nil {
			t.Errorf("private, %s: accepted", name)
		}
	}
	if (PublicKey{key: ed25519.PublicKey{}}).verifies(nil, nil) {
		t.Error("the empty key verifies something")
	}
}

func FuzzParsePublicKey(f *testing.F) {
	f.Add(fixedKey(f, 1).Public().PEM())
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := ParsePublicKey(in)
		if err != nil {
			return
		}
		q, err := ParsePublicKey(p.PEM())
		if err != nil || q.ID() != p.ID() || len(p.key) != ed25519.PublicKeySize {
			t.Errorf("%q gives key %s, whose PEM gives %v", in, p.ID(), err)
		}
	})
}
