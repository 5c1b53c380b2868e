package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// elsewhere adds to the error about a command that was not found where the
// caller's own PATH has it.
func elsewhere(err error) error {
	e, ok := errors.AsType[*backend.CommandError](err)
	if !ok || !e.NotFound || strings.ContainsRune(e.Command, '/') {
		return err
	}
	path, lookErr := exec.LookPath(e.Command)
	if lookErr != nil || !filepath.IsAbs(path) {
		return err
	}
	dir := filepath.Dir(path)
	more := *e
	more.Hint = "outside it is " + path + "; grant it with --exec " + path + ", and put " + dir + " into PATH with --env PATH=" + dir + ":/usr/local/bin:/usr/bin:/bin"
	return &more
}

// missingLibrary is what ld.so(8) says before it exits with 127.
var missingLibrary = regexp.MustCompile(`error while loading shared libraries: ([^\s:/]+): cannot open shared object file`)

// notStarted hints at what a program could not start that ended with 126 or 127
// by itself: its loader for want of a library, a shell for want of a program.
func (c *cli) notStarted(r *report.Report, stderr []byte) {
	if m := missingLibrary.FindSubmatch(stderr); m != nil {
		name := string(m[1])
		if path := findLibrary(r, name); path != "" {
			c.hint("%s is at %s on this host and not in the boundary: allow it with --exec %s", name, path, path)
			return
		}
		c.hint("the boundary has no library %s where the program looks for it", name)
	}
	if !asksForDenials(r) {
		c.hint(`"bvisor run --explain" lists what it asked for and did not get`)
	}
}

// findLibrary looks where a program's libraries mostly are, outside of what it
// was granted. What a program says in its ELF header is not read: it may be
// another's than the one that was started.
func findLibrary(r *report.Report, name string) string {
	if r.Plan == nil {
		return ""
	}
	resolved := r.Plan.Resolved
	dir := filepath.Dir(resolved.Executable.Path)
	dirs := []string{dir, filepath.Join(dir, "lib"), filepath.Join(dir, "../lib"), filepath.Join(dir, "../lib64")}
	dirs = append(dirs, filepath.SplitList(os.Getenv("LD_LIBRARY_PATH"))...)
	for _, e := range resolved.Spec.Capabilities.Environment {
		if e.Name == "LD_LIBRARY_PATH" && e.Lease == "" {
			dirs = append(dirs, filepath.SplitList(e.Value)...)
		}
	}
	multiarch, _ := filepath.Glob("/usr/lib/*-linux-gnu") // the pattern is well formed
	for _, d := range slices.Concat(dirs, []string{"/usr/local/lib", "/usr/local/lib64", "/usr/lib", "/usr/lib64"}, multiarch) {
		path := filepath.Join(d, name)
		info, err := os.Stat(path)
		if err == nil && info.Mode().IsRegular() && filepath.IsAbs(path) && !givenBy(resolved.Roots, path) {
			return path
		}
	}
	return ""
}

// givenBy says whether a path can be read and executed already.
func givenBy(roots []spec.Root, path string) bool {
	return slices.ContainsFunc(roots, func(r spec.Root) bool {
		return r.Role == spec.RoleGrant && r.Access.Exec() && below(path, r.Path)
	})
}
