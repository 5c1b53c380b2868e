package report

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	"github.com/bvisor/bvisor/internal/durable"
)

// A key directory holds key.pem, the key that seals, and trusted/, the public
// keys whose seals are believed besides: former keys of this directory and
// what was put there on purpose.
const (
	keyFile    = "key.pem"
	trustedDir = "trusted"
	publicExt  = ".pem"
)

// KeyIn is the key that LoadOrCreateKey returns, read when it is first needed.
// Ready reads it and has the error.
func KeyIn(dir string) *Key {
	return &Key{sync.OnceValues(func() (halves, error) {
		k, err := LoadOrCreateKey(dir)
		if err != nil {
			return halves{}, err
		}
		return k.load()
	})}
}

// LoadOrCreateKey returns the key kept in dir and makes one on first use.
// However many processes come first at once, they all get the same key.
func LoadOrCreateKey(dir string) (*Key, error) {
	if err := durable.MkdirAll(dir); err != nil {
		return nil, err
	}
	d, err := durable.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	k, err := loadKey(d)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if k, err = NewKey(); err != nil {
		return nil, err
	}
	text, err := k.PEM()
	if err != nil {
		return nil, err
	}
	// Create never replaces, so exactly one process wins.
	if err := d.Create(keyFile, text, 0o600); errors.Is(err, fs.ErrExist) {
		return loadKey(d)
	} else if err != nil {
		return nil, err
	}
	return k, nil
}

func loadKey(d *durable.Dir) (*Key, error) {
	path := filepath.Join(d.Path(), keyFile)
	info, err := d.Stat(keyFile)
	if err != nil {
		return nil, err
	}
	if err := own(info, path, 0o077); err != nil {
		return nil, err
	}
	data, err := d.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	k, err := ParseKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; restore it from a backup, or move it away to have a new one made", path, err)
	}
	return k, nil
}

// Rotate replaces the key in dir with a new one and returns that. The former
// one's public half stays trusted.
func Rotate(dir string) (*Key, error) {
	former, err := LoadOrCreateKey(dir)
	if err != nil {
		return nil, err
	}
	k, err := NewKey()
	if err != nil {
		return nil, err
	}
	text, err := k.PEM()
	if err != nil {
		return nil, err
	}
	// Both are trusted before the switch: when two processes rotate at once,
	// the loser's key may already have sealed something.
	for _, p := range []PublicKey{former.Public(), k.Public()} {
		if err := Trust(dir, p); err != nil {
			return nil, err
		}
	}
	d, err := durable.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if err := d.WriteFile(keyFile, text, 0o600); err != nil {
		return nil, err
	}
	return k, nil
}

// Trust adds a public key to those whose seals dir believes.
func Trust(dir string, p PublicKey) error {
	if p.id == "" {
		return errors.New("trust key: bug: the key is empty")
	}
	path := filepath.Join(dir, trustedDir)
	if err := durable.MkdirAll(path); err != nil {
		return err
	}
	d, err := durable.OpenDir(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.WriteFile(p.id+publicExt, p.PEM(), 0o600)
}

// TrustedKeys lists the public keys whose seals dir believes: that of its own
// key first, then the trusted ones by file name. A directory that does not
// exist trusts nobody.
func TrustedKeys(dir string) ([]PublicKey, error) {
	var keys []PublicKey
	d, err := durable.OpenDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	k, err := loadKey(d)
	switch {
	case err == nil:
		keys = append(keys, k.Public())
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	t, err := durable.OpenDir(filepath.Join(dir, trustedDir))
	if errors.Is(err, fs.ErrNotExist) {
		return keys, nil
	}
	if err != nil {
		return nil, err
	}
	defer t.Close()
	names, err := t.Names()
	if err != nil {
		return nil, err
	}
	seen := make(map[string]bool)
	for _, p := range keys {
		seen[p.id] = true
	}
	for _, name := range names {
		// Other files are not keys; to leave one out only trusts less.
		if !strings.HasSuffix(name, publicExt) {
			continue
		}
		p, err := loadPublic(t, name)
		if err != nil {
			return nil, err
		}
		if !seen[p.id] {
			seen[p.id] = true
			keys = append(keys, p)
		}
	}
	return keys, nil
}

func loadPublic(d *durable.Dir, name string) (PublicKey, error) {
	path := filepath.Join(d.Path(), name)
	info, err := d.Stat(name)
	if err != nil {
		return PublicKey{}, err
	}
	if err := own(info, path, 0o022); err != nil {
		return PublicKey{}, err
	}
	data, err := d.ReadFile(name)
	if err != nil {
		return PublicKey{}, err
	}
	p, err := ParsePublicKey(data)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%s: %w; move it out of this directory", path, err)
	}
	return p, nil
}

// own fails unless info is a regular file of the caller's that others cannot
// use in the ways of the mode bits in forbidden.
func own(info fs.FileInfo, path string, forbidden fs.FileMode) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("key file %s: it is no regular file (%s); move it away", path, info.Mode().Type())
	}
	return private(info, path, forbidden)
}
