package wasmfs

import (
	"os"
	"syscall"
)

// dontWait is for opening what may have become a FIFO.
const dontWait = syscall.O_NONBLOCK

// validName says whether a component is one to the system, too.
func validName(string) bool { return true }

func statOf(info os.FileInfo) Stat {
	st := info.Sys().(*syscall.Stat_t)
	return Stat{Dev: uint64(st.Dev), Ino: st.Ino, Type: typeOf(info.Mode()), Nlink: uint64(st.Nlink), Size: uint64(st.Size),
		Atim: uint64(st.Atimespec.Nano()), Mtim: uint64(st.Mtimespec.Nano()), Ctim: uint64(st.Ctimespec.Nano())}
}
