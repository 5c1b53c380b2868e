package wasmfs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
)

// Root is one granted path. Of two that overlap the deeper one says what holds
// below it, as with mounts.
type Root struct {
	Path         string   // absolute and clean, in the guest's view
	File         *os.File // the directory, O_PATH is enough; a file must be open as it is granted. It stays the caller's
	Read, Write  bool
	NonRecursive bool    // the directory's own entries and nothing below them
	Storage      *Budget // nil counts nothing
	Held         bool    // a layer takes what is changed, and a copy of what is changed of the host's
}

// Config is all that a guest may see.
type Config struct {
	Roots     []Root
	CarveOuts []string     // absolute and clean; what is there, or comes to be there, is out of reach
	Dir       string       // the working directory; empty or outside the roots: there is none
	Denied    func(Denial) // told of every refused attempt; may be nil
}

// grant is a root that is open.
type grant struct {
	Root
	dir   hostDir  // nil for a file
	file  hostFile // nil for a directory; the root's, so it is not closed here
	id    Stat
	inner []*grant // that begin below this one, in the view and on the disk
	layer layer    // of a held one
}

// innerOf is the inner grant that a file is the beginning of.
func (g *grant) innerOf(st Stat) *grant {
	for _, in := range g.inner {
		if same(in.id, st) {
			return in
		}
	}
	return nil
}

// node is a place of the guest's view at or below which the policy says
// something. What it says nothing of has no node.
type node struct {
	ino      uint64 // of a directory that exists in the view only
	children map[string]*node
	grant    *grant
	takenOut bool
}

// FS is the view of one guest.
type FS struct {
	root     *node
	grants   []*grant
	takenOut []Stat // identities of the carve-outs that exist
	denied   func(Denial)
	dir      string
	listed   int // bytes held by listings
	nodes    uint64
}

// New opens the view. It fails, whatever is wrong, before the guest sees any of it.
func New(c Config) (*FS, error) { return newFS(c, openHostDir, carveOutsExist) }

func newFS(c Config, opener func(*os.File) (hostDir, error), mustExist bool) (*FS, error) {
	f := &FS{denied: c.Denied, dir: c.Dir}
	f.root = f.newNode()
	if err := f.build(c, opener, mustExist); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (f *FS) build(c Config, opener func(*os.File) (hostDir, error), mustExist bool) error {
	roots := slices.Clone(c.Roots)
	slices.SortFunc(roots, func(a, b Root) int { return strings.Compare(a.Path, b.Path) })
	for _, r := range roots {
		n, err := f.place(r.Path)
		if err != nil {
			return err
		}
		if n.grant != nil {
			return fmt.Errorf("%s is granted twice", r.Path)
		}
		g, err := openGrant(r, opener)
		if err != nil {
			return fmt.Errorf("grant %s: %w", r.Path, err)
		}
		f.grants = append(f.grants, g)
		if outer, st, err := f.lookUp(r.Path); err == nil && same(st, g.id) {
			outer.inner = append(outer.inner, g)
		}
		n.grant = g
	}
	for _, p := range c.CarveOuts {
		n, err := f.place(p)
		if err != nil {
			return err
		}
		if n.grant != nil || n.takenOut {
			return fmt.Errorf("carve-out %s: the path is named twice", p)
		}
		for _, g := range f.grants {
			if strings.HasPrefix(g.Path, strings.TrimSuffix(p, "/")+"/") {
				return fmt.Errorf("carve-out %s: %s is granted in it", p, g.Path)
			}
		}
		_, st, err := f.lookUp(p)
		switch {
		case err == nil:
			f.takenOut = append(f.takenOut, st)
		case errnoOf(err) != NotFound && errnoOf(err) != NotDir:
			return fmt.Errorf("carve-out %s: %w", p, err)
		case mustExist:
			return fmt.Errorf("carve-out %s: it does not exist, and names of this system can be written in more than one way", p)
		}
	}
	for _, p := range c.CarveOuts { // only now: the way to each had to be walked
		n, _ := f.place(p)
		n.takenOut = true
	}
	return nil
}

func openGrant(r Root, opener func(*os.File) (hostDir, error)) (*grant, error) {
	info, err := r.File.Stat()
	if err != nil {
		return nil, err
	}
	g := &grant{Root: r}
	switch {
	case info.IsDir():
		if g.dir, err = opener(r.File); err != nil {
			return nil, err
		}
		g.id, err = g.dir.self()
		return g, err
	case info.Mode().IsRegular():
		if r.NonRecursive {
			return nil, errors.New("a file has nothing below it")
		}
		g.file = grantedFile(r.File)
		g.id, err = g.file.stat()
		return g, err
	}
	return nil, errors.New(string(Special))
}

func (f *FS) newNode() *node {
	f.nodes++
	return &node{ino: f.nodes}
}

// place returns the node of an absolute path, made if need be.
func (f *FS) place(p string) (*node, error) {
	if !path.IsAbs(p) || path.Clean(p) != p || strings.ContainsRune(p, 0) {
		return nil, fmt.Errorf("%q is not an absolute, clean path", p)
	}
	n := f.root
	for _, name := range components(p) {
		if name == "" {
			continue
		}
		child := n.children[name]
		if child == nil {
			child = f.newNode()
			if n.children == nil {
				n.children = map[string]*node{}
			}
			n.children[name] = child
		}
		n = child
	}
	return n, nil
}

// lookUp finds what is at a path of the view, without following a link, and the
// grant that it is in.
func (f *FS) lookUp(p string) (*grant, Stat, error) {
	notGranted := errors.New("it is in no grant")
	w, err := f.rootDir().walk(strings.TrimPrefix(p, "/"), nameOnly)
	if err != nil {
		if r, ok := err.(refusal); ok && r.reason == Outside {
			err = notGranted
		}
		return nil, Stat{}, err
	}
	defer w.close()
	switch {
	case w.name == "" || w.parent.grant == nil:
		return nil, Stat{}, notGranted
	case path.Join(w.parent.path, w.name) != p:
		return nil, Stat{}, errors.New("a link is on the way to it")
	}
	st, err := w.parent.host.stat(w.name)
	return w.parent.grant, st, err
}

// Close gives back what New opened. Directories and files that are still open
// are the holder's to close first.
func (f *FS) Close() {
	for _, g := range f.grants {
		if g.dir != nil {
			g.dir.close()
		}
	}
	f.grants = nil
}

// isTakenOut says whether a file is one that a carve-out named when the view
// was opened, under whatever name it is reached now.
func (f *FS) isTakenOut(st Stat) bool {
	return slices.ContainsFunc(f.takenOut, func(out Stat) bool { return same(out, st) })
}

// Preopen is a directory that is open when the guest starts.
type Preopen struct {
	Name string
	Dir  *Dir
}

// Preopens returns the directories in the order in which the guest gets them:
// the working directory under its own path, since Go's runtime takes the first
// one for it; the root of the view; the granted directories, and those that hold
// a granted file, since wasi-libc looks for the longest name that a path begins
// with; and "." last, since of equal length, or none, it takes the last one.
func (f *FS) Preopens() (out []Preopen, err error) {
	defer func() {
		if err != nil {
			for _, p := range out {
				p.Dir.Close()
			}
		}
	}()
	cwd, errno := f.workingDir()
	if errno != Success {
		return nil, fmt.Errorf("working directory %s: %w", f.dir, errno)
	}
	if cwd != nil {
		out = append(out, Preopen{f.dir, cwd})
	}
	names := []string{"/"}
	for _, g := range f.grants {
		if g.dir != nil {
			names = append(names, g.Path)
		} else {
			names = append(names, path.Dir(g.Path))
		}
	}
	for _, name := range names {
		if slices.ContainsFunc(out, func(p Preopen) bool { return p.Name == name }) {
			continue
		}
		d, err := f.rootDir().openDirectory(strings.TrimPrefix(name, "/"))
		if err != nil {
			return out, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, Preopen{name, d})
	}
	if cwd != nil {
		again, err := cwd.copy()
		if err != nil {
			return out, fmt.Errorf("working directory %s: %w", f.dir, err)
		}
		out = append(out, Preopen{".", again})
	}
	return out, nil
}

func (f *FS) workingDir() (*Dir, Errno) {
	if f.dir == "" {
		return nil, Success
	}
	d, err := f.rootDir().openDirectory(strings.TrimPrefix(f.dir, "/"))
	if r, ok := err.(refusal); ok && r.reason == Outside {
		return nil, Success
	}
	return d, errnoOf(err)
}

// rootDir is "/" of the view.
func (f *FS) rootDir() *Dir {
	if g := f.root.grant; g != nil {
		return f.enter(g, f.root)
	}
	return &Dir{fs: f, at: f.root, path: "/"}
}

// enter is the directory in which a grant begins.
func (f *FS) enter(g *grant, at *node) *Dir {
	return &Dir{fs: f, host: g.dir, at: at, grant: g, path: g.Path}
}
