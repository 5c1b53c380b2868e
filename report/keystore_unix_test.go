//go:build unix

package report

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestKeyFileIsPrivate(t *testing.T) {
	// An open mask must not open the file.
	defer syscall.Umask(syscall.Umask(0))
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := LoadOrCreateKey(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Rotate(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{".": 0o700, "key.pem": 0o600, "trusted": 0o700} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %04o", name, info.Mode(), err, want)
		}
	}
}

func TestUnsafeKeyFilesAreRefused(t *testing.T) {
	for _, c := range []struct {
		name, want string
		change     func(dir, key string) error
	}{
		{"readable by the group", "mode is 0640", func(_, key string) error { return os.Chmod(key, 0o640) }},
		{"readable by all", "mode is 0604", func(_, key string) error { return os.Chmod(key, 0o604) }},
		{"writable directory", "mode 0770", func(dir, _ string) error { return os.Chmod(dir, 0o770) }},
		{"link to a key", "no regular file", func(dir, key string) error {
			other := filepath.Join(dir, "other.pem")
			if err := os.Rename(key, other); err != nil {
				return err
			}
			return os.Symlink(other, key)
		}},
		{"dangling link", "no regular file", func(dir, key string) error {
			if err := os.Remove(key); err != nil {
				return err
			}
			return os.Symlink(filepath.Join(dir, "absent"), key)
		}},
		{"FIFO", "no regular file", func(_, key string) error {
			if err := os.Remove(key); err != nil {
				return err
			}
			return syscall.Mkfifo(key, 0o600)
		}},
		{"directory", "no regular file", func(_, key string) error {
			if err := os.Remove(key); err != nil {
				return err
			}
			return os.Mkdir(key, 0o700)
		}},
		{"link to the directory", "symbolic link", func(dir, _ string) error {
			if err := os.Rename(dir, dir+".real"); err != nil {
				return err
			}
			return os.Symlink(dir+".real", dir)
		}},
	} {
		dir := filepath.Join(t.TempDir(), "keys")
		if _, err := LoadOrCreateKey(dir); err != nil {
			t.Fatal(err)
		}
		if err := c.change(dir, filepath.Join(dir, "key.pem")); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadOrCreateKey(dir); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.want)
		}
		if _, err := TrustedKeys(dir); err == nil {
			t.Errorf("%s: TrustedKeys accepts it", c.name)
		}
	}
}

func TestTrustedKeyOthersCanWriteIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	k := fixedKey(t, 3)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Trust(dir, k.Public()); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "trusted", k.ID()+".pem")
	for mode, ok := range map[fs.FileMode]bool{0o600: true, 0o644: true, 0o664: false, 0o646: false} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		if keys, err := TrustedKeys(dir); (err == nil && len(keys) == 1) != ok {
			t.Errorf("mode %04o: %v, %v", mode, keys, err)
		}
	}
}

// TestForeignKeyFile needs two users, or a file of root's for an ordinary one.
func TestForeignKeyFile(t *testing.T) {
	info, err := os.Stat("/")
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		name := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(name, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if info, err = os.Stat(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := private(info, "f", 0o077); err == nil || !strings.Contains(err.Error(), "belongs to uid") {
		t.Errorf("got %v", err)
	}
}
