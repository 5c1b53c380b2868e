package wasmfs

import (
	"path"
	"strings"
	"unicode/utf8"
)

// maxLinks is how many links one walk follows, Linux's own number
// (MAXSYMLINKS in include/linux/namei.h).
const maxLinks = 40

// maxPath is the longest path that is walked, PATH_MAX of Linux.
const maxPath = 4096

// maxDepth is how many directories deep one path leads, since each is held open
// until its end. Who opens one on the way gets deeper.
const maxDepth = 256

// Dir is an open directory of the view. It is its own bound: no path that is
// asked of it leads above it.
type Dir struct {
	fs    *FS
	host  hostDir // nil where the view has a directory and the host has none
	owned bool    // host is this one's to close
	at    *node   // what the policy says of places at and below; nil: nothing
	grant *grant  // nil outside the grants
	path  string  // in the view, for records
	list  *listing
}

var (
	errAbove        = refusal{errno: Permission, reason: Above}
	errAbsolute     = refusal{errno: Permission, reason: Absolute}
	errOutside      = refusal{errno: NotFound, reason: Outside}
	errTakenOut     = refusal{errno: Access, reason: TakenOut}
	errNotRecursive = refusal{errno: Access, reason: NotRecursive}
	errNotReadable  = refusal{errno: Access, reason: NotReadable, access: "r"}
	errNotWritable  = refusal{errno: ReadOnly, reason: NotWritable, access: "w"}
	errPinned       = refusal{errno: Busy, reason: Pinned, access: "w"}
)

// walked is where a path leads: to a name in a directory, or, with no name, to
// the directory itself.
type walked struct {
	parent *Dir
	name   string
	slash  bool   // the path demands a directory by a slash at its end
	way    []*Dir // from where the walk began to parent; all but the first are to be closed
}

func (w *walked) enter(d *Dir) {
	w.way = append(w.way, d)
	w.parent = d
}

// leave goes back up.
func (w *walked) leave() {
	w.parent.Close()
	w.way = w.way[:len(w.way)-1]
	w.parent = w.way[len(w.way)-1]
}

func (w *walked) close() {
	for len(w.way) > 1 {
		w.leave()
	}
}

// Close gives back the directory's descriptor.
func (d *Dir) Close() Errno {
	d.forget()
	if !d.owned {
		return Success
	}
	d.owned = false
	return errnoOf(d.host.close())
}

// guestPath is a path as it was asked of the directory, in the view's terms.
func (d *Dir) guestPath(p string) string {
	if path.IsAbs(p) {
		return path.Clean(p)
	}
	return path.Join(d.path, p)
}

// checkPath refuses what is no path in preview 1, whose strings are Unicode.
func checkPath(p string) error {
	switch {
	case p == "":
		return NotFound
	case len(p) >= maxPath:
		return NameTooLong
	case strings.IndexByte(p, 0) >= 0:
		return Invalid
	case !utf8.ValidString(p):
		return IllegalByte
	case path.IsAbs(p):
		return refusal{errno: Permission, reason: Outside}
	}
	return nil
}

// components splits a path. Empty ones stand for slashes too many.
func components(p string) []string { return strings.Split(p, "/") }

// lookup says which links in the last place are followed.
type lookup int

const (
	nameOnly    lookup = iota // none: the call is about the name
	withSlash                 // with a slash behind it, which demands a directory
	followLinks               // every one
)

// following is what lookupflags ask for.
func following(follow bool) lookup {
	if follow {
		return followLinks
	}
	return withSlash
}

// walk follows a path to the directory that holds its last name, which need not
// exist.
func (d *Dir) walk(p string, how lookup) (_ walked, err error) {
	if err := checkPath(p); err != nil {
		return walked{}, err
	}
	var w walked
	w.enter(d)
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	rest, links := components(p), 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			if len(w.way) == 1 {
				return w, errAbove
			}
			w.leave()
			continue
		}
		last, slash := endsHere(rest)
		target := ""
		if last {
			if how == followLinks || how == withSlash && slash {
				target, err = w.parent.linkAt(name)
			}
			if target == "" {
				w.name, w.slash = name, slash
				return w, err
			}
		} else {
			next, link, err := w.parent.step(name)
			if err != nil {
				return w, err
			}
			if next != nil {
				w.enter(next)
				if len(w.way) > maxDepth {
					return w, NameTooLong
				}
				continue
			}
			target = link
		}
		if links++; links > maxLinks {
			return w, Loop
		}
		if path.IsAbs(target) {
			return w, errAbsolute
		}
		if len(target) >= maxPath {
			return w, NameTooLong
		}
		rest = append(components(target), rest...)
	}
	return w, nil
}

// endsHere says whether nothing but slashes follows, and whether any does.
func endsHere(rest []string) (last, slash bool) {
	for _, name := range rest {
		if name != "" {
			return false, false
		}
	}
	return true, len(rest) > 0
}

// step enters a directory below d, or returns the target of a link.
func (d *Dir) step(name string) (next *Dir, link string, err error) {
	child := d.child(name)
	switch {
	case child != nil && child.takenOut:
		return nil, "", errTakenOut
	case child != nil && child.grant != nil && child.grant.dir == nil:
		return nil, "", NotDir
	case child != nil && child.grant != nil:
		return d.fs.enter(child.grant, child), "", nil
	case d.grant == nil && child != nil:
		return &Dir{fs: d.fs, at: child, path: path.Join(d.path, name)}, "", nil
	case d.grant == nil:
		return nil, "", errOutside
	}
	host, err := d.host.openDir(name)
	if errnoOf(err) == NotDir {
		link, err = d.host.readlink(name)
		if errnoOf(err) == Invalid { // no link, either
			err = NotDir
		} else if err == nil && link == "" {
			err = NotFound
		}
		return nil, link, err
	}
	if err != nil {
		return nil, "", err
	}
	next = &Dir{fs: d.fs, host: host, owned: true, at: child, grant: d.grant, path: path.Join(d.path, name)}
	if err := next.admit(); err != nil {
		next.Close()
		return nil, "", err
	}
	return next.through(), "", nil
}

// child is what the policy says of a name.
func (d *Dir) child(name string) *node {
	if d.at == nil {
		return nil
	}
	return d.at.children[name]
}

// admit refuses a directory below a grant that is taken out or too deep.
func (d *Dir) admit() error {
	if d.grant.NonRecursive {
		return errNotRecursive
	}
	if len(d.fs.takenOut) == 0 {
		return nil
	}
	st, err := d.host.self()
	if err == nil && d.fs.isTakenOut(st) {
		err = errTakenOut
	}
	return err
}

// through is the grant that begins in this directory, if one does under another
// name than its own: the host renamed it, or takes two names for the same.
func (d *Dir) through() *Dir {
	if len(d.grant.inner) == 0 {
		return d
	}
	st, err := d.host.self()
	if err != nil {
		return d
	}
	if g := d.grant.innerOf(st); g != nil && g.dir != nil {
		n, _ := d.fs.place(g.Path)
		d.Close()
		return d.fs.enter(g, n)
	}
	return d
}

// linkAt is the target of a link, or empty where there is none.
func (d *Dir) linkAt(name string) (string, error) {
	child := d.child(name)
	if d.grant == nil || child != nil && (child.takenOut || child.grant != nil) {
		return "", nil
	}
	st, err := d.host.stat(name)
	if err != nil || st.Type != TypeLink || d.fs.isTakenOut(st) {
		return "", nil // the call that asked says what is wrong with it
	}
	return d.host.readlink(name)
}
