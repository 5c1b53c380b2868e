package wasmfs

import (
	"slices"
	"strings"
)

// maxListed bounds what the listings of one guest hold, in bytes of names and
// entries: some hundred thousand names. A directory with more cannot be listed.
const maxListed = 32 << 20

// entryOverhead is about what an Entry takes besides its name.
const entryOverhead = 40

// listing is what a directory held when it was last read from its start.
type listing struct {
	entries []Entry
	bytes   int
}

// ReadDir returns the entries from the cookie on. Cookie 0 is the start and
// reads the directory anew; the cookie of an entry's successor is its own plus
// one. "." and ".." come first, the others in the order of their names, so that
// equal directories are listed alike wherever they are.
func (d *Dir) ReadDir(cookie uint64) ([]Entry, Errno) {
	if cookie == 0 || d.list == nil {
		if err := d.readAnew(); err != nil {
			return nil, d.answer("fd_readdir", ".", err)
		}
	}
	if cookie > uint64(len(d.list.entries)) {
		return nil, Invalid
	}
	return d.list.entries[cookie:], Success
}

// forget drops the listing.
func (d *Dir) forget() {
	if d.list != nil {
		d.fs.listed -= d.list.bytes
		d.list = nil
	}
}

func (d *Dir) readAnew() error {
	if d.grant != nil && !d.grant.Read {
		return errNotReadable
	}
	d.forget()
	st, err := d.stat()
	if err != nil {
		return err
	}
	all, err := d.entries()
	if err != nil {
		return errnoOf(err)
	}
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	all = append([]Entry{{Name: ".", Ino: st.Ino, Type: TypeDirectory}, {Name: "..", Type: TypeDirectory}}, all...)
	list := &listing{entries: all}
	for _, e := range all {
		list.bytes += entryOverhead + len(e.Name)
	}
	d.list = list
	d.fs.listed += list.bytes
	return nil
}

// entries are the names below d: the disk's, without what is taken out, and
// those of the view.
func (d *Dir) entries() ([]Entry, error) {
	var all []Entry
	if d.host != nil {
		var err error
		if all, err = d.host.list(maxListed - d.fs.listed); err != nil {
			return nil, err
		}
	}
	if d.at == nil {
		return all, nil
	}
	all = slices.DeleteFunc(all, func(e Entry) bool {
		c := d.at.children[e.Name]
		return c != nil && (c.takenOut || c.grant != nil)
	})
	for name, c := range d.at.children {
		switch {
		case c.grant != nil:
			st, err := c.grant.stat()
			if err != nil {
				return nil, err
			}
			all = append(all, Entry{Name: name, Ino: st.Ino, Type: st.Type})
		case d.grant == nil && !c.takenOut:
			all = append(all, Entry{Name: name, Ino: c.ino, Type: TypeDirectory})
		}
	}
	return all, nil
}
