package report

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// Ed25519 (RFC 8032) is the only algorithm. An envelope does not say which
// algorithm it was signed with; the trusted key does.

// Key seals reports.
type Key struct {
	*halves
	loaded <-chan struct{} // closed when halves is complete; nil when it always was
}

type halves struct {
	private ed25519.PrivateKey
	public  PublicKey
	err     error
}

// Ready waits until the key can seal, or says why it cannot.
func (k *Key) Ready() error {
	if k.loaded != nil {
		<-k.loaded
	}
	return k.err
}

// later reads a key beside what the caller does meanwhile: the curve's tables
// are made at a process's first use of them, which takes as long as a good part
// of a launch.
func later(read func() (*Key, error)) *Key {
	done := make(chan struct{})
	k := &Key{&halves{}, done}
	go func() {
		defer close(done)
		found, err := read()
		if err != nil {
			k.err = err
			return
		}
		k.private, k.public = found.private, found.public
		ed25519.Sign(k.private, nil)
	}()
	return k
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
	return keyOf(private)
}

func keyOf(private ed25519.PrivateKey) (*Key, error) {
	public, err := publicOf(private.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	return &Key{halves: &halves{private: private, public: public}}, nil
}

func publicOf(key ed25519.PublicKey) (PublicKey, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key: %w", err)
	}
	return PublicKey{key, der, digest(der)}, nil
}

// ID is the key's name in envelopes: the SHA-256, in hex, of the DER encoding
// of its SubjectPublicKeyInfo.
func (p PublicKey) ID() string { return p.id }

// ID is that of the public key.
func (k *Key) ID() string { return k.Public().id }

// Public is the half that may be shown to everybody.
func (k *Key) Public() PublicKey {
	_ = k.Ready() // a key that failed to load has the zero half, which checks nothing
	return k.public
}

// String names the key and keeps the secret half out of logs.
func (k *Key) String() string { return "key " + k.ID() }

// GoString is String, for %#v.
func (k *Key) GoString() string { return k.String() }

func (k *Key) sign(message []byte) []byte { return ed25519.Sign(k.private, message) }

func (p PublicKey) verifies(message, sig []byte) bool {
	return len(p.key) == ed25519.PublicKeySize && len(sig) == ed25519.SignatureSize && ed25519.Verify(p.key, message, sig)
}

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
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key: %w", err)
	}
	key, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return PublicKey{}, fmt.Errorf("public key: it is a %T, and only Ed25519 keys seal reports", parsed)
	}
	return publicOf(key)
}

// PEM is the key in PKCS #8, secret half included.
func (k *Key) PEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: privateBlock, Bytes: der}), nil
}

// ParseKey reads what Key.PEM writes.
func ParseKey(data []byte) (*Key, error) {
	der, err := block(data, privateBlock)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("private key: it is a %T, and only Ed25519 keys seal reports", parsed)
	}
	return keyOf(private)
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
