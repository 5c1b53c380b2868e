package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// dataSync leaves out what is not needed to read the bytes again: times
// (fdatasync(2)).
func dataSync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}
