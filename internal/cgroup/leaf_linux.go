package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Leaf is one group for one run. Its directory is locked as long as the process
// lives that made it; that is how Sweep tells it from one that was left.
type Leaf struct {
	Name string
	path string
	dir  int // locked
}

// isLeaf says whether a name is one that leaves have: the hex digits of an
// attempt, or of a number as random, behind a word that says what for.
func isLeaf(name string) bool {
	_, id, found := strings.Cut(name, "-")
	if !found {
		id = name
	}
	const shortest = 16
	return len(id) >= shortest && strings.Trim(id, "0123456789abcdef") == ""
}

// sweeperPatience is how long whoever took a new leaf for left may take to remove it.
const sweeperPatience = 3 * time.Second

// Leaf makes a group. Only its owner can look into it, so that nobody else can
// lock it.
func (p *Place) Leaf(name string) (*Leaf, error) {
	if !isLeaf(name) {
		return nil, fmt.Errorf("bug: %q is no name of a leaf: nobody would sweep it", name)
	}
	path := filepath.Join(p.Path, name)
	const tries = 8 // Sweep of another process may take one for left before it is locked
	for range tries {
		if err := os.Mkdir(path, 0o700); err != nil {
			return nil, err
		}
		dir, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		for end := time.Now().Add(sweeperPatience); ; time.Sleep(time.Millisecond) {
			err = unix.Flock(dir, unix.LOCK_EX|unix.LOCK_NB)
			if err != unix.EWOULDBLOCK || time.Now().After(end) {
				break
			}
		}
		if err == nil && sameDir(dir, path) {
			return &Leaf{Name: name, path: path, dir: dir}, nil
		}
		unix.Close(dir)
		if err != nil {
			return nil, &fs.PathError{Op: "flock", Path: path, Err: err}
		}
	}
	return nil, fmt.Errorf("%s: removed %d times while it was made", path, tries)
}

// isLeft locks a leaf that was opened, if nobody has who lives and it is still the
// one of that path: who then removes the path removes no other.
func isLeft(dir int, path string) bool {
	return unix.Flock(dir, unix.LOCK_EX|unix.LOCK_NB) == nil && sameDir(dir, path)
}

func sameDir(fd int, path string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(fd, &a) == nil && unix.Stat(path, &b) == nil && a.Ino == b.Ino && a.Dev == b.Dev
}

// Birthplace opens the leaf for clone3(2) with CLONE_INTO_CGROUP. It shares no
// lock with the leaf. The caller closes it.
func (l *Leaf) Birthplace() (*os.File, error) {
	fd, err := unix.Openat(l.dir, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: l.path, Err: err}
	}
	return os.NewFile(uintptr(fd), "leaf"), nil
}

// Set writes a value to one of the leaf's files and returns what the file says
// then.
func (l *Leaf) Set(file, value string) (string, error) {
	fd, err := unix.Openat(l.dir, file, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: filepath.Join(l.path, file), Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return "", &fs.PathError{Op: "write " + value + " to", Path: filepath.Join(l.path, file), Err: err}
	}
	b := make([]byte, 256)
	n, err := unix.Pread(fd, b, 0)
	if err != nil {
		return "", &fs.PathError{Op: "read", Path: filepath.Join(l.path, file), Err: err}
	}
	return string(bytes.TrimSpace(b[:n])), nil
}

// Has says whether the leaf has a file: an older kernel, or one without a
// controller, has fewer.
func (l *Leaf) Has(file string) bool {
	return unix.Faccessat(l.dir, file, unix.F_OK, 0) == nil
}

// Read returns what one of the leaf's files says.
func (l *Leaf) Read(file string) (string, error) {
	fd, err := unix.Openat(l.dir, file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: filepath.Join(l.path, file), Err: err}
	}
	defer unix.Close(fd)
	return readAll(fd)
}

func readAll(fd int) (string, error) {
	b := make([]byte, 4096)
	n, err := unix.Pread(fd, b, 0)
	if err != nil {
		return "", err
	}
	return string(bytes.TrimSpace(b[:n])), nil
}

// Number reads a file that holds one number. A limit of "max" is -1.
func (l *Leaf) Number(file string) (int64, error) {
	s, err := l.Read(file)
	if err != nil {
		return 0, err
	}
	return number(s)
}

func number(s string) (int64, error) {
	if s == "max" {
		return -1, nil
	}
	return strconv.ParseInt(s, 10, 64)
}

// Counters reads a file of lines "name number".
func (l *Leaf) Counters(file string) (map[string]int64, error) {
	s, err := l.Read(file)
	if err != nil {
		return nil, err
	}
	return counters(s)
}

func counters(s string) (map[string]int64, error) {
	c := map[string]int64{}
	for line := range strings.Lines(s) {
		name, value, found := strings.Cut(strings.TrimSpace(line), " ")
		n, err := number(value)
		if !found || err != nil {
			return nil, fmt.Errorf("%q is no counter", line)
		}
		c[name] = n
	}
	return c, nil
}

// Events is a file of counters that can be waited on.
type Events struct {
	fd int
}

// Events opens a file such as memory.events, which poll(2) reports with POLLPRI
// when it changes.
func (l *Leaf) Events(file string) (*Events, error) {
	fd, err := unix.Openat(l.dir, file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(l.path, file), Err: err}
	}
	return &Events{fd}, nil
}

// FD is what to poll.
func (e *Events) FD() int { return e.fd }

// Counters reads them; what changes later is reported again.
func (e *Events) Counters() (map[string]int64, error) {
	s, err := readAll(e.fd)
	if err != nil {
		return nil, err
	}
	return counters(s)
}

// Close gives it back.
func (e *Events) Close() error { return unix.Close(e.fd) }

// Kill kills every process of the leaf, those being forked among them
// (cgroup.kill, Linux 5.14).
func (l *Leaf) Kill() error { _, err := l.writeOnly("cgroup.kill", "1"); return err }

func (l *Leaf) writeOnly(file, value string) (int, error) {
	fd, err := unix.Openat(l.dir, file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &fs.PathError{Op: "open", Path: filepath.Join(l.path, file), Err: err}
	}
	defer unix.Close(fd)
	return unix.Write(fd, []byte(value))
}

// Empty waits until no living process is in the leaf, at most that long, and
// says whether that is so.
func (l *Leaf) Empty(patience time.Duration) (bool, error) {
	e, err := l.Events("cgroup.events")
	if err != nil {
		return false, err
	}
	defer e.Close()
	for end := time.Now().Add(patience); ; {
		c, err := e.Counters()
		if err != nil || c["populated"] == 0 {
			return err == nil, err
		}
		left := time.Until(end)
		if left <= 0 {
			return false, nil
		}
		poll := []unix.PollFd{{Fd: int32(e.fd), Events: unix.POLLPRI}}
		if _, err := unix.Poll(poll, int(left.Milliseconds())+1); err != nil && err != unix.EINTR {
			return false, err
		}
	}
}

// Processes lists who is in the leaf.
func (l *Leaf) Processes() ([]int, error) {
	s, err := l.Read("cgroup.procs")
	if err != nil {
		return nil, err
	}
	var pids []int
	for f := range strings.FieldsSeq(s) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// Remove removes the leaf, which must be empty, and unlocks it. Where processes
// are that do not end the group stays.
func (l *Leaf) Remove() error {
	err := os.Remove(l.path)
	unix.Close(l.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Sweep removes the leaves of processes that are gone, with whoever is left in
// them, and returns their names. It touches none that is locked, and no group
// that is not named like one: who steps aside is in such a group, and others
// may have made some for themselves. patience is how long it waits for killed
// processes of each.
func (p *Place) Sweep(patience time.Duration) ([]string, error) {
	entries, err := os.ReadDir(p.Path)
	if err != nil {
		return nil, err
	}
	var swept []string
	var errs []error
	for _, e := range entries {
		if !e.IsDir() || !isLeaf(e.Name()) {
			continue
		}
		path := filepath.Join(p.Path, e.Name())
		dir, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			continue // another user's, or gone
		}
		if !isLeft(dir, path) {
			unix.Close(dir)
			continue
		}
		l := &Leaf{Name: e.Name(), path: path, dir: dir}
		err = l.Kill()
		if err == nil {
			_, err = l.Empty(patience)
		}
		if e := l.Remove(); err == nil {
			err = e
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		swept = append(swept, l.Name)
	}
	return swept, errors.Join(errs...)
}
