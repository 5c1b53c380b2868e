package linux

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/spec"
)

// pin is one path that was looked up: an O_PATH descriptor keeps the inode
// from being reused while its number serves as its identity.
type pin struct {
	fd    int
	path  string // canonical
	stat  unix.Stat_t
	links []spec.Link // symbolic links that were followed on the way
}

func (p *pin) kind() spec.FileKind {
	switch p.stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return spec.KindFile
	case unix.S_IFDIR:
		return spec.KindDirectory
	case unix.S_IFCHR, unix.S_IFBLK:
		return spec.KindDevice
	}
	return spec.KindOther
}

// maxLinks is the kernel's own bound, path_resolution(7).
const maxLinks = 40

var errMagicLink = errors.New("is a magic link: it names a process's view, not a place in the file system")

// lookup resolves an absolute path, cleaned by its text as every path of a spec
// is, and opens what it leads to. The open itself follows no link, so what is
// pinned is at the canonical path at that moment.
func lookup(name string) (*pin, error) {
	name = path.Clean(name)
	p := &pin{path: name}
	for range 3 {
		fd, err := unix.Openat2(unix.AT_FDCWD, p.path, &unix.OpenHow{
			Flags:   unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW,
			Resolve: unix.RESOLVE_NO_SYMLINKS,
		})
		if err == nil {
			if err = unix.Fstat(fd, &p.stat); err == nil && p.stat.Mode&unix.S_IFMT != unix.S_IFLNK {
				p.fd = fd
				return p, nil
			}
			unix.Close(fd) // with O_PATH|O_NOFOLLOW a final link opens as itself
		}
		if err != nil && err != unix.ELOOP {
			return nil, err
		}
		if err := p.follow(name); err != nil {
			return nil, err
		}
	}
	return nil, unix.ELOOP // it changes faster than it can be read
}

// follow makes p.path canonical, component by component, and notes each
// symbolic link on the way.
func (p *pin) follow(name string) error {
	p.path, p.links = "/", nil
	buf := make([]byte, unix.PathMax)
	for rest := strings.Split(name, "/"); len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		if part == "" || part == "." || part == ".." {
			// Only a directory has them, and only who may search it goes
			// through the latter two (path_resolution(7)). No directory is a
			// link (EINVAL).
			if _, err := unix.Readlink(p.path+"/"+part, buf); err != unix.EINVAL {
				return err
			}
			if part == ".." {
				p.path = path.Dir(p.path)
			}
			continue
		}
		next := path.Join(p.path, part)
		n, err := unix.Readlink(next, buf)
		if err == unix.EINVAL { // no link
			p.path = next
			continue
		}
		if err != nil {
			return err
		}
		// Links of procfs lead wherever a process happens to be.
		var fs unix.Statfs_t
		if err := unix.Statfs(p.path, &fs); err != nil {
			return err
		}
		if fs.Type == unix.PROC_SUPER_MAGIC {
			return errMagicLink
		}
		if len(p.links) == maxLinks {
			return unix.ELOOP
		}
		target := string(buf[:n])
		p.links = append(p.links, spec.Link{Path: next, Target: target})
		if strings.HasPrefix(target, "/") {
			p.path = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return nil
}

// describe turns a lookup's error into words for the one who wrote the path.
func describe(err error) (message, hint string) {
	switch {
	case errors.Is(err, unix.ENOENT):
		return "does not exist", "create it, correct the path, or mark the grant optional: true"
	case errors.Is(err, unix.ENOTDIR):
		return "a parent is not a directory", "correct the path"
	case errors.Is(err, unix.ELOOP):
		return "has too many symbolic links, or a loop of them", "name the real path"
	case errors.Is(err, unix.EACCES):
		return "cannot be reached: permission denied", "a boundary gives nothing that its user does not have"
	case errors.Is(err, unix.ENAMETOOLONG):
		return "is too long", "correct the path"
	case errors.Is(err, errMagicLink):
		return errMagicLink.Error(), "name the real path"
	}
	return fmt.Sprintf("cannot be opened: %v", err), ""
}

// within says whether p is dir or lies below it. Both are clean and absolute.
func within(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir) && p[len(dir)] == '/'
}
