//go:build amd64 || arm64

package linux

import (
	"errors"
	"fmt"
	"path"

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
		p.fd, err = unix.Openat(p.parent, path.Base(name), unix.O_RDONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o400)
		if err != nil {
			break
		}
		if err = unix.Flock(p.fd, unix.LOCK_SH); err != nil {
			break
		}
		if p.current() {
			return p, nil
		}
		unix.Close(p.fd)
	}
	if err == nil {
		err = errors.New("it keeps being replaced")
	}
	unix.Close(p.parent)
	return nil, fmt.Errorf("placeholder %s: %w", name, err)
}

// current says whether the locked file is still the one at the path, and
// still empty.
func (p *placeholder) current() bool {
	var open, there unix.Stat_t
	return unix.Fstat(p.fd, &open) == nil && unix.Fstatat(p.parent, path.Base(p.path), &there, unix.AT_SYMLINK_NOFOLLOW) == nil &&
		open.Ino == there.Ino && open.Dev == there.Dev && open.Size == 0 && open.Mode&unix.S_IFMT == unix.S_IFREG
}

// removePlaceholders takes away what nobody else uses. What somebody wrote
// into meanwhile is not ours to remove.
func (r *run) removePlaceholders() {
	for _, p := range r.kept {
		if unix.Flock(p.fd, unix.LOCK_EX|unix.LOCK_NB) == nil && p.current() {
			_ = unix.Unlinkat(p.parent, path.Base(p.path), 0)
		}
		unix.Close(p.fd)
		unix.Close(p.parent)
	}
	r.kept = nil
}
