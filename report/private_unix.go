//go:build unix

package report

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

func private(info fs.FileInfo, path string, forbidden fs.FileMode) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("key file %s: its owner is unknown", path)
	}
	if int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("key file %s: it belongs to uid %d, want uid %d; move it away", path, st.Uid, os.Geteuid())
	}
	if perm := info.Mode().Perm(); perm&forbidden != 0 {
		return fmt.Errorf("key file %s: its mode is %04o, want no bit of %04o; if nobody else can have used it, run chmod %04o on it, otherwise move it away", path, perm, forbidden, perm&^forbidden)
	}
	return nil
}
