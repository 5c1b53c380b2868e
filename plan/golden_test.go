package plan

import (
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/bvisor/bvisor/spec"
)

var golden = flag.Bool("golden", false, "write what the planner says into testdata instead of comparing")

// A case is a txtar file: spec.json is a spec.Resolved, profile.json says how a
// profile differs from the capable one, want.txt is what a person is told.
// Where there is a planned.json too, the plan is made with that profile and
// replayed with profile.json.
func TestCases(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases:", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parts := split(string(data))
			var r spec.Resolved
			decode(t, parts, "spec.json", &r)
			got := explain(t, r, parts)
			if *golden {
				before, _, _ := strings.Cut(string(data), "-- want.txt --\n")
				if err := os.WriteFile(file, []byte(before+"-- want.txt --\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if want := parts["want.txt"]; got != want {
				t.Errorf("got:\n%s\nwant:\n%s\n(go test ./plan -golden writes what is said now)", got, want)
			}
			if admitted := strings.HasPrefix(got, "plan "); admitted != strings.HasPrefix(filepath.Base(file), "admitted-") {
				t.Errorf("the name of the case says otherwise: admitted is %v", admitted)
			}
		})
	}
}

// split reads the parts of a txtar file: a line "-- NAME --", then the content.
func split(data string) map[string]string {
	parts := map[string]string{}
	name := ""
	for line := range strings.Lines(data) {
		if rest, ok := strings.CutPrefix(line, "-- "); ok && strings.HasSuffix(rest, " --\n") {
			name = strings.TrimSuffix(rest, " --\n")
			parts[name] = ""
		} else {
			parts[name] += line
		}
	}
	return parts
}

func explain(t *testing.T, r spec.Resolved, parts map[string]string) string {
	profile := patched(t, parts, "profile.json")
	var plan Plan
	var refusal *Refusal
	if parts["planned.json"] != "" {
		first, none := Make(r, patched(t, parts, "planned.json"))
		if none != nil {
			t.Fatal(none)
		}
		var err error
		if plan, refusal, err = Replay(first, profile); err != nil {
			t.Fatal(err)
		}
	} else {
		plan, refusal = Make(r, profile)
	}
	var b strings.Builder
	if refusal == nil {
		if err := plan.Explain(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if err := refusal.Explain(&b); err != nil {
		t.Fatal(err)
	}
	b.WriteString("\nin one line: " + refusal.Error() + "\n")
	return b.String()
}

// patch says how a profile differs from the capable one.
type patch struct {
	Version    int
	Backend    string
	Without    []Kind  // offers taken away
	Offers     []Offer // offers put in their place
	NoEvidence bool
	Facts      []Fact
}

func patched(t *testing.T, parts map[string]string, name string) Profile {
	var change patch
	decode(t, parts, name, &change)
	p := capable()
	if change.Version != 0 {
		p.Version = change.Version
	}
	if change.Backend != "" {
		p.Backend = change.Backend
	}
	for _, k := range change.Without {
		p.remove(k)
	}
	for _, o := range change.Offers {
		p.replace(o)
	}
	if change.NoEvidence {
		p.Evidence = nil
	}
	p.Facts = append(p.Facts, change.Facts...)
	return p
}

func decode(t *testing.T, parts map[string]string, name string, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(parts[name]))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// Every code in the source stands in the documentation and in a case.
func TestEveryCodeIsDocumentedAndShown(t *testing.T) {
	source, err := parser.ParseFile(token.NewFileSet(), "reasons.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	ast.Inspect(source, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, "code") {
			code, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			codes = append(codes, code)
		}
		return true
	})
	if len(codes) < 10 {
		t.Fatalf("found only %q", codes)
	}
	doc := documentation(t)
	var shown strings.Builder
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		shown.Write(data)
	}
	for _, c := range codes {
		if !strings.Contains(doc, c) {
			t.Errorf("%q does not stand in docs/refusals.md", c)
		}
		if !strings.Contains(shown.String(), c) {
			t.Errorf("%q stands in no case of testdata", c)
		}
	}
	for _, name := range []string{"unsupported.wasm", "unsupported.command", FeatureExecWithoutRead, FeatureWriteWithoutRead,
		FeatureNonRecursive, FeatureFileRoot, FeatureOtherRoot, FeatureDescendants} {
		if !strings.Contains(shown.String(), name+"]") {
			t.Errorf("%q stands in no case of testdata", name)
		}
	}
}

func documentation(t *testing.T) string {
	t.Helper()
	doc, err := os.ReadFile("../docs/refusals.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}
