//go:build !linux

package wasmfs

import (
	"io"
	"os"
)

// carveOutsExist says whether a carve-out must exist: where a name can be written
// in more than one way, what does not exist cannot be told from what does not
// matter.
const carveOutsExist = true

func openHostDir(f *os.File) (hostDir, error) { return openRootDir(f) }

// appendToFile has no call that finds the end and writes there in one. Somebody
// else who appends at the same time may be overwritten.
func appendToFile(f *os.File, p []byte) (int, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	return f.WriteAt(p, end)
}

// allocate has no portable call that keeps its promise.
func allocate(*os.File, int64, int64) error { return NotSupp }

func datasync(f *os.File) error { return f.Sync() }

// setFileTimes has no call by descriptor in package os.
func setFileTimes(*os.File, Time, Time) error { return NotSupp }
