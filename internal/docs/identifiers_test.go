package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"strings"
	"testing"
)

// packages are those whose exported names the documents may use, by the name
// they use for them. A directory's last element is the package's name.
var packages = map[string]string{
	".": "bvisor", "spec": "spec", "plan": "plan", "report": "report", "ledger": "ledger", "secret": "secret",
	"backend": "backend", "backend/linux": "linux", "backend/inert": "inert", "internal/launcher": "launcher",
}

// names are the exported names of a package: what is declared, and, behind a
// type's name and a dot, its fields and methods.
type names map[string]bool

func (n names) add(file *ast.File) {
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				n[d.Name.Name] = true
				continue
			}
			receiver := d.Recv.List[0].Type
			if star, ok := receiver.(*ast.StarExpr); ok {
				receiver = star.X
			}
			if id, ok := receiver.(*ast.Ident); ok {
				n[id.Name+"."+d.Name.Name] = true
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.ValueSpec:
					for _, id := range s.Names {
						n[id.Name] = true
					}
				case *ast.TypeSpec:
					n[s.Name.Name] = true
					n.members(s.Name.Name, s.Type)
				}
			}
		}
	}
}

func (n names) members(of string, t ast.Expr) {
	var fields *ast.FieldList
	switch t := t.(type) {
	case *ast.StructType:
		fields = t.Fields
	case *ast.InterfaceType:
		fields = t.Methods
	default:
		return
	}
	for _, f := range fields.List {
		for _, id := range f.Names {
			n[of+"."+id.Name] = true
		}
	}
}

var qualified = regexp.MustCompile(`\b([a-z]+)\.([A-Z]\w*(?:\.[A-Z]\w*)?)\b`)

func TestNamedIdentifiersExist(t *testing.T) {
	known := map[string]names{}
	for _, name := range packages {
		known[name] = names{}
	}
	walk(t, func(name string, content []byte) {
		pkg, ours := packages[path.Dir(name)]
		if !ours || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, content, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		known[pkg].add(file)
	})
	seen := 0
	for _, d := range documents(t) {
		for _, code := range d.code {
			for _, m := range qualified.FindAllStringSubmatch(code, -1) {
				if known[m[1]] == nil {
					continue
				}
				seen++
				if !known[m[1]][m[2]] {
					t.Errorf("%s names %s.%s, which does not exist", d.path, m[1], m[2])
				}
			}
		}
	}
	if seen < 30 {
		t.Errorf("found %d names of ours, expected more: is the pattern still right?", seen)
	}
}
