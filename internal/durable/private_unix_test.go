//go:build unix

package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDirectoryOthersCanWriteIsRefused(t *testing.T) {
	for _, c := range []struct {
		mode fs.FileMode
		ok   bool
	}{{0o700, true}, {0o755, true}, {0o770, false}, {0o702, false}, {0o777 | fs.ModeSticky, false}} {
		path := filepath.Join(t.TempDir(), "d")
		if err := MkdirAll(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		err := openOnly(path)
		if c.ok != (err == nil) || !c.ok && !strings.Contains(err.Error(), "chmod go-w") {
			t.Errorf("mode %v: %v, want ok %v", c.mode, err, c.ok)
		}
	}
}

func TestDirectoryOfAnotherUserIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	if os.Geteuid() != 0 {
		path = "/" // belongs to uid 0, which is not us
	} else if err := errors.Join(MkdirAll(path), os.Chown(path, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	if err := openOnly(path); err == nil || !strings.Contains(err.Error(), "belongs to uid") {
		t.Errorf("%s: %v, want it refused for its owner", path, err)
	}
}
