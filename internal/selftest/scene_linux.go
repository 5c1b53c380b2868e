package selftest

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

// scene is where one attack is carried out once: either without a boundary, or
// inside it. Nothing of one scene is in another.
type scene struct {
	*Tester
	outside bool   // without a boundary
	dir     string // a directory of its own on the host
	undo    []func()
}

// try is an attack that has its targets.
type try struct {
	act     []string         // what the victim does
	program string           // what is started instead of the victim
	stdin   *os.File         // for the victim; nil is nothing
	change  func(*spec.Spec) // what the boundary must have so that there is something to attack

	// through looks for the effect; nil believes the victim's exit status.
	through func(e ending) bool
	witness string // who is asked by through

	// allowed says which grant of the plan makes the attack lawful; "" is none.
	allowed func(p *plan.Plan) string
	// apart carries out the control in throwaway namespaces: it must not be
	// tried on the host itself, or only privilege inside makes it possible.
	apart bool
	// control says why there is no control run; "" is that there is one.
	control string
}

// notHere is why an attack cannot be staged on this host.
type notHere struct{ why string }

func (e *notHere) Error() string { return e.why }

func newScene(t *Tester, outside bool) (*scene, error) {
	dir, err := os.MkdirTemp("", "bvisor-selftest-")
	if err == nil {
		// The plan names canonical paths.
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return nil, err
	}
	s := &scene{Tester: t, outside: outside, dir: dir}
	s.later(func() { os.RemoveAll(dir) })
	return s, nil
}

func (s *scene) later(f func()) { s.undo = append(s.undo, f) }

func (s *scene) close() {
	for i := range s.undo {
		s.undo[len(s.undo)-1-i]()
	}
}

// token is a text that nobody else knows.
func token() string {
	b := make([]byte, 12)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b)
}

// path is a place in the scene's directory.
func (s *scene) path(name string) string { return filepath.Join(s.dir, name) }

// plant makes a file in the scene's directory.
func (s *scene) plant(name, content string, mode fs.FileMode) (string, error) {
	path := s.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(content)
	if e := f.Close(); err == nil {
		err = e
	}
	return path, err
}

// differs says whether a file is not what it was, or gone.
func differs(path, content string) bool {
	data, err := os.ReadFile(path)
	return err != nil || string(data) != content
}

func exists(path string) bool { return unix.Lstat(path, new(unix.Stat_t)) == nil }

// grant lets the boundary have a path of the scene.
func grant(access spec.Access, path string) func(*spec.Spec) {
	return func(s *spec.Spec) {
		s.Capabilities.Filesystem = append(s.Capabilities.Filesystem, spec.Grant{Access: access, Paths: []string{path}, Origin: spec.FromSpec})
	}
}

// bounded gives the boundary a budget, unless its own is lower.
func bounded(d spec.Dimension, limit int64) func(*spec.Spec) {
	return func(s *spec.Spec) {
		budgets := map[spec.Dimension]spec.Budget{}
		for k, b := range s.Budgets {
			budgets[k] = b
		}
		b := budgets[d]
		if b.Limit == 0 || b.Limit > limit {
			budgets[d] = spec.Budget{Limit: limit, Guarantee: spec.Enforced, Origin: spec.FromSpec}
		}
		s.Budgets = budgets
	}
}

// granted is an allowed that looks for a grant of a host's path.
func granted(path string, need spec.Access) func(*plan.Plan) string {
	return func(p *plan.Plan) string {
		var nearest spec.Root
		hidden := ""
		for _, r := range p.Resolved.Roots {
			if within(path, r.Dest) && len(r.Dest) >= len(nearest.Dest) {
				nearest = r
			}
		}
		for _, t := range p.Resolved.Spec.Controls.Temp {
			if within(path, t.Path) && len(t.Path) > len(hidden) {
				hidden = t.Path
			}
		}
		switch {
		case nearest.Dest == "" || nearest.Role == spec.RoleCarveOut || len(hidden) > len(nearest.Dest):
			return ""
		case nearest.Path != nearest.Dest: // another file of the host is there
			return ""
		case nearest.NonRecursive && filepath.Dir(path) != nearest.Dest && path != nearest.Dest:
			return ""
		case need.Read() && !nearest.Access.Read() || need.Write() && !nearest.Access.Write() || need.Exec() && !nearest.Access.Exec():
			return ""
		}
		return fmt.Sprintf("%s is granted %s", nearest.Dest, nearest.Access)
	}
}

// within says whether a path is dir or lies below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}
