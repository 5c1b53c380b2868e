package quarantine

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/canonical"
)

// Tree is a directory whose writes an overlay took (Documentation/filesystems/
// overlayfs.rst): descriptors of the upper layer, to which nobody writes any
// more, and of the directory that lies below it.
type Tree struct {
	Path         string
	Upper, Lower int
}

// Now is the clock that inodes are stamped with. Before Linux 6.13 a stamp may
// be behind it by a tick of the kernel, at most 10 ms: what the host changes in
// the moment in which a run begins counts as changed before.
func Now() unix.Timespec {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &t) // cannot fail for this clock
	return t
}

// hashedBefore bounds what is read of the host's own files, whose digests are
// for people: whether the host changed a file is told by its inode.
const hashedBefore = 1 << 30

// Limits are what is left for one tree.
type Limits struct {
	Room int64 // bytes of all files: a layer holds no more, so what is over it are holes
	Show int64 // bytes of the lines that stand in the summary
}

// Collect writes down, durably, how a tree differs from the host's, as tree
// number n of the quarantine at dir. What the host changed after began is marked.
// It opens no special file and follows no link.
func Collect(dir, attempt string, n int, t Tree, limits Limits, began unix.Timespec) (Summary, error) {
	c := &collector{room: limits.Room, left: limits.Room, show: limits.Show, hashLeft: hashedBefore, began: began, links: map[uint64]State{}, root: len(t.Path), digest: sha256.New()}
	manifest, err := os.OpenFile(filepath.Join(dir, manifestName(n)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Summary{}, err
	}
	defer manifest.Close()
	if c.data, err = os.OpenFile(filepath.Join(dir, dataName(n)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return Summary{}, err
	}
	defer c.data.Close()
	c.out = bufio.NewWriterSize(io.MultiWriter(manifest, c.digest), 256<<10)
	if err := c.tree(t, attempt); err != nil {
		return Summary{}, err
	}
	if err := errors.Join(c.out.Flush(), c.data.Sync(), manifest.Sync(), sync(dir)); err != nil {
		return Summary{}, err
	}
	c.sum.Manifest = hex.EncodeToString(c.digest.Sum(nil))
	return c.sum, nil
}

type collector struct {
	out      *bufio.Writer
	digest   hash.Hash
	data     *os.File
	sum      Summary
	room     int64
	left     int64
	hashLeft int64
	show     int64
	root     int // bytes of the tree's path
	began    unix.Timespec
	links    map[uint64]State // files with several names, by inode
}

func (c *collector) line(v any) (size int64, err error) {
	err = canonical.Lend(v, func(b []byte) error {
		if size = int64(len(b)); size > MaxLine {
			return fmt.Errorf("bug: a line of the manifest has %d bytes", len(b))
		}
		_, err := c.out.Write(b)
		if err == nil {
			err = c.out.WriteByte('\n')
		}
		return err
	})
	return size, err
}

// errFull ends a walk whose bound was reached and recorded.
var errFull = errors.New("too many changes")

func (c *collector) emit(e Entry) error {
	switch n := c.sum.Count(); {
	case n > MaxEntries:
		return errFull
	case n == MaxEntries:
		e = Entry{Path: e.Path, Act: Refused, Why: fmt.Sprintf("it, and what comes after it: more than %d changes", MaxEntries)}
	}
	c.sum.count(&e)
	size, err := c.line(e)
	if int64(len(c.sum.First)) == c.sum.Count()-1 && c.sum.Shown+size <= c.show {
		c.sum.First, c.sum.Shown = append(c.sum.First, e), c.sum.Shown+size
	}
	return err
}

func (c *collector) tree(t Tree, attempt string) error {
	var upper, lower unix.Stat_t
	if err := errors.Join(unix.Fstat(t.Upper, &upper), unix.Fstat(t.Lower, &lower)); err != nil {
		return err
	}
	if _, err := c.line(Header{Version, attempt, t.Path, strconv.FormatUint(lower.Ino, 10)}); err != nil {
		return err
	}
	if upper.Mode&0o7777 != lower.Mode&0o7777 {
		e := Entry{Path: ".", Act: Changed, After: after(&upper), Before: c.before(&lower)}
		e.Late = c.late(&lower)
		if err := c.emit(e); err != nil {
			return err
		}
	}
	if err := c.merged(t.Upper, t.Lower, false, "", 1, &upper); err != nil && err != errFull {
		return err
	}
	return nil
}

// merged goes through one directory of the upper layer. lower is the directory
// below it, -1 for none. If it is covered, what it has and the upper one has
// not is gone.
func (c *collector) merged(upper, lower int, covered bool, rel string, depth int, st *unix.Stat_t) error {
	if st.Mode&0o700 != 0o700 {
		// The workload may have closed it. It is ours, and nobody needs its mode
		// any more.
		if err := unix.Chmod("/proc/self/fd/"+strconv.Itoa(upper), 0o700); err != nil { // fchmod(2) takes no O_PATH
			return err
		}
	}
	names, err := list(upper)
	if err != nil {
		return err
	}
	var below []string
	if covered {
		if below, err = list(lower); err != nil {
			return c.unseen(rel, "what it replaces cannot be listed: "+err.Error())
		}
	}
	gone := map[string]bool{}
	for _, name := range below {
		if _, found := slices.BinarySearchFunc(names, name, byEscape); !found {
			gone[name] = true
			names = append(names, name)
		}
	}
	if len(gone) > 0 {
		slices.SortFunc(names, byEscape)
	}
	for _, name := range names {
		var low *unix.Stat_t
		if lower >= 0 {
			var s unix.Stat_t
			switch err := unix.Fstatat(lower, name, &s, unix.AT_SYMLINK_NOFOLLOW); err {
			case nil:
				low = &s
			case unix.ENOENT, unix.ENAMETOOLONG: // not every file system has names of 255 bytes
			default:
				return fmt.Errorf("%s on the host: %w", path.Join(rel, name), err)
			}
		}
		if gone[name] {
			err = c.gone(lower, name, low, path.Join(rel, name), depth)
		} else {
			err = c.name(upper, lower, name, low, covered, path.Join(rel, name), depth)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unseen records that the contents of a directory are not known; "?" stands for
// their names.
func (c *collector) unseen(rel, why string) error {
	return c.emit(Entry{Path: Escape(path.Join(rel, "?")), Act: Refused, Why: why})
}

// list reads the names of a directory, in the order of a manifest.
func list(dir int) ([]string, error) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "directory")
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(names, byEscape)
	return names, nil
}

// name records one name of the upper layer. low is what the host has there.
func (c *collector) name(upper, lower int, name string, low *unix.Stat_t, covered bool, rel string, depth int) error {
	var up unix.Stat_t
	if err := unix.Fstatat(upper, name, &up, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	e := Entry{Path: Escape(rel)}
	refuse := func(why string) error {
		e.Act, e.Why, e.After, e.Before, e.Late = Refused, why, nil, nil, false
		return c.emit(e)
	}
	kind := up.Mode & unix.S_IFMT
	switch {
	case kind == unix.S_IFCHR && up.Rdev == 0: // a whiteout
		if low == nil {
			return nil // made and removed again, or the host removed it, too
		}
		return c.gone(lower, name, low, rel, depth)
	case c.root+1+len(rel) > MaxPath:
		return refuse("its path is too long")
	case kind == unix.S_IFDIR:
		return c.dir(upper, lower, name, &up, low, covered, rel, depth)
	case kind == unix.S_IFLNK:
		target, err := readlink(upper, name)
		if err != nil {
			return err
		}
		e.After = after(&up)
		e.After.Target = Escape(target)
	case kind == unix.S_IFREG:
		s, why, err := c.keep(upper, name, &up)
		if err != nil || why != "" {
			if err != nil {
				return err
			}
			return refuse(why)
		}
		e.After = s
	default:
		return refuse("a " + special(kind))
	}
	if e.Act = Created; low != nil {
		e.Act, e.Late, e.Before = Changed, c.late(low), c.beforeOf(lower, name, low)
		if same(e.Before, e.After) {
			return nil // it was opened for writing, no more
		}
	}
	if err := c.emit(e); err != nil || low == nil || low.Mode&unix.S_IFMT != unix.S_IFDIR {
		return err
	}
	return c.inside(lower, name, rel, depth)
}

func special(kind uint32) string {
	switch kind {
	case unix.S_IFIFO:
		return "FIFO"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "device"
}

// same says whether nothing changed that a commit would bring.
func same(a, b *State) bool {
	return a.Type == b.Type && a.Mode == b.Mode && a.Size == b.Size && a.Target == b.Target && a.SHA256 == b.SHA256
}

// opaque says whether a directory hides all that lies below it.
func opaque(fd int) bool {
	var b [2]byte
	n, err := unix.Fgetxattr(fd, "user.overlay.opaque", b[:])
	return err == nil && n == 1 && b[0] == 'y'
}

func (c *collector) dir(upper, lower int, name string, up, low *unix.Stat_t, covered bool, rel string, depth int) error {
	e := Entry{Path: Escape(rel), Act: Created, After: after(up)}
	if low != nil {
		e.Act, e.Late, e.Before = Changed, c.late(low), c.beforeOf(lower, name, low)
	}
	if depth >= MaxDepth {
		e = Entry{Path: e.Path, Act: Refused, Why: fmt.Sprintf("more than %d directories inside one another", MaxDepth)}
		return c.emit(e)
	}
	// A directory that is merged is no change of its own, whatever its times are.
	if low == nil || !same(e.Before, e.After) {
		if err := c.emit(e); err != nil {
			return err
		}
	}
	fd, err := c.open(upper, name, up, unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	below := -1
	if low != nil && low.Mode&unix.S_IFMT == unix.S_IFDIR {
		if below, err = beneath(lower, name, unix.O_PATH|unix.O_DIRECTORY); err != nil {
			return c.unseen(rel, "the host's cannot be opened: "+err.Error())
		}
		defer unix.Close(below)
	}
	return c.merged(fd, below, below >= 0 && (covered || opaque(fd)), rel, depth+1, up)
}

// open opens a file or directory of the upper layer, whatever its mode is.
func (c *collector) open(dir int, name string, st *unix.Stat_t, flags int) (int, error) {
	flags |= unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, name, flags, 0)
	if err == unix.EACCES {
		if err = unix.Fchmodat(dir, name, st.Mode&0o777|0o700, 0); err == nil {
			fd, err = unix.Openat(dir, name, flags, 0)
		}
	}
	return fd, err
}

// keep copies a file to the data, once for all its names.
func (c *collector) keep(dir int, name string, st *unix.Stat_t) (s *State, why string, err error) {
	if known, ok := c.links[st.Ino]; ok && st.Nlink > 1 {
		return &known, "", nil
	}
	if st.Size > c.left {
		return nil, fmt.Sprintf("it has %d bytes, mostly holes: all files together may have the %d of the storage budget", st.Size, c.room), nil
	}
	fd, err := c.open(dir, name, st, 0)
	if err != nil {
		return nil, "", err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(c.data, h), io.LimitReader(f, st.Size))
	if err == nil && n != st.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", name, err)
	}
	s = after(st)
	s.Size, s.SHA256, s.Offset = n, hex.EncodeToString(h.Sum(nil)), c.sum.Bytes
	c.left -= n
	c.sum.Bytes += n
	if st.Nlink > 1 {
		c.links[st.Ino] = *s
	}
	return s, "", nil
}

// gone records the removal of something the host has, with all that is in it: a
// commit removes what is recorded and no more.
func (c *collector) gone(dir int, name string, st *unix.Stat_t, rel string, depth int) error {
	e := Entry{Path: Escape(rel), Act: Deleted, Late: c.late(st), Before: c.beforeOf(dir, name, st)}
	if err := c.emit(e); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return err
	}
	return c.inside(dir, name, rel, depth)
}

// inside records that all is gone that a directory of the host's holds.
func (c *collector) inside(dir int, name, rel string, depth int) error {
	if depth >= MaxDepth {
		return c.unseen(rel, "what is in it is not listed: more than "+strconv.Itoa(MaxDepth)+" directories inside one another")
	}
	fd, err := beneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return c.unseen(rel, "what is in it cannot be listed: "+err.Error())
	}
	defer unix.Close(fd)
	names, err := list(fd)
	if err != nil {
		return c.unseen(rel, "what is in it cannot be listed: "+err.Error())
	}
	for _, n := range names {
		var s unix.Stat_t
		switch err := unix.Fstatat(fd, n, &s, unix.AT_SYMLINK_NOFOLLOW); {
		case err == unix.ENOENT:
			continue
		case err != nil:
			return err
		}
		if err := c.gone(fd, n, &s, path.Join(rel, n), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// beneath opens something of the host's, which others may change meanwhile.
func beneath(dir int, name string, flags uint64) (int, error) {
	if flags&unix.O_PATH == 0 {
		flags |= unix.O_NONBLOCK // it may have become a FIFO; with O_PATH openat2(2) refuses the flag
	}
	return unix.Openat2(dir, name, &unix.OpenHow{Flags: flags | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV})
}

func (c *collector) late(st *unix.Stat_t) bool {
	return st.Ctim.Sec > c.began.Sec || st.Ctim.Sec == c.began.Sec && st.Ctim.Nsec > c.began.Nsec
}

func typeOf(mode uint32) Type {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return File
	case unix.S_IFDIR:
		return Directory
	case unix.S_IFLNK:
		return Link
	}
	return Other
}

func octal(mode uint32) string { return fmt.Sprintf("%04o", mode&0o7777) }

func stamp(t unix.Timespec) string { return fmt.Sprintf("%d.%09d", t.Sec, t.Nsec) }

func after(st *unix.Stat_t) *State {
	s := &State{Type: typeOf(st.Mode), Mode: octal(st.Mode)}
	if s.Type == File {
		s.Size, s.Modified = st.Size, stamp(st.Mtim)
	}
	return s
}

func (c *collector) before(st *unix.Stat_t) *State {
	s := &State{Type: typeOf(st.Mode), Mode: octal(st.Mode), Inode: strconv.FormatUint(st.Ino, 10), Status: stamp(st.Ctim)}
	if s.Type == File {
		s.Size, s.Modified = st.Size, stamp(st.Mtim)
	}
	return s
}

// beforeOf also looks into the host's file, as far as it may be read.
func (c *collector) beforeOf(dir int, name string, st *unix.Stat_t) *State {
	s := c.before(st)
	switch s.Type {
	case Link:
		if target, err := readlink(dir, name); err == nil {
			s.Target = Escape(target)
		}
	case File:
		if st.Size <= c.hashLeft {
			c.hashLeft -= st.Size
			s.SHA256, _ = sum(dir, name, st.Size)
		}
	}
	return s
}

// sum is the digest of a regular file, if it can be read and has that size.
func sum(dir int, name string, size int64) (string, error) {
	fd, err := beneath(dir, name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() { // reading a FIFO would not end
		return "", errors.Join(err, errors.New("it is no regular file any more"))
	}
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, size+1))
	if err != nil {
		return "", err
	}
	if n != size {
		return "", errors.New("its size changes")
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func readlink(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
