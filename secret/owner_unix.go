//go:build unix

package secret

import (
	"io/fs"
	"syscall"
)

const hasModes = true

func owner(info fs.FileInfo) (uid int, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}
