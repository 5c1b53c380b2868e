package report

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Ed25519 (RFC 8032) is the only algorithm. An envelope does not say which
// algorithm it was signed with; the trusted key does.

// Key seals reports.
type Key struct {
	load func() (halves, error) // once
}

type halves struct {
	private ed25519.PrivateKey
	public  PublicKey
}

// Ready reads a key that was not read yet, and says why it cannot seal. The
// first time costs as much as a good part of a launch, because the curve's
// tables are made then: call it beside something else.
func (k *Key) Ready() error {
	_, err := k.load()
	return err
}

// halves of a key that failed to load are zero, and check nothing.
func (k *Key) halves() halves {
	h, _ := k.load()
	return h
}

// PublicKey checks seals. The zero value checks none.
type PublicKey struct {
	key ed25519.PublicKey
	der []byte // SubjectPublicKeyInfo, RFC 8410
	id  string
}

// NewKey makes a key that is kept nowhere.
func NewKey() (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return keyOf(private), nil
}

func keyOf(private ed25519.PrivateKey) *Key {
	h := halves{private, publicOf(private.Public().(ed25519.PublicKey))}
	return &Key{func() (halves, error) { return h, nil }}
}

func publicOf(key ed25519.PublicKey) PublicKey {
	der := append([]byte(publicPrefix), key...)
	return PublicKey{key, der, digest(der)}
}

// ID is the key's name in envelopes: the SHA-256, in hex, of the DER encoding
// of its SubjectPublicKeyInfo.
func (p PublicKey) ID() string { return p.id }

// ID is that of the public key.
func (k *Key) ID() string { return k.Public().id }

// Public is the half that may be shown to everybody.
func (k *Key) Public() PublicKey { return k.halves().public }

// String names the key and keeps the secret half out of logs.
func (k *Key) String() string { return "key " + k.ID() }

// GoString is String, for %#v.
func (k *Key) GoString() string { return k.String() }

// Sign signs what is no report: checkpoints of the ledger. Their form keeps them
// apart from what DSSE signs, which begins with its name.
func (k *Key) Sign(message []byte) ([]byte, error) {
	if err := k.Ready(); err != nil {
		return nil, err
	}
	return k.sign(message), nil
}

// Ed25519 is the key itself.
func (p PublicKey) Ed25519() ed25519.PublicKey { return p.key }

func (k *Key) sign(message []byte) []byte { return ed25519.Sign(k.halves().private, message) }

func (p PublicKey) verifies(message, sig []byte) bool {
	return len(p.key) == ed25519.PublicKeySize && len(sig) == ed25519.SignatureSize && ed25519.Verify(p.key, message, sig)
}

// The DER encodings of RFC 8410 are these bytes and then 32 of the key. Reading
// them needs none of crypto/x509, whose start-up every run would pay for.
const (
	publicPrefix  = "\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"
	privatePrefix = "\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20"
)

const (
	publicBlock  = "PUBLIC KEY"  // RFC 7468 section 13
	privateBlock = "PRIVATE KEY" // RFC 7468 section 10
)

// PEM is the key as "openssl pkey -pubin" reads it.
func (p PublicKey) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: publicBlock, Bytes: p.der})
}

// ParsePublicKey reads what PEM writes.
func ParsePublicKey(data []byte) (PublicKey, error) {
	der, err := block(data, publicBlock)
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key: %w", err)
	}
	key, ok := strings.CutPrefix(string(der), publicPrefix)
	if !ok || len(key) != ed25519.PublicKeySize {
		return PublicKey{}, errors.New("public key: it is not an Ed25519 key in the form of RFC 8410, and only these seal reports")
	}
	return publicOf(ed25519.PublicKey(key)), nil
}

// PEM is the key in PKCS #8, secret half included.
func (k *Key) PEM() ([]byte, error) {
	h, err := k.load()
	if err != nil {
		return nil, err
	}
	der := append([]byte(privatePrefix), h.private.Seed()...)
	return pem.EncodeToMemory(&pem.Block{Type: privateBlock, Bytes: der}), nil
}

// ParseKey reads what Key.PEM writes.
func ParseKey(data []byte) (*Key, error) {
	der, err := block(data, privateBlock)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	seed, ok := strings.CutPrefix(string(der), privatePrefix)
	if !ok || len(seed) != ed25519.SeedSize {
		return nil, errors.New("private key: it is not an Ed25519 key in the form of RFC 8410, and only these seal reports")
	}
	return keyOf(ed25519.NewKeyFromSeed([]byte(seed))), nil
}

// block takes the one PEM block out of data.
func block(data []byte, kind string) ([]byte, error) {
	b, rest := pem.Decode(data)
	switch {
	case b == nil:
		return nil, fmt.Errorf("no PEM block found, want one of type %q", kind)
	case b.Type != kind:
		return nil, fmt.Errorf("the PEM block is of type %q, want %q", b.Type, kind)
	case len(b.Headers) != 0:
		return nil, errors.New("the PEM block has headers, want none; encrypted keys are not supported")
	case len(rest) != 0:
		return nil, errors.New("something follows the PEM block; keep one key per file")
	}
	return b.Bytes, nil
}
