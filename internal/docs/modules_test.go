package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every module that the build knows has a row that says what it is for.
func TestEveryDependencyIsExplained(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs/dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	required := regexp.MustCompile(`(?m)^(?:require)?\s+(\S+\.\S+/\S+) v\S+`).FindAllStringSubmatch(string(mod), -1)
	if len(required) < 5 {
		t.Fatalf("found %d modules in go.mod, expected more", len(required))
	}
	for _, m := range required {
		if !strings.Contains(string(text), "\n| `"+m[1]+"` |") {
			t.Errorf("docs/dependencies.md has no row for %s", m[1])
		}
	}
}
