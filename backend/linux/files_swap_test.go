//go:build linux && (amd64 || arm64)

package linux_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// between is the Linux backend with an attacker on the host who acts once
// paths are resolved.
type between struct {
	backend.Backend
	resolved func()
}

func (b between) Resolve(ctx context.Context, s spec.Spec, protected []backend.Protected) (backend.Resolution, error) {
	r, err := b.Backend.Resolve(ctx, s, protected)
	b.resolved()
	return r, err
}

// swapper exchanges two names over and over. Both names always exist.
type swapper struct {
	a, b string
	pace time.Duration // between two exchanges; 0 is as fast as it goes
	once time.Duration // instead: after this time, and never again
	odd  bool
	stop chan struct{}
	done sync.WaitGroup
}

func (s *swapper) swap(t *testing.T) {
	if err := unix.Renameat2(unix.AT_FDCWD, s.a, unix.AT_FDCWD, s.b, unix.RENAME_EXCHANGE); err != nil {
		t.Error(err)
	}
	s.odd = !s.odd
}

// vary makes each round different: a launch takes some milliseconds, and what
// is exchanged once is exchanged between some two of its steps.
func (s *swapper) vary(round int) {
	s.pace, s.once = 0, 0
	switch round % 4 {
	case 1:
		s.pace = 50 * time.Microsecond
	case 2:
		s.pace = 500 * time.Microsecond
	case 3:
		s.once = time.Duration(rand.IntN(4000)) * time.Microsecond
	}
}

func (s *swapper) start(t *testing.T) {
	s.stop = make(chan struct{})
	if s.once > 0 {
		s.done.Go(func() {
			select {
			case <-s.stop:
			case <-time.After(s.once):
				s.swap(t)
				<-s.stop
			}
		})
		return
	}
	s.done.Go(func() {
		for {
			select {
			case <-s.stop:
				return
			default:
				s.swap(t)
				time.Sleep(s.pace)
			}
		}
	})
}

// end puts the names back.
func (s *swapper) end(t *testing.T) {
	if s.stop != nil {
		close(s.stop)
		s.done.Wait()
		s.stop = nil
	}
	if s.odd {
		s.swap(t)
	}
}

// visitor is a program that prints a word and what it can read of standard
// input and some files, and makes a file with victim.Mark in it.
func visitor(t *testing.T, path, word string, read []string, make string) {
	c := newCalls()
	fd, n, at := c.Var("fd"), c.Var("n"), launcher.Flag(unix.AT_FDCWD, "AT_FDCWD")
	c.quiet(unix.SYS_WRITE, num(1), c.Str(word), num(len(word)))
	for i, name := range append([]string{""}, read...) {
		buf := c.Bytes(bytes.Repeat([]byte{0}, 64), "text")
		if i > 0 { // at first it is 0, standard input
			c.Call("openat", unix.SYS_OPENAT, at, c.Str(name), num(unix.O_RDONLY), num(0)).To(launcher.Addr(fd)).Ignore()
		}
		c.Call("read", unix.SYS_READ, fd, buf, num(64)).To(launcher.Addr(n)).Ignore()
		c.quiet(unix.SYS_WRITE, num(1), buf, n) // EINVAL after an error
	}
	c.Call("openat", unix.SYS_OPENAT, at, c.Str(make), num(unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL), num(0o644)).To(launcher.Addr(fd)).Ignore()
	c.quiet(unix.SYS_WRITE, fd, c.Str(victim.Mark), num(len(victim.Mark)))
	must(t, os.Rename(c.file(t), path))
}

const canary = "canary"

// swapCase is one thing that is exchanged while a run of it is launched.
type swapCase struct {
	a, b string                 // exchanged
	link string                 // what b is a link to; empty is that b is there already
	tool string                 // the program, where it is in the granted directory
	give func(root string) mods // instead of the grant of in/dir, which is also the working directory
}

// Every case has its granted directory at in/dir, an equal one with the canary
// at out/dir, and something that leads there at in's side.
var swapCases = map[string]swapCase{
	"root for a link":                    {a: "in/dir", b: "swap", link: "out/dir"},
	"root for a directory":               {a: "in/dir", b: "out/dir"},
	"parent for a link":                  {a: "in", b: "swap", link: "out"},
	"parent for a directory":             {a: "in", b: "out"},
	"executable for a link":              {a: "in/dir/tool", b: "swap", link: "out/dir/tool", tool: "in/dir/tool"},
	"executable for a program":           {a: "in/dir/tool", b: "out/dir/tool", tool: "in/dir/tool"},
	"the executable's parent for a link": {a: "in/dir", b: "swap", link: "out/dir", tool: "in/dir/tool"},
	// Only the directory above is exchanged: of the program itself nothing changes.
	"the executable's directory for a directory": {a: "in/dir/sub", b: "out/sub", tool: "in/dir/sub/tool"},
	"the executable's directory for a link":      {a: "in/dir/sub", b: "in/dir/swap", link: "in/dir/other", tool: "in/dir/sub/tool"},
	"working directory for a link": {a: "in/dir", b: "swap", link: "out/dir", give: func(root string) mods {
		return mods{grant("rw", root+"/in"), dir(root + "/in/dir")}
	}},
	"exposed directory for a link": {a: "in/dir", b: "swap", link: "out/dir", give: func(root string) mods {
		return mods{expose("rw", root+"/in/dir", "/shown"), dir("/shown")}
	}},
	"exposed directory for a directory": {a: "in/dir", b: "out/dir", give: func(root string) mods {
		return mods{expose("rw", root+"/in/dir", "/shown"), dir("/shown")}
	}},
	"standard input for a link": {a: "in/dir/file", b: "swap", link: "out/dir/file", give: func(root string) mods {
		return mods{grant("rw", root+"/in/dir"), dir(root + "/in/dir"), func(s *spec.Spec) { s.Controls.Stdin = spec.Stdin{Mode: spec.StdinFile, File: root + "/in/dir/file"} }}
	}},
}

// visit makes the tree of a case, and the request for a run in it.
func (c swapCase) visit(t *testing.T) (root string, req bvisor.Request) {
	root = tree(t, "in/dir/file", "in/dir/sub/", "in/dir/other/", "out/dir/", "out/sub/", "bin/")
	must(t, os.WriteFile(root+"/out/dir/file", []byte(canary), 0o644))
	read := []string{"file", root + "/in/dir/file", root + "/out/dir/file", root + "/swap/file", root + "/swap", "/shown/file"}
	program := root + "/bin/tool"
	visitor(t, program, "here,", read, "new")
	for _, name := range []string{"/in/dir/tool", "/in/dir/sub/tool"} {
		visitor(t, root+name, "here,", read, "new")
	}
	for _, name := range []string{"/out/dir/tool", "/out/sub/tool", "/in/dir/other/tool"} {
		visitor(t, root+name, canary, read, "new")
	}
	if c.link != "" {
		must(t, os.Symlink(root+"/"+c.link, root+"/"+c.b))
	}
	if c.tool != "" {
		program = root + "/" + c.tool
	}
	give := mods{grant("rwx", root+"/in/dir"), dir(root + "/in/dir")}
	if c.give != nil {
		give = c.give(root)
	}
	return root, request(append(mods{preset(), grant("rx", root+"/bin"), command(program)}, give...), "hold")
}

// honest sorts the outcomes that a run may have whose files were exchanged.
func honest(t *testing.T, o outcome, err error) (ran bool) {
	t.Helper()
	switch {
	case err != nil:
		if _, ok := errors.AsType[*bvisor.Fault](err); ok {
			t.Fatalf("a fault of the supervisor: %v", err)
		}
		return false
	case o.Report.Outcome.Status == report.SetupFailed:
		return false
	case o.Report.Exit != nil && o.Code == 0:
		return true
	}
	t.Errorf("it ended with %d, %+v\n%s", o.Code, o.Report.Outcome, o.Stderr)
	return false
}

// Between the plan and the launch, and all the while the launch goes on, a
// name is exchanged for something outside. The run works on what was resolved,
// or it fails; nothing outside is touched or read.
func TestSwapsWhileLaunching(t *testing.T) {
	need.MountNamespace(t)
	for name, c := range swapCases {
		t.Run(name, func(t *testing.T) {
			root, req := c.visit(t)
			var pins [2]*os.File // of the directories, whatever their names
			for i, d := range []string{"/in/dir", "/out/dir"} {
				f, err := os.Open(root + d)
				must(t, err)
				defer f.Close()
				pins[i] = f
			}
			through := func(i int, name string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", pins[i].Fd(), name) }
			before := snapshot(t, root+"/out")
			s := &swapper{a: root + "/" + c.a, b: root + "/" + c.b}
			own := supervisor(t)
			sup := &bvisor.Supervisor{Backend: between{own.Backend, func() { s.start(t) }}, Log: own.Log, Key: own.Key, Protected: own.Protected}
			ran, tries := 0, rounds(t, 40, 1000)
			for round := range tries {
				s.vary(round)
				must(t, remove(through(0, "new")))
				o, err := attemptWith(t, sup, t.Context(), req)
				s.end(t)
				sup.Wait()
				if honest(t, o, err) {
					ran++
					holds(t, through(0, "new"), victim.Mark)
					if left := strings.ReplaceAll(o.Stdout, "in/dir/file", ""); left != "here," || left == o.Stdout {
						t.Errorf("it said %q, expected what in/dir/file holds", o.Stdout)
					}
				}
				if strings.Contains(o.Stdout+o.Stderr, canary) {
					t.Fatalf("it read what is outside: %q, %+v", o.Stdout, o.Report.Outcome)
				}
				if after := snapshot(t, root+"/out"); after != before {
					t.Fatalf("outside, the tree changed from\n%s\nto\n%s", before, after)
				}
			}
			t.Logf("%d of %d ran", ran, tries)
		})
	}
}

// The name is exchanged for a link from before the paths are looked up. Where
// it led then is what the plan names, and that and nothing else is reached.
func TestSwapsWhileResolving(t *testing.T) {
	need.MountNamespace(t)
	for name, c := range swapCases {
		if !strings.HasPrefix(c.link, "out") || c.give != nil {
			continue // by their names alone two directories are not told apart
		}
		t.Run(name, func(t *testing.T) {
			root, req := c.visit(t)
			s := &swapper{a: root + "/" + c.a, b: root + "/" + c.b}
			sup := supervisor(t)
			inside, outside, tries := 0, 0, rounds(t, 40, 250)
			for round := range tries {
				s.vary(round)
				s.start(t)
				o, err := attemptWith(t, sup, t.Context(), req)
				s.end(t)
				sup.Wait()
				there := false
				if honest(t, o, err) {
					for _, r := range o.Report.Plan.Resolved.Roots {
						there = there || strings.HasPrefix(r.Path, root+"/out/")
					}
					if there {
						outside++
					} else {
						inside++
					}
				}
				for _, d := range []struct {
					name    string
					reached bool
				}{{"/out/dir/new", there}, {"/in/dir/new", err == nil && o.Report.Exit != nil && !there}} {
					if exists(root+d.name) != d.reached {
						t.Errorf("%s is there: %v, expected %v by the plan: %+v", d.name, !d.reached, d.reached, o.Report.Plan.Resolved.Roots)
					}
					must(t, remove(root+d.name))
				}
				if strings.Contains(o.Stdout, canary) != there {
					t.Errorf("it said %q; by its plan it was outside: %v", o.Stdout, there)
				}
			}
			t.Logf("%d of %d ran inside, %d outside", inside, tries, outside)
		})
	}
}

// The directory above a carve-out is exchanged for a link while the mask is
// put up. What was carved out is never read, under neither name.
func TestSwapsUnderACarveOut(t *testing.T) {
	need.MountNamespace(t)
	root := tree(t, "g/a/secret", "g/decoy/secret")
	must(t, os.WriteFile(root+"/g/decoy/secret", []byte("decoy"), 0o644))
	must(t, os.Symlink("decoy", root+"/g/swap"))
	s := &swapper{a: root + "/g/a", b: root + "/g/swap"}
	own := supervisor(t)
	sup := &bvisor.Supervisor{Backend: between{own.Backend, func() { s.start(t) }}, Log: own.Log, Key: own.Key, Protected: own.Protected}
	if o := control(t, "read-each", root+"/g/a/secret", root+"/g/swap/secret").succeeds(t); !strings.Contains(o.Stdout, "g/a/secret") {
		t.Fatalf("control: %q", o.Stdout)
	}
	ran := 0
	tries := rounds(t, 40, 500)
	for round := range tries {
		s.vary(round)
		req := request(mods{grant("r", root+"/g"), grant("none", root+"/g/a/secret")}, "read-each", root+"/g/a/secret", root+"/g/swap/secret", root+"/g/a/secret")
		o, err := attemptWith(t, sup, t.Context(), req)
		s.end(t)
		sup.Wait()
		if err == nil && o.Report.Exit != nil {
			ran++
		}
		if strings.Contains(o.Stdout, "g/a/secret") {
			t.Fatalf("the run read what was carved out: %q, %+v", o.Stdout, o.Report.Outcome)
		}
	}
	t.Logf("%d of %d ran", ran, tries)
}

func remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// A root that is gone by the time of the launch, or is another one by then.
func TestRootsThatVanish(t *testing.T) {
	need.MountNamespace(t)
	for what, act := range map[string]func(t *testing.T, dir string){
		"removed":          func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) },
		"renamed":          func(t *testing.T, dir string) { must(t, os.Rename(dir, dir+"-gone")) },
		"made anew":        func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)); must(t, os.Mkdir(dir, 0o755)) },
		"another in place": func(t *testing.T, dir string) { must(t, os.Rename(dir, dir+"-gone")); must(t, os.Mkdir(dir, 0o755)) },
		"a file in place":  func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)); must(t, os.WriteFile(dir, nil, 0o644)) },
	} {
		root := tree(t, "in/file")
		own := supervisor(t)
		sup := &bvisor.Supervisor{Backend: between{own.Backend, func() { act(t, root+"/in") }}, Log: own.Log, Key: own.Key, Protected: own.Protected}
		o, err := attemptWith(t, sup, t.Context(), request(mods{grant("rw", root+"/in")}, "create", root+"/in/new"))
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if o.Report.Outcome.Status != report.SetupFailed || !strings.HasPrefix(o.Report.Outcome.Reason, "mounts: ") || o.Report.Exit != nil {
			t.Errorf("%s: %+v", what, o.Report.Outcome)
		}
		holds(t, root+"/in/new", "")
	}
}
