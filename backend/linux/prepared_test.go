//go:build linux && (amd64 || arm64)

package linux_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/secret"
	"github.com/bvisor/bvisor/spec"
)

// armed is what one test has prepared.
type armed struct {
	testing.TB
	*bvisor.Prepared
}

func prepared(t testing.TB, sup *bvisor.Supervisor, size int, change mods, argv ...string) armed {
	t.Helper()
	need.MountNamespace(t)
	req := request(change, "")
	req.Spec.Workload.Command = argv
	p, err := sup.Prepare(t.Context(), req.Spec, size)
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	return armed{t, p}
}

// once runs once, with what is armed by then.
func (a armed) once(req bvisor.Request) outcome {
	a.Helper()
	must(a, a.Wait())
	return a.now(context.Background(), req)
}

func (a armed) now(ctx context.Context, req bvisor.Request) outcome {
	a.Helper()
	res, err := a.Run(ctx, req)
	must(a, err)
	verified, err := report.Verify(res.Envelope, states.keys)
	must(a, err)
	return outcome{Report: verified.Report, Stdout: string(res.Output["stdout"]), Stderr: string(res.Output["stderr"])}
}

// wasPrepared fails the test unless the run had an armed boundary, or had not.
func (o outcome) wasPrepared(t testing.TB, want bool) {
	t.Helper()
	if got := o.Report.Times.Prepared != nil; got != want {
		t.Errorf("prepared is %v, expected %v", got, want)
	}
	if o.Report.Outcome.Status != report.Completed {
		t.Errorf("it ended as %+v: %s", o.Report.Outcome, o.Stderr)
	}
}

func system(change ...func(*spec.Spec)) mods {
	return append(mods{preset("system"), spawn(spec.SpawnProcesses)}, change...)
}

// Each boundary serves one run: what one leaves, in memory or in its
// namespaces, no other finds.
func TestPreparedServesOneRunEach(t *testing.T) {
	a := prepared(t, supervisor(t), 2, system(temp("rw", "/scratch")), "sh", "-c", "ls /scratch; echo $$; touch /scratch/left")
	for range 5 {
		o := a.once(bvisor.Request{})
		o.wasPrepared(t, true)
		if o.Stdout != "2\n" {
			t.Errorf("it saw %q, expected an empty directory and to be process 2", o.Stdout)
		}
		if len(o.Report.Posture.Namespaces) == 0 || o.Report.Identity.Program == "" || len(o.Report.Transcript) == 0 {
			t.Errorf("the report lacks what was read back: %+v", o.Report)
		}
		for _, n := range o.Report.Posture.Namespaces {
			if !n.Own {
				t.Errorf("namespace %s %s is not this run's own", n.Name, n.ID)
			}
		}
		p := o.Report.Times.Prepared
		if p.At >= o.Report.Times.Started || p.Took <= 0 {
			t.Errorf("prepared %+v, started %s", p, o.Report.Times.Started)
		}
	}
}

// Nothing but the waiting launchers exists before the run: the program is
// executed, and the intent recorded, only then.
func TestPreparedRunsNothingBefore(t *testing.T) {
	dir := tree(t)
	a := prepared(t, supervisor(t), 3, system(grant("rw", dir)), "touch", filepath.Join(dir, "ran"))
	must(t, a.Wait())
	if got := names(dir); len(got) != 0 {
		t.Fatalf("before any run there is %q", got)
	}
	a.once(bvisor.Request{}).wasPrepared(t, true)
	if got := names(dir); !slices.Equal(got, []string{"ran"}) {
		t.Errorf("after one run there is %q", got)
	}
}

// What a boundary was built from may be replaced while it waits. It is not used
// then; what the paths lead to now is.
func TestPreparedGoesByWhatIsThereNow(t *testing.T) {
	dir := tree(t, "old/word", "new/word", "tool", "tool2")
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.WriteFile(at("old/word"), []byte("old"), 0o644))
	must(t, os.WriteFile(at("new/word"), []byte("new"), 0o644))
	must(t, os.Symlink("old", at("link")))
	for name, word := range map[string]string{"tool": "first", "tool2": "second"} {
		must(t, os.WriteFile(at(name), []byte("#!/bin/sh\necho "+word+"; cat \""+at("link")+"/word\"\n"), 0o755))
		must(t, os.Chmod(at(name), 0o755))
	}
	a := prepared(t, supervisor(t), 1, system(grant("r", at("link")), grant("rx", at("tool"))), at("tool"))
	expect := func(what string, prepared bool, stdout string) {
		t.Helper()
		o := a.now(t.Context(), bvisor.Request{})
		o.wasPrepared(t, prepared)
		if o.Stdout != stdout {
			t.Errorf("%s: it said %q, expected %q; %s", what, o.Stdout, stdout, o.Stderr)
		}
		must(t, a.Wait())
	}
	expect("untouched", true, "first\nold")
	must(t, os.Remove(at("link")))
	must(t, os.Symlink("new", at("link")))
	expect("another target", false, "first\nnew")
	expect("armed again", true, "first\nnew")
	must(t, os.Rename(at("tool2"), at("tool")))
	expect("another program", false, "second\nnew")
	must(t, os.WriteFile(at("tool"), []byte("#!/bin/sh\necho third\n"), 0o755))
	expect("the same file, written", false, "third\n")
	must(t, os.Rename(at("new"), at("gone")))
	must(t, os.Rename(at("old"), at("new")))
	expect("a directory exchanged", false, "third\n")
}

// Values of leases are asked for when a run begins, and are for it alone.
func TestPreparedResolvesLeasesWhenTaken(t *testing.T) {
	values := &counted{}
	sup := another(t)
	sup.Secrets = secret.NewRegistry()
	must(t, sup.Secrets.Register("test", values))
	a := prepared(t, sup, 1, system(env("PLAIN", "word"), lease("KEY", "test:key")), "sh", "-c", `echo "$PLAIN $KEY" | tr a-z A-Z; env | wc -l`)
	must(t, a.Wait())
	if n := values.n(); n != 0 {
		t.Fatalf("%d values were asked for before any run", n)
	}
	for i := 1; i <= 3; i++ {
		o := a.once(bvisor.Request{})
		o.wasPrepared(t, true)
		first, rest, _ := strings.Cut(o.Stdout, "\n")
		// The shell adds PWD to what it was given.
		if first != fmt.Sprintf("WORD VALUE-%d-OF-THE-KEY", i) || strings.TrimSpace(rest) != "3" {
			t.Errorf("run %d saw %q", i, o.Stdout)
		}
		if values.n() != i {
			t.Errorf("after run %d there were %d requests", i, values.n())
		}
	}
}

// counted gives another value each time.
type counted struct {
	mu    sync.Mutex
	count int
}

func (c *counted) Resolve(context.Context, string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	return fmt.Sprintf("value-%d-of-the-key", c.count), nil
}

func (c *counted) n() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// A boundary whose processes were killed while it waited is not used, and
// nothing of it stays.
func TestPreparedSurvivesTheDeathOfItsLaunchers(t *testing.T) {
	before := ownChildren(t)
	a := prepared(t, supervisor(t), 2, system(), "true")
	must(t, a.Wait())
	killed := 0
	for _, pid := range ownChildren(t) {
		if !slices.Contains(before, pid) {
			must(t, unix.Kill(pid, unix.SIGKILL))
			pidfd, err := unix.PidfdOpen(pid, 0)
			must(t, err)
			for err = unix.EINTR; err == unix.EINTR; { // until it has ended
				_, err = unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, -1)
			}
			must(t, errors.Join(err, unix.Close(pidfd)))
			killed++
		}
	}
	if killed != 2 {
		t.Fatalf("%d launchers were waiting, expected 2", killed)
	}
	for range 2 {
		a.now(t.Context(), bvisor.Request{}).wasPrepared(t, false)
	}
	a.once(bvisor.Request{}).wasPrepared(t, true)
	must(t, a.Close())
	supervisor(t).Wait()
	if after := ownChildren(t); !slices.Equal(after, before) {
		t.Errorf("children are %v, before there were %v", after, before)
	}
}

// ownChildren lists this process's children, zombies included.
func ownChildren(t testing.TB) []int {
	t.Helper()
	supervisor(t).Wait()
	var list []int
	for _, name := range names("/proc") {
		if pid, err := strconv.Atoi(name); err == nil {
			text, err := os.ReadFile("/proc/" + name + "/stat")
			if err != nil {
				continue
			}
			fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
			if fields[1] == strconv.Itoa(os.Getpid()) {
				list = append(list, pid)
			}
		}
	}
	return list
}

// What only the run brings cannot have been there before it.
func TestPreparedAndWhatARunBrings(t *testing.T) {
	dir := tree(t)
	for what, change := range map[string]func(*spec.Spec){
		"a descriptor": func(s *spec.Spec) { s.Capabilities.FDs = []int{5} },
		"an absent carve-out": func(s *spec.Spec) {
			grant("rw", dir)(s)
			grant(spec.AccessNone, filepath.Join(dir, "absent"))(s)
		},
	} {
		need.MountNamespace(t)
		req := request(system(change), "")
		req.Spec.Workload.Command = []string{"true"}
		_, err := supervisor(t).Prepare(t.Context(), req.Spec, 1)
		if _, ok := errors.AsType[*backend.NotArmable](err); !ok {
			t.Errorf("%s: %v, expected *backend.NotArmable", what, err)
		}
		if got := names(dir); len(got) != 0 {
			t.Errorf("%s: it left %q", what, got)
		}
	}
	a := prepared(t, supervisor(t), 1, system(func(s *spec.Spec) { s.Controls.Stdin.Mode = spec.StdinInherit }), "cat")
	read, write, err := os.Pipe()
	must(t, err)
	defer read.Close()
	_, err = write.WriteString("from the caller")
	must(t, errors.Join(err, write.Close()))
	o := a.once(bvisor.Request{Stdin: read})
	o.wasPrepared(t, false)
	if o.Stdout != "from the caller" {
		t.Errorf("it read %q", o.Stdout)
	}
	a.once(bvisor.Request{}).wasPrepared(t, true)
}

// Cancelled before it began, a prepared run executes nothing.
func TestPreparedCancelled(t *testing.T) {
	dir := tree(t)
	a := prepared(t, supervisor(t), 1, system(grant("rw", dir)), "touch", filepath.Join(dir, "ran"))
	must(t, a.Wait())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	res, err := a.Run(ctx, bvisor.Request{})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if res != nil && res.Report.Outcome.Status != report.Killed {
		t.Errorf("it ended as %+v", res.Report.Outcome)
	}
	if got := names(dir); len(got) != 0 {
		t.Errorf("there is %q", got)
	}
}

// Many at once share a small pool: each gets its own boundary and its own
// output, prepared or not.
func TestPreparedForMany(t *testing.T) {
	values := &counted{}
	sup := another(t)
	sup.Secrets = secret.NewRegistry()
	must(t, sup.Secrets.Register("test", values))
	a := prepared(t, sup, 3, system(lease("KEY", "test:key")), "sh", "-c", "echo $KEY | tr a-z A-Z")
	var mu sync.Mutex
	seen := map[string]bool{}
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			o := a.now(context.Background(), bvisor.Request{})
			if o.Report.Outcome.Status != report.Completed {
				t.Errorf("it ended as %+v", o.Report.Outcome)
			}
			mu.Lock()
			defer mu.Unlock()
			seen[o.Stdout] = true
		})
	}
	all.Wait()
	if len(seen) != 30 {
		t.Errorf("30 runs said %d different things: %v", len(seen), seen)
	}
}
