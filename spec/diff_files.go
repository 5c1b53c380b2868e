package spec

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// view is everything a spec says of paths in the boundary, by clean path.
type view map[string]statement

type statement struct {
	what     string // granted, carvedOut, exposed or private
	field    string
	access   Access
	flat     bool   // a grant that is not recursive
	optional bool   // of a grant
	source   string // of an exposed path
	origin   Origin
}

// viewOf reads an expanded spec with absolute paths. The trees that every
// boundary makes itself are no part of a grant of "/".
func viewOf(s Spec) view {
	v := view{}
	for _, r := range reserved {
		v[r] = statement{what: carvedOut}
	}
	for _, g := range s.Capabilities.Filesystem {
		st := statement{what: granted, field: "capabilities.filesystem", access: g.Access, flat: g.NonRecursive, optional: g.Optional, origin: g.Origin}
		if g.Access == AccessNone {
			st.what = carvedOut
		}
		for _, p := range g.Paths {
			v[filepath.Clean(p)] = st
		}
	}
	for _, t := range s.Controls.Temp {
		v[filepath.Clean(t.Path)] = statement{what: private, field: "controls.temp", access: t.Access}
	}
	for _, e := range s.Controls.Expose {
		v[filepath.Clean(e.Dest)] = statement{what: exposed, field: "controls.expose", access: e.Access, source: filepath.Clean(e.Source)}
	}
	return v
}

// depth is how far below a path something lies that no spec names: the path
// itself, what lies directly in it, what lies deeper. Only grants that are not
// recursive tell them apart.
type depth int

const depths depth = 3

// sight is what the boundary shows at a place.
type sight struct {
	access Access // of the nearest statement, empty where nothing is shown
	host   string // the path on the host that is shown; empty for private memory
	by     statement
}

// at returns the sights at path, by depth.
func (v view) at(path string) (at [depths]sight) {
	root, steps, ok := deepest(v, path)
	st := v[root]
	if !ok || st.what == carvedOut {
		return at
	}
	s := sight{st.access, path, st}
	switch st.what {
	case private:
		s.host = ""
	case exposed:
		s.host = filepath.Join(st.source, strings.TrimPrefix(path, root))
	}
	for d := range depths {
		if !st.flat || d+steps <= 1 {
			at[d] = s
		}
	}
	return at
}

// deepest returns the deepest key at or above path, which is clean and
// absolute, and how far up it is.
func deepest[T any](keys map[string]T, path string) (key string, steps depth, ok bool) {
	for ; ; steps++ {
		if _, ok := keys[path]; ok {
			return path, steps, true
		}
		end := strings.LastIndexByte(path, filepath.Separator)
		switch {
		case end < 0 || end == len(path)-1:
			return "", 0, false
		case end == len(filepath.VolumeName(path)):
			end++ // the root directory keeps its separator
		}
		path = path[:end]
	}
}

// opened is what t lets through and f does not. Where they show different
// files, that is all of it.
func opened(f, t sight) sight {
	if f.host == t.host && (f.by.what == private) == (t.by.what == private) {
		t.access = t.access.without(f.access)
	}
	return t
}

func (a Access) without(b Access) Access {
	var rest Access
	for _, right := range []Access{"r", "w", "x"} {
		if a.has(right[0]) && !b.has(right[0]) {
			rest += right
		}
	}
	return rest
}

// continues says whether inner is what outer is for the tree around it, whose
// path is up; path is that of inner.
func (inner sight) continues(path string, outer sight, up string) bool {
	if inner.access != outer.access || (inner.by.what == private) != (outer.by.what == private) {
		return false
	}
	return inner.by.what == private || inner.host == filepath.Join(outer.host, strings.TrimPrefix(path, up))
}

// tree is one path that a spec names, and what is opened there.
type tree struct {
	path   string
	opened [depths]sight
	said   [depths]*opening // what says so; nil where nothing is opened
}

// opening is one line: what is opened at a path and in the tree below it.
type opening struct {
	sight
	path  string
	where []depth
	same  []string // inside it, nothing of that is opened
}

// moreFiles compares the two views at every path that one of them names:
// between two such paths nothing changes. A path is only mentioned where it
// differs from the tree around it.
func moreFiles(from, to Spec) []gain {
	f, t := viewOf(from), viewOf(to)
	paths := slices.Collect(maps.Keys(f))
	paths = slices.AppendSeq(paths, maps.Keys(t))
	slices.Sort(paths) // what lies in a tree comes behind it
	trees := map[string]*tree{}
	var openings []*opening
	var list []gain
	for _, path := range slices.Compact(paths) {
		here := &tree{path: path}
		before, now := f.at(path), t.at(path)
		for d := range depths {
			here.opened[d] = opened(before[d], now[d])
		}
		root, steps, _ := deepest(trees, path)
		openings = append(openings, here.mention(trees[root], steps)...)
		trees[path] = here
		if f[path].what == granted && t[path].what == granted && t[path].optional && !f[path].optional {
			list = append(list, gain{t[path].field, path, "may be absent", "must not be absent"})
		}
	}
	for _, o := range openings {
		list = append(list, o.gain())
	}
	return list
}

// mention returns what up, the tree around, does not say already.
func (here *tree) mention(up *tree, steps depth) []*opening {
	var list []*opening
	gone := map[*opening][]depth{}
	for d := range depths {
		var outer sight
		var said *opening
		if up != nil {
			outside := min(d+steps, depths-1)
			outer, said = up.opened[outside], up.said[outside]
		}
		o := here.opened[d]
		switch {
		case o.access == "" && said != nil:
			gone[said] = append(gone[said], d)
		case o.access == "":
		case said != nil && o.continues(here.path, outer, up.path):
			here.said[d] = said
		default:
			i := slices.IndexFunc(list, func(other *opening) bool { return other.sight == o })
			if i < 0 {
				i = len(list)
				list = append(list, &opening{sight: o, path: here.path})
			}
			list[i].where = append(list[i].where, d)
			here.said[d] = list[i]
		}
	}
	for said, where := range gone {
		said.same = append(said.same, shown(here.path)+scope(where))
	}
	return list
}

func (o *opening) gain() gain {
	var rights []string
	for i, verb := range []string{"read", "written", "executed"} {
		if o.access.has("rwx"[i]) {
			rights = append(rights, verb)
		}
	}
	words := func(may, and string) string {
		text := may + " be " + strings.Join(rights, ", ")
		if n := len(rights) - 1; n > 0 {
			text = may + " be " + strings.Join(rights[:n], ", ") + and + rights[n]
		}
		switch {
		case o.by.what == private:
			text = "as a private directory " + text
		case o.by.what == exposed:
			text = "showing " + shown(o.by.source) + " " + text
		case o.by.origin.preset():
			text += " (" + string(o.by.origin) + ")"
		}
		if scope := scope(o.where); scope != "" {
			text = scope[1:] + " " + text
		}
		if len(o.same) > 0 {
			text += ", with " + strings.Join(o.same, ", ") + " as before"
		}
		return text
	}
	return gain{o.by.field, o.path, words("may", " and "), words("may no longer", " or ")}
}

// scope says which part of a tree is meant, where it is not all of it.
func scope(where []depth) string {
	has := func(d depth) bool { return slices.Contains(where, d) }
	switch {
	case len(where) == int(depths):
		return ""
	case has(0) && has(1):
		return " (without what lies deeper than directly in it)"
	case has(1) && has(2):
		return " (what lies in it)"
	case has(0) && has(2):
		return " (without what lies directly in it)"
	case has(0):
		return " (itself)"
	case has(1):
		return " (what lies directly in it)"
	}
	return " (what lies deeper than directly in it)"
}
