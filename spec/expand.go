package spec

import (
	"cmp"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// preset says whether a preset asked for it.
func (o Origin) preset() bool { return strings.HasPrefix(string(o), "preset:") }

// yields says whether it gives way to what the spec itself asks for.
func (o Origin) yields() bool { return o != FromSpec && o != "" }

// Expand writes out what s leaves unsaid: the grants of its presets, and the
// defaults. What it adds carries its origin. It sorts and removes repetitions
// where order means nothing, so that equal requests become equal values.
// Expanding twice changes nothing. s itself is left as it is.
//
// The grant of a preset or of Default is no request: it gives way where the spec
// grants, carves out, exposes or makes private the same path, where a carve-out
// covers it, and where a grant of the spec above it gives the same rights
// already.
func Expand(s Spec) Spec {
	s.Presets = sortedSet(s.Presets)
	s.Evidence = inOrder(s.Evidence, Claims)
	s.Accept = sortedSet(s.Accept)
	s.Capabilities = expandCapabilities(s)
	s.Controls = expandControls(s.Controls)
	budgets := map[Dimension]Budget{}
	if !slices.Contains(s.Accept, "visible-host-paths") {
		// With the host's own paths there is no private memory to bound.
		budgets[Storage] = Budget{Limit: DefaultStorage, Origin: FromDefault}
	}
	maps.Copy(budgets, s.Budgets)
	for d, b := range budgets {
		b = b.withDefaults()
		b.Evidence = inOrder(b.Evidence, Claims)
		budgets[d] = b
	}
	s.Budgets = budgets
	return s
}

func expandCapabilities(s Spec) Capabilities {
	c := s.Capabilities
	c.Filesystem = expandGrants(s)
	c.Network.Allow = sortedSet(c.Network.Allow)
	c.Environment = slices.Clone(c.Environment)
	slices.SortStableFunc(c.Environment, func(a, b EnvEntry) int { return cmp.Compare(a.Name, b.Name) })
	c.FDs = sortedSet(c.FDs)
	if c.Spawn == "" {
		c.Spawn = SpawnNone
	}
	if c.Clock == ClockReal {
		c.Clock = ""
	}
	if c.Random == RandomReal {
		c.Random = ""
	}
	return c
}

// expandGrants keeps the spec's own grants in their order, without repeated
// paths. Those that give way follow, first the ones that are there, then those
// of the presets that have none yet.
func expandGrants(s Spec) []Grant {
	var own, yielding []Grant
	expanded := map[Origin]bool{}
	for _, g := range s.Capabilities.Filesystem {
		if g.Origin == "" {
			g.Origin = FromSpec
		}
		expanded[g.Origin] = true
		if g.Origin.yields() {
			yielding = append(yielding, g)
		} else {
			own = append(own, g)
		}
	}
	for _, g := range presetGrants(s) {
		if !expanded[g.Origin] {
			yielding = append(yielding, g)
		}
	}
	var out []Grant
	seen := map[string]bool{}
	for _, g := range own {
		g.Paths = unseen(g.Paths, seen)
		out = append(out, g)
	}
	for _, t := range s.Controls.Temp {
		seen[filepath.Clean(t.Path)] = true
	}
	for _, e := range s.Controls.Expose {
		seen[filepath.Clean(e.Dest)] = true
	}
	for _, g := range yielding {
		g.Paths = slices.DeleteFunc(unseen(g.Paths, seen), func(p string) bool { return givesWay(p, g, own) })
		out = append(out, g)
	}
	return slices.DeleteFunc(out, func(g Grant) bool { return len(g.Paths) == 0 })
}

func unseen(paths []string, seen map[string]bool) []string {
	var out []string
	for _, p := range paths {
		if clean := filepath.Clean(p); !seen[clean] {
			seen[clean] = true
			out = append(out, p)
		}
	}
	return out
}

// givesWay says whether a grant of the spec decides over a path of g.
func givesWay(path string, g Grant, own []Grant) bool {
	return slices.ContainsFunc(own, func(o Grant) bool {
		return o.covers(path) && (o.Access == AccessNone || g.Access != AccessNone && o.Access.covers(g.Access))
	})
}

// covers says whether path lies in a tree of g.
func (g Grant) covers(path string) bool {
	return !g.NonRecursive && slices.ContainsFunc(g.Paths, func(root string) bool {
		return within(filepath.Clean(root), filepath.Clean(path))
	})
}

func (g Grant) hasPath(path string) bool {
	return slices.ContainsFunc(g.Paths, func(p string) bool { return filepath.Clean(p) == filepath.Clean(path) })
}

func (a Access) covers(b Access) bool {
	return (a.Read() || !b.Read()) && (a.Write() || !b.Write()) && (a.Exec() || !b.Exec())
}

// presetGrants are the grants of the presets s names.
func presetGrants(s Spec) []Grant {
	var out []Grant
	for _, p := range Presets() {
		if slices.Contains(s.Presets, p.Name) {
			out = append(out, p.Grants...)
		}
	}
	return out
}

func expandControls(c Controls) Controls {
	c.Capture = slices.Clone(c.Capture)
	if c.Stdin.Mode == StdinTTY && len(c.Capture) == 0 {
		c.Capture = []Capture{{Stream: StreamTTY}} // a terminal is there to be seen
	}
	for i, one := range c.Capture {
		if one.Limit == 0 {
			c.Capture[i].Limit = DefaultCapture
		}
	}
	slices.SortStableFunc(c.Capture, func(a, b Capture) int {
		return cmp.Compare(slices.Index(streams, a.Stream), slices.Index(streams, b.Stream))
	})
	if c.Stdin.Mode == "" {
		c.Stdin.Mode = StdinNone
	}
	c.Temp = slices.Clone(c.Temp)
	for i, t := range c.Temp {
		c.Temp[i] = t.withDefaults()
	}
	slices.SortStableFunc(c.Temp, func(a, b Temp) int { return cmp.Compare(a.Path, b.Path) })
	c.Temp = slices.Compact(c.Temp)
	c.Expose = slices.Clone(c.Expose)
	slices.SortStableFunc(c.Expose, func(a, b Expose) int { return cmp.Compare(a.Dest, b.Dest) })
	if c.Artifacts != nil {
		a := c.Artifacts.withDefaults()
		a.Paths = sortedSet(a.Paths)
		c.Artifacts = &a
	}
	if c.Kill.Tree == "" {
		c.Kill.Tree = killTrees[0]
	}
	if c.Kill.Grace == 0 {
		c.Kill.Grace = DefaultGrace
	}
	return c
}

func (t Temp) withDefaults() Temp {
	if t.Access == "" {
		t.Access = "rw"
	}
	return t
}

func sortedSet[T cmp.Ordered](s []T) []T {
	return slices.Compact(slices.Sorted(slices.Values(s)))
}

// inOrder is s in the order of all, each once.
func inOrder[T comparable](s, all []T) []T {
	var out []T
	for _, v := range all {
		if slices.Contains(s, v) {
			out = append(out, v)
		}
	}
	return out
}
