package spec

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestExampleParses(t *testing.T) {
	s, err := Parse("example.yaml", Example())
	if err != nil {
		t.Fatal(err)
	}
	if err := Validate(Expand(s.Rebase("/work"))); err != nil {
		t.Error(err)
	}
}

// The example in the format's description is a spec, too.
func TestDocumentedExampleParses(t *testing.T) {
	doc, err := os.ReadFile("../docs/formats/spec.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "```yaml\n")
	text, _, ok2 := strings.Cut(rest, "```\n")
	if !ok || !ok2 {
		t.Fatal("no YAML block")
	}
	if _, err := Parse("spec.md", []byte(text)); err != nil {
		t.Error(err)
	}
	for _, code := range codes(t) {
		if !strings.Contains(string(doc), "`"+code+"`") {
			t.Errorf("code %s is not documented", code)
		}
	}
}

// codes are those that the refused specs of testdata show.
func codes(t *testing.T) []string {
	seen := map[string]bool{}
	corpus(t, func(_ string, data []byte, _ *section) {
		var e *Error
		if _, err := Parse("x", data); errors.As(err, &e) {
			for _, p := range e.Problems {
				seen[p.Code] = true
			}
		}
	})
	return slices.Sorted(maps.Keys(seen))
}
