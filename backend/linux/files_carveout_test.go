//go:build linux && (amd64 || arm64)

package linux_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

func TestCarveOuts(t *testing.T) {
	root := tree(t, "file", ".env", ".git/config", ".git/hooks/hook", "a/b/key")
	must(t, os.Link(place.tool, root+"/.git/tool"))
	for _, p := range []string{".env", ".git/config", "a/b/key"} {
		control(t, "read", root+"/"+p).succeeds(t)
		control(t, "write", root+"/"+p).succeeds(t)
		must(t, os.WriteFile(root+"/"+p, []byte(p), 0o644))
	}
	before := snapshot(t, root)
	for _, access := range []string{"r", "rw", "rwx"} {
		carved := mods{grant(spec.Access(access), root), grant("none", root+"/.env", root+"/.git", root+"/a/b/key")}
		run(t, carved, "read", root+"/file").succeeds(t)
		for _, p := range []string{".env", ".git/config", ".git/hooks/hook", "a/b/key"} {
			for _, act := range []string{"read", "write", "truncate"} {
				run(t, carved, act, root+"/"+p).denied(t, plan.FilesystemCarveOut, unix.EACCES, unix.EROFS)
			}
			for _, act := range []string{"chmod", "chown", "utimes", "setxattr"} {
				run(t, carved, act, root+"/"+p).denied(t, plan.FilesystemCarveOut, unix.EACCES, unix.EROFS)
			}
			run(t, carved, "link", root+"/"+p, root+"/linked").denied(t, plan.FilesystemCarveOut, unix.EXDEV, unix.EACCES, unix.EROFS)
		}
		run(t, carved, "list", root+"/.git").denied(t, plan.FilesystemCarveOut, unix.EACCES)
		run(t, carved, "chdir", root+"/.git").denied(t, plan.FilesystemCarveOut, unix.EACCES)
		run(t, carved, "create", root+"/.git/new").denied(t, plan.FilesystemCarveOut, unix.EACCES, unix.EROFS)
		run(t, carved, "exec", say(root+"/.git/tool")...).denied(t, plan.FilesystemCarveOut, unix.EACCES)
		// Neither the carve-out nor what leads to it can be taken away.
		for _, p := range []string{".env", ".git", "a", "a/b", "a/b/key"} {
			run(t, carved, "rename", root+"/"+p, root+"/"+p+"-gone").denied(t, plan.FilesystemCarveOut, unix.EBUSY, unix.EROFS)
			run(t, carved, "rename", root+"/file", root+"/"+p).denied(t, plan.FilesystemCarveOut, unix.EBUSY, unix.EROFS, unix.EXDEV, unix.EISDIR)
		}
		run(t, carved, "unlink", root+"/.env").denied(t, plan.FilesystemCarveOut, unix.EBUSY, unix.EROFS)
		run(t, carved, "rmdir", root+"/a").denied(t, plan.FilesystemCarveOut, unix.EBUSY, unix.EROFS)
		run(t, carved, "umount", root+"/.env").denied(t, plan.CallFilter, unix.EPERM)
	}
	if after := snapshot(t, root); after != before {
		t.Errorf("the tree changed from\n%s\nto\n%s", before, after)
	}
	// Sorted names: something that a mask hides is still named by its parent.
	carved := mods{grant("r", root), grant("none", root+"/.env")}
	if o := run(t, carved, "list", root).succeeds(t); !slices.Contains(strings.Fields(o.Stdout), "file") {
		t.Errorf("the rest is not there: %q", o.Stdout)
	}
}

// A carve-out reached by a link is the file that the link leads to.
func TestCarveOutThroughALink(t *testing.T) {
	root := tree(t, "real/secret", "file")
	must(t, os.Symlink("real/secret", root+"/link"))
	carved := mods{grant("rw", root), grant("none", root+"/link")}
	run(t, carved, "read", root+"/link").denied(t, plan.FilesystemCarveOut, unix.EACCES)
	run(t, carved, "read", root+"/real/secret").denied(t, plan.FilesystemCarveOut, unix.EACCES)
	holds(t, root+"/real/secret", "real/secret")
}

func TestCarveOutOfAPathThatIsNotThere(t *testing.T) {
	root := tree(t, "file", "a/file")
	carved := mods{grant("rw", root), grant("none", root+"/.env", root+"/.git/hooks/pre-commit", root+"/a/b/c")}
	before := snapshot(t, root)
	o := run(t, carved, "list", root).succeeds(t)
	if names := strings.Fields(o.Stdout); !slices.Contains(names, ".env") || !slices.Contains(names, ".git") {
		t.Errorf("no placeholder was there: %q", names)
	}
	var at []string
	for _, f := range o.Report.Facts {
		if f.Kind == report.PlaceholderMade {
			at = append(at, strings.TrimPrefix(f.Fields[0].Value, root))
		}
	}
	slices.Sort(at)
	if !slices.Equal(at, []string{"/.env", "/.git", "/a/b"}) {
		t.Errorf("the report names the placeholders %q", at)
	}
	for _, act := range []string{"create", "mkdir", "read", "write", "truncate", "unlink", "rmdir", "mkfifo", "chmod"} {
		for _, p := range []string{".env", ".git", "a/b"} {
			run(t, carved, act, root+"/"+p).denied(t, plan.FilesystemCarveOut, unix.EACCES, unix.EROFS, unix.EEXIST, unix.EBUSY, unix.ENOTDIR)
		}
		run(t, carved, act, root+"/.git/hooks/pre-commit").denied(t, plan.FilesystemCarveOut, unix.EACCES, unix.ENOTDIR)
	}
	run(t, carved, "rename", root+"/file", root+"/.env").denied(t, plan.FilesystemCarveOut, unix.EBUSY)
	run(t, carved, "rename", root+"/.env", root+"/other").denied(t, plan.FilesystemCarveOut, unix.EBUSY)
	run(t, carved, "rename", root+"/a", root+"/other").denied(t, plan.FilesystemCarveOut, unix.EBUSY)
	run(t, carved, "link", root+"/file", root+"/.env").denied(t, plan.FilesystemCarveOut, unix.EEXIST)
	run(t, carved, "link", root+"/.env", root+"/other").denied(t, plan.FilesystemCarveOut, unix.EXDEV, unix.EACCES)
	run(t, carved, "symlink", root+"/file", root+"/.env").denied(t, plan.FilesystemCarveOut, unix.EEXIST)
	supervisor(t).Wait()
	if after := snapshot(t, root); after != before {
		t.Errorf("something stayed:\n%s\nwas\n%s", after, before)
	}
	control(t, "create", root+"/.env").succeeds(t)
}

// paused starts a confined victim that waits, and returns what lets it go on.
func paused(t testing.TB, change mods, act string, args ...string) (done func() outcome) {
	t.Helper()
	gate, open, err := os.Pipe()
	must(t, err)
	started, tell, err := os.Pipe()
	must(t, err)
	req := request(append(change, func(s *spec.Spec) { s.Controls.Stdin.Mode = "inherit" }), "when-told", append([]string{act}, args...)...)
	used.Store(act, true)
	req.Stdin, req.Stdout = gate, tell
	var o outcome
	finished := make(chan error, 1)
	go func() {
		var err error
		o, err = attempt(t, req)
		tell.Close()
		finished <- err
	}()
	buf := make([]byte, 1)
	if _, err := started.Read(buf); err != nil {
		err := <-finished
		t.Fatalf("%s %q did not start: %v, %+v", act, args, err, o)
	}
	return func() outcome {
		t.Helper()
		open.Close()
		if err := <-finished; err != nil {
			t.Fatal(err)
		}
		gate.Close()
		started.Close()
		o.Act = act
		return o
	}
}

func TestPlaceholderSharedByTwoRuns(t *testing.T) {
	root := tree(t, "file")
	env := root + "/.env"
	carved := mods{grant("rw", root), grant("none", env)}
	first, second := paused(t, carved, "create", env), paused(t, carved, "create", env)
	if st, err := os.Stat(env); err != nil || st.Size() != 0 {
		t.Errorf("no placeholder: %v, %v", st, err)
	}
	first().denied(t, plan.FilesystemCarveOut, unix.EEXIST)
	if _, err := os.Stat(env); err != nil {
		t.Errorf("the first run took the place that the second still keeps: %v", err)
	}
	second().denied(t, plan.FilesystemCarveOut, unix.EEXIST)
	supervisor(t).Wait()
	holds(t, env, "")
}

func TestManyRunsShareAPlaceholder(t *testing.T) {
	root := tree(t, "file")
	carved := mods{grant("rw", root), grant("none", root+"/.env")}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				run(t, carved, "create", root+"/.env").denied(t, plan.FilesystemCarveOut, unix.EEXIST)
			}
		})
	}
	wg.Wait()
	supervisor(t).Wait()
	holds(t, root+"/.env", "")
}

// What somebody on the host puts at the place meanwhile stays theirs.
func TestHostFileAtThePlaceOfAPlaceholder(t *testing.T) {
	for what, put := range map[string]func(t *testing.T, name string){
		"written into": func(t *testing.T, name string) {
			must(t, os.Chmod(name, 0o600))
			must(t, os.WriteFile(name, []byte("theirs"), 0o600))
		},
		"renamed over": func(t *testing.T, name string) {
			must(t, os.WriteFile(name+".new", []byte("theirs"), 0o600))
			must(t, os.Rename(name+".new", name))
		},
		"removed and made": func(t *testing.T, name string) {
			must(t, os.Remove(name))
			must(t, os.WriteFile(name, []byte("theirs"), 0o600))
		},
	} {
		root := tree(t, "file")
		name := root + "/.env"
		end := paused(t, mods{grant("rw", root), grant("none", name)}, "read", root+"/file")
		put(t, name)
		end()
		supervisor(t).Wait()
		if got, err := os.ReadFile(name); err != nil || string(got) != "theirs" {
			t.Errorf("%s: the file is %q, %v", what, got, err)
		}
	}
}

func TestEmptyHostFileIsNoPlaceholder(t *testing.T) {
	root := tree(t, "file")
	name := root + "/.env"
	end := paused(t, mods{grant("rw", root), grant("none", name)}, "read", root+"/file")
	must(t, os.Remove(name))
	must(t, os.WriteFile(name, nil, 0o600)) // like touch(1), or a lock
	end()
	supervisor(t).Wait()
	if _, err := os.Stat(name); err != nil {
		t.Errorf("the run removed an empty file that is not its own: %v", err)
	}
	end = paused(t, mods{grant("rw", root), grant("none", root+"/.other")}, "read", root+"/file")
	must(t, exec.Command("touch", root+"/.other").Run())
	must(t, os.Chmod(root+"/.other", 0o644))
	end()
	supervisor(t).Wait()
	if _, err := os.Stat(root + "/.other"); err != nil {
		t.Errorf("the run removed a placeholder that somebody made their own: %v", err)
	}
}

func TestPlaceholderNeedsAWritableParent(t *testing.T) {
	need.OrdinaryUser(t)
	if got := problems(t, refused(t, mods{grant("r", "/usr"), grant("none", "/usr/none/none")}, "exit", "0")); !slices.Equal(got, []string{"spec.carve-out"}) {
		t.Errorf("got %q", got)
	}
}

func TestUselessCarveOutsAreErrors(t *testing.T) {
	root := tree(t, "in/file", "out/file")
	for _, p := range []string{root + "/out", root + "/out/none", "/nowhere/at/all"} {
		got := problems(t, refused(t, mods{grant("r", root+"/in"), grant("none", p)}, "exit", "0"))
		if !slices.Equal(got, []string{"spec.carve-out"}) && !slices.Equal(got, []string{"spec.contradiction"}) {
			t.Errorf("%s: got %q", p, got)
		}
	}
}
