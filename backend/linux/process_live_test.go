//go:build linux && (amd64 || arm64)

package linux_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// Acts of victims that a test looks at while they run. Their last argument is
// a token that only tells them from other processes.
var _ = victim.Register(map[string]victim.Act{
	"hold": victim.One(func(string) error {
		os.Stdout.WriteString("ready\n")
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}),
})

// live is a confined victim that runs until release.
type live struct {
	t     testing.TB
	pid   int // on this host
	token string
	input *os.File
	ended chan struct{}
	out   outcome
	err   error
}

// lines hands every line of the relayed output to the test as it comes.
type lines struct {
	rest []byte
	to   chan string
}

func (l *lines) Write(b []byte) (int, error) {
	l.rest = append(l.rest, b...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		l.to <- string(l.rest[:i])
		l.rest = bytes.Clone(l.rest[i+1:])
	}
}

func token() string {
	b := make([]byte, 8)
	rand.Read(b)
	return "token-" + hex.EncodeToString(b)
}

// start runs an act until it says ready, which shows that output is relayed
// while the workload runs.
func start(t testing.TB, ctx context.Context, change mods, act string, args ...string) *live {
	t.Helper()
	need.MountNamespace(t)
	marked := token()
	return startRequest(t, ctx, marked, request(append(mods{stdin(spec.StdinInherit)}, change...), act, append(args, marked)...))
}

// startBare is start for a program without a runtime: one thread and nothing
// that it did not inherit.
func startBare(t testing.TB, change ...func(*spec.Spec)) *live {
	t.Helper()
	need.MountNamespace(t)
	c, marked := newCalls(), token()
	c.quiet(unix.SYS_WRITE, num(1), c.Str("ready\n"), num(6))
	c.quiet(unix.SYS_READ, num(0), c.Bytes(make([]byte, 8), "byte"), num(1))
	path := c.file(t)
	return startRequest(t, t.Context(), marked, request(append(mods{stdin(spec.StdinInherit), grant("rx", path), command(path, marked)}, change...), "hold"))
}

func startRequest(t testing.TB, ctx context.Context, marked string, req bvisor.Request) *live {
	t.Helper()
	l := &live{t: t, token: marked, ended: make(chan struct{})}
	read, write, err := os.Pipe()
	must(t, err)
	l.input = write
	said := &lines{to: make(chan string, 1000)}
	req.Stdin, req.Stdout = read, said
	sup := supervisor(t)
	go func() {
		defer close(l.ended)
		defer read.Close()
		l.out, l.err = attemptWith(t, sup, ctx, req)
	}()
	t.Cleanup(func() { write.Close(); <-l.ended })
	select {
	case line := <-said.to:
		if line != "ready" {
			t.Fatalf("the workload said %q, expected ready", line)
		}
	case <-l.ended:
		t.Fatalf("the workload ended before it was ready: %v %s", l.err, l.out.why())
	}
	pids := withToken(l.token)
	if len(pids) == 0 {
		t.Fatal("the workload runs, but no process has its token")
	}
	l.pid = pids[0]
	return l
}

// release closes the victim's standard input, which ends a victim that waits,
// and returns how it went.
func (l *live) release() outcome {
	l.t.Helper()
	l.input.Close()
	return l.wait()
}

func (l *live) wait() outcome {
	l.t.Helper()
	<-l.ended
	if l.err != nil {
		l.t.Fatal(l.err)
	}
	if l.out.Report == nil {
		l.t.Fatal("no report")
	}
	return l.out
}

// why says how a run went that should have gone otherwise.
func (o outcome) why() string {
	switch {
	case o.Report == nil:
		return "no report"
	case o.Report.Refusal != nil:
		return fmt.Sprintf("%+v", o.Report.Refusal.Reasons)
	}
	return fmt.Sprintf("%+v\n%s", o.Report.Outcome, o.Stderr)
}

// bounded is what the report says of a budget.
func (o outcome) bounded(t testing.TB, d spec.Dimension) report.BudgetResult {
	t.Helper()
	for _, b := range o.Report.Budgets {
		if b.Dimension == d {
			return b
		}
	}
	t.Fatalf("no budget %s in the report", d)
	return report.BudgetResult{}
}

func stdin(mode string) func(*spec.Spec) {
	return func(s *spec.Spec) { s.Controls.Stdin.Mode = mode }
}

// withToken lists the processes whose command line holds the token, oldest
// first: by their numbers in their own pid namespace, since the host's begin
// anew at some point.
func withToken(token string) []int {
	var pids []int
	number := map[int]int{}
	for _, pid := range processes() {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && bytes.Contains(b, []byte(token)) && pid != os.Getpid() {
			pids = append(pids, pid)
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // nothing of one that has ended
			_, rest, _ := strings.Cut(string(status), "\nNSpid:")
			line, _, _ := strings.Cut(rest, "\n")
			if f := strings.Fields(line); len(f) > 0 {
				number[pid], _ = strconv.Atoi(f[len(f)-1])
			}
		}
	}
	slices.SortFunc(pids, func(a, b int) int { return number[a] - number[b] })
	return pids
}

func processes() []int {
	var pids []int
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, n := range names {
		if pid, err := strconv.Atoi(filepath.Base(n)); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// inNamespace lists the processes that are in a namespace, by its link's text.
func inNamespace(kind, id string) []int {
	return slices.DeleteFunc(processes(), func(pid int) bool {
		got, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
		return err != nil || got != id
	})
}

func namespace(t testing.TB, pid int, kind string) string {
	t.Helper()
	id, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	must(t, err)
	return id
}

// heldPidns is a process's pid namespace, whose number no later one gets while
// the test runs: another test's run would be taken for what this one left.
func heldPidns(t testing.TB, pid int) string {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", pid))
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return namespace(t, pid, "pid")
}

// status reads "Name: value" lines of a process's or thread's status file; it
// shares nothing with what bvisor reads it with.
func status(t testing.TB, dir string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(dir + "/status")
	must(t, err)
	m := map[string]string{}
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(line, ":")
		m[k] = strings.Join(strings.Fields(v), " ")
	}
	return m
}

// eventually waits for something that another process does.
func eventually(t testing.TB, what string, f func() bool, more ...fmt.Stringer) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		if f() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s %s", what, more)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// gone fails the test if a process with the token, or in the pid namespace, is
// left. Its init, which is bvisor's own, may take until Supervisor.Wait.
func gone(t testing.TB, token, pidns string) {
	t.Helper()
	if left := withToken(token); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	if pidns == "" {
		return
	}
	left := slices.DeleteFunc(inNamespace("pid", pidns), func(pid int) bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		return err != nil || bytes.Contains(status, []byte("\nNSpid:\t"+strconv.Itoa(pid)+"\t1\n"))
	})
	if len(left) > 0 {
		t.Errorf("processes %v are left in the boundary's pid namespace", left)
	}
	supervisor(t).Wait()
	if left := inNamespace("pid", pidns); len(left) > 0 {
		t.Errorf("processes %v are left in the boundary's pid namespace for good", left)
	}
}

// everyStatus is that of each thread of a process.
func everyStatus(t testing.TB, pid int) []map[string]string {
	t.Helper()
	dirs, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no threads of %d: %v", pid, err)
	}
	var all []map[string]string
	for _, d := range dirs {
		all = append(all, status(t, d))
	}
	return all
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// kill sends a signal to a process of this host.
func kill(t testing.TB, pid int, sig syscall.Signal) {
	t.Helper()
	must(t, unix.Kill(pid, sig))
}
