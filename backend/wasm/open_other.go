//go:build !linux

package wasm

import (
	"os"

	"github.com/bvisor/bvisor/spec"
)

// openRoot opens a canonical path.
func openRoot(name string, access spec.Access) (*os.File, spec.FileKind, error) {
	kind := kindOf(name)
	mode := os.O_RDONLY
	switch {
	case kind == spec.KindOther:
		return nil, kind, nil // opening it could wait, or act
	case kind == spec.KindFile && access.Write() && access.Read():
		mode = os.O_RDWR
	case kind == spec.KindFile && access.Write():
		mode = os.O_WRONLY
	}
	f, err := os.OpenFile(name, mode, 0)
	return f, kind, err
}
