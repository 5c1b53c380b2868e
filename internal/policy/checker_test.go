package policy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// source is one Go file of the module.
type source struct {
	path string // in the module, with slashes
	fset *token.FileSet
	file *ast.File
}

// pkg is the package's path in the module; "" is the root's.
func (s source) pkg() string {
	if dir := path.Dir(s.path); dir != "." {
		return dir
	}
	return ""
}

func (s source) test() bool { return strings.HasSuffix(s.path, "_test.go") }

func parse(name string, text any) (source, error) {
	s := source{path: name, fset: token.NewFileSet()}
	var err error
	s.file, err = parser.ParseFile(s.fset, name, text, parser.ParseComments)
	return s, err
}

// load parses every Go file below root, whatever its build tags. Folders that
// hold modules of their own are not part of ours.
func load(root string) (sources []source, assembly []string, err error) {
	err = filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if e.IsDir() {
			_, nested := os.Stat(filepath.Join(name, "go.mod"))
			if rel != "." && (nested == nil || e.Name() == "testdata" || e.Name()[0] == '.' || e.Name()[0] == '_') {
				return filepath.SkipDir
			}
			return nil
		}
		switch path.Ext(rel) {
		case ".s":
			assembly = append(assembly, rel)
		case ".go":
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			s, err := parse(rel, text)
			if err != nil {
				return err
			}
			sources = append(sources, s)
		}
		return nil
	})
	return sources, assembly, err
}

// under says whether pkg is one of dirs or below one. "" is the root package
// and nothing below it.
func under(pkg string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool {
		return pkg == d || d != "" && strings.HasPrefix(pkg, d+"/")
	})
}

func ours(importPath string) (pkg string, ok bool) {
	if importPath == module {
		return "", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// standard import paths have no dot in their first element.
func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}

// check says everything that is wrong with one file.
func check(s source) []string {
	var wrong []string
	say := func(pos token.Pos, format string, args ...any) {
		p := s.fset.Position(pos)
		wrong = append(wrong, fmt.Sprintf("%s:%d: %s", s.path, p.Line, fmt.Sprintf(format, args...)))
	}
	if _, listed := allowed[s.pkg()]; !listed && !s.test() {
		say(s.file.Package, "package %q is not listed: decide what it may import", s.pkg())
	}
	for _, group := range s.file.Comments {
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, "//go:linkname") {
				say(c.Pos(), "go:linkname reaches into another package's private parts")
			}
		}
	}
	names := map[string]string{} // what a file calls a package, to its path
	for _, imp := range s.file.Imports {
		ip, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			say(imp.Pos(), "%v", err)
			continue
		}
		name := defaultName(ip)
		if imp.Name != nil {
			name = imp.Name.Name
		}
		if name == "." {
			say(imp.Pos(), "imports %s with a dot, which hides what is used", ip)
		}
		names[name] = ip
		checkImport(s, ip, func(format string, args ...any) { say(imp.Pos(), format, args...) })
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		id, ok := sel.X.(*ast.Ident)
		if !ok || id.Obj != nil { // Obj is set for what the file itself declares
			return true
		}
		for _, r := range rules {
			if r.pkg == names[id.Name] && slices.Contains(r.names, sel.Sel.Name) && r.holds(s) {
				say(sel.Pos(), "%s.%s: %s", r.pkg, sel.Sel.Name, r.reason)
			}
		}
		return true
	})
	return wrong
}

// checkImport judges the import itself.
func checkImport(s source, ip string, say func(string, ...any)) {
	for _, r := range rules {
		if r.pkg == ip && slices.Contains(r.names, "*") && r.holds(s) {
			say("imports %s: %s", ip, r.reason)
		}
	}
	if s.test() {
		return
	}
	if pkg, ok := ours(ip); ok {
		if list, listed := allowed[s.pkg()]; listed && !slices.Contains(list, pkg) {
			say("imports %s, which package %q may not", ip, s.pkg())
		}
		return
	}
	if standard(ip) {
		return
	}
	for _, m := range modules {
		if ip == m.path || strings.HasPrefix(ip, m.path+"/") {
			if !under(s.pkg(), m.in) {
				say("imports %s, which belongs elsewhere: %s", ip, m.reason)
			}
			return
		}
	}
	say("imports %s, which nobody decided to depend on", ip)
}

// holds says whether the rule is about this file.
func (r rule) holds(s source) bool {
	if s.test() && !r.tests {
		return false
	}
	if r.within != nil && !under(s.pkg(), r.within) {
		return false
	}
	return !slices.ContainsFunc(r.except, func(e string) bool {
		match, err := path.Match(e, s.path)
		return err == nil && match || under(s.pkg(), []string{e})
	})
}

// defaultName is the name an import has without one of its own: the last
// element, versions aside.
func defaultName(ip string) string {
	name := path.Base(ip)
	if len(name) > 1 && name[0] == 'v' && strings.Trim(name[1:], "0123456789") == "" {
		name = path.Base(path.Dir(ip))
	}
	return name
}
