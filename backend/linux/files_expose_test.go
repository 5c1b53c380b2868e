//go:build linux && (amd64 || arm64)

package linux_test

import (
	"errors"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/internal/need"
)

// What is exposed over a directory of a preset is what the workload finds there,
// and nothing of the preset's below it.
func TestExposeOverAPreset(t *testing.T) {
	need.File(t, "/usr/bin")
	root := tree(t, "mine")
	c := newCalls()
	for _, name := range []string{"/usr/mine", "/usr/bin", "/etc/passwd"} {
		c.try(name, unix.SYS_OPENAT, num(-1), c.Str(name), num(unix.O_RDONLY), num(0))
	}
	without, within, _ := c.both(t, false, preset("system"), expose("r", root, "/usr"))
	for name, want := range map[string]struct{ outside, inside bool }{
		"/usr/mine": {false, true}, "/usr/bin": {true, false}, "/etc/passwd": {true, true}} {
		if without[name] >= 0 != want.outside || within[name] >= 0 != want.inside {
			t.Errorf("%s: %d outside, %d inside; expected to be there: %+v", name, without[name], within[name], want)
		}
	}
}

// The spec's own grant below needs a place to be mounted on.
func TestGrantBelowWhatIsExposed(t *testing.T) {
	root := tree(t, "over/", "under/dir/file", "roomy/dir/")
	grantBelow := func(source string) mods {
		return mods{expose("r", root+"/"+source, root+"/under"), grant("r", root+"/under/dir")}
	}
	if got := problems(t, refused(t, grantBelow("over"), "read", root+"/under/dir/file")); !slices.Equal(got, []string{"spec.expose"}) {
		t.Errorf("refused for %q, expected spec.expose", got)
	}
	run(t, grantBelow("roomy"), "read", root+"/under/dir/file").succeeds(t)
}

// A program that the boundary covers cannot be what is launched.
func TestCommandBelowWhatIsExposed(t *testing.T) {
	root := tree(t, "empty/", "dir/sub/")
	program := root + "/dir/sub/program"
	must(t, os.Link(place.exe, program))
	granted := grant("rx", root+"/dir")
	if _, err := attempt(t, request(mods{granted, command(program, "victim", "exit", "0")}, "exit", "0")); err != nil {
		t.Errorf("control: %v", err)
	}
	for name, over := range map[string]mods{"expose": {expose("r", root+"/empty", root+"/dir/sub")}, "temp": {temp("rw", root+"/dir/sub")}} {
		_, err := attempt(t, request(append(mods{granted, command(program, "victim", "exit", "0")}, over...), "exit", "0"))
		if _, ok := errors.AsType[*backend.CommandError](err); !ok {
			t.Errorf("%s: got %v, expected that the command is not in the boundary", name, err)
		}
	}
}
