package linux

import (
	"context"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/spec"
)

// resolution holds the descriptors behind a resolved spec. A descriptor pins
// its inode: the launcher opens the canonical path once more, inside its own
// mount namespace, and goes on only if it finds the same inode there. It cannot
// use the supervisor's descriptor for the mount itself, because open_tree(2)
// refuses a mount of another namespace.
type resolution struct {
	resolved spec.Resolved
	pins     []*pin // parallel to resolved.Roots; nil for an absent carve-out
	exe      *pin
	stdin    *os.File
	extra    []*pin
	mounts   []hostMount
}

func (r *resolution) Resolved() spec.Resolved { return r.resolved }

func (r *resolution) Close() error {
	for _, p := range slices.Concat(r.pins, r.extra, []*pin{r.exe}) {
		if p != nil {
			unix.Close(p.fd)
		}
	}
	if r.stdin != nil {
		r.stdin.Close()
	}
	*r = resolution{}
	return nil
}

// resolver gathers every problem instead of stopping at the first.
type resolver struct {
	*resolution
	spec      spec.Spec
	protected []backend.Protected
	problems  []spec.Problem
	links     []spec.Link
	spread    map[string]bool // roots that stand for an entry of "/", by path
}

func (r *resolver) problem(code, field, message, hint string) {
	r.problems = append(r.problems, spec.Problem{Code: code, Field: field, Message: message, Hint: hint})
}

// Resolve implements backend.Backend.
func (b *Backend) Resolve(_ context.Context, s spec.Spec, protected []backend.Protected) (backend.Resolution, error) {
	r := &resolver{spread: map[string]bool{}, resolution: &resolution{}, spec: s, protected: protected}
	r.resolved = spec.Resolved{Spec: s, UID: os.Geteuid(), GID: os.Getegid()}
	var err error
	if r.mounts, err = hostMounts(); err != nil {
		return nil, err
	}
	r.grants()
	r.exposes()
	r.sort()
	r.covered()
	r.carveOuts()
	r.sort()
	r.artifacts()
	r.check()
	r.workdir()
	r.stdinFile()
	r.protect()
	if len(r.problems) == 0 {
		if err := r.executable(b); err != nil {
			r.Close()
			return nil, err
		}
	}
	r.keepLinks()
	if len(r.problems) > 0 {
		r.Close()
		return nil, &spec.Error{Problems: r.problems}
	}
	return r.resolution, nil
}

func (r *resolver) add(p *pin, root spec.Root) {
	r.resolved.Roots = append(r.resolved.Roots, root)
	r.pins = append(r.pins, p)
	if p != nil {
		r.links = append(r.links, p.links...)
	}
}

// sort orders roots by destination, so that a parent is mounted before what
// lies inside it.
func (r *resolver) sort() {
	order := make([]int, len(r.pins))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := r.resolved.Roots[a], r.resolved.Roots[b]
		if c := strings.Compare(x.Dest, y.Dest); c != 0 {
			return c
		}
		return strings.Compare(x.Path, y.Path)
	})
	roots, pins := make([]spec.Root, 0, len(order)), make([]*pin, 0, len(order))
	for _, i := range order {
		roots, pins = append(roots, r.resolved.Roots[i]), append(pins, r.pins[i])
	}
	r.resolved.Roots, r.pins = roots, pins
}

func (r *resolver) grants() {
	for _, g := range r.spec.Capabilities.Filesystem {
		if g.Access == spec.AccessNone {
			continue
		}
		for _, name := range g.Paths {
			r.grant(g, name)
		}
	}
}

func (r *resolver) grant(g spec.Grant, name string) {
	p, err := lookup(name)
	if err != nil {
		if g.Optional && (err == unix.ENOENT || err == unix.ENOTDIR) {
			return
		}
		message, hint := describe(err)
		r.problem("spec.path", "capabilities.filesystem: "+name, message, hint)
		return
	}
	if p.path == "/" {
		r.everything(g, p)
		return
	}
	for i, old := range r.resolved.Roots {
		if old.Path != p.path {
			continue
		}
		// Two names for one place: the spec's grant wins over a preset's, and
		// a second one of the same kind must agree.
		unix.Close(p.fd)
		r.links = append(r.links, p.links...)
		switch {
		case r.spread[old.Path] && g.Origin != spec.FromSpec:
			r.resolved.Roots[i].Access = union(old.Access, g.Access)
		case r.spread[old.Path]:
			r.resolved.Roots[i].Access, r.resolved.Roots[i].NonRecursive = g.Access, g.NonRecursive
			delete(r.spread, old.Path)
		case old.Access == g.Access && old.NonRecursive == g.NonRecursive || g.Origin != spec.FromSpec:
		case old.Origin != spec.FromSpec:
			r.resolved.Roots[i].Access, r.resolved.Roots[i].Origin = g.Access, g.Origin
			r.resolved.Roots[i].NonRecursive = g.NonRecursive
		default:
			r.problem("spec.contradiction", "capabilities.filesystem: "+name,
				"leads to "+p.path+", which "+old.Named+" already grants with access "+string(old.Access), "grant each place once")
		}
		return
	}
	r.add(p, spec.Root{Named: name, Path: p.path, Dest: p.path, Kind: p.kind(), Access: g.Access,
		NonRecursive: g.NonRecursive, Role: spec.RoleGrant, Origin: g.Origin})
}

// everything grants "/" entry by entry: the boundary's root is always its own,
// and the host's /proc, /dev and /sys are never part of it.
func (r *resolver) everything(g spec.Grant, root *pin) {
	unix.Close(root.fd)
	if g.NonRecursive {
		r.problem("spec.path", "capabilities.filesystem: /", "cannot be granted without what lies below it", "name the files")
		return
	}
	entries, err := os.ReadDir("/")
	if err != nil {
		r.problem("spec.path", "capabilities.filesystem: /", err.Error(), "")
		return
	}
	for _, e := range entries {
		name := "/" + e.Name()
		if slices.Contains([]string{"/proc", "/dev", "/sys"}, name) {
			continue
		}
		if e.Type() == os.ModeSymlink { // what it leads to is another entry, or hidden
			if p, err := lookup(name); err == nil {
				unix.Close(p.fd)
				r.links = append(r.links, p.links...)
			}
			continue
		}
		if !slices.ContainsFunc(r.resolved.Roots, func(o spec.Root) bool { return o.Path == name }) {
			r.spread[name] = true
			sub := g
			sub.Optional = true
			r.grant(sub, name)
		}
	}
}

func union(a, b spec.Access) spec.Access {
	var u spec.Access
	for _, right := range []spec.Access{"r", "w", "x"} {
		if strings.Contains(string(a)+string(b), string(right)) {
			u += right
		}
	}
	return u
}

// covered drops what a preset grants inside a directory that is granted with
// the same rights or more: a link of /etc often leads back into /usr.
func (r *resolver) covered() {
	keep := 0
	for i, root := range r.resolved.Roots {
		outer, _ := r.parent(root.Path)
		if root.Role == spec.RoleGrant && root.Origin != spec.FromSpec && outer != nil && outer.Role == spec.RoleGrant && !outer.NonRecursive &&
			(outer.Access.Read() || !root.Access.Read()) && (outer.Access.Exec() || !root.Access.Exec()) && (outer.Access.Write() || !root.Access.Write()) {
			unix.Close(r.pins[i].fd)
			continue
		}
		r.resolved.Roots[keep], r.pins[keep] = root, r.pins[i]
		keep++
	}
	r.resolved.Roots, r.pins = r.resolved.Roots[:keep], r.pins[:keep]
}

func (r *resolver) exposes() {
	for _, e := range r.spec.Controls.Expose {
		p, err := lookup(e.Source)
		if err != nil {
			message, hint := describe(err)
			r.problem("spec.path", "controls.expose: "+e.Source, message, hint)
			continue
		}
		r.add(p, spec.Root{Named: e.Source, Path: p.path, Dest: e.Dest, Kind: p.kind(), Access: e.Access,
			Role: spec.RoleExpose, Origin: spec.FromSpec})
	}
}

// parent returns the deepest granted directory that holds dest, or nil.
func (r *resolver) parent(dest string) (*spec.Root, *pin) {
	for i := len(r.resolved.Roots) - 1; i >= 0; i-- {
		root := &r.resolved.Roots[i]
		if root.Role != spec.RoleCarveOut && root.Kind == spec.KindDirectory && within(dest, root.Dest) && dest != root.Dest {
			return root, r.pins[i]
		}
	}
	return nil, nil
}

// carveOuts finds what each carve-out takes away. One that does not exist is
// remembered by its canonical path: the launch puts a placeholder there.
func (r *resolver) carveOuts() {
	for _, g := range r.spec.Capabilities.Filesystem {
		if g.Access != spec.AccessNone {
			continue
		}
		for _, name := range g.Paths {
			p, err := lookup(name)
			if err == nil && isPlaceholder(&p.stat) {
				unix.Close(p.fd) // another run keeps the place, and gives it up when it ends
				err = unix.ENOENT
			}
			if err == unix.ENOENT || err == unix.ENOTDIR {
				r.absent(g, name)
				continue
			}
			if err != nil {
				message, hint := describe(err)
				r.problem("spec.path", "capabilities.filesystem: "+name, message, hint)
				continue
			}
			r.takeBack(name, p.path)
			if root, _ := r.parent(p.path); root == nil {
				unix.Close(p.fd) // nothing grants it: it is denied as it is
				continue
			}
			r.add(p, spec.Root{Named: name, Path: p.path, Dest: p.path, Kind: p.kind(), Access: spec.AccessNone,
				Role: spec.RoleCarveOut, Origin: g.Origin})
		}
	}
}

// takeBack drops what a preset grants at or below a carve-out, by whatever name
// it does; the spec's own grant there contradicts it.
func (r *resolver) takeBack(name, at string) {
	keep := 0
	for i, root := range r.resolved.Roots {
		if root.Role != spec.RoleCarveOut && within(root.Path, at) {
			if root.Origin != spec.FromSpec {
				unix.Close(r.pins[i].fd)
				continue
			}
			r.problem("spec.contradiction", "capabilities.filesystem: "+name, "takes away "+root.Path+", which "+root.Named+" grants", "decide for one of them")
		}
		r.resolved.Roots[keep], r.pins[keep] = root, r.pins[i]
		keep++
	}
	r.resolved.Roots, r.pins = r.resolved.Roots[:keep], r.pins[:keep]
}

// absent resolves the deepest existing parent of a carve-out and carves out
// the first missing name below it: nothing can then come to be at the path.
func (r *resolver) absent(g spec.Grant, name string) {
	missing := path.Clean(name)
	for {
		dir := path.Dir(missing)
		p, err := lookup(dir)
		if err == nil && isPlaceholder(&p.stat) {
			unix.Close(p.fd)
			err = unix.ENOENT
		}
		if err == unix.ENOENT || err == unix.ENOTDIR {
			missing = dir
			continue
		}
		if err == nil && p.kind() != spec.KindDirectory {
			unix.Close(p.fd)
			err = unix.ENOTDIR
		}
		if err != nil {
			message, hint := describe(err)
			r.problem("spec.path", "capabilities.filesystem: "+name, message, hint)
			return
		}
		full := path.Join(p.path, path.Base(missing))
		r.extra = append(r.extra, p)
		if root, _ := r.parent(full); root == nil {
			r.problem("spec.carve-out", "capabilities.filesystem: "+name, "is not inside a granted directory", "drop it: what is not granted is denied")
			return
		}
		if unix.Faccessat(unix.AT_FDCWD, p.path, unix.W_OK, unix.AT_EACCESS) != nil {
			r.problem("spec.carve-out", "capabilities.filesystem: "+name,
				"does not exist, and "+p.path+" cannot be written to keep its place", "create it, or drop the carve-out")
			return
		}
		if !slices.ContainsFunc(r.resolved.Roots, func(o spec.Root) bool { return o.Path == full && o.Role == spec.RoleCarveOut }) {
			r.add(nil, spec.Root{Named: name, Path: full, Dest: full, Kind: spec.KindAbsent, Access: spec.AccessNone,
				Role: spec.RoleCarveOut, Origin: g.Origin})
		}
		return
	}
}

// check finds what the mounts and Landlock could not hold together.
func (r *resolver) check() {
	for i, root := range r.resolved.Roots {
		if root.Role == spec.RoleCarveOut {
			continue
		}
		field := "capabilities.filesystem: " + root.Named
		if root.Role == spec.RoleExpose {
			field = "controls.expose: " + root.Dest
		}
		r.reserved(root, field)
		if outer, _ := r.parent(root.Dest); i > 0 && outer != nil {
			if outer.Access.Read() && !root.Access.Read() {
				r.problem("spec.narrowed", field, "reading is granted by "+outer.Named+" and cannot be taken away here", "use access: none, or grant the parts of "+outer.Named+" one by one")
			}
			if root.Role == spec.RoleExpose && !exists(path.Join(outer.Path, strings.TrimPrefix(root.Dest, outer.Dest))) {
				r.problem("spec.expose", field, "lies inside "+outer.Named+", where it does not exist", "create it there, or choose another destination")
			}
			r.flat(outer, root.Dest, field)
		}
	}
	for _, t := range r.spec.Controls.Temp {
		if outer, _ := r.parent(t.Path); outer != nil {
			if !exists(path.Join(outer.Path, strings.TrimPrefix(t.Path, outer.Dest))) {
				r.problem("spec.temp", "controls.temp: "+t.Path, "lies inside "+outer.Named+", where it does not exist", "create it there, or choose another place")
			}
			r.flat(outer, t.Path, "controls.temp: "+t.Path)
		}
	}
}

// flat refuses what would need a directory that a root without what lies below
// it closes.
func (r *resolver) flat(outer *spec.Root, dest, field string) {
	if outer.NonRecursive && path.Dir(dest) != outer.Dest {
		r.problem("spec.narrowed", field, "lies in a directory of "+outer.Named+", which is granted with recursive: false", "grant "+path.Dir(dest)+" too")
	}
}

// reserved refuses what is the boundary's own or the kernel's, under whatever
// name the host shows it.
func (r *resolver) reserved(root spec.Root, field string) {
	for _, name := range []string{root.Dest, root.Path} {
		for _, own := range []string{"/proc", "/dev", "/sys"} {
			if name == own || own == "/proc" && within(name, own) {
				r.problem("spec.reserved", field, own+" is the boundary's own", "every boundary has its own /proc and a minimal /dev; name single files below /sys or /dev")
				return
			}
		}
		if within(name, "/sys") && root.Access.Write() {
			r.problem("spec.reserved", field, "nothing below /sys can be granted for writing", "grant it for reading")
			return
		}
	}
	home, _ := covering(r.mounts, root.Path)
	for _, m := range r.mounts {
		if below := within(m.at, root.Path); !m.kernel || !below && m != home || below && r.carved(root, m.at) {
			continue
		}
		switch {
		case strings.HasPrefix(m.fsType, "cgroup") && root.Access.Write():
			r.problem("spec.cgroup", field, "would let the workload write the cgroup tree "+m.at, "grant it for reading, or not at all")
			return
		case root.Access.Write():
			r.problem("spec.reserved", field, "would let the workload write the kernel's own files at "+m.at+" ("+m.fsType+")", "grant it for reading, or take them out with access: none")
			return
		case m.fsType == "proc":
			r.problem("spec.reserved", field, "would show the host's processes at "+m.at, "take it out with access: none; every boundary has its own /proc")
			return
		}
	}
}

// carved says whether a carve-out closes the place at which root shows name.
func (r *resolver) carved(root spec.Root, name string) bool {
	dest := path.Join(root.Dest, strings.TrimPrefix(name, root.Path))
	return slices.ContainsFunc(r.resolved.Roots, func(o spec.Root) bool {
		return o.Role == spec.RoleCarveOut && within(dest, o.Dest)
	})
}

func exists(name string) bool {
	p, err := lookup(name)
	if err != nil {
		return false
	}
	unix.Close(p.fd)
	return true
}

// protect refuses grants that reach bvisor's own files, unless a carve-out
// takes them away again.
func (r *resolver) protect() {
	for _, own := range r.protected {
		real := own.Path
		if p, err := lookup(own.Path); err == nil {
			real = p.path
			unix.Close(p.fd)
		}
		for _, name := range names(r.mounts, real) {
			for _, root := range r.resolved.Roots {
				inside := within(root.Path, name)
				if root.Role == spec.RoleCarveOut || !own.Read && !root.Access.Write() ||
					!inside && (!within(name, root.Path) || r.carved(root, name)) {
					continue
				}
				verb := "write"
				if own.Read && !root.Access.Write() {
					verb = "reach"
				}
				r.problem("spec.protected", "capabilities.filesystem: "+root.Named,
					"would let the workload "+verb+" "+own.What+" "+real, "take it out with access: none (--deny "+name+")")
			}
			if p := r.resolved.Spec.Controls.Stdin.File; own.Read && r.stdin != nil && within(p, name) {
				r.problem("spec.protected", "controls.stdin.file: "+p, "would let the workload reach "+own.What+" "+real, "choose another file")
			}
		}
	}
}

// workdir makes the working directory canonical; it must lie where something
// was granted.
func (r *resolver) workdir() {
	dir := r.spec.Workload.Dir
	if dir == "" || path.Clean(dir) == "/" {
		r.resolved.Spec.Workload.Dir = "/"
		return
	}
	clean := path.Clean(dir)
	for _, t := range r.spec.Controls.Temp {
		if within(clean, t.Path) {
			if clean != t.Path {
				break
			}
			r.resolved.Spec.Workload.Dir = clean
			return
		}
	}
	host, _ := r.hostPath(clean)
	p, err := lookup(host)
	if err != nil {
		message, hint := describe(err)
		r.problem("spec.dir", "workload.dir: "+dir, message, hint)
		return
	}
	r.extra = append(r.extra, p)
	r.links = append(r.links, p.links...)
	if p.kind() != spec.KindDirectory {
		r.problem("spec.dir", "workload.dir: "+dir, "is not a directory", "")
		return
	}
	inside, _ := r.inside(p.path)
	if inside == "" {
		r.problem("spec.dir", "workload.dir: "+dir, "is not inside a granted directory", "grant it, for example with --read "+dir)
		return
	}
	if host == clean {
		r.resolved.Spec.Workload.Dir = inside
		return
	}
	r.resolved.Spec.Workload.Dir = clean
}

// hostPath turns a path of the boundary into the host's: only an exposed path
// differs.
func (r *resolver) hostPath(p string) (string, bool) {
	for i := len(r.resolved.Roots) - 1; i >= 0; i-- {
		root := r.resolved.Roots[i]
		if root.Role == spec.RoleExpose && within(p, root.Dest) {
			return path.Join(root.Path, strings.TrimPrefix(p, root.Dest)), true
		}
	}
	return p, false
}

// inside turns a canonical host path into where the boundary shows it, with
// the root that gives it; "" when none does or a carve-out takes it away.
func (r *resolver) inside(p string) (string, *spec.Root) {
	for i := len(r.resolved.Roots) - 1; i >= 0; i-- {
		root := &r.resolved.Roots[i]
		if !within(p, root.Path) || root.Kind != spec.KindDirectory && p != root.Path {
			continue
		}
		if root.Role == spec.RoleCarveOut {
			return "", nil
		}
		if root.NonRecursive && p != root.Path && path.Dir(p) != root.Path {
			continue
		}
		return path.Join(root.Dest, strings.TrimPrefix(p, root.Path)), root
	}
	return "", nil
}

func (r *resolver) stdinFile() {
	if r.spec.Controls.Stdin.Mode != spec.StdinFile {
		return
	}
	name := r.spec.Controls.Stdin.File
	p, err := lookup(name)
	if err != nil {
		message, hint := describe(err)
		r.problem("spec.stdin", "controls.stdin.file: "+name, message, hint)
		return
	}
	defer unix.Close(p.fd)
	if p.kind() != spec.KindFile {
		r.problem("spec.stdin", "controls.stdin.file: "+name, "is not a regular file", "")
		return
	}
	f, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(p.fd), os.O_RDONLY, 0)
	if err != nil {
		message, hint := describe(err.(*os.PathError).Err)
		r.problem("spec.stdin", "controls.stdin.file: "+name, message, hint)
		return
	}
	r.stdin = f
	r.resolved.Spec.Controls.Stdin.File = p.path
}

// keepLinks keeps the links that the boundary's root must have: those that do
// not already stand inside a granted tree.
func (r *resolver) keepLinks() {
	for _, l := range r.links {
		if root, _ := r.parent(l.Path); root != nil {
			continue
		}
		if !slices.Contains(r.resolved.Links, l) {
			r.resolved.Links = append(r.resolved.Links, l)
		}
	}
	slices.SortFunc(r.resolved.Links, func(a, b spec.Link) int { return strings.Compare(a.Path, b.Path) })
	for _, l := range r.resolved.Links {
		below := func(dest string) bool { return within(dest, l.Path) }
		for _, t := range r.spec.Controls.Temp {
			if below(t.Path) {
				r.problem("spec.temp", "controls.temp: "+t.Path, "passes through the link "+l.Path+" -> "+l.Target, "name the place that the link leads to")
			}
		}
		for _, e := range r.spec.Controls.Expose {
			if below(e.Dest) {
				r.problem("spec.expose", "controls.expose: "+e.Dest, "passes through the link "+l.Path+" -> "+l.Target, "name the place that the link leads to")
			}
		}
	}
}
