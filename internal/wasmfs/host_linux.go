package wasmfs

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// carveOutsExist says whether a carve-out must exist: not where a name has one
// spelling.
const carveOutsExist = false

// fdDir is a directory's descriptor, opened with O_PATH.
type fdDir struct{ fd int }

func openHostDir(f *os.File) (hostDir, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var dir hostDir
	if failed := raw.Control(func(fd uintptr) { dir, err = fdDir{int(fd)}.again() }); failed != nil {
		return nil, failed
	}
	return dir, err
}

// at opens a name of the directory. The kernel is told what the walk sees to
// anyway: no link is followed and nothing leads above.
func (d fdDir) at(name string, flags uint64, mode uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC | unix.O_NOFOLLOW, Mode: mode,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(d.fd, name, &how)
		if err == unix.EINTR || err == unix.EAGAIN && flags&unix.O_PATH != 0 { // a rename elsewhere made the lookup unsure
			continue
		}
		return fd, err
	}
}

func (d fdDir) openDir(name string) (hostDir, error) {
	fd, err := d.at(name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return fdDir{fd}, nil
}

func (d fdDir) again() (hostDir, error) { return d.openDir(".") }

// openFile is asked for what has just been looked at. Something else may have
// taken its place: nothing waits for a FIFO's other end, and what was opened is
// looked at again.
func (d fdDir) openFile(name string, how openHow) (hostFile, error) {
	flags := uint64(unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY)
	switch {
	case how.read && how.write:
		flags |= unix.O_RDWR
	case how.write:
		flags |= unix.O_WRONLY
	}
	mode := uint64(0)
	if how.create {
		flags |= unix.O_CREAT | unix.O_EXCL
		mode = newFileMode
	}
	fd, err := d.at(name, flags, mode)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errSpecial
	}
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	return osFile{File: f, times: func(atim, mtim Time) error { return setFileTimes(f, atim, mtim) }}, nil
}

func (d fdDir) readlink(name string) (string, error) {
	buf := make([]byte, maxPath)
	n, err := unix.Readlinkat(d.fd, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

func (d fdDir) stat(name string) (Stat, error) {
	var st unix.Stat_t
	err := unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	return fromStat(&st), err
}

func (d fdDir) self() (Stat, error) {
	var st unix.Stat_t
	err := unix.Fstat(d.fd, &st)
	return fromStat(&st), err
}

func (d fdDir) mkdir(name string) error           { return unix.Mkdirat(d.fd, name, newDirMode) }
func (d fdDir) unlink(name string) error          { return unix.Unlinkat(d.fd, name, 0) }
func (d fdDir) rmdir(name string) error           { return unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR) }
func (d fdDir) symlink(target, name string) error { return unix.Symlinkat(target, d.fd, name) }

func (d fdDir) link(name string, to hostDir, newName string) error {
	return unix.Linkat(d.fd, name, to.(fdDir).fd, newName, 0)
}

func (d fdDir) rename(name string, to hostDir, newName string) error {
	return unix.Renameat(d.fd, name, to.(fdDir).fd, newName)
}

func (d fdDir) setTimes(name string, atim, mtim Time) error {
	return unix.UtimesNanoAt(d.fd, name, timespecs(atim, mtim), unix.AT_SYMLINK_NOFOLLOW)
}

// setOwnTimes needs Linux 5.8 for AT_EMPTY_PATH (utimensat(2)).
func (d fdDir) setOwnTimes(atim, mtim Time) error {
	return unix.UtimesNanoAt(d.fd, "", timespecs(atim, mtim), unix.AT_EMPTY_PATH)
}

// list reads the entries with getdents64(2) itself: os.File.ReadDir looks a
// name up by its path where the file system does not tell its type.
func (d fdDir) list(atMost int) ([]Entry, error) {
	fd, err := d.at(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var all []Entry
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return all, err
		}
		for rest := buf[:n]; len(rest) > 0; {
			var e Entry
			e, rest = dirent(rest)
			if e.Name == "." || e.Name == ".." {
				continue
			}
			if atMost -= entryOverhead + len(e.Name); atMost < 0 {
				return nil, NoMemory
			}
			if e.Type == TypeUnknown {
				if st, err := d.stat(e.Name); err == nil {
					e.Type = st.Type
				}
			}
			all = append(all, e)
		}
	}
}

// dirent takes one struct linux_dirent64 (getdents(2)) off the front.
func dirent(b []byte) (Entry, []byte) {
	const header = 19 // d_ino, d_off, d_reclen, d_type
	size := binary.NativeEndian.Uint16(b[16:])
	name := b[header:size]
	for i, c := range name {
		if c == 0 {
			name = name[:i]
			break
		}
	}
	return Entry{Name: string(name), Ino: binary.NativeEndian.Uint64(b), Type: fromMode(uint32(b[18]) << 12)}, b[size:]
}

func (d fdDir) sync() error {
	fd, err := d.at(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fsync(fd)
}

func (d fdDir) close() error { return unix.Close(d.fd) }

func fromStat(st *unix.Stat_t) Stat {
	return Stat{Dev: st.Dev, Ino: st.Ino, Type: fromMode(st.Mode), Nlink: uint64(st.Nlink), Size: uint64(st.Size),
		Atim: uint64(st.Atim.Nano()), Mtim: uint64(st.Mtim.Nano()), Ctim: uint64(st.Ctim.Nano())}
}

func fromMode(mode uint32) Filetype {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return TypeFile
	case unix.S_IFDIR:
		return TypeDirectory
	case unix.S_IFLNK:
		return TypeLink
	case unix.S_IFCHR:
		return TypeChar
	case unix.S_IFBLK:
		return TypeBlock
	case unix.S_IFSOCK:
		return TypeSocket
	}
	return TypeUnknown
}

func timespecs(times ...Time) []unix.Timespec {
	ts := make([]unix.Timespec, len(times))
	for i, t := range times {
		switch {
		case !t.Set:
			ts[i].Nsec = unix.UTIME_OMIT
		case t.Now:
			ts[i].Nsec = unix.UTIME_NOW
		default:
			ts[i] = unix.NsecToTimespec(int64(t.Nano))
		}
	}
	return ts
}

func setFileTimes(f *os.File, atim, mtim Time) error {
	return control(f, func(fd int) error {
		return unix.UtimesNanoAt(fd, "", timespecs(atim, mtim), unix.AT_EMPTY_PATH)
	})
}

// appendToFile writes at the file's end with RWF_APPEND (pwritev2(2), Linux
// 4.16), so that it need not be open for appending: it may stop to be.
func appendToFile(f *os.File, p []byte) (n int, err error) {
	for len(p) > n && err == nil {
		err = control(f, func(fd int) error {
			m, err := unix.Pwritev2(fd, [][]byte{p[n:]}, 0, unix.RWF_APPEND)
			n += max(m, 0)
			if err == unix.EINTR {
				err = nil
			}
			return err
		})
	}
	return n, err
}

func allocate(f *os.File, off, size int64) error {
	return control(f, func(fd int) error { return unix.Fallocate(fd, 0, off, size) })
}

func datasync(f *os.File) error { return control(f, unix.Fdatasync) }

func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if failed := raw.Control(func(fd uintptr) { err = do(int(fd)) }); failed != nil {
		return failed
	}
	return err
}
