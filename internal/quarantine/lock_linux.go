package quarantine

import (
	"os"

	"golang.org/x/sys/unix"
)

// Lock keeps others from deciding over a quarantine at the same time. It waits
// for them; the kernel undoes it when its holder dies.
func Lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}
