//go:build !unix

package wasmfs

import (
	"errors"
	"syscall"
)

// Codes of Windows that Go's own io/fs errors do not stand for (winerror.h).
var hostErrnos = map[syscall.Errno]Errno{
	1314: Permission,  // ERROR_PRIVILEGE_NOT_HELD: links need a privilege
	145:  NotEmpty,    // ERROR_DIR_NOT_EMPTY
	17:   OtherDevice, // ERROR_NOT_SAME_DEVICE
	112:  NoSpace,     // ERROR_DISK_FULL
	39:   NoSpace,     // ERROR_HANDLE_DISK_FULL
	32:   Busy,        // ERROR_SHARING_VIOLATION
	4:    ManyFiles,   // ERROR_TOO_MANY_OPEN_FILES
	206:  NameTooLong, // ERROR_FILENAME_EXCED_RANGE
	267:  NotDir,      // ERROR_DIRECTORY
	123:  Invalid,     // ERROR_INVALID_NAME
	4390: Invalid,     // ERROR_NOT_A_REPARSE_POINT
}

func hostErrno(err error) (Errno, bool) {
	var host syscall.Errno
	if !errors.As(err, &host) {
		return 0, false
	}
	if e, ok := hostErrnos[host]; ok {
		return e, true
	}
	for invented, e := range map[syscall.Errno]Errno{
		syscall.ENOTDIR: NotDir, syscall.EISDIR: IsDir, syscall.ELOOP: Loop, syscall.ENOTSUP: NotSupp,
		syscall.EINVAL: Invalid, syscall.ENOTEMPTY: NotEmpty, syscall.EXDEV: OtherDevice, syscall.EBADF: BadFile,
	} {
		if host == invented {
			return e, true
		}
	}
	return 0, false
}
