package wasmfs

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
)

// Errno is an errno of WASI preview 1, with its numbers (typenames.witx). Zero
// is success.
type Errno uint16

// The ones that are given out, in the order of the specification.
const (
	Success     Errno = 0
	TooBig      Errno = 1 // 2big
	Access      Errno = 2
	Again       Errno = 6
	BadFile     Errno = 8
	Busy        Errno = 10
	DiskQuota   Errno = 19
	Exists      Errno = 20
	Fault       Errno = 21
	FileTooBig  Errno = 22
	IllegalByte Errno = 25 // ilseq
	Interrupted Errno = 27
	Invalid     Errno = 28
	IO          Errno = 29
	IsDir       Errno = 31
	Loop        Errno = 32
	ManyFiles   Errno = 33 // mfile
	ManyLinks   Errno = 34 // mlink
	NameTooLong Errno = 37
	AllFiles    Errno = 41 // nfile
	NoDevice    Errno = 43
	NotFound    Errno = 44 // noent
	NoMemory    Errno = 48
	NoSpace     Errno = 51
	NoCall      Errno = 52 // nosys
	NotDir      Errno = 54
	NotEmpty    Errno = 55
	NotSocket   Errno = 57
	NotSupp     Errno = 58 // notsup
	NoAddress   Errno = 60 // nxio
	Overflow    Errno = 61
	Permission  Errno = 63 // perm
	BrokenPipe  Errno = 64
	Range       Errno = 68
	ReadOnly    Errno = 69 // rofs
	NoSeek      Errno = 70 // spipe
	Stale       Errno = 72
	TextBusy    Errno = 74
	OtherDevice Errno = 75 // xdev
	NotCapable  Errno = 76
)

var errnoNames = map[Errno]string{
	Success: "success", TooBig: "2big", Access: "acces", Again: "again", BadFile: "badf", Busy: "busy",
	DiskQuota: "dquot", Exists: "exist", Fault: "fault", FileTooBig: "fbig", IllegalByte: "ilseq",
	Interrupted: "intr", Invalid: "inval", IO: "io", IsDir: "isdir", Loop: "loop", ManyFiles: "mfile",
	ManyLinks: "mlink", NameTooLong: "nametoolong", AllFiles: "nfile", NoDevice: "nodev", NotFound: "noent",
	NoMemory: "nomem", NoSpace: "nospc", NoCall: "nosys", NotDir: "notdir", NotEmpty: "notempty",
	NotSocket: "notsock", NotSupp: "notsup", NoAddress: "nxio", Overflow: "overflow", Permission: "perm",
	BrokenPipe: "pipe", Range: "range", ReadOnly: "rofs", NoSeek: "spipe", Stale: "stale", TextBusy: "txtbsy",
	OtherDevice: "xdev", NotCapable: "notcapable",
}

// Error is the name that the specification gives.
func (e Errno) Error() string {
	if name, ok := errnoNames[e]; ok {
		return name
	}
	return "errno " + strconv.Itoa(int(e))
}

// errnoOf says in WASI's numbers what went wrong on the host.
func errnoOf(err error) Errno {
	var e Errno
	switch {
	case err == nil:
		return Success
	case errors.As(err, &e):
		return e
	}
	if e, ok := hostErrno(err); ok {
		return e
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return NotFound
	case errors.Is(err, fs.ErrExist):
		return Exists
	case errors.Is(err, fs.ErrPermission):
		return Access
	case errors.Is(err, fs.ErrInvalid):
		return Invalid
	case errors.Is(err, os.ErrClosed):
		return BadFile
	}
	return IO
}
