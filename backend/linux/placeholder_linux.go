//go:build amd64 || arm64

package linux

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/spec"
)

// placeholder keeps the place of a carve-out that does not exist, so that it
// can be masked: an empty file, gone after the run. Runs that share
// one hold a shared lock on it; whoever can lock it alone removes it.
type placeholder struct {
	path   string
	parent int
	fd     int
	stat   unix.Stat_t // when it was locked
}

// placeholderMode tells a placeholder from any other empty file: the sticky
// bit means nothing on a file (inode(7)), so nobody sets it.
const placeholderMode = unix.S_IFREG | unix.S_ISVTX | 0o400

// isPlaceholder says whether a file is a run's placeholder: to another run the
// place is as good as empty.
func isPlaceholder(st *unix.Stat_t) bool {
	return st.Mode == placeholderMode && st.Size == 0 && st.Nlink == 1 && int(st.Uid) == unix.Geteuid()
}

// placesAny says whether the plan needs a placeholder.
func (r *run) placesAny() bool {
	return slices.ContainsFunc(r.launch.Plan.Resolved.Roots, func(r spec.Root) bool { return r.Kind == spec.KindAbsent })
}

// placeholders makes one for each absent carve-out, through the descriptor of
// its resolved parent.
func (r *run) placeholders() error {
	for _, root := range r.launch.Plan.Resolved.Roots {
		if root.Kind != spec.KindAbsent {
			continue
		}
		p, err := newPlaceholder(root.Path)
		if err != nil {
			return err
		}
		r.kept = append(r.kept, p)
	}
	return nil
}

func newPlaceholder(name string) (*placeholder, error) {
	dir, err := lookup(path.Dir(name))
	if err != nil {
		return nil, fmt.Errorf("placeholder %s: %w", name, err)
	}
	if dir.path != path.Dir(name) {
		unix.Close(dir.fd)
		return nil, fmt.Errorf("placeholder %s: its directory moved after the plan was made", name)
	}
	p := &placeholder{path: name, parent: dir.fd}
	// Another run may remove the file between our opening and our locking it.
	for range 100 {
		p.fd, err = unix.Openat(p.parent, path.Base(name), unix.O_RDONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, placeholderMode&^unix.S_IFMT)
		if err != nil {
			break
		}
		if err = unix.Flock(p.fd, unix.LOCK_SH); err == nil {
			err = unix.Fstat(p.fd, &p.stat)
		}
		if err == nil && p.current() && p.told() {
			return p, nil
		}
		unix.Close(p.fd)
		if err != nil {
			break
		}
	}
	if err == nil {
		err = errors.New("somebody else made a file there; carve that out, or remove it")
	}
	unix.Close(p.parent)
	return nil, fmt.Errorf("placeholder %s: %w", name, err)
}

// told says whether whoever made the file is past telling of it. Since Linux 6.12
// a file is found that is just being made (lookup_fast_for_open in fs/namei.c),
// before inotify(7) reports it; a guard that starts in between would take that
// for a replacement. An exclusive open waits for the directory's lock, under
// which it is reported, and finds the file there.
func (p *placeholder) told() bool {
	fd, err := unix.Openat(p.parent, path.Base(p.path), unix.O_RDONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, placeholderMode&^unix.S_IFMT)
	if err == nil {
		unix.Close(fd) // the host removed the other one meanwhile
	}
	return err == unix.EEXIST
}

// current says whether the locked file is still the one at the path, and still
// as it was when it was locked.
func (p *placeholder) current() bool {
	var open, there unix.Stat_t
	return unix.Fstat(p.fd, &open) == nil && unix.Fstatat(p.parent, path.Base(p.path), &there, unix.AT_SYMLINK_NOFOLLOW) == nil &&
		open.Ino == there.Ino && open.Dev == there.Dev && isPlaceholder(&open) && open.Ctim == p.stat.Ctim
}

// removePlaceholders takes away what nobody else uses. What somebody touched
// or wrote into meanwhile is not ours to remove.
func (r *run) removePlaceholders() {
	for _, p := range r.kept {
		r.placed = append(r.placed, p.path)
		if unix.Flock(p.fd, unix.LOCK_EX|unix.LOCK_NB) == nil && p.current() && unix.Unlinkat(p.parent, path.Base(p.path), 0) == nil {
			r.cleared = append(r.cleared, p.path)
		}
		unix.Close(p.fd)
		unix.Close(p.parent)
	}
	r.kept = nil
}
