package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/bvisor/bvisor/internal/need"
)

// hostile leaves names, contents and links that a terminal would obey.
const hostile = `
echo new >text
printf 'a\033[2Jb\302\233Jc\r\n' >paint
n=$(printf '\033]0;title\007name\n.\302\233m'); printf x >"$n"
ln -s "$(printf '\033[31mthere')" link
mkfifo "$(printf '\033[7mfifo')"
`

// ours are colours, and lines of progress that are taken away again.
var ours = regexp.MustCompile("\x1b\\[(0|1|31|32|36)m|\r(bvisor: [a-z ]+ \\d+ of \\d+ entries)?\x1b\\[K")

// On a terminal a diff has colours, and nothing of a workload's gets there that
// the terminal would obey.
func TestTTYArtifacts(t *testing.T) {
	need.Program(t, "mkfifo")
	if err := canHoldBack(); err != nil {
		need.Missing(t, "overlay", err.Error())
	}
	d := newDesk(t)
	d.file("text", "old\n")
	from := 0
	say := func(code int, args ...string) string {
		t.Helper()
		d.start(args...)
		if got := d.end(); got != code {
			t.Fatalf("%q ended with %d, expected %d:\n%q", args, got, code, d.all()[from:])
		}
		d.kinds("\n") // what is echoed comes behind everything
		d.until("the echo", func() bool { return strings.HasSuffix(d.all(), "\r\n") && len(d.all()) > from+2 })
		text := d.all()[from:]
		from = len(d.all())
		if rest := ours.ReplaceAllString(text, ""); strings.ContainsAny(rest, "\x1b\a\u009b") || strings.Contains(strings.ReplaceAll(rest, "\r\n", ""), "\r") {
			t.Errorf("%q wrote %q", args, text)
		}
		return text
	}
	say(0, "run", "--quarantine", ".", "--", "/bin/sh", "-c", hostile)
	if text := say(0, "ledger", "verify"); !strings.Contains(text, "\rbvisor: verified 2 of 2 entries\x1b[K") {
		t.Errorf("progress is not told: %q", text)
	}
	if text := say(0, "artifacts", "diff"); !strings.Contains(text, "\x1b[31m-old\x1b[0m") || !strings.Contains(text, "\x1b[32m+new\x1b[0m") || !strings.Contains(text, "title") {
		t.Errorf("the diff is %q", text)
	}
	for _, args := range [][]string{{"artifacts", "list"}, {"artifacts", "list", "--json"}, {"report", "show"}, {"report", "show", "--json"}, {"ledger", "list"}} {
		if text := say(0, args...); !strings.Contains(text, "fifo") && args[0] != "ledger" {
			t.Errorf("%q: %q", args, text)
		}
	}
	// What conflicts is named, too.
	if err := os.WriteFile(filepath.Join(d.dir, "\x1b]0;title\aname\n.\u009bm"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if text := say(1, "artifacts", "commit"); !strings.Contains(text, "title") {
		t.Errorf("the conflict is %q", text)
	}
	t.Setenv("NO_COLOR", "1")
	if text := say(0, "artifacts", "diff"); strings.Contains(text, "\x1b") || !strings.Contains(text, "+new") {
		t.Errorf("without colours the diff is %q", text)
	}
}
