package linux

import (
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/spec"
)

// artifacts marks the roots whose writes are held back. A directory inside a
// granted one becomes a root of its own.
func (r *resolver) artifacts() {
	a := r.spec.Controls.Artifacts
	if a == nil {
		return
	}
	var paths []string
	for _, name := range a.Paths {
		field := "controls.artifacts: " + name
		p, err := lookup(name)
		if err != nil {
			message, hint := describe(err)
			if err == unix.ENOENT {
				hint = "create it, or name the directory above it"
			}
			r.problem("spec.artifacts", field, message, hint)
			continue
		}
		switch outer := r.holder(p.path); {
		case p.kind() != spec.KindDirectory:
			r.problem("spec.artifacts", field, "is not a directory", "name the directory that holds it")
		case outer == nil:
			r.problem("spec.artifacts", field, "is not inside a directory that is granted for writing", "grant it: what is not granted cannot be written anyway")
		case outer.Held && outer.Path != p.path:
			r.problem("spec.contradiction", field, "lies inside "+outer.Path+", whose writes are held back already", "keep one")
		case slices.Contains(paths, p.path):
			r.problem("spec.contradiction", field, "leads to "+p.path+", which is named already", "name each place once")
		default:
			paths = append(paths, p.path)
			r.hold(name, p, outer, field)
			continue
		}
		unix.Close(p.fd)
	}
	slices.Sort(paths)
	resolved := *a
	resolved.Paths = paths
	r.resolved.Spec.Controls.Artifacts = &resolved
	r.sort()
}

// holder returns the grant that shows a directory for writing, with all below.
func (r *resolver) holder(name string) *spec.Root {
	_, root := r.inside(name)
	if root == nil || root.Role != spec.RoleGrant || root.Kind != spec.KindDirectory || root.NonRecursive || !root.Access.Write() {
		return nil
	}
	return root
}

// hold refuses what would let a write past the layer that is to take it, then
// makes the root. An overlay does not show what is mounted below its lower
// directory, and cannot be made of one whose mounts are another's to undo.
func (r *resolver) hold(name string, p *pin, outer *spec.Root, field string) {
	for _, m := range r.mounts {
		if m.at != p.path && within(m.at, p.path) {
			r.problem("spec.artifacts", field, "has another file system below it, at "+m.at, "name directories that have none, one by one")
			break
		}
	}
	for _, alias := range names(r.mounts, p.path) {
		for i := range r.resolved.Roots {
			o := &r.resolved.Roots[i]
			plain := o.Role == spec.RoleGrant && alias == p.path && within(alias, o.Path) // the layer stands over it there
			if o.Role == spec.RoleCarveOut || !o.Access.Write() || plain || !within(o.Path, alias) && !within(alias, o.Path) {
				continue
			}
			r.problem("spec.artifacts", field, "could be written past what holds it back: "+o.Named+" is granted for writing at "+o.Dest, "take that grant out, or make it read-only")
		}
	}
	for i := range r.resolved.Roots {
		if o := &r.resolved.Roots[i]; o.Path == p.path && o.Role == spec.RoleGrant {
			o.Held = true
			unix.Close(p.fd)
			return
		}
	}
	r.add(p, spec.Root{Named: name, Path: p.path, Dest: path.Join(outer.Dest, strings.TrimPrefix(p.path, outer.Path)), Kind: spec.KindDirectory,
		Access: outer.Access, Role: spec.RoleGrant, Origin: spec.FromSpec, Held: true})
}
