package wasmfs

import (
	"path"
	"unicode/utf8"
)

// Readlink returns the target of a link. One that leads to an absolute path is
// refused: it could not be followed, and it would name a place of the host.
func (d *Dir) Readlink(p string) (string, Errno) {
	target, err := d.readlink(p)
	return target, d.answer("path_readlink", p, err)
}

func (d *Dir) readlink(p string) (string, error) {
	w, err := d.walk(p, withSlash)
	if err != nil {
		return "", err
	}
	defer w.close()
	if w.name == "" {
		return "", Invalid
	}
	st, g, err := w.parent.look(w.name)
	switch {
	case err != nil:
		return "", err
	case w.slash && st.Type == TypeFile:
		return "", NotDir
	case st.Type != TypeLink || g != nil || w.slash:
		return "", Invalid
	case !w.parent.grant.Read:
		return "", errNotReadable
	}
	target, err := w.parent.host.readlink(w.name)
	if err != nil {
		return "", errnoOf(err)
	}
	if path.IsAbs(target) {
		return "", errAbsolute
	}
	return target, nil
}

// Symlink makes a link. Its target is not looked at but for its form: an
// absolute one could never be followed, and would lead others astray who read
// the tree from outside.
func (d *Dir) Symlink(target, p string) Errno {
	return d.answer("path_symlink", p, d.symlink(target, p))
}

func (d *Dir) symlink(target, p string) error {
	switch {
	case target == "":
		return NotFound
	case len(target) >= maxPath:
		return NameTooLong
	case !utf8.ValidString(target):
		return IllegalByte
	case path.IsAbs(target):
		return errAbsolute
	}
	w, err := d.walk(p, nameOnly)
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.vacant(); err != nil {
		return err
	}
	err = w.parent.pay(func() error { return w.parent.host.symlink(target, w.name) })
	if err == nil {
		w.parent.grant.keeps(w.stat)
	}
	return err
}

// stat says what the name leads to, itself.
func (w *walked) stat() (Stat, error) { return w.parent.host.stat(w.name) }

// vacant refuses to put something that is not a directory where there is
// something already, or where a slash demands a directory.
func (w *walked) vacant() error {
	if w.name == "" {
		return Exists
	}
	_, _, err := w.parent.look(w.name)
	switch {
	case err == nil:
		return Exists
	case w.slash && err == NotFound:
		return NotFound
	}
	return w.parent.mayMove(w.name)
}

// Link makes another name, in to, for a file. Grants are like file systems: no
// link leads from one to another.
func (d *Dir) Link(p string, follow bool, to *Dir, newPath string) Errno {
	err, inNew := d.link(p, follow, to, newPath)
	if inNew {
		return to.answer("path_link", newPath, err)
	}
	return d.answer("path_link", p, err)
}

func (d *Dir) link(p string, follow bool, to *Dir, newPath string) (_ error, inNew bool) {
	from, err := d.walk(p, following(follow))
	if err != nil {
		return err, false
	}
	defer from.close()
	directory, g := from.name == "", (*grant)(nil)
	var st Stat
	if !directory {
		if st, g, err = from.parent.look(from.name); err != nil {
			return err, false
		}
		directory = st.Type == TypeDirectory
		if from.slash && !directory {
			return NotDir, false
		}
	}
	w, err := to.walk(newPath, nameOnly)
	if err != nil {
		return err, true
	}
	defer w.close()
	if err := w.vacant(); err != nil {
		return err, true
	}
	switch {
	case g != nil || from.parent.grant != w.parent.grant:
		return OtherDevice, true
	case directory:
		return Permission, false
	}
	link := func() error { return from.parent.host.link(from.name, w.parent.host, w.name) }
	return w.parent.pay(func() error { return w.parent.grant.copying(st, link, w.stat) }), true
}

// Rename moves a name to to. Grants are like file systems: nothing is moved
// from one to another.
func (d *Dir) Rename(p string, to *Dir, newPath string) Errno {
	err, inNew := d.rename(p, to, newPath)
	if inNew {
		return to.answer("path_rename", newPath, err)
	}
	return d.answer("path_rename", p, err)
}

func (d *Dir) rename(p string, to *Dir, newPath string) (_ error, inNew bool) {
	from, err := d.changing(p, (*Dir).mayMove)
	if err != nil {
		return err, false
	}
	defer from.close()
	w, err := to.changing(newPath, (*Dir).mayMove)
	if err != nil {
		return err, true
	}
	defer w.close()
	if from.name == "" || w.name == "" {
		return Busy, false
	}
	if from.parent.grant != w.parent.grant {
		return OtherDevice, true
	}
	st, err := from.parent.host.stat(from.name)
	switch isDir := st.Type == TypeDirectory; {
	case err != nil:
		return errnoOf(err), false
	case !isDir && (from.slash || w.slash):
		return NotDir, from.slash
	case isDir && from.parent.grant.NonRecursive:
		return errNotRecursive, false
	}
	rename := func() error { return from.parent.host.rename(from.name, w.parent.host, w.name) }
	return asError(w.parent.grant.copying(st, rename, w.stat)), true
}
