//go:build !linux && !darwin

package wasmfs

import (
	"os"
	"path/filepath"
	"strings"
)

const dontWait = 0

// validName says whether a component is one to the system, too. On Windows a
// backslash separates names, a colon begins a stream, and a dot or a space at
// the end is dropped, so that one file would have several names.
func validName(name string) bool {
	return filepath.IsLocal(name) && !strings.ContainsAny(name, `\:`) && strings.TrimRight(name, ". ") == name
}

// statOf knows no inode number; files are compared by what os.SameFile knows.
func statOf(info os.FileInfo) Stat {
	mtim := uint64(info.ModTime().UnixNano())
	return Stat{Type: typeOf(info.Mode()), Nlink: 1, Size: uint64(info.Size()), Atim: mtim, Mtim: mtim, Ctim: mtim, info: info}
}
