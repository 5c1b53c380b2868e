package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/bvisor/bvisor/internal/need"
)

// recipe is one document: the programs it takes, and its blocks in order.
type recipe struct {
	programs []string
	blocks   []block
	stray    []string // commands that stand in no block, and what opens one that does not end
}

// block is a file with its name, or a transcript without one.
type block struct{ name, text string }

var (
	programLine = regexp.MustCompile(`(?m)^Programs: (.*)\.$`)
	quoted      = regexp.MustCompile("`([^`]+)`")
)

// parseRecipe reads a document. A fence with a second word is the file of that
// name; a fence of a console is a transcript.
func parseRecipe(text string) recipe {
	var r recipe
	if m := programLine.FindStringSubmatch(text); m != nil {
		for _, p := range quoted.FindAllStringSubmatch(m[1], -1) {
			r.programs = append(r.programs, p[1])
		}
	}
	var open *block
	for line := range strings.Lines(text) {
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && open != nil:
			r.blocks = append(r.blocks, *open)
			open = nil
		case fence:
			language, name, named := strings.Cut(strings.TrimSpace(info), " ")
			if open = new(block); named {
				open.name = name
			} else if language != "console" {
				open.name = "/" // shown, not used
			}
		case open != nil:
			open.text += line
		case strings.HasPrefix(line, "$ "):
			r.stray = append(r.stray, line)
		}
	}
	if open != nil {
		r.stray = append(r.stray, open.text)
	}
	return r
}

// step is a command of a transcript and what it prints.
type step struct{ command, want string }

func steps(transcript string) []step {
	var list []step
	for line := range strings.Lines(transcript) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			list = append(list, step{command: strings.TrimSpace(command)})
		} else if len(list) > 0 {
			list[len(list)-1].want += line
		}
	}
	return list
}

// shows says whether got is what a transcript shows: "..." is anything on its
// line.
func shows(want, got string) bool {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(want), `\.\.\.`, `.*`)
	return regexp.MustCompile(`^` + pattern + `$`).MatchString(got)
}

// TestRecipes does what docs/recipes says, word by word.
func TestRecipes(t *testing.T) {
	if err := canConfine(); err != nil {
		need.Missing(t, "confine", err.Error())
	}
	files, err := filepath.Glob(filepath.Join(recipes, "*.md"))
	if err != nil || len(files) < 5 {
		t.Fatalf("found %d recipes, expected more: %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".md")
		if name == "README" || name == interactive {
			continue
		}
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "--quarantine") {
				if err := canHoldBack(); err != nil {
					need.Missing(t, "overlay", err.Error())
				}
			}
			r := parseRecipe(string(text))
			if len(r.programs) == 0 {
				t.Fatal(`no line "Programs: ..."`)
			}
			if len(r.stray) > 0 {
				t.Fatalf("nobody carries out %q", r.stray)
			}
			for _, p := range r.programs {
				need.Program(t, p)
			}
			cook(t, r)
		})
	}
}

func TestRecipesAsOrdinaryUser(t *testing.T) { asOrdinaryUser(t, "TestRecipes") }

// cook writes the files and carries out the commands of one recipe.
func cook(t *testing.T, r recipe) {
	dir, state := t.TempDir(), t.TempDir()
	ran := 0
	for _, b := range r.blocks {
		if b.name == "/" {
			continue
		}
		if b.name != "" {
			if err := os.WriteFile(filepath.Join(dir, b.name), []byte(b.text), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		for _, s := range steps(b.text) {
			ran++
			cmd := exec.CommandContext(t.Context(), "sh", "-c", s.command)
			cmd.Dir = dir
			// No configuration of whoever runs the tests has a say.
			cmd.Env = append(os.Environ(), "BVISOR_STATE_DIR="+filepath.Join(state, "bvisor"), "GIT_CONFIG_GLOBAL=/dev/null", "GOFLAGS=", "LC_ALL=C.UTF-8")
			out, err := cmd.CombinedOutput()
			if err != nil || !shows(s.want, string(out)) {
				t.Fatalf("$ %s\n%s(%v)\nthe recipe shows:\n%s", s.command, out, err, s.want)
			}
		}
	}
	if ran == 0 {
		t.Fatal("the recipe has no command")
	}
}

// The reader of recipes sees what is there: a recipe that says something else
// than what happens fails.
func TestRecipeReader(t *testing.T) {
	r := parseRecipe("Programs: `a`, `b`.\n\n```sh x.sh\nl1\n```\n```console\n$ one\nout ... put\n$ two\n```\n```text\nshown\n```\n")
	if len(r.programs) != 2 || len(r.blocks) != 3 || r.blocks[0] != (block{"x.sh", "l1\n"}) || r.blocks[1].name != "" || r.blocks[2].name != "/" {
		t.Fatalf("got %+v", r)
	}
	if s := steps(r.blocks[1].text); len(s) != 2 || s[0] != (step{"one", "out ... put\n"}) || s[1] != (step{"two", ""}) {
		t.Errorf("got %+v", s)
	}
	if r := parseRecipe("$ outside\n```console\n$ open\n"); len(r.stray) != 2 {
		t.Errorf("strays are %q", r.stray)
	}
	for _, c := range []struct {
		want, got string
		same      bool
	}{{"a\n", "a\n", true}, {"a\n", "a\nb\n", false}, {"a ... c\n", "a b c\n", true}, {"a...\n", "b\n", false}, {"a...", "a\nb", false}, {"", "x", false}, {"a.c\n", "abc\n", false}} {
		if shows(c.want, c.got) != c.same {
			t.Errorf("%q and %q: expected %v", c.want, c.got, c.same)
		}
	}
}
