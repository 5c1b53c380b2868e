package wasmfs

// look says what a name is, and the grant whose beginning it is, if it is one.
// Its errors are an Errno or a refusal.
func (d *Dir) look(name string) (Stat, *grant, error) {
	child := d.child(name)
	switch {
	case child != nil && child.takenOut:
		return Stat{}, nil, errTakenOut
	case child != nil && child.grant != nil:
		st, err := child.grant.stat()
		return st, child.grant, err
	case d.grant == nil && child != nil:
		return child.stat(), nil, nil
	case d.grant == nil:
		return Stat{}, nil, errOutside
	}
	st, err := d.host.stat(name)
	if err != nil {
		return st, nil, errnoOf(err)
	}
	if d.fs.isTakenOut(st) {
		return Stat{}, nil, errTakenOut
	}
	return st, d.grant.innerOf(st), nil
}

func (g *grant) stat() (Stat, error) {
	var st Stat
	var err error
	if g.dir != nil {
		st, err = g.dir.self()
	} else {
		st, err = g.file.stat()
	}
	if err != nil {
		return st, errnoOf(err)
	}
	return st, nil
}

// stat is what is said of a directory that exists in the view only.
func (n *node) stat() Stat { return Stat{Ino: n.ino, Type: TypeDirectory, Nlink: 1} }

// Stat says what a path leads to.
func (d *Dir) Stat(p string, follow bool) (Stat, Errno) {
	st, err := d.statAt(p, follow)
	return st, d.answer("path_filestat_get", p, err)
}

func (d *Dir) statAt(p string, follow bool) (Stat, error) {
	w, err := d.walk(p, following(follow))
	if err != nil {
		return Stat{}, err
	}
	defer w.close()
	if w.name == "" {
		return w.parent.stat()
	}
	st, _, err := w.parent.look(w.name)
	if err == nil && w.slash && st.Type != TypeDirectory {
		err = NotDir
	}
	return st, err
}

func (d *Dir) stat() (Stat, error) {
	if d.host == nil {
		return d.at.stat(), nil
	}
	st, err := d.host.self()
	return st, asError(err)
}

// Self says what the directory is.
func (d *Dir) Self() (Stat, Errno) {
	st, err := d.stat()
	return st, errnoOf(err)
}

// Sync writes the directory to the disk.
func (d *Dir) Sync() Errno {
	if d.host == nil {
		return Success
	}
	return errnoOf(d.host.sync())
}

// SetTimes sets the times of what a path leads to.
func (d *Dir) SetTimes(p string, follow bool, atim, mtim Time) Errno {
	return d.answer("path_filestat_set_times", p, d.setTimesAt(p, follow, atim, mtim))
}

func (d *Dir) setTimesAt(p string, follow bool, atim, mtim Time) error {
	w, err := d.walk(p, following(follow))
	if err != nil {
		return err
	}
	defer w.close()
	if w.name == "" {
		return w.parent.setTimes(atim, mtim)
	}
	st, g, err := w.parent.look(w.name)
	switch {
	case err != nil:
		return err
	case w.slash && st.Type != TypeDirectory:
		return NotDir
	case g != nil && g.dir != nil:
		return w.parent.fs.enter(g, nil).setTimes(atim, mtim)
	case g != nil && g.Write:
		return asError(g.file.setTimes(atim, mtim))
	case g != nil, w.parent.grant == nil, !w.parent.grant.Write:
		return errNotWritable
	case st.Type == TypeDirectory && w.parent.grant.NonRecursive:
		return errNotRecursive
	}
	set := func() error { return w.parent.host.setTimes(w.name, atim, mtim) }
	return asError(w.parent.grant.copying(st, set, w.stat))
}

func (d *Dir) setTimes(atim, mtim Time) error {
	if d.grant == nil || !d.grant.Write {
		return errNotWritable
	}
	return asError(d.host.setOwnTimes(atim, mtim))
}

// SetOwnTimes sets the times of the directory.
func (d *Dir) SetOwnTimes(atim, mtim Time) Errno {
	return d.answer("fd_filestat_set_times", ".", d.setTimes(atim, mtim))
}
