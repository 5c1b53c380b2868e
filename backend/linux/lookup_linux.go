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

// lookup resolves an absolute path once. Most paths hold no symbolic link and
// take one openat2(2); the others are walked component by component, so that
// every link is known.
func lookup(name string) (*pin, error) {
	p := &pin{path: path.Clean(name)}
	fd, err := unix.Openat2(unix.AT_FDCWD, p.path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	if err == unix.ELOOP || err == nil && !isLinkFree(fd, &p.stat) {
		if err == nil {
			unix.Close(fd)
		}
		return walk(name)
	}
	if err != nil {
		return nil, err
	}
	p.fd = fd
	return p, nil
}

// isLinkFree stats fd. RESOLVE_NO_SYMLINKS with O_PATH|O_NOFOLLOW still opens
// a final component that is itself a link.
func isLinkFree(fd int, st *unix.Stat_t) bool {
	return unix.Fstat(fd, st) == nil && st.Mode&unix.S_IFMT != unix.S_IFLNK
}

func walk(name string) (*pin, error) {
	p := &pin{path: "/"}
	cur, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	parents := []int{}
	defer func() {
		for _, fd := range parents {
			unix.Close(fd)
		}
	}()
	fail := func(err error) (*pin, error) {
		unix.Close(cur)
		return nil, err
	}
	if err := unix.Fstat(cur, &p.stat); err != nil {
		return fail(err)
	}
	rest := strings.Split(path.Clean(name), "/")
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if p.path != "/" {
				unix.Close(cur)
				cur, parents = parents[len(parents)-1], parents[:len(parents)-1]
				p.path = path.Dir(p.path)
				if err := unix.Fstat(cur, &p.stat); err != nil {
					return fail(err)
				}
			}
			continue
		}
		fd, err := unix.Openat(cur, part, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return fail(err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			unix.Close(fd)
			return fail(err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			parents = append(parents, cur)
			cur, p.path, p.stat = fd, path.Join(p.path, part), st
			continue
		}
		target, err := readLink(fd)
		unix.Close(fd)
		if err != nil {
			return fail(err)
		}
		if len(p.links) == maxLinks {
			return fail(unix.ELOOP)
		}
		p.links = append(p.links, spec.Link{Path: path.Join(p.path, part), Target: target})
		if strings.HasPrefix(target, "/") {
			for _, fd := range parents {
				unix.Close(fd)
			}
			parents = parents[:0]
			unix.Close(cur)
			if cur, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
				return nil, err
			}
			p.path = "/"
			if err := unix.Fstat(cur, &p.stat); err != nil {
				return fail(err)
			}
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	p.fd = cur
	return p, nil
}

// readLink reads a link by descriptor. Links of procfs lead wherever a process
// happens to be, so none is followed.
func readLink(fd int) (string, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return "", err
	}
	if fs.Type == unix.PROC_SUPER_MAGIC {
		return "", errMagicLink
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
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
