package wasmfs

// mayChange refuses what would change the entry of a name.
func (d *Dir) mayChange(name string) error {
	switch child := d.child(name); {
	case child != nil && child.takenOut:
		return errTakenOut
	case d.grant == nil && child == nil:
		return refusal{errno: Access, reason: Outside, access: "w"}
	case child != nil && (child.grant != nil || d.grant == nil):
		return errPinned
	case !d.grant.Write:
		return errNotWritable
	}
	return nil
}

// mayRemove refuses what would take an entry away.
func (d *Dir) mayRemove(name string) error {
	if err := d.mayChange(name); err != nil {
		return err
	}
	if len(d.fs.takenOut) == 0 && len(d.grant.inner) == 0 {
		return nil
	}
	st, err := d.host.stat(name)
	switch {
	case err != nil: // the call that asked says what is wrong with it
		return nil
	case d.fs.isTakenOut(st):
		return errTakenOut
	case d.grant.innerOf(st) != nil:
		return errPinned
	}
	return nil
}

// mayMove refuses what would take an entry away or put one in its place that
// was made elsewhere. The way to a carve-out may be made and removed, but
// nothing with a past may come to stand there.
func (d *Dir) mayMove(name string) error {
	if err := d.mayRemove(name); err != nil {
		return err
	}
	if d.child(name) != nil {
		return errPinned
	}
	return nil
}

// changing walks to a name that a call is about to change, and judges it.
func (d *Dir) changing(p string, may func(*Dir, string) error) (walked, error) {
	w, err := d.walk(p, nameOnly)
	if err != nil {
		return w, err
	}
	if w.name == "" {
		return w, nil
	}
	if err := may(w.parent, w.name); err != nil {
		w.close()
		return walked{}, err
	}
	return w, nil
}

// Mkdir makes a directory.
func (d *Dir) Mkdir(p string) Errno {
	return d.answer("path_create_directory", p, d.mkdir(p))
}

func (d *Dir) mkdir(p string) error {
	w, err := d.walk(p, nameOnly)
	if err != nil {
		return err
	}
	defer w.close()
	if w.name == "" {
		return Exists
	}
	if _, _, err := w.parent.look(w.name); err == nil {
		return Exists
	}
	if err := w.parent.mayChange(w.name); err != nil {
		return err
	}
	if w.parent.grant.NonRecursive {
		return errNotRecursive
	}
	return w.parent.pay(func() error { return w.parent.host.mkdir(w.name) })
}

// pay counts a new entry while it is made.
func (d *Dir) pay(do func() error) error {
	if err := d.grant.Storage.take(EntryCost); err != nil {
		return err
	}
	if err := do(); err != nil {
		d.grant.Storage.giveBack(EntryCost)
		return asError(err)
	}
	return nil
}

// Rmdir removes an empty directory.
func (d *Dir) Rmdir(p string) Errno {
	return d.answer("path_remove_directory", p, d.remove(p, true))
}

// Unlink removes a name that is not a directory's.
func (d *Dir) Unlink(p string) Errno {
	return d.answer("path_unlink_file", p, d.remove(p, false))
}

func (d *Dir) remove(p string, dir bool) error {
	w, err := d.changing(p, (*Dir).mayRemove)
	if err != nil {
		return err
	}
	defer w.close()
	if w.name == "" {
		if dir {
			return Invalid // rmdir("."), as POSIX has it
		}
		return IsDir
	}
	st, err := w.parent.host.stat(w.name)
	switch isDir := st.Type == TypeDirectory; {
	case err != nil:
		return errnoOf(err)
	case dir && !isDir, !dir && !isDir && w.slash:
		return NotDir
	case !dir && isDir:
		return IsDir
	case isDir && w.parent.grant.NonRecursive:
		return errNotRecursive
	case isDir:
		return asError(w.parent.host.rmdir(w.name))
	}
	return asError(w.parent.host.unlink(w.name))
}
