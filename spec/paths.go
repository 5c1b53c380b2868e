package spec

import (
	"path"
	"path/filepath"
	"strings"
)

// checkHostPath checks a path of the host as written: absolute, or relative to
// what Rebase is given.
func checkHostPath(p string) error {
	switch {
	case p == "":
		return badValue("", "path is empty")
	case strings.IndexByte(p, 0) >= 0:
		return &valueError{CodeNUL, "path contains a NUL", ""}
	case len(p) > MaxPath:
		return tooMuch("", "path has %d bytes, expected at most %d", len(p), MaxPath)
	case p[0] == '~':
		return badValue("write the path out; for a file of that name write "+quote("./"+p), `path %s: "~" is not expanded`, quote(p))
	case p[0] == '$':
		return badValue("write the path out; for a file of that name write "+quote("./"+p), "path %s: variables are not expanded", quote(p))
	}
	return nil
}

// checkInnerPath checks a path that exists only in the boundary.
func checkInnerPath(p string) error {
	if err := checkHostPath(p); err != nil {
		return err
	}
	if p[0] != '/' {
		return badValue(`start it with "/"`, "path %s is not absolute; it is a place in the boundary, not on the host", quote(p))
	}
	for step := range strings.SplitSeq(p, "/") {
		if step == ".." {
			return badValue("write "+quote(path.Clean(p)), "path %s contains \"..\"", quote(p))
		}
	}
	return nil
}

// reserved are the trees that a boundary makes itself. /dev/shm is among them:
// it is always there, and private already.
var reserved = []string{"/proc", "/dev", "/sys"}

// checkDestination checks where in the boundary something is to appear.
func checkDestination(p string) error {
	if err := checkInnerPath(p); err != nil {
		return err
	}
	clean := path.Clean(p)
	if clean == "/" {
		return &valueError{CodeReserved, "\"/\" is the boundary's own root", "choose a path below it"}
	}
	if clean == "/dev/shm" {
		return &valueError{CodeReserved, "/dev/shm is private and writable in every boundary", "leave it out"}
	}
	for _, r := range reserved {
		if within(r, clean) {
			return &valueError{CodeReserved, "the boundary makes " + r + " itself", "choose another path"}
		}
	}
	return nil
}

// within says whether p is root or lies below it, by their text. Both are clean.
func within(root, p string) bool {
	switch {
	case root == p:
		return true
	case filepath.IsAbs(root) != filepath.IsAbs(p):
		return false
	case root == ".":
		return p != ".." && !strings.HasPrefix(p, ".."+string(filepath.Separator))
	}
	root = strings.TrimSuffix(root, string(filepath.Separator)) + string(filepath.Separator)
	return strings.HasPrefix(p, root)
}
