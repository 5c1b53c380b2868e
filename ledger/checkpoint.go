package ledger

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Signer signs checkpoints.
type Signer interface {
	Public() (ed25519.PublicKey, error)
	Sign(message []byte) ([]byte, error)
}

// Checkpoint is the head of a tree: https://c2sp.org/tlog-checkpoint.
type Checkpoint struct {
	Origin string // names the log
	Size   int64
	Root   tlog.Hash
	Note   []byte // the signed note it was read from
}

// ErrUntrusted is a checkpoint that no trusted key signed.
var ErrUntrusted = errors.New("no trusted key signed it")

func text(origin string, size int64, root tlog.Hash) string {
	return fmt.Sprintf("%s\n%d\n%s\n", origin, size, root)
}

// ParseCheckpoint reads a signed note without asking who signed it.
func ParseCheckpoint(signed []byte) (Checkpoint, error) {
	body, signatures, ok := strings.Cut(string(signed), "\n\n")
	lines := strings.Split(body, "\n")
	if !ok || len(lines) != 3 || signatures == "" {
		return Checkpoint{}, fmt.Errorf("checkpoint %.200q: expected origin, size and root, an empty line and a signature", signed)
	}
	c := Checkpoint{Origin: lines[0], Note: signed}
	var err error
	if c.Size, err = strconv.ParseInt(lines[1], 10, 64); err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint of %q: size: %w", c.Origin, err)
	}
	if c.Root, err = tlog.ParseHash(lines[2]); err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint of %q: root: %w", c.Origin, err)
	}
	if c.Origin == "" || c.Size < 0 || text(c.Origin, c.Size, c.Root) != body+"\n" {
		return Checkpoint{}, fmt.Errorf("checkpoint of %q: not in its one spelling", c.Origin)
	}
	return c, nil
}

// OpenCheckpoint reads a checkpoint that has exactly one signature, and that by
// one of keys. What the note says of itself is not believed before.
func OpenCheckpoint(signed []byte, keys []ed25519.PublicKey) (Checkpoint, error) {
	c, err := ParseCheckpoint(signed)
	if err != nil {
		return Checkpoint{}, err
	}
	var known []note.Verifier
	for _, k := range keys {
		v, err := verifier(c.Origin, k)
		if err != nil {
			return Checkpoint{}, err
		}
		known = append(known, v)
	}
	n, err := note.Open(signed, note.VerifierList(known...))
	if unverified, ok := errors.AsType[*note.UnverifiedNoteError](err); ok && unverified != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint of %s, size %d: %w", c.Origin, c.Size, ErrUntrusted)
	}
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint of %s, size %d: %w", c.Origin, c.Size, err)
	}
	// A second signature would be content that nothing checks.
	if len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return Checkpoint{}, fmt.Errorf("checkpoint of %s, size %d: %d signatures, expected 1", c.Origin, c.Size, len(n.Sigs)+len(n.UnverifiedSigs))
	}
	// base64 with bits left over has other spellings (RFC 4648 section 3.5).
	sig, err := base64.StdEncoding.DecodeString(n.Sigs[0].Base64)
	if again := text(c.Origin, c.Size, c.Root) + "\n— " + n.Sigs[0].Name + " " + base64.StdEncoding.EncodeToString(sig) + "\n"; err != nil || again != string(signed) {
		return Checkpoint{}, fmt.Errorf("checkpoint of %s, size %d: not in its one spelling", c.Origin, c.Size)
	}
	return c, nil
}

// VerifierKey is how other tools of https://c2sp.org/signed-note name a key.
func VerifierKey(origin string, key ed25519.PublicKey) (string, error) {
	return note.NewEd25519VerifierKey(origin, key)
}

func verifier(origin string, key ed25519.PublicKey) (note.Verifier, error) {
	k, err := VerifierKey(origin, key)
	if err != nil {
		return nil, fmt.Errorf("checkpoint key: %w", err)
	}
	v, err := note.NewVerifier(k)
	if err != nil {
		return nil, fmt.Errorf("checkpoint key for %q: %w", origin, err)
	}
	return v, nil
}

// signer is a Signer under the name of a log.
type signer struct {
	note.Verifier
	Signer
}

func (s signer) Sign(message []byte) ([]byte, error) { return s.Signer.Sign(message) }

// sign makes a checkpoint.
func sign(by note.Signer, origin string, size int64, root tlog.Hash) ([]byte, error) {
	n, err := note.Sign(&note.Note{Text: text(origin, size, root)}, by)
	if err != nil {
		return nil, fmt.Errorf("sign the checkpoint: %w", err)
	}
	return n, nil
}
