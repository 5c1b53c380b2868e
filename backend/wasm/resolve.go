package wasm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/spec"
)

// resolution is a resolved spec with the module and what its paths lead to.
type resolution struct {
	resolved  spec.Resolved
	protected []backend.Protected
	module    *module
	files     []*os.File // parallel to resolved.Roots; nil for carve-outs
	stdin     *os.File
	outer     backend.Resolution // of the worker's boundary, where it is one run's own
	noOuter   error              // why there is none then
}

func (r *resolution) Resolved() spec.Resolved { return r.resolved }

func (r *resolution) Close() error {
	for _, f := range append(r.files, r.stdin) {
		if f != nil {
			f.Close()
		}
	}
	if r.module != nil {
		r.module.release()
	}
	if r.outer != nil {
		r.outer.Close()
	}
	*r = resolution{}
	return nil
}

// resolver gathers every problem instead of stopping at the first.
type resolver struct {
	*resolution
	spec     spec.Spec
	problems []spec.Problem
}

func (r *resolver) problem(code, field, message, hint string) {
	r.problems = append(r.problems, spec.Problem{Code: code, Field: field, Message: message, Hint: hint})
}

// Resolve implements backend.Backend.
//
// A guest has no root of its own for which links would have to be made: what is
// granted appears there under the name that the spec gives it.
func (b *Backend) Resolve(ctx context.Context, s spec.Spec, protected []backend.Protected) (backend.Resolution, error) {
	r := &resolver{resolution: &resolution{protected: protected}, spec: s}
	r.resolved = spec.Resolved{Spec: s, UID: os.Geteuid(), GID: os.Getegid()}
	if len(s.Workload.Command) > 0 {
		r.resolved.Unresolved = true // the planner refuses it, whatever its paths
		r.resolved.Executable.Named = s.Workload.Command[0]
		return r.resolution, nil
	}
	for _, g := range s.Capabilities.Filesystem {
		for _, name := range g.Paths {
			if g.Access == spec.AccessNone {
				r.carveOut(g, name)
			} else {
				r.grant("capabilities.filesystem: "+name, g.Optional, spec.Root{Named: name, Dest: inGuest(name), Access: g.Access, NonRecursive: g.NonRecursive,
					Role: spec.RoleGrant, Origin: g.Origin})
			}
		}
	}
	for _, e := range s.Controls.Expose {
		r.grant("controls.expose: "+e.Source, false, spec.Root{Named: e.Source, Dest: e.Dest, Access: e.Access, Role: spec.RoleExpose, Origin: spec.FromSpec})
	}
	r.sort()
	r.protect()
	r.dir()
	r.stdinFile()
	if len(r.problems) > 0 {
		r.Close()
		return nil, &spec.Error{Problems: r.problems}
	}
	err := r.executable(b)
	if err == nil {
		err = r.ownBoundary(ctx, b)
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r.resolution, nil
}

// inGuest is a path of the host as a guest names it.
func inGuest(name string) string {
	clean := filepath.ToSlash(filepath.Clean(name))
	if !strings.HasPrefix(clean, "/") {
		clean = "/" + clean
	}
	return clean
}

// describe words why a path cannot be had.
func describe(err error) (message, hint string) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "does not exist", "create it, correct the path, or mark the grant optional: true"
	case errors.Is(err, fs.ErrPermission):
		return "cannot be reached: permission denied", "a boundary gives nothing that its user does not have"
	}
	return "cannot be opened: " + err.Error(), ""
}

func (r *resolver) grant(field string, optional bool, root spec.Root) {
	real, err := filepath.EvalSymlinks(root.Named)
	if err == nil {
		root.Path = real
		var f *os.File
		if f, root.Kind, err = openRoot(real, root.Access); err == nil {
			r.add(field, root, f)
			return
		}
	}
	if optional && errors.Is(err, fs.ErrNotExist) {
		return
	}
	message, hint := describe(err)
	r.problem("spec.path", field, message, hint)
}

func (r *resolver) add(field string, root spec.Root, f *os.File) {
	for i, old := range r.resolved.Roots {
		if old.Dest != root.Dest {
			continue
		}
		f.Close()
		if old.Access != root.Access || old.NonRecursive != root.NonRecursive || old.Path != root.Path {
			r.problem("spec.contradiction", field, "is granted twice, with different terms", "grant each place once")
		}
		r.resolved.Roots[i] = old
		return
	}
	if root.Kind != spec.KindFile && root.Kind != spec.KindDirectory {
		f.Close()
		r.problem("spec.path", field, "is neither a file nor a directory", "a module reaches nothing else")
		return
	}
	for _, own := range kernelTrees {
		if within(root.Path, own) || root.Path == "/" {
			f.Close()
			r.problem("spec.reserved", field, "would show the module what is the kernel's ("+strings.Join(kernelTrees, ", ")+")", "grant the directories that it needs")
			return
		}
	}
	r.resolved.Roots, r.files = append(r.resolved.Roots, root), append(r.files, f)
}

// kernelTrees hold no files that a module could want, and much of the host.
var kernelTrees = []string{"/proc", "/sys", "/dev"}

func (r *resolver) carveOut(g spec.Grant, name string) {
	r.resolved.Roots = append(r.resolved.Roots, spec.Root{Named: name, Path: realOf(name), Dest: inGuest(name), Kind: kindOf(name), Access: spec.AccessNone,
		Role: spec.RoleCarveOut, Origin: g.Origin})
	r.files = append(r.files, nil)
}

// realOf is a path with its links followed as far as it exists.
func realOf(name string) string {
	rest := ""
	for at := filepath.Clean(name); ; at = filepath.Dir(at) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, rest)
		}
		if filepath.Dir(at) == at {
			return filepath.Clean(name)
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}

func kindOf(name string) spec.FileKind {
	switch info, err := os.Stat(name); {
	case err != nil:
		return spec.KindAbsent
	case info.IsDir():
		return spec.KindDirectory
	case info.Mode() == placeholder && info.Size() == 0:
		return spec.KindAbsent
	case info.Mode().IsRegular():
		return spec.KindFile
	}
	return spec.KindOther
}

// placeholder is the mode of what the linux backend has stand where a run's
// carve-out does not exist, until that run ends.
const placeholder = fs.ModeSticky | 0o400

// sort orders roots by their place in the guest's view.
func (r *resolver) sort() {
	order := make([]int, len(r.files))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := &r.resolved.Roots[a], &r.resolved.Roots[b]
		return cmp.Or(strings.Compare(x.Dest, y.Dest), strings.Compare(x.Path, y.Path))
	})
	roots, files := make([]spec.Root, 0, len(order)), make([]*os.File, 0, len(order))
	for _, i := range order {
		roots, files = append(roots, r.resolved.Roots[i]), append(files, r.files[i])
	}
	r.resolved.Roots, r.files = roots, files
}

// protect refuses grants that reach bvisor's own files, unless a carve-out
// takes them away again.
func (r *resolver) protect() {
	for _, own := range r.protected {
		real := realOf(own.Path)
		for _, root := range r.resolved.Roots {
			inside := within(root.Path, real)
			if root.Role == spec.RoleCarveOut || !own.Read && !root.Access.Write() ||
				!inside && (!within(real, root.Path) || r.carved(root, real)) {
				continue
			}
			verb := "write"
			if own.Read && !root.Access.Write() {
				verb = "reach"
			}
			r.problem("spec.protected", "capabilities.filesystem: "+root.Named, "would let the workload "+verb+" "+own.What+" "+real,
				"take it out with access: none (--deny "+real+")")
		}
		if in := r.spec.Controls.Stdin.File; in != "" && own.Read && within(realOf(in), real) {
			r.problem("spec.protected", "controls.stdin.file: "+in, "would let the workload reach "+own.What+" "+real, "choose another file")
		}
	}
}

// carved says whether a place below a root is taken out of it again.
func (r *resolver) carved(root spec.Root, real string) bool {
	dest := path.Join(root.Dest, filepath.ToSlash(strings.TrimPrefix(real, root.Path)))
	return slices.ContainsFunc(r.resolved.Roots, func(o spec.Root) bool {
		return o.Role == spec.RoleCarveOut && (within(dest, o.Dest) || within(real, o.Path))
	})
}

// within says whether p is dir or lies below it. Both are clean and absolute.
func within(p, dir string) bool {
	p, dir = filepath.ToSlash(p), filepath.ToSlash(dir)
	return p == dir || dir == "/" || strings.HasPrefix(p, dir) && p[len(dir)] == '/'
}

// dir is the working directory. It is a name in the guest's view, and must be
// inside of what it is granted.
func (r *resolver) dir() {
	dir := r.spec.Workload.Dir
	if dir == "" || dir == "/" {
		r.resolved.Spec.Workload.Dir = ""
		return
	}
	at := inGuest(dir)
	r.resolved.Spec.Workload.Dir = at
	in := func(dest string) bool { return within(at, dest) }
	inside := slices.ContainsFunc(r.spec.Controls.Temp, func(t spec.Temp) bool { return in(t.Path) }) ||
		slices.ContainsFunc(r.resolved.Roots, func(o spec.Root) bool {
			return o.Role != spec.RoleCarveOut && o.Kind == spec.KindDirectory && in(o.Dest)
		})
	if !inside {
		r.problem("spec.dir", "workload.dir: "+dir, "is not inside a granted directory", "grant it, for example with --read "+dir)
	}
}

func (r *resolver) stdinFile() {
	if r.spec.Controls.Stdin.Mode != spec.StdinFile {
		return
	}
	name := r.spec.Controls.Stdin.File
	f, kind, err := openRegular(name)
	switch {
	case err != nil:
		message, hint := describe(err)
		r.problem("spec.stdin", "controls.stdin.file: "+name, message, hint)
	case kind != spec.KindFile:
		r.problem("spec.stdin", "controls.stdin.file: "+name, "is not a regular file", "")
	default:
		r.stdin, r.resolved.Spec.Controls.Stdin.File = f, realOf(name)
	}
}

// openRegular opens a file for reading, and nothing that opening could act on.
func openRegular(name string) (*os.File, spec.FileKind, error) {
	if kind := kindOf(name); kind != spec.KindFile && kind != spec.KindAbsent {
		return nil, kind, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, "", err
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, spec.KindOther, err
	}
	return f, spec.KindFile, nil
}

// executable reads the module. What is wrong with its contents is for the
// planner to refuse.
func (r *resolver) executable(b *Backend) error {
	name := r.spec.Workload.Wasm
	f, kind, err := openRegular(name)
	if err != nil {
		message, _ := describe(err)
		return &backend.CommandError{Command: name, NotFound: errors.Is(err, fs.ErrNotExist), Why: message}
	}
	if kind != spec.KindFile {
		return &backend.CommandError{Command: name, Why: "is not a regular file"}
	}
	defer f.Close()
	if r.module, err = b.modules.load(f, formOf(&r.spec)); err != nil {
		return &backend.CommandError{Command: name, Why: fmt.Sprintf("cannot be read: %v", err)}
	}
	r.resolved.Executable = spec.Executable{Named: name, Path: realOf(name), SHA256: r.module.digest, Size: r.module.size, Unfit: r.module.unfit}
	return nil
}
