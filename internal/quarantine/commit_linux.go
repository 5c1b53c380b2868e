package quarantine

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Check says what Commit would do, and changes nothing.
func Check(dir string, n int, digest string, o Options) (Result, error) {
	return commit(dir, n, digest, o, (*committer).check)
}

// Commit puts what was kept of a tree into place, one name after the other:
// each is as it was or as the run left it, never anything between, and what the
// host changed meanwhile stays. Doing it again, also after it was cut short at
// any place, gives the same.
//
// Every step goes through the directory's descriptor; no link is followed, and
// no other file system entered. What is in the way is exchanged with the new
// file in one step (renameat2(2)) and looked at before it is removed, so that a
// change in the last moment is seen, too.
func Commit(dir string, n int, digest string, o Options) (Result, error) {
	return commit(dir, n, digest, o, (*committer).apply)
}

type committer struct {
	Options
	m     *Manifest
	data  *os.File
	temp  string // begins the names of files that are not finished
	root  int
	res   Result
	made  []string // the directories around a name that the commit makes
	at    string   // the directory that is open, below the root
	dir   int      // its descriptor, -1 for none
	dirty bool     // it may have changed since it was flushed
	all   bool     // a directory cannot be opened for that: its file system is flushed
	lost  error    // the first flush that failed
}

func commit(dir string, n int, digest string, o Options, do func(*committer) error) (Result, error) {
	m, err := Open(dir, n, digest)
	if err != nil {
		return Result{}, err
	}
	defer m.Close()
	c := &committer{Options: o, m: m, dir: -1,
		temp: fmt.Sprintf(".bvisor-%.12s-%d-", m.Header.Attempt, n)}
	if c.data, err = Data(dir, n); err != nil {
		return Result{}, err
	}
	defer c.data.Close()
	c.root, err = unix.Openat2(unix.AT_FDCWD, m.Header.Path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", m.Header.Path, err)
	}
	defer unix.Close(c.root)
	var st unix.Stat_t
	if err := unix.Fstat(c.root, &st); err != nil {
		return Result{}, err
	}
	if found := strconv.FormatUint(st.Ino, 10); found != m.Header.Inode && !o.Force {
		return Result{}, fmt.Errorf("%s is another directory than the run saw (inode %s, expected %s)", m.Header.Path, found, m.Header.Inode)
	}
	err = do(c)
	c.leave()
	if c.all && c.lost == nil {
		c.lost = Flush([]string{m.Header.Path})
	}
	return c.res, errors.Join(err, c.lost)
}

// each goes through what is chosen.
func (c *committer) each(use func(at int64, e *Entry, rel string) error) error {
	return c.m.Each(func(at int64, e *Entry) error {
		rel, err := Unescape(e.Path)
		if err != nil {
			return err
		}
		if !c.Covers(rel, e) {
			return nil
		}
		return use(at, e, rel)
	})
}

func (c *committer) check() error {
	inside := map[string]int{} // directories to be removed, and how many names are in them that stay
	if err := c.each(func(_ int64, e *Entry, rel string) error { return c.look(e, rel, inside) }); err != nil {
		return err
	}
	for rel, names := range inside {
		if names > 0 {
			c.res.Conflicts++
			c.res.problem(&Entry{Path: Escape(rel)}, "something is in it that the run did not see")
		}
	}
	return nil
}

// look is check for one entry.
func (c *committer) look(e *Entry, rel string, inside map[string]int) error {
	if e.Act == Refused {
		c.res.Refused++
		return nil
	}
	for len(c.made) > 0 && !strings.HasPrefix(rel, c.made[len(c.made)-1]+"/") {
		c.made = c.made[:len(c.made)-1] // the walk has left it
	}
	comes := slices.Contains(c.made, path.Dir(rel))
	if e.After != nil && e.After.Type == Directory {
		c.made = append(c.made, rel)
	}
	dir, err := c.enter(path.Dir(rel))
	if err != nil && comes {
		c.res.Done++ // it comes with its directory
		return nil
	}
	if err == unix.ENOENT && e.After == nil {
		c.res.Already++
		return nil
	}
	if err != nil {
		return c.conflict(e, "the directory that holds it: "+err.Error())
	}
	base := path.Base(rel)
	st, err := stat(dir, base)
	if err != nil {
		return c.fail(e, err)
	}
	if _, ok := inside[path.Dir(rel)]; ok && st != nil && e.Act == Deleted {
		inside[path.Dir(rel)]--
	}
	why := ""
	switch {
	case c.isAfter(dir, base, st, e):
		c.res.Already++
		return nil
	case !c.Force:
		why = c.unready(dir, base, st, e)
	}
	if why != "" {
		return c.conflict(e, why)
	}
	if st != nil && typeOf(st.Mode) == Directory && (e.After == nil || e.After.Type != Directory) {
		inside[rel] = count(dir, base)
	}
	c.res.Done++
	return nil
}

// count is how many names a directory has; -1 is not known.
func count(dir int, base string) int {
	fd, err := beneath(dir, base, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return -1
	}
	defer unix.Close(fd)
	names, err := list(fd)
	if err != nil {
		return -1
	}
	return len(names)
}

func (c *committer) conflict(e *Entry, why string) error {
	c.res.Conflicts++
	c.res.problem(e, why)
	return nil
}

func (c *committer) fail(e *Entry, err error) error {
	if errors.Is(err, ErrAltered) {
		return err
	}
	c.res.Failed++
	c.res.problem(e, err.Error())
	return nil
}

// apply removes first, what is deepest before what holds it, then makes, then
// closes what is to be closed.
func (c *committer) apply() error {
	var removed, modes []int64
	if err := c.each(func(at int64, e *Entry, _ string) error {
		switch {
		case e.Act == Deleted:
			removed = append(removed, at)
		case e.Act == Refused:
			c.res.Refused++
		}
		return nil
	}); err != nil {
		return err
	}
	if err := c.backwards(removed, c.remove); err != nil {
		return err
	}
	if err := c.each(func(at int64, e *Entry, rel string) error {
		if e.After == nil || e.Act == Refused {
			return nil
		}
		done := c.res.Conflicts + c.res.Failed
		if err := c.put(e, rel); err != nil {
			return err
		}
		if e.After.Type == Directory && done == c.res.Conflicts+c.res.Failed {
			modes = append(modes, at)
		}
		return nil
	}); err != nil {
		return err
	}
	return c.backwards(modes, c.close)
}

func (c *committer) backwards(list []int64, use func(e *Entry, rel string) error) error {
	for i := len(list) - 1; i >= 0; i-- {
		e, err := c.m.At(list[i])
		if err != nil {
			return err
		}
		rel, err := Unescape(e.Path)
		if err != nil {
			return err
		}
		if err := use(e, rel); err != nil {
			return err
		}
	}
	return nil
}

// enter opens a directory of the tree and leaves the one before.
func (c *committer) enter(rel string) (int, error) {
	if c.dir >= 0 && c.at == rel {
		return c.dir, nil
	}
	c.leave()
	fd, err := unix.Openat2(c.root, rel, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV})
	if err != nil {
		return -1, err
	}
	c.at, c.dir = rel, fd
	return fd, nil
}

// leave closes the open directory, and flushes the names in it, if that is
// wanted. What cannot be flushed is no other name's fault, and told at the end.
func (c *committer) leave() {
	if c.dir < 0 {
		return
	}
	if c.dirty && c.Durable {
		c.flush(c.openNames(c.dir), c.at)
	}
	unix.Close(c.dir)
	c.dir, c.dirty = -1, false
}

// openNames opens a directory for flush, which a descriptor with O_PATH does not
// do; -1 is that nobody may read it.
func (c *committer) openNames(dir int) int {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		c.all = true
		return -1
	}
	return fd
}

func (c *committer) flush(fd int, rel string) {
	if fd < 0 {
		return
	}
	if err := unix.Fsync(fd); err != nil && c.lost == nil {
		c.lost = fmt.Errorf("flush the directory %q: %w", rel, err)
	}
	unix.Close(fd)
}

// stat describes a name itself; nil is that there is none.
func stat(dir int, base string) (*unix.Stat_t, error) {
	var st unix.Stat_t
	switch err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err {
	case nil:
		return &st, nil
	case unix.ENOENT:
		return nil, nil
	default:
		return nil, err
	}
}

// permissions are what a commit sets: a file that would lend its owner's rights
// is never made. A directory keeps what it inherits.
func permissions(s *State) uint32 {
	n, _ := strconv.ParseUint(s.Mode, 8, 12) // written by octal; otherwise nothing is permitted
	return uint32(n) & 0o777
}

// isAfter says whether a name is as the run left it.
func (c *committer) isAfter(dir int, base string, st *unix.Stat_t, e *Entry) bool {
	want := e.After
	if want == nil || st == nil {
		return want == nil && st == nil
	}
	if typeOf(st.Mode) != want.Type {
		return false
	}
	switch want.Type {
	case Directory:
		return st.Mode&0o777 == permissions(want)
	case Link:
		target, err := readlink(dir, base)
		return err == nil && Escape(target) == want.Target
	}
	if st.Size != want.Size || st.Mode&0o777 != permissions(want) {
		return false
	}
	found, err := sum(dir, base, st.Size)
	return err == nil && found == want.SHA256
}

// unready says why a name is not as the run found it; "" is that it is.
func (c *committer) unready(dir int, base string, st *unix.Stat_t, e *Entry) string {
	was := e.Before
	switch {
	case was == nil && st == nil:
		return ""
	case st != nil && e.After != nil && e.After.Type == Directory && typeOf(st.Mode) == Directory && (was == nil || was.Type != Directory):
		return "" // both made a directory, or it was made before this was cut short
	case was == nil:
		return "the host has something there now"
	case st == nil:
		return "the host has removed it"
	case typeOf(st.Mode) != was.Type:
		return "the host has something else there now"
	case was.Type == Directory:
		if e.After != nil && e.After.Type == Directory && octal(st.Mode) != was.Mode {
			return "the host has changed its mode"
		}
		return ""
	case e.Late:
		return "the host changed it while the run was on"
	case strconv.FormatUint(st.Ino, 10) == was.Inode && stamp(st.Ctim) == was.Status:
		return ""
	case !unchanged(dir, base, st, was, true):
		return "the host has changed it"
	}
	return ""
}

// unchanged compares what no rename changes: the inode and when it was written,
// or else the contents. Who asks for a look is not content with times, which
// anybody can set back.
func unchanged(dir int, base string, st *unix.Stat_t, was *State, look bool) bool {
	if typeOf(st.Mode) != was.Type {
		return false
	}
	if was.Type == Link {
		target, err := readlink(dir, base)
		return err == nil && Escape(target) == was.Target
	}
	if octal(st.Mode) != was.Mode || was.Type == File && st.Size != was.Size {
		return false
	}
	same := strconv.FormatUint(st.Ino, 10) == was.Inode && (was.Type != File || stamp(st.Mtim) == was.Modified)
	if was.SHA256 == "" || same && !look {
		return same
	}
	found, err := sum(dir, base, st.Size)
	return err == nil && found == was.SHA256
}

// tempName is where an entry's new file, or its old one, stands for a moment:
// the same name whenever the entry is committed.
func (c *committer) tempName(e *Entry) string {
	h := sha256.Sum256([]byte(e.Path))
	return c.temp + hex.EncodeToString(h[:8])
}

func discard(dir int, name string, st *unix.Stat_t) error {
	if typeOf(st.Mode) == Directory {
		return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	}
	return unix.Unlinkat(dir, name, 0)
}

// errChanged is a change of the host's that was seen in the last moment.
var errChanged = errors.New("the host changes it just now")

func (c *committer) put(e *Entry, rel string) error {
	if rel == "." {
		return c.put0(e)
	}
	dir, err := c.enter(path.Dir(rel))
	if err != nil {
		return c.conflict(e, "the directory that holds it: "+err.Error())
	}
	base, temp := path.Base(rel), c.tempName(e)
	if err := c.tidy(dir, base, temp, e); err != nil {
		return c.ended(e, err)
	}
	st, err := stat(dir, base)
	if err != nil {
		return c.fail(e, err)
	}
	c.dirty = true // what is so already may be so since this was cut short, not flushed
	if c.isAfter(dir, base, st, e) {
		c.res.Already++
		return nil
	}
	if why := c.unready(dir, base, st, e); why != "" && !c.Force {
		return c.conflict(e, why)
	}
	if st != nil && e.After.Type == Directory && typeOf(st.Mode) == Directory {
		c.res.Done++ // its mode comes last
		return nil
	}
	if err := c.make(dir, temp, e.After); err != nil {
		return c.ended(e, err)
	}
	return c.ended(e, c.swap(dir, base, temp, st, e))
}

// put0 is for the tree's own directory: only its mode can have changed.
func (c *committer) put0(e *Entry) error {
	st, err := stat(c.root, ".")
	switch why := ""; {
	case err != nil:
		return c.fail(e, err)
	case c.isAfter(c.root, ".", st, e):
		c.res.Already++
	default:
		if why = c.unready(c.root, ".", st, e); why != "" && !c.Force {
			return c.conflict(e, why)
		}
		c.res.Done++
	}
	return nil
}

// ended notes how an entry ended.
func (c *committer) ended(e *Entry, err error) error {
	switch {
	case err == nil:
		c.res.Done++
		return nil
	case err == errChanged || err == unix.EEXIST || err == unix.ENOTEMPTY:
		return c.conflict(e, errChanged.Error())
	}
	return c.fail(e, err)
}

// tidy puts right what a commit that was cut short left at the temporary name:
// the new file, whole or not, or the old one, if they were exchanged already.
func (c *committer) tidy(dir int, base, temp string, e *Entry) error {
	left, err := stat(dir, temp)
	if err != nil || left == nil {
		return err
	}
	st, err := stat(dir, base)
	if err != nil {
		return err
	}
	exchanged := st != nil && e.Before != nil && typeOf(st.Mode) == e.After.Type && (e.After.Type == Directory || c.isAfter(dir, base, st, e))
	if exchanged && !c.Force && !unchanged(dir, temp, left, e.Before, false) {
		if err := unix.Renameat2(dir, temp, dir, base, unix.RENAME_EXCHANGE); err != nil {
			return err
		}
		return errors.Join(discard(dir, temp, st), errChanged)
	}
	return discard(dir, temp, left)
}

// make makes the new file under its temporary name.
func (c *committer) make(dir int, temp string, s *State) error {
	switch s.Type {
	case Directory:
		return unix.Mkdirat(dir, temp, 0o700)
	case Link:
		target, err := Unescape(s.Target)
		if err != nil {
			return err
		}
		return unix.Symlinkat(target, dir, temp)
	}
	fd, err := unix.Openat(dir, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), temp)
	err = copyOut(f, c.data, s)
	if err == nil {
		err = unix.Fchmod(fd, permissions(s))
	}
	if err == nil {
		err = touch(fd, s.Modified)
	}
	if err == nil && c.Durable {
		err = unix.Fsync(fd)
	}
	err = errors.Join(err, f.Close())
	if err != nil {
		return errors.Join(err, unix.Unlinkat(dir, temp, 0))
	}
	return nil
}

// touch sets when a file was written: tools that build go by it.
func touch(fd int, modified string) error {
	sec, nsec, _ := strings.Cut(modified, ".")
	s, err1 := strconv.ParseInt(sec, 10, 64)
	ns, err2 := strconv.ParseInt(nsec, 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	t := unix.NsecToTimespec(0)
	t.Sec, t.Nsec = s, ns
	return unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), []unix.Timespec{t, t}, 0)
}

// swap gives the new file its name. st is what has the name now, as it was
// looked at.
func (c *committer) swap(dir int, base, temp string, st *unix.Stat_t, e *Entry) error {
	undo := func(err error) error {
		made, e := stat(dir, temp)
		if e == nil && made != nil {
			e = discard(dir, temp, made)
		}
		if e != nil {
			return errors.Join(err, e)
		}
		return err
	}
	if st == nil {
		err := unix.Renameat2(dir, temp, dir, base, unix.RENAME_NOREPLACE)
		if err == unix.EINVAL { // the file system has no such rename (renameat2(2))
			err = unix.Renameat(dir, temp, dir, base)
		}
		if err != nil {
			return undo(err)
		}
		return nil
	}
	err := unix.Renameat2(dir, temp, dir, base, unix.RENAME_EXCHANGE)
	if err == unix.EINVAL && e.After.Type != Directory && typeOf(st.Mode) != Directory {
		if err = unix.Renameat(dir, temp, dir, base); err == nil {
			return nil
		}
	}
	if err != nil {
		return undo(err)
	}
	old, err := stat(dir, temp)
	if err == nil && old != nil {
		err = errChanged
		if c.Force || unchanged(dir, temp, old, e.Before, false) {
			err = discard(dir, temp, old)
		}
	}
	if err != nil {
		// Back as it was.
		if e := unix.Renameat2(dir, temp, dir, base, unix.RENAME_EXCHANGE); e != nil {
			return errors.Join(err, e)
		}
		return undo(err)
	}
	return nil
}

func (c *committer) remove(e *Entry, rel string) error {
	dir, err := c.enter(path.Dir(rel))
	if err == unix.ENOENT {
		c.res.Already++
		return nil
	}
	if err != nil {
		return c.conflict(e, "the directory that holds it: "+err.Error())
	}
	base, temp := path.Base(rel), c.tempName(e)
	st, err := stat(dir, base)
	if err != nil {
		return c.fail(e, err)
	}
	left, err := stat(dir, temp)
	if err != nil {
		return c.fail(e, err)
	}
	c.dirty = true
	switch {
	case left != nil: // it was cut short behind the rename below
		if err := c.vanish(dir, base, temp, left, e); err != nil || st == nil {
			return c.ended(e, err)
		}
		if !c.Force {
			return c.conflict(e, "the host has something there now")
		}
	case st == nil:
		c.res.Already++
		return nil
	}
	if why := c.unready(dir, base, st, e); why != "" && !c.Force {
		return c.conflict(e, why)
	}
	if typeOf(st.Mode) == Directory {
		return c.ended(e, unix.Unlinkat(dir, base, unix.AT_REMOVEDIR))
	}
	err = unix.Renameat2(dir, base, dir, temp, unix.RENAME_NOREPLACE)
	switch {
	case err == unix.EINVAL:
		err = unix.Unlinkat(dir, base, 0)
	case err == nil:
		if left, err = stat(dir, temp); err == nil && left != nil {
			err = c.vanish(dir, base, temp, left, e)
		}
	}
	return c.ended(e, err)
}

// vanish ends what was renamed out of the way, or gives it its name back.
func (c *committer) vanish(dir int, base, temp string, left *unix.Stat_t, e *Entry) error {
	if c.Force || unchanged(dir, temp, left, e.Before, false) {
		return discard(dir, temp, left)
	}
	if err := unix.Renameat2(dir, temp, dir, base, unix.RENAME_NOREPLACE); err != nil {
		return err
	}
	return errChanged
}

// close gives a directory its mode, once everything is in it.
func (c *committer) close(e *Entry, rel string) error {
	fd, err := unix.Openat2(c.root, rel, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV})
	if err != nil {
		return c.fail(e, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return c.fail(e, err)
	}
	if c.Durable { // with its new mode it may not be readable
		open := c.openNames(fd)
		defer func() { c.flush(open, rel) }()
	}
	if want := permissions(e.After); st.Mode&0o777 != want {
		if err := unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), st.Mode&0o7000|want); err != nil { // fchmod(2) takes no O_PATH
			return c.fail(e, err)
		}
	}
	return nil
}
