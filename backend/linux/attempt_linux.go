//go:build amd64 || arm64

package linux

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/notify"
	"github.com/bvisor/bvisor/internal/seccomp"
)

// attempt is what one argument of a call asks for.
type attempt struct {
	path     string // absolute, as the boundary sees it, not cleaned: ".." goes after links
	access   string // of "rwx"
	create   bool   // it may not be there
	makes    bool   // it must not be there
	remove   bool   // the name goes
	place    bool   // the name comes, or leads elsewhere
	noFollow bool   // a link is meant itself
	connect  bool
	abstract bool // path is the name of an abstract socket
	pid      int  // who asks
}

// errNothing is a call that names nothing: a bad pointer, which the kernel
// refuses, too; a closed descriptor; an empty path.
var errNothing = errors.New("the call names nothing")

// read takes an attempt out of a waiting call. Another thread may change it
// meanwhile: it is evidence of what was asked for at this moment.
func read(c *notify.Call, n seccomp.Named) (attempt, error) {
	a := attempt{pid: int(c.PID)}
	switch n.Want {
	case seccomp.WantLook:
		a.noFollow = n.Extra != seccomp.None && c.Args[n.Extra]&unix.AT_SYMLINK_NOFOLLOW != 0
	case seccomp.WantLink:
		a.noFollow = true
	case seccomp.WantOpen:
		a.opens(c.Args[n.Extra])
	case seccomp.WantOpenHow:
		how := make([]byte, 8)
		if err := peek(c, c.Args[n.Path+1], how); err != nil {
			return a, err
		}
		a.opens(binary.LittleEndian.Uint64(how))
	case seccomp.WantExec:
		a.access = "x"
	case seccomp.WantWrite:
		a.access = "w"
	case seccomp.WantCreate:
		a.opens(unix.O_WRONLY | unix.O_CREAT)
	case seccomp.WantMake:
		a.makes, a.noFollow = true, true
	case seccomp.WantRemove:
		a.remove = true
	case seccomp.WantPlace:
		a.place = true
	case seccomp.WantConnect, seccomp.WantBind:
		a.connect, a.makes = n.Want == seccomp.WantConnect, n.Want == seccomp.WantBind
		return a, a.address(c, c.Args[n.Path], c.Args[n.Extra])
	}
	name, err := text(c, c.Args[n.Path])
	if err != nil {
		return a, err
	}
	return a, a.at(c, n, name)
}

// opens takes the rights out of the flags of open(2).
func (a *attempt) opens(flags uint64) {
	if flags&unix.O_PATH != 0 {
		return
	}
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		a.access = "r"
	case unix.O_WRONLY:
		a.access = "w"
	case unix.O_RDWR:
		a.access = "rw"
	}
	if flags&unix.O_TRUNC != 0 && !strings.Contains(a.access, "w") {
		a.access += "w"
	}
	a.create = flags&unix.O_CREAT != 0
	a.noFollow = flags&unix.O_NOFOLLOW != 0
}

// at makes the path absolute. What /proc says of the working directory and of
// descriptors is the path inside the boundary: the supervisor's root is not
// above it, so the kernel names it from its own root (d_path in fs/d_path.c).
func (a *attempt) at(c *notify.Call, n seccomp.Named, name string) error {
	if strings.HasPrefix(name, "/") {
		a.path = name
		return nil
	}
	from := "cwd"
	if n.Dir != seccomp.None {
		if fd := int32(c.Args[n.Dir]); fd != unix.AT_FDCWD {
			from = "fd/" + strconv.Itoa(int(fd))
		}
	}
	if name == "" && from == "cwd" {
		return errNothing
	}
	base, err := os.Readlink("/proc/" + strconv.Itoa(int(c.PID)) + "/" + from)
	switch {
	case errors.Is(err, os.ErrNotExist) && from != "cwd":
		return errNothing
	case err != nil:
		return err
	case !strings.HasPrefix(base, "/"):
		return errNothing // a pipe, a socket
	}
	a.path = base
	if name != "" {
		a.path += "/" + name
	}
	return nil
}

// address takes the name out of a struct sockaddr_un.
func (a *attempt) address(c *notify.Call, addr, size uint64) error {
	b := make([]byte, min(uint32(size), unix.SizeofSockaddrUnix))
	if len(b) < 3 {
		return errNothing
	}
	if err := peek(c, addr, b); err != nil {
		return err
	}
	if binary.LittleEndian.Uint16(b) != unix.AF_UNIX {
		return errNothing
	}
	if b[2] == 0 {
		a.abstract, a.path = true, string(b[3:])
		return nil
	}
	name, _, _ := bytes.Cut(b[2:], []byte{0})
	return a.at(c, seccomp.Named{Dir: seccomp.None}, string(name))
}

// peek reads the caller's memory.
func peek(c *notify.Call, addr uint64, b []byte) error {
	n, err := unix.ProcessVMReadv(int(c.PID), []unix.Iovec{vec(b)}, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(b)}}, 0)
	switch {
	case err == unix.EFAULT || err == nil && n < len(b):
		return errNothing
	case err != nil:
		return err
	}
	return nil
}

func vec(b []byte) unix.Iovec {
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	return v
}

// text reads a string page by page: what lies behind its end need not be there.
func text(c *notify.Call, addr uint64) (string, error) {
	const page = 4096
	var s []byte
	for len(s) < unix.PathMax {
		part := make([]byte, min(page-int(addr%page), unix.PathMax-len(s)))
		if err := peek(c, addr, part); err != nil {
			return "", err
		}
		if i := bytes.IndexByte(part, 0); i >= 0 {
			return string(append(s, part[:i]...)), nil
		}
		s, addr = append(s, part...), addr+uint64(len(part))
	}
	return "", errNothing // ENAMETOOLONG
}

// directory is the path of the directory that holds the attempt's name.
func (a attempt) directory() string {
	trimmed := strings.TrimRight(a.path, "/")
	i := strings.LastIndexByte(trimmed, '/')
	if i <= 0 {
		return "/"
	}
	return trimmed[:i]
}
