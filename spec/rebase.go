package spec

import (
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Rebase makes the relative paths of s absolute, against dir, and cleans all
// paths by their text. The program's name stays as it is unless it contains a
// slash; a bare name is looked up in the boundary's PATH. Neither "~" nor
// variables are expanded. s itself is left as it is.
func (s Spec) Rebase(dir string) Spec {
	abs := func(p string) string {
		if p == "" || filepath.IsAbs(p) {
			return cleaned(p)
		}
		return filepath.Join(dir, p)
	}
	w := &s.Workload
	if len(w.Command) > 0 && strings.ContainsRune(filepath.ToSlash(w.Command[0]), '/') && !filepath.IsAbs(w.Command[0]) {
		w.Command = slices.Clone(w.Command)
		w.Command[0] = abs(w.Command[0])
	}
	w.Dir, w.Wasm = abs(w.Dir), abs(w.Wasm)
	s.Capabilities.Filesystem = slices.Clone(s.Capabilities.Filesystem)
	for i, g := range s.Capabilities.Filesystem {
		s.Capabilities.Filesystem[i].Paths = each(g.Paths, abs)
	}
	c := &s.Controls
	c.Stdin.File = abs(c.Stdin.File)
	c.Temp = slices.Clone(c.Temp)
	for i, t := range c.Temp {
		c.Temp[i].Path = path.Clean(t.Path)
	}
	c.Expose = slices.Clone(c.Expose)
	for i, e := range c.Expose {
		c.Expose[i].Source, c.Expose[i].Dest = abs(e.Source), path.Clean(e.Dest)
	}
	if c.Artifacts != nil {
		a := *c.Artifacts
		a.Paths = each(a.Paths, abs)
		c.Artifacts = &a
	}
	return s
}

func cleaned(p string) string {
	if p == "" {
		return ""
	}
	return filepath.Clean(p)
}

func each(in []string, f func(string) string) []string {
	var out []string
	for _, s := range in {
		out = append(out, f(s))
	}
	return out
}
