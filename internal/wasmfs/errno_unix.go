//go:build unix

package wasmfs

import (
	"errors"

	"golang.org/x/sys/unix"
)

var hostErrnos = map[unix.Errno]Errno{
	unix.E2BIG: TooBig, unix.EACCES: Access, unix.EAGAIN: Again, unix.EBADF: BadFile, unix.EBUSY: Busy,
	unix.EDQUOT: DiskQuota, unix.EEXIST: Exists, unix.EFAULT: Fault, unix.EFBIG: FileTooBig, unix.EILSEQ: IllegalByte,
	unix.EINTR: Interrupted, unix.EINVAL: Invalid, unix.EIO: IO, unix.EISDIR: IsDir, unix.ELOOP: Loop,
	unix.EMFILE: ManyFiles, unix.EMLINK: ManyLinks, unix.ENAMETOOLONG: NameTooLong, unix.ENFILE: AllFiles,
	unix.ENODEV: NoDevice, unix.ENOENT: NotFound, unix.ENOMEM: NoMemory, unix.ENOSPC: NoSpace, unix.ENOSYS: NoCall,
	unix.ENOTDIR: NotDir, unix.ENOTEMPTY: NotEmpty, unix.EOPNOTSUPP: NotSupp, unix.ENXIO: NoAddress,
	unix.EOVERFLOW: Overflow, unix.EPERM: Permission, unix.EPIPE: BrokenPipe, unix.ERANGE: Range, unix.EROFS: ReadOnly,
	unix.ESPIPE: NoSeek, unix.ESTALE: Stale, unix.ETXTBSY: TextBusy, unix.EXDEV: OtherDevice,
}

func hostErrno(err error) (Errno, bool) {
	var host unix.Errno
	if !errors.As(err, &host) {
		return 0, false
	}
	e, ok := hostErrnos[host]
	return e, ok
}
