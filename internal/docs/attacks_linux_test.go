//go:build amd64 || arm64

package docs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bvisor/bvisor/internal/selftest"
	"github.com/bvisor/bvisor/plan"
)

// Every row of the table of attacks says what stops it and names a test, or
// says that nothing does; what the selftest attempts is in it, with the same
// requirements. That named tests exist is held for all documents.
func TestEveryAttackHasARow(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, "docs/attacks.md"))
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, k := range plan.Kinds() {
		kinds[string(k)] = true
	}
	attacks := map[string][]plan.Kind{}
	for _, a := range selftest.Attacks() {
		attacks[a.Name] = a.Walls
	}
	rows := 0
	for line := range strings.Lines(string(content)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "| ") || len(cells) != 4 || strings.TrimSpace(cells[0]) == "attack" {
			continue
		}
		rows++
		residual := strings.TrimSpace(cells[1]) == "*not stopped*"
		if !residual && !testName.MatchString(cells[3]) {
			t.Errorf("this row names no test: %s", line)
		}
		var stopped []plan.Kind
		for _, k := range span.FindAllString(cells[1], -1) {
			k = strings.Trim(k, "`")
			if !kinds[k] {
				t.Errorf("%s is no requirement kind: %s", k, line)
			}
			stopped = append(stopped, plan.Kind(k))
		}
		name := strings.Trim(strings.TrimSpace(cells[2]), "`")
		if name == "" {
			continue
		}
		walls, known := attacks[name]
		if !known {
			t.Errorf("the selftest has no attack %q, or this is its second row: %s", name, line)
		}
		if !slices.Equal(walls, stopped) && known {
			t.Errorf("%s: the row says %v, the selftest %v", name, stopped, walls)
		}
		delete(attacks, name)
	}
	for name := range attacks {
		t.Errorf("docs/attacks.md has no row for %s", name)
	}
	if rows < 50 {
		t.Errorf("found %d rows, expected more: is the pattern still right?", rows)
	}
}
