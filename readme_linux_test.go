//go:build amd64 || arm64

package bvisor_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// answer is a line of examples/curious.sh: what was tried, in 36 columns, and
// how it went.
var answer = regexp.MustCompile(`(?m)^([a-z].{35}) (yes|no)\b`)

func answers(text string) map[string]string {
	found := map[string]string{}
	for _, m := range answer.FindAllStringSubmatch(text, -1) {
		found[strings.TrimSpace(m[1])] = m[2]
	}
	return found
}

// The first thing that the README shows is what happens.
func TestReadmeShowsWhatTheCuriousProgramSees(t *testing.T) {
	if err := admitted(); err != nil {
		need.Missing(t, "confine", err.Error())
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	want := answers(string(readme))
	if len(want) < 8 {
		t.Fatalf("the README shows %d answers: is the pattern still right?", len(want))
	}
	dir, err := filepath.Abs("examples")
	if err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile("examples/job.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "```yaml\n"+string(written)+"```\n") {
		t.Error("the README's spec is not examples/job.yaml")
	}
	fromFile, err := spec.Parse("job.yaml", written)
	if err != nil {
		t.Fatal(err)
	}
	state, err := bvisor.OpenState(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer state.Log.Close()
	for name, s := range map[string]spec.Spec{
		"flags":    spec.Default(dir, []string{"sh", "curious.sh"}),
		"job.yaml": fromFile.Rebase(dir),
	} {
		t.Run(name, func(t *testing.T) {
			supervisor := state.Supervisor(linux.New())
			defer supervisor.Wait()
			result, err := supervisor.Run(context.Background(), bvisor.Request{Spec: s})
			if err != nil {
				t.Fatal(err)
			}
			if result.Report.Outcome.Status != report.Completed {
				t.Errorf("outcome is %+v, want completed; stderr: %s", result.Report.Outcome, result.Output["stderr"])
			}
			got := answers(string(result.Output["stdout"]))
			for what, how := range want {
				if got[what] != how {
					t.Errorf("%s: %q, the README says %q", what, got[what], how)
				}
			}
		})
	}
}

// Every line of the README's program that uses this module stands in an
// example that is run.
func TestReadmeEmbedsWhatTheExampleDoes(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(readme), "```go\n")
	block, _, _ = strings.Cut(block, "```")
	lines := 0
	for line := range strings.Lines(block) {
		line, _, _ = strings.Cut(line, " //")
		if line = strings.TrimSpace(line); !strings.Contains(line, ".") {
			continue
		}
		lines++
		if !strings.Contains(string(example), "\t"+line) {
			t.Errorf("example_test.go has no line %q", line)
		}
	}
	if lines < 5 {
		t.Errorf("the README's program has %d lines that use the module, expected more", lines)
	}
}
