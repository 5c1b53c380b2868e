package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// program is the command line as it describes itself.
type program struct {
	exe      string
	commands map[string]bool // "run", "report show"
	flags    map[string]bool // of any command
}

var (
	helpCommand = regexp.MustCompile(`(?m)^  ([a-z]+) +\S`)
	helpFlag    = regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+)`)
)

// ask reads the help of one command and of those below it.
func (p *program) ask(t *testing.T, command ...string) {
	t.Helper()
	out, err := exec.Command(p.exe, append(slices.Clone(command), "--help")...).Output()
	if err != nil {
		t.Fatalf("bvisor %s --help: %v", strings.Join(command, " "), err)
	}
	_, options, _ := strings.Cut(string(out), "\nFlags:\n")
	for _, m := range helpFlag.FindAllStringSubmatch(options, -1) {
		p.flags[m[1]] = true
	}
	_, list, found := strings.Cut(string(out), "\nAvailable Commands:\n")
	if !found {
		return
	}
	list, _, _ = strings.Cut(list, "\n\n")
	for _, m := range helpCommand.FindAllStringSubmatch(list, -1) {
		below := append(slices.Clone(command), m[1])
		p.commands[strings.Join(below, " ")] = true
		if m[1] != "help" && m[1] != "completion" {
			p.ask(t, below...)
		}
	}
}

var (
	call = regexp.MustCompile(`(?:^|^\$ |")(?:go run \./cmd/)?bvisor ([a-z]+)(?: ([a-z]+))?([^|#]*)`)
	flag = regexp.MustCompile(`(?:^|\s)--([a-z][a-z-]*)`)
)

// What a reader is told to type can be typed. At the start of a code span or of
// a line in a block, behind a prompt or a quotation mark, "bvisor WORD" is a
// command, and what follows up to a bare "--" has its flags. A span that starts
// with "--" is a flag of ours.
func TestNamedCommandsAndFlagsExist(t *testing.T) {
	p := &program{exe: filepath.Join(t.TempDir(), "bvisor"), commands: map[string]bool{}, flags: map[string]bool{}}
	if runtime.GOOS == "windows" {
		p.exe += ".exe"
	}
	build := exec.Command("go", "build", "-o", p.exe, "./cmd/bvisor")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build ./cmd/bvisor: %v\n%s", err, out)
	}
	p.ask(t)
	for _, c := range []string{"run", "report show", "spec check"} {
		if !p.commands[c] {
			t.Fatalf("the help lists %v: no %s", p.commands, c)
		}
	}
	seen := 0
	for _, d := range documents(t) {
		for _, code := range d.code {
			for line := range strings.Lines(code) {
				seen += p.judge(t, d.path, strings.TrimSpace(line))
			}
		}
	}
	if seen < 30 {
		t.Errorf("found %d commands and flags, expected more: is the pattern still right?", seen)
	}
}

func (p *program) judge(t *testing.T, where, line string) (seen int) {
	t.Helper()
	own := ""
	for _, m := range call.FindAllStringSubmatch(line, -1) {
		command, below := m[1], m[2]
		seen++
		if !p.commands[command] {
			t.Errorf("%s: %q: there is no command %q", where, line, command)
			continue
		}
		if group := slices.ContainsFunc(p.all(), func(c string) bool { return strings.HasPrefix(c, command+" ") }); group && below != "" && !p.commands[command+" "+below] {
			t.Errorf("%s: %q: there is no command %q", where, line, command+" "+below)
		}
		own += " " + m[3]
	}
	if strings.HasPrefix(line, "--") {
		own = line
	}
	own, _, _ = strings.Cut(own, " -- ")
	for _, m := range flag.FindAllStringSubmatch(own, -1) {
		seen++
		if !p.flags[m[1]] {
			t.Errorf("%s: %q: there is no flag --%s", where, line, m[1])
		}
	}
	return seen
}

func (p *program) all() []string {
	var list []string
	for c := range p.commands {
		list = append(list, c)
	}
	return list
}
