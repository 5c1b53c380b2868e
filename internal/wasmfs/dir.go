package wasmfs

import (
	"path"
	"strings"
)

// OpenFlags say how a path is opened.
type OpenFlags struct {
	Read, Write                 bool
	Create, Exclusive, Truncate bool
	Directory                   bool
	Follow                      bool // a link in the last place
}

func (o OpenFlags) writes() bool { return o.Write || o.Truncate }

// Open opens a file or a directory: one of the two results is not nil on
// success.
func (d *Dir) Open(p string, o OpenFlags) (*Dir, *File, Errno) {
	dir, file, err := d.openAt(p, o)
	return dir, file, d.answer("path_open", p, err)
}

func (d *Dir) openAt(p string, o OpenFlags) (*Dir, *File, error) {
	if o.Create && o.Directory {
		return nil, nil, Invalid
	}
	how := following(o.Follow && !(o.Create && o.Exclusive))
	if o.Create && strings.HasSuffix(p, "/") {
		how = nameOnly // refused below, as Linux does, whatever the name is
	}
	w, err := d.walk(p, how)
	if err != nil {
		return nil, nil, err
	}
	defer w.close()
	if w.name == "" {
		if err := o.onDirectory(); err != nil {
			return nil, nil, err
		}
		dir, err := w.parent.copy()
		return dir, nil, err
	}
	if o.Create && w.slash {
		return nil, nil, IsDir
	}
	for range maxLinks { // something may come and go between look and open
		st, g, err := w.parent.look(w.name)
		switch {
		case err == NotFound && o.Create:
			var file *File
			if file, err = w.parent.createFile(w, o); err == Exists && !o.Exclusive {
				continue
			}
			return nil, file, err
		case err != nil:
			return nil, nil, err
		case o.Create && o.Exclusive:
			return nil, nil, Exists
		case st.Type == TypeDirectory:
			if err := o.onDirectory(); err != nil {
				return nil, nil, err
			}
			dir, _, err := w.parent.step(w.name)
			if err == nil && dir == nil { // a link has taken its place
				err = Loop
			}
			return dir, nil, err
		case st.Type == TypeLink:
			return nil, nil, Loop
		case w.slash || o.Directory:
			return nil, nil, NotDir
		case st.Type != TypeFile:
			return nil, nil, errSpecial
		}
		file, err := w.parent.openFile(w.name, g, o)
		if err == NotFound && o.Create {
			continue
		}
		return nil, file, err
	}
	return nil, nil, NotFound
}

// openDirectory opens a directory, following links.
func (d *Dir) openDirectory(p string) (*Dir, error) {
	if p == "" {
		p = "."
	}
	dir, _, err := d.openAt(p, OpenFlags{Directory: true, Follow: true})
	return dir, err
}

// onDirectory refuses what cannot be asked of a directory.
func (o OpenFlags) onDirectory() error {
	switch {
	case o.Create && o.Exclusive:
		return Exists
	case o.Create || o.writes():
		return IsDir
	}
	return nil
}

// copy opens the directory once more.
func (d *Dir) copy() (*Dir, error) {
	c := *d
	c.list = nil
	if !d.owned {
		return &c, nil
	}
	host, err := d.host.again()
	if err != nil {
		return nil, errnoOf(err)
	}
	c.host = host
	return &c, nil
}

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

// openFile opens a regular file. g is the grant that it is by itself, if any.
func (d *Dir) openFile(name string, g *grant, o OpenFlags) (*File, error) {
	in := d.grant
	if g != nil {
		in = g
	}
	if o.Read && !in.Read {
		return nil, errNotReadable
	}
	if o.writes() && !in.Write {
		return nil, errNotWritable
	}
	f := &File{fs: d.fs, grant: in, path: path.Join(d.path, name), readable: o.Read, writable: o.Write}
	if g != nil {
		f.host = g.file
	} else {
		host, err := d.host.openFile(name, openHow{read: o.Read || !o.writes() && in.Read, write: o.writes() || !in.Read})
		if err != nil {
			return nil, asError(err)
		}
		f.host, f.owned = host, true
		if st, err := host.stat(); err == nil && (d.fs.isTakenOut(st) || in.innerOf(st) != nil) {
			f.Close()
			return nil, errTakenOut
		}
	}
	if o.Truncate {
		if err := f.host.truncate(0); err != nil {
			f.Close()
			return nil, errnoOf(err)
		}
	}
	return f, nil
}

func (d *Dir) createFile(w walked, o OpenFlags) (*File, error) {
	if err := d.mayChange(w.name); err != nil {
		return nil, err
	}
	f := &File{fs: d.fs, grant: d.grant, path: path.Join(d.path, w.name), owned: true, readable: o.Read, writable: o.Write}
	if o.Read && !d.grant.Read {
		return nil, errNotReadable
	}
	err := d.grant.Storage.take(EntryCost)
	if err != nil {
		return nil, err
	}
	f.host, err = d.host.openFile(w.name, openHow{read: o.Read, write: true, create: true})
	if err != nil {
		d.grant.Storage.giveBack(EntryCost)
		return nil, asError(err)
	}
	return f, nil
}

// asError leaves a refusal as it is and makes an Errno of another error.
func asError(err error) error {
	if err == nil {
		return nil
	}
	if r, ok := err.(refusal); ok {
		return r
	}
	return errnoOf(err)
}

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
	return asError(w.parent.host.setTimes(w.name, atim, mtim))
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
