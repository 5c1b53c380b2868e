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
		file, err := w.parent.openFile(w.name, st, g, o)
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

// openFile opens a regular file, which was looked at. g is the grant that it is
// by itself, if any.
func (d *Dir) openFile(name string, st Stat, g *grant, o OpenFlags) (*File, error) {
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
		how := openHow{read: o.Read || !o.writes() && in.Read, write: o.writes() || !in.Read}
		open := func() (err error) { f.host, err = d.host.openFile(name, how); return err }
		var err error
		if how.write {
			err = in.copying(st, open, func() (Stat, error) { return f.host.stat() })
		} else {
			err = open()
		}
		if err != nil {
			return nil, asError(err)
		}
		f.owned = true
		if st, err := f.host.stat(); err == nil && (d.fs.isTakenOut(st) || in.innerOf(st) != nil) {
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
	d.grant.keeps(f.host.stat)
	return f, nil
}
