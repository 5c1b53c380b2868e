package spec

import (
	"fmt"
	"path/filepath"
	"slices"
)

// place is one path of the boundary's view, and what the spec says of it.
type place struct {
	field string // where the spec says it
	path  string // clean
	what  string // granted, carvedOut, exposed or private
	terms string // what must be equal for two to say the same
}

const (
	granted   = "granted"
	carvedOut = "carved out"
	exposed   = "exposed"
	private   = "a private directory"
)

// places refuses two statements over one path. Order never decides: a reader of
// the spec must not have to know which line wins.
func (v *validator) places(s Spec) {
	all := placesOf(s)
	first := map[string]place{}
	for _, p := range all {
		q, taken := first[p.path]
		switch {
		case !taken:
			first[p.path] = p
		case p.what == q.what && p.terms == q.terms && p.what != exposed:
		case p.what == exposed && q.what == exposed:
			v.contradiction(p.field, quote(p.path)+" is exposed twice", q)
		case p.what == q.what:
			v.contradiction(p.field, fmt.Sprintf("%s is %s twice, with different terms", quote(p.path), p.what), q)
		default:
			v.contradiction(p.field, fmt.Sprintf("%s is %s here and %s elsewhere", quote(p.path), p.what, q.what), q)
		}
	}
	for _, p := range all {
		if p.what == carvedOut {
			if first[p.path].what == carvedOut { // else it is refused above
				v.insideGrant(s, p, first)
			}
			continue
		}
		if q, ok := above(p.path, first, func(q place) bool { return q.what == carvedOut }); ok {
			v.contradiction(p.field, fmt.Sprintf("%s is %s inside %s, which is carved out", quote(p.path), p.what, quote(q.path)), q)
		}
	}
	v.artifactPlaces(s, first)
}

func (v *validator) contradiction(field, message string, other place) {
	v.check(field, &valueError{CodeContradiction, message, "the other one is " + other.field})
}

// insideGrant refuses a carve-out that takes nothing away: it is most likely
// a misspelt path.
func (v *validator) insideGrant(s Spec, p place, first map[string]place) {
	relative := !filepath.IsAbs(p.path)
	if _, ok := above(p.path, first, func(q place) bool { return q.what == granted && q.terms[0] == recursive }); ok {
		return
	}
	for i, g := range s.Capabilities.Filesystem {
		if g.Origin.yields() && g.hasPath(p.path) && !g.Origin.preset() {
			v.check(p.field, &valueError{CodeContradiction, quote(p.path) + " is carved out here and granted by default",
				"the other one is " + at("capabilities.filesystem", i)})
			return
		}
	}
	for _, g := range slices.Concat(s.Capabilities.Filesystem, presetGrants(s)) {
		if g.Origin.yields() && g.covers(p.path) {
			return
		}
	}
	for _, q := range first {
		if q.what == granted && filepath.IsAbs(q.path) == relative {
			return // not comparable before Rebase
		}
	}
	if relative && len(s.Presets) > 0 {
		return
	}
	v.check(p.field, &valueError{CodeContradiction, fmt.Sprintf("%s is carved out, but no grant covers it", quote(p.path)),
		"what is not granted is denied already"})
}

// artifactPlaces refuses held-back trees that overlap or are carved out.
func (v *validator) artifactPlaces(s Spec, first map[string]place) {
	if s.Controls.Artifacts == nil {
		return
	}
	seen := map[string]place{}
	var order []place
	for i, path := range s.Controls.Artifacts.Paths {
		p := place{field: at("controls.artifacts.paths", i), path: filepath.Clean(path)}
		if q, ok := seen[p.path]; ok {
			v.contradiction(p.field, quote(p.path)+" is named twice", q)
			continue
		}
		seen[p.path] = p
		order = append(order, p)
	}
	for _, p := range order {
		if q, ok := above(p.path, seen, func(place) bool { return true }); ok {
			v.contradiction(p.field, fmt.Sprintf("%s lies inside %s, whose writes are held back already", quote(p.path), quote(q.path)), q)
		}
		q, ok := first[p.path]
		if !ok || q.what != carvedOut {
			q, ok = above(p.path, first, func(q place) bool { return q.what == carvedOut })
		}
		if ok {
			v.contradiction(p.field, fmt.Sprintf("%s is carved out", quote(p.path)), q)
		}
	}
}

const recursive = 'R'

// placesOf lists what the spec itself says. Grants that give way are left out.
func placesOf(s Spec) []place {
	var all []place
	for i, g := range s.Capabilities.Filesystem {
		if g.Origin.yields() {
			continue
		}
		for j, p := range g.Paths {
			what, terms := granted, fmt.Sprintf("%c %s %t", recursive, g.Access, g.Optional)
			if g.NonRecursive {
				terms = fmt.Sprintf("N %s %t", g.Access, g.Optional)
			}
			if g.Access == AccessNone {
				what, terms = carvedOut, ""
			}
			all = append(all, place{at(at("capabilities.filesystem", i)+".paths", j), filepath.Clean(p), what, terms})
		}
	}
	for i, t := range s.Controls.Temp {
		all = append(all, place{at("controls.temp", i), filepath.Clean(t.Path), private, string(t.withDefaults().Access)})
	}
	for i, e := range s.Controls.Expose {
		all = append(all, place{at("controls.expose", i), filepath.Clean(e.Dest), exposed, ""})
	}
	return all
}

// above returns the nearest place strictly above path that match accepts.
func above(path string, places map[string]place, match func(place) bool) (place, bool) {
	for {
		up := filepath.Dir(path)
		if path == "." || up == path || filepath.Base(path) == ".." { // what is above ".." has no name
			return place{}, false
		}
		if q, ok := places[up]; ok && match(q) {
			return q, true
		}
		path = up
	}
}
