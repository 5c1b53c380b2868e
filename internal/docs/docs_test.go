// Package docs is tests only: what the documents name exists.
package docs

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bvisor/bvisor/plan"
)

const root = "../.."

// document is one Markdown file.
type document struct {
	path  string   // in the module, with slashes
	text  string   // outside fences
	code  []string // code spans, and fenced blocks whole
	slugs []string // what a link can name after "#"
}

var (
	span    = regexp.MustCompile("`[^`\n]+`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.*)$`)
)

// parse tells text from code. Fences are lines that start with three
// backticks.
func parse(name, content string) document {
	d := document{path: name}
	var text, block strings.Builder
	fenced := false
	for line := range strings.Lines(content) {
		switch {
		case strings.HasPrefix(line, "```") && fenced:
			d.code = append(d.code, block.String())
			block.Reset()
			fenced = false
		case strings.HasPrefix(line, "```"):
			fenced = true
		case fenced:
			block.WriteString(line)
		default:
			text.WriteString(line)
		}
	}
	d.text = text.String()
	for _, s := range span.FindAllString(d.text, -1) {
		d.code = append(d.code, strings.Trim(s, "`"))
	}
	for _, h := range heading.FindAllStringSubmatch(d.text, -1) {
		d.slugs = append(d.slugs, slug(h[1]))
	}
	return d
}

// slug is the anchor that GitHub gives a heading.
func slug(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	s = strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r > 127:
			return r
		}
		return -1
	}, s)
	return s
}

func documents(t *testing.T) []document {
	t.Helper()
	var all []document
	walk(t, func(name string, content []byte) {
		if path.Ext(name) == ".md" {
			all = append(all, parse(name, string(content)))
		}
	})
	for _, must := range []string{"README.md", "docs/design.md", "docs/mechanisms/seccomp.md"} {
		if !slices.ContainsFunc(all, func(d document) bool { return d.path == must }) {
			t.Fatalf("%s was not read", must)
		}
	}
	return all
}

// walk hands over every file of the module but test data and what is hidden.
func walk(t *testing.T, use func(name string, content []byte)) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if e.IsDir() {
			if rel != "." && (e.Name() == "testdata" || e.Name() == "bin" || e.Name()[0] == '.' && rel != ".ci") {
				return filepath.SkipDir
			}
			return nil
		}
		if !e.Type().IsRegular() || !wanted(rel) {
			return nil
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		use(rel, content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func wanted(name string) bool {
	return slices.Contains([]string{".md", ".go", ".sh", ".yaml"}, path.Ext(name)) || name == "Makefile" || name == ".ci/run"
}

func TestLinksLeadSomewhere(t *testing.T) {
	all := documents(t)
	seen := 0
	for _, d := range all {
		for _, m := range link.FindAllStringSubmatch(d.text, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, ":") {
				continue // not of this tree
			}
			seen++
			to := d.path
			if target != "" {
				to = path.Join(path.Dir(d.path), target)
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s: the link %s leads nowhere: %v", d.path, m[1], err)
				continue
			}
			if anchor == "" {
				continue
			}
			i := slices.IndexFunc(all, func(o document) bool { return o.path == to })
			if i < 0 || !slices.Contains(all[i].slugs, anchor) {
				t.Errorf("%s: %s has no heading for #%s", d.path, to, anchor)
			}
		}
	}
	if seen < 20 {
		t.Errorf("found %d links, expected more: is the pattern still right?", seen)
	}
}

var testName = regexp.MustCompile(`\b(?:Test|Fuzz|Example|Benchmark)[A-Z]\w*`)

func TestNamedTestsExist(t *testing.T) {
	exists := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example|Benchmark)[A-Z]\w*)\(`)
	walk(t, func(name string, content []byte) {
		if strings.HasSuffix(name, "_test.go") {
			for _, m := range declared.FindAllSubmatch(content, -1) {
				exists[string(m[1])] = true
			}
		}
	})
	seen := 0
	for _, d := range documents(t) {
		for _, code := range d.code {
			for _, name := range testName.FindAllString(code, -1) {
				seen++
				if !exists[name] {
					t.Errorf("%s names the test %s, which does not exist", d.path, name)
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("found %d names of tests, expected more: is the pattern still right?", seen)
	}
}

// The README's table has one row for every requirement kind, and each row
// names a test.
func TestEveryRequirementHasARow(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	inside := false
	for line := range strings.Lines(string(content)) {
		switch {
		case strings.HasPrefix(line, "| requirement |"):
			inside = true
		case !strings.HasPrefix(line, "|"):
			inside = false
		case inside && strings.HasPrefix(line, "| `"):
			cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
			for _, kind := range span.FindAllString(cells[0], -1) {
				kind = strings.Trim(kind, "`")
				if rows[kind] != "" {
					t.Errorf("README.md has two rows for %s", kind)
				}
				rows[kind] = line
			}
			last := cells[len(cells)-1]
			if !testName.MatchString(last) {
				t.Errorf("README.md: this row names no test: %s", line)
			}
		}
	}
	for _, k := range plan.Kinds() {
		if rows[string(k)] == "" {
			t.Errorf("README.md has no row for %s", k)
		}
		delete(rows, string(k))
	}
	for kind := range rows {
		t.Errorf("README.md has a row for %s, which is no requirement kind", kind)
	}
}

// What is only true where somebody wrote it, and what was left to be done, has
// no place in the tree.
func TestNothingOfTheWorkshopIsLeft(t *testing.T) {
	forbidden := regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b|(^|[\s"'(=])(/w[o]rk/|/home/[a-z]|/root/\w)|GOPROXY=`)
	self := "internal/docs/docs_test.go"
	walk(t, func(name string, content []byte) {
		if name == self {
			return
		}
		n := 0
		for line := range strings.Lines(string(content)) {
			n++
			if m := forbidden.FindString(line); m != "" && (path.Ext(name) != ".go" || !strings.Contains(m, "/")) {
				t.Errorf("%s:%d: %q", name, n, m)
			}
		}
	})
}

func TestParse(t *testing.T) {
	d := parse("a.md", "# One `two`\n\ntext `span` [x](b.md)\n\n```\nfenced `not a span`\n[y](c.md)\n```\n## It's 3, no?\n")
	if want := []string{"fenced `not a span`\n[y](c.md)\n", "two", "span"}; !slices.Equal(d.code, want) {
		t.Errorf("code is %q, want %q", d.code, want)
	}
	if want := []string{"one-two", "its-3-no"}; !slices.Equal(d.slugs, want) {
		t.Errorf("anchors are %q, want %q", d.slugs, want)
	}
	if strings.Contains(d.text, "c.md") || !strings.Contains(d.text, "b.md") {
		t.Errorf("text is %q", d.text)
	}
}
