//go:build linux && (amd64 || arm64)

package linux_test

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend"
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

func (s *swapper) start(t *testing.T) {
	s.stop = make(chan struct{})
	s.done.Go(func() {
		for {
			select {
			case <-s.stop:
				if s.odd {
					s.swap(t)
				}
				return
			default:
				s.swap(t)
				time.Sleep(50 * time.Microsecond) // some tens of exchanges in each launch
			}
		}
	})
}

func (s *swapper) end() {
	if s.stop != nil {
		close(s.stop)
		s.done.Wait()
		s.stop = nil
	}
}

func rounds(t *testing.T) int {
	if testing.Short() {
		return 20
	}
	return 200
}

// Between the plan and the launch, and all the while the launch goes on, a
// name is exchanged for a link to outside. The run works on what was resolved,
// or it fails; nothing outside is touched.
func TestSwapsWhileLaunching(t *testing.T) {
	need.MountNamespace(t)
	// Every case has its granted directory at in/dir, an equal one outside, and
	// a link that leads outside at in's side.
	for name, c := range map[string]struct {
		a, b string // exchanged
		link string // what b is
		exe  bool   // the program is in the granted directory
	}{
		"root":       {"in/dir", "swap", "out/dir", false},
		"parent":     {"in", "swap", "out", false},
		"executable": {"in/dir/tool", "swap", "out/dir/tool", true},
		"its parent": {"in/dir", "swap", "out/dir", true},
	} {
		t.Run(name, func(t *testing.T) {
			root := tree(t, "in/dir/file", "out/dir/file")
			must(t, os.Link(place.exe, root+"/in/dir/tool"))
			must(t, os.WriteFile(root+"/out/dir/tool", []byte("#!/nowhere\n"), 0o755))
			must(t, os.Symlink(root+"/"+c.link, root+"/"+c.b))
			pin, err := os.Open(root + "/in/dir")
			must(t, err)
			defer pin.Close()
			before := snapshot(t, root+"/out")
			s := &swapper{a: root + "/" + c.a, b: root + "/" + c.b}
			own := supervisor(t)
			sup := &bvisor.Supervisor{Backend: between{own.Backend, func() { s.start(t) }}, Log: own.Log, Key: own.Key, Protected: own.Protected}
			ran, failed := 0, 0
			for range rounds(t) {
				must(t, remove(root+"/in/dir/new"))
				req := request(mods{grant("rwx", root+"/in/dir"), dir(root + "/in/dir")}, "create", "new")
				if c.exe {
					req.Spec.Workload.Command[0] = root + "/in/dir/tool"
				}
				o, err := attemptWith(t, sup, t.Context(), req)
				s.end()
				sup.Wait()
				switch {
				case err != nil:
					if _, ok := errors.AsType[*bvisor.Fault](err); ok {
						t.Fatalf("a fault of the supervisor: %v", err)
					}
					failed++
				case o.Report.Outcome.Status == report.SetupFailed:
					failed++
				case o.Report.Exit != nil && o.Code == 0:
					ran++
					if got, err := os.ReadFile("/proc/self/fd/" + strconv.Itoa(int(pin.Fd())) + "/new"); err != nil || string(got) != victim.Mark {
						t.Errorf("it ran, and the granted directory has %q, %v", got, err)
					}
				default:
					t.Errorf("it ended with %d, %+v\n%s", o.Code, o.Report.Outcome, o.Stderr)
				}
				if after := snapshot(t, root+"/out"); after != before {
					t.Fatalf("outside, the tree changed from\n%s\nto\n%s", before, after)
				}
			}
			t.Logf("%d ran, %d failed", ran, failed)
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
	for range rounds(t) {
		req := request(mods{grant("r", root+"/g"), grant("none", root+"/g/a/secret")}, "read-each", root+"/g/a/secret", root+"/g/swap/secret", root+"/g/a/secret")
		o, err := attemptWith(t, sup, t.Context(), req)
		s.end()
		sup.Wait()
		if err == nil && o.Report.Exit != nil {
			ran++
		}
		if strings.Contains(o.Stdout, "g/a/secret") {
			t.Fatalf("the run read what was carved out: %q, %+v", o.Stdout, o.Report.Outcome)
		}
	}
	t.Logf("%d of %d ran", ran, rounds(t))
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
