package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Process is an open /proc/PID directory: it keeps naming the same process
// when its number is used again.
type Process struct {
	dir int
	buf []byte // from buffers
}

// buffers are kept: in a process with a large heap garbage is collected seldom,
// and memory touched for the first time costs more than what it is read for.
var buffers = sync.Pool{New: func() any { return new([16 << 10]byte) }}

// Open opens /proc/PID.
func Open(pid int) (*Process, error) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /proc/%d: %w", pid, err)
	}
	return &Process{dir: fd, buf: buffers.Get().(*[16 << 10]byte)[:]}, nil
}

// Close closes the directory. Nothing that was read is used afterwards but what
// was copied.
func (p *Process) Close() error {
	buffers.Put((*[16 << 10]byte)(p.buf))
	p.buf = nil
	return unix.Close(p.dir)
}

// read returns a small file's bytes, good until the next read.
func (p *Process) read(name string) ([]byte, error) {
	fd, err := unix.Openat(p.dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /proc/PID/%s: %w", name, err)
	}
	defer unix.Close(fd)
	n := 0
	for n < len(p.buf) {
		m, err := unix.Read(fd, p.buf[n:])
		if err != nil {
			return nil, fmt.Errorf("read /proc/PID/%s: %w", name, err)
		}
		if m == 0 {
			return p.buf[:n], nil
		}
		n += m
	}
	return nil, fmt.Errorf("/proc/PID/%s is larger than %d bytes", name, len(p.buf))
}

// Status is what /proc/PID/status says, as far as it is needed.
type Status struct {
	PPid, UID, GID               int
	NoNewPrivs, Seccomp, Filters int
	Threads                      int
	Umask                        string
	SigIgn, SigBlk               string
	CapInh, CapPrm, CapEff       string
	CapBnd, CapAmb               string
}

// Status reads /proc/PID/status.
func (p *Process) Status() (Status, error) {
	b, err := p.read("status")
	if err != nil {
		return Status{}, err
	}
	s := Status{NoNewPrivs: -1, Seccomp: -1, Filters: -1}
	number := map[string]*int{"PPid": &s.PPid, "Uid": &s.UID, "Gid": &s.GID, "NoNewPrivs": &s.NoNewPrivs,
		"Seccomp": &s.Seccomp, "Seccomp_filters": &s.Filters, "Threads": &s.Threads}
	text := map[string]*string{"Umask": &s.Umask, "SigIgn": &s.SigIgn, "SigBlk": &s.SigBlk,
		"CapInh": &s.CapInh, "CapPrm": &s.CapPrm, "CapEff": &s.CapEff, "CapBnd": &s.CapBnd, "CapAmb": &s.CapAmb}
	for line := range bytes.Lines(b) {
		key, rest, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			continue
		}
		fields := bytes.Fields(rest)
		if len(fields) == 0 {
			continue
		}
		if n := number[string(key)]; n != nil {
			if *n, err = strconv.Atoi(string(fields[0])); err != nil {
				return Status{}, fmt.Errorf("/proc/PID/status: %s is %q, expected a number", key, fields[0])
			}
		} else if t := text[string(key)]; t != nil {
			*t = string(fields[0])
		}
	}
	return s, nil
}

// Stat is what is needed of /proc/PID/stat.
type Stat struct {
	Session  int
	Terminal uint64 // device number of the controlling terminal; 0 is none
	Flags    uint64 // the kernel's PF_* flags
}

// Stat reads fields 6, 7 and 9 of /proc/PID/stat.
func (p *Process) Stat() (Stat, error) {
	b, err := p.read("stat")
	if err != nil {
		return Stat{}, err
	}
	// The second field is the command's name in parentheses and may hold any byte.
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 7 {
		return Stat{}, fmt.Errorf("/proc/PID/stat has %d fields behind the name, expected 50", len(f))
	}
	session, err1 := strconv.Atoi(string(f[3]))
	terminal, err2 := strconv.ParseInt(string(f[4]), 10, 32)
	flags, err3 := strconv.ParseUint(string(f[6]), 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return Stat{}, fmt.Errorf("/proc/PID/stat: %w", err)
	}
	n := uint32(terminal) // printed with a sign; bits 8 to 19 are the major number (proc_pid_stat(5))
	return Stat{session, unix.Mkdev(n>>8&0xfff, n&0xff|n>>12&0xfff00), flags}, nil
}

// NamespaceNames are the entries of /proc/PID/ns that are compared.
var NamespaceNames = []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"}

// Namespaces returns the inode number of each namespace, in NamespaceNames order.
func (p *Process) Namespaces() ([]string, error) {
	ids := make([]string, len(NamespaceNames))
	for i, name := range NamespaceNames {
		n, err := unix.Readlinkat(p.dir, "ns/"+name, p.buf)
		if err != nil {
			return nil, fmt.Errorf("readlink /proc/PID/ns/%s: %w", name, err)
		}
		_, id, _ := strings.Cut(string(p.buf[:n]), ":[")
		ids[i] = strings.TrimSuffix(id, "]")
	}
	return ids, nil
}

// Descriptor is one open descriptor.
type Descriptor struct {
	FD      int
	Kind    string
	CloExec bool
}

// Descriptors lists the open descriptors in order.
func (p *Process) Descriptors() ([]Descriptor, error) {
	fd, err := unix.Openat(p.dir, "fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /proc/PID/fd: %w", err)
	}
	defer unix.Close(fd)
	var names []string
	for {
		n, err := unix.ReadDirent(fd, p.buf)
		if err != nil {
			return nil, fmt.Errorf("read /proc/PID/fd: %w", err)
		}
		if n == 0 {
			break
		}
		_, _, names = unix.ParseDirent(p.buf[:n], -1, names)
	}
	list := make([]Descriptor, 0, len(names))
	for _, name := range names {
		n, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		m, err := unix.Readlinkat(fd, name, p.buf)
		if err != nil {
			return nil, fmt.Errorf("readlink /proc/PID/fd/%d: %w", n, err)
		}
		row := Descriptor{FD: n, Kind: kind(string(p.buf[:m]))}
		info, err := p.read("fdinfo/" + name)
		if err != nil {
			return nil, err
		}
		_, rest, _ := bytes.Cut(info, []byte("flags:"))
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		flags := string(bytes.TrimSpace(line))
		v, err := strconv.ParseUint(flags, 8, 32)
		if err != nil {
			return nil, fmt.Errorf("/proc/PID/fdinfo/%d: flags are %q, expected octal", n, flags)
		}
		row.CloExec = v&unix.O_CLOEXEC != 0
		list = append(list, row)
	}
	for i := range list {
		for k := i; k > 0 && list[k-1].FD > list[k].FD; k-- {
			list[k-1], list[k] = list[k], list[k-1]
		}
	}
	return list, nil
}

func kind(link string) string {
	switch {
	case strings.HasPrefix(link, "pipe:"):
		return "pipe"
	case strings.HasPrefix(link, "socket:"):
		return "socket"
	case strings.HasPrefix(link, "/memfd:"):
		return "memfd"
	case strings.HasPrefix(link, "anon_inode:"):
		return "anonymous"
	case strings.HasPrefix(link, "/dev/pts/"):
		return "terminal"
	case strings.HasPrefix(link, "/dev/"):
		return "device"
	case strings.HasPrefix(link, "/"):
		return "file"
	}
	return "other"
}

// StatFS asks about the file system at path inside the process's root.
func (p *Process) StatFS(path string) (unix.Statfs_t, error) {
	var st unix.Statfs_t
	fd, err := p.Pin(path)
	if err != nil {
		return st, err
	}
	defer unix.Close(fd)
	return st, unix.Fstatfs(fd, &st)
}

// Pin returns a descriptor of what is at path inside the process's root. It
// gives no access, and stays when the process is gone. The caller closes it.
func (p *Process) Pin(path string) (int, error) {
	fd, err := unix.Openat(p.dir, "root"+path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s in the boundary: %w", path, err)
	}
	return fd, nil
}

// Cgroup is the process's group in the second hierarchy (cgroups(7)), as the
// reader's cgroup namespace shows it.
func (p *Process) Cgroup() (string, error) {
	b, err := p.read("cgroup")
	if err != nil {
		return "", err
	}
	for line := range bytes.Lines(b) {
		if path, ok := bytes.CutPrefix(line, []byte("0::")); ok {
			return string(bytes.TrimSuffix(path, []byte("\n"))), nil
		}
	}
	return "", errors.New("/proc/PID/cgroup names no group of the second hierarchy")
}
