//go:build unix

package durable

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// private fails unless info belongs to the caller and nobody else may write to it.
func private(info fs.FileInfo, path string) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("open directory %s: its owner is unknown", path)
	}
	if int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("open directory %s: it belongs to uid %d, want uid %d, who could otherwise change what is kept there; name a directory of your own", path, st.Uid, os.Geteuid())
	}
	if perm := info.Mode().Perm(); perm&0o022 != 0 {
		return fmt.Errorf("open directory %s: its mode %04o lets others write to it, want at most 0755; run chmod go-w on it once its contents are trusted", path, perm)
	}
	return nil
}

func syncDir(f *os.File) error { return f.Sync() }
