//go:build linux && (amd64 || arm64)

package linux_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

var _ = victim.Register(map[string]victim.Act{
	// Writes that many bytes of a known pattern to standard output.
	"flood": victim.One(func(size string) error {
		n, err := strconv.Atoi(size)
		if err != nil {
			return err
		}
		for n > 0 {
			m, err := os.Stdout.Write(pattern[:min(n, len(pattern))])
			if err != nil {
				return err
			}
			n -= m
		}
		return nil
	}),
	// Tells how much standard input holds, and its digest.
	"digest": func([]string) error {
		h := sha256.New()
		n, err := io.Copy(h, os.Stdin)
		fmt.Printf("%d %x", n, h.Sum(nil))
		return err
	},
})

// pattern is 1 MiB in which no two blocks are alike.
var pattern = func() []byte {
	b := make([]byte, 0, 1<<20)
	for i := 0; len(b) < 1<<20; i++ {
		b = fmt.Appendf(b, "%07d\n", i)
	}
	return b[:1<<20]
}()

func capture(stream string, limit int64) func(*spec.Spec) {
	return func(s *spec.Spec) {
		s.Controls.Capture = slices.DeleteFunc(s.Controls.Capture, func(c spec.Capture) bool { return c.Stream == stream })
		if limit > 0 {
			s.Controls.Capture = append(s.Controls.Capture, spec.Capture{Stream: stream, Limit: limit})
		}
	}
}

func (o outcome) stream(t testing.TB, name string) report.Stream {
	t.Helper()
	for _, s := range o.Report.Streams {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no stream %s in the report", name)
	return report.Stream{}
}

func digest(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }

// What is captured is relayed whole, hashed whole and kept up to its limit.
func TestCapture(t *testing.T) {
	for _, c := range []struct{ size, limit int }{{0, 100}, {99, 100}, {100, 100}, {101, 100}, {300_000, 1000}} {
		var relayed bytes.Buffer
		req := request(mods{capture("stdout", int64(c.limit))}, "flood", strconv.Itoa(c.size))
		req.Stdout = &relayed
		o, err := attempt(t, req)
		must(t, err)
		want := pattern[:c.size]
		kept := want[:min(c.size, c.limit)]
		s := o.stream(t, "stdout")
		if !bytes.Equal(relayed.Bytes(), want) {
			t.Errorf("%d bytes were relayed, expected %d", relayed.Len(), c.size)
		}
		if o.Stdout != string(kept) {
			t.Errorf("%d bytes are handed over, expected %d", len(o.Stdout), len(kept))
		}
		if s.Bytes != int64(c.size) || s.Kept != int64(len(kept)) || s.Truncated != (c.size > c.limit) || s.SHA256 != digest(want) || s.KeptSHA != digest(kept) {
			t.Errorf("%d of at most %d: %+v", c.size, c.limit, s)
		}
		o.heldBy(t, plan.CaptureStreams)
	}
}

// failing is a reader that went away.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestCaptureGoesOnWithoutAReader(t *testing.T) {
	req := request(nil, "flood", "300000")
	req.Stdout = failing{}
	o, err := attempt(t, req)
	must(t, err)
	if s := o.stream(t, "stdout"); s.Bytes != 300_000 || s.SHA256 != digest(pattern[:300_000]) || o.Report.Outcome.Status != report.Completed {
		t.Errorf("%+v, %+v", o.Report.Outcome, s)
	}
}

// A stream that is not captured goes nowhere.
func TestNotCaptured(t *testing.T) {
	var relayed bytes.Buffer
	req := request(mods{capture("stdout", 0)}, "flood", "1000")
	req.Stdout = &relayed
	o, err := attempt(t, req)
	must(t, err)
	if o.Report.Outcome.Status != report.Completed || relayed.Len() > 0 || o.Stdout != "" || len(o.Report.Streams) != 1 {
		t.Errorf("%+v, relayed %d, streams %+v", o.Report.Outcome, relayed.Len(), o.Report.Streams)
	}
}

// A gibibyte of output, ten in the long form, passes through a supervisor that
// does not grow.
func TestFloodKeepsMemoryFlat(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a gibibyte to be written, which -short leaves out")
	}
	size := int64(rounds(t, 1, 10)) << 30
	run(t, nil, "flood", "100000").succeeds(t) // buffers that every run needs
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	o := run(t, nil, "flood", strconv.FormatInt(size, 10)).succeeds(t)
	runtime.ReadMemStats(&after)
	if s := o.stream(t, "stdout"); s.Bytes != size || s.Kept != spec.DefaultCapture || !s.Truncated {
		t.Errorf("stream %+v", s)
	}
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 32<<20 {
		t.Errorf("the supervisor's heap grew by %d MiB", grown>>20)
	}
	if total := after.TotalAlloc - before.TotalAlloc; total > 64<<20 {
		t.Errorf("the supervisor allocated %d MiB", total>>20)
	}
}

// The output budget passes on exactly its limit.
func TestOutputBudget(t *testing.T) {
	const limit = 100_000
	var relayed bytes.Buffer
	req := request(mods{budget(spec.Output, limit)}, "flood", strconv.Itoa(1<<30))
	req.Stdout = &relayed
	o, err := attempt(t, req)
	must(t, err)
	o.ended(t, report.BudgetExceeded, "output", 0)
	if relayed.Len() != limit || !bytes.Equal(relayed.Bytes(), pattern[:limit]) {
		t.Errorf("%d bytes were relayed, expected the first %d", relayed.Len(), limit)
	}
	if b := o.bounded(t, spec.Output); b.Finding != "exceeded" || b.Used == nil || *b.Used <= limit {
		t.Errorf("budget %+v", b)
	}
	// The control: as much as the limit is within.
	o = run(t, mods{budget(spec.Output, limit)}, "flood", strconv.Itoa(limit)).succeeds(t)
	if b := o.bounded(t, spec.Output); b.Finding != "within" || b.Used == nil || *b.Used != limit {
		t.Errorf("budget %+v", b)
	}
}

// A program that wrote too much may be gone before it is looked at; what it
// wrote says that it ran.
func TestOutputBudgetOfAProgramThatIsGone(t *testing.T) {
	c := newCalls()
	c.quiet(unix.SYS_WRITE, num(1), c.Str("too much"), num(8))
	path := c.file(t)
	for range 50 {
		o := runCommand(t, path, budget(spec.Output, 4))
		o.ended(t, report.BudgetExceeded, "output", 0)
		if fact(o, report.WorkloadLaunched) == nil {
			t.Errorf("no fact says that it was launched: %+v", o.Report.Facts)
		}
		o.reports(t, report.BudgetExceeded, "output")
	}
}

// A descendant that keeps the pipes does not hold up the run's end.
func TestDaemonDoesNotHoldUpTheEnd(t *testing.T) {
	used.Store("linger", true)
	marked := token()
	o := run(t, mods{spawn(spec.SpawnProcesses)}, "leave", marked).succeeds(t)
	gone(t, marked, "")
	if fact(o, report.TreeEmptied) == nil {
		t.Errorf("no fact says that the tree is empty: %+v", o.Report.Facts)
	}
}

// A workload may close what it was given.
func TestClosedStreams(t *testing.T) {
	c := newCalls()
	for fd := range 3 {
		c.quiet(unix.SYS_CLOSE, num(fd))
	}
	o := runCommand(t, c.file(t))
	o.reports(t, report.Completed, "")
	if s := o.stream(t, "stdout"); s.Bytes != 0 || s.SHA256 != digest(nil) {
		t.Errorf("stream %+v", s)
	}
}

func stdinFile(name string) func(*spec.Spec) {
	return func(s *spec.Spec) { s.Controls.Stdin = spec.Stdin{Mode: spec.StdinFile, File: name} }
}

func TestStdin(t *testing.T) {
	root := tree(t, "small")
	huge, small := filepath.Join(root, "huge"), filepath.Join(root, "small")
	f, err := os.Create(huge)
	must(t, err)
	must(t, f.Truncate(1<<40))
	f.Close()
	told := func(b string) string { return fmt.Sprintf("%d %x", len(b), sha256.Sum256([]byte(b))) }

	o := run(t, nil, "digest").succeeds(t)
	if o.Stdout != told("") {
		t.Errorf("none: %s", o.Stdout)
	}
	o.heldBy(t, plan.StdinControl)
	if o := run(t, mods{stdinFile(small)}, "digest").succeeds(t); o.Stdout != told("small") {
		t.Errorf("file: %s", o.Stdout)
	}
	// Never read, however much there is.
	run(t, mods{stdinFile(huge)}, "exit", "0").succeeds(t)

	read, write, err := os.Pipe()
	must(t, err)
	defer read.Close()
	defer write.Close()
	go func() {
		io.Copy(write, strings.NewReader(string(pattern[:100_000])))
		write.Close()
	}()
	req := request(mods{stdin(spec.StdinInherit)}, "digest")
	req.Stdin = read
	o, err = attempt(t, req)
	must(t, err)
	if o.Stdout != told(string(pattern[:100_000])) {
		t.Errorf("inherit: %s", o.Stdout)
	}
	// Without being asked for it is not given.
	req = request(nil, "digest")
	req.Stdin = read
	if o, err = attempt(t, req); err != nil || o.Stdout != told("") {
		t.Errorf("not inherited: %v %s", err, o.Stdout)
	}
	// Granted and not handed over is nothing.
	req = request(mods{stdin(spec.StdinInherit)}, "digest")
	if o, err = attempt(t, req); err != nil || o.Stdout != told("") {
		t.Errorf("inherited from nobody: %v %s", err, o.Stdout)
	}
	// The file cannot be written through its descriptor.
	c := newCalls()
	c.try("write", unix.SYS_WRITE, num(0), c.Str("x"), num(1))
	path := c.file(t)
	if got := c.read(t, "confined", runCommand(t, path, stdinFile(small)).Stdout)["write"]; got != -int64(unix.EBADF) {
		t.Errorf("a write to standard input gave %d", got)
	}
	holds(t, small, "small")
}

func fds(numbers ...int) func(*spec.Spec) {
	return func(s *spec.Spec) { s.Capabilities.FDs = numbers }
}

// leak gives this process descriptors that its children inherit: a directory,
// a file and a connected socket.
func leak(t *testing.T) []int {
	t.Helper()
	dir, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	file, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0)
	must(t, err)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	list := []int{dir, file, pair[0], pair[1]}
	t.Cleanup(func() {
		for _, fd := range list {
			unix.Close(fd)
		}
	})
	return list
}

// Whatever leaked into the supervisor without close-on-exec stays there
// (CVE-2024-21626).
func TestNoDescriptorLeaks(t *testing.T) {
	leaked := leak(t)
	c := newCalls()
	for _, fd := range leaked {
		c.try(fmt.Sprint(fd), unix.SYS_FCNTL, num(fd), num(unix.F_GETFD))
	}
	for fd := 3; fd < 64; fd++ {
		c.try(fmt.Sprint("any ", fd), unix.SYS_FCNTL, num(fd), num(unix.F_GETFD))
	}
	without, within, o := c.both(t, false)
	for _, fd := range leaked {
		if without[fmt.Sprint(fd)] < 0 {
			t.Errorf("control: descriptor %d did not leak", fd)
		}
	}
	for name, got := range within {
		if got != -int64(unix.EBADF) {
			t.Errorf("descriptor %s is open within the boundary", name)
		}
	}
	o.heldBy(t, plan.FDsNone)
	l := startBare(t)
	if got := descriptors(t, l.pid); !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("the host sees descriptors %q", got)
	}
	l.release()
}

// Exactly the descriptors that were granted arrive, under their numbers.
func TestPassedDescriptors(t *testing.T) {
	for _, numbers := range [][2]int{{3, 4}, {5, 9}} { // the launcher's own may lie in the gaps
		t.Run(fmt.Sprint(numbers), func(t *testing.T) { passed(t, numbers[0], numbers[1]) })
	}
}

func passed(t *testing.T, first, second int) {
	leak(t)
	read, write, err := os.Pipe()
	must(t, err)
	defer read.Close()
	file, err := os.Open(filepath.Join(tree(t, "passed"), "passed"))
	must(t, err)
	defer file.Close()
	c := newCalls()
	c.try("write to the pipe", unix.SYS_WRITE, num(second), c.Str("through"), num(7))
	c.try("write to the file", unix.SYS_WRITE, num(first), c.Str("x"), num(1))
	c.try("read the file", unix.SYS_READ, num(first), c.Bytes(make([]byte, 8), "text"), num(8))
	for fd := 3; fd < 64; fd++ {
		if fd != first && fd != second {
			c.try(fmt.Sprint("other ", fd), unix.SYS_FCNTL, num(fd), num(unix.F_GETFD))
		}
	}
	path := c.file(t)
	req := request(mods{grant("rx", path), command(path), fds(first, second)}, "hold")
	req.FDs = map[int]*os.File{first: file, second: write}
	o, err := attempt(t, req)
	must(t, err)
	write.Close()
	if through, _ := io.ReadAll(read); string(through) != "through" {
		t.Errorf("through the pipe came %q", through)
	}
	o.heldBy(t, plan.FDsOnly)
	got := c.read(t, "confined", o.Stdout)
	for name, want := range map[string]int64{"write to the pipe": 7, "write to the file": -int64(unix.EBADF), "read the file": 6} {
		if got[name] != want {
			t.Errorf("%s gave %d, expected %d", name, got[name], want)
		}
	}
	for name, r := range got {
		if strings.HasPrefix(name, "other") && r != -int64(unix.EBADF) {
			t.Errorf("descriptor %s is open", name)
		}
	}
	var table []report.Descriptor
	for _, d := range o.Report.Descriptors {
		if d.Role == "passed" {
			table = append(table, d)
		}
	}
	if want := []report.Descriptor{{Slot: first, Role: "passed", Kind: "file"}, {Slot: second, Role: "passed", Kind: "pipe", Writable: true}}; !slices.Equal(table, want) {
		t.Errorf("the report says %+v, expected %+v", table, want)
	}
	// Granted and not handed over is a failed setup.
	o, err = attempt(t, request(mods{fds(5)}, "hold", token()))
	must(t, err)
	if o.Report.Outcome.Status != report.SetupFailed || !strings.Contains(o.Report.Outcome.Reason, "descriptor 5") {
		t.Errorf("%+v", o.Report.Outcome)
	}
}

// The kernel refuses one descriptor more than the budget.
func TestHandlesBudget(t *testing.T) {
	const limit = 20
	c := newCalls()
	for i := range 40 {
		c.try(fmt.Sprint("dup ", i), unix.SYS_DUP, num(0))
	}
	c.try("raise", unix.SYS_PRLIMIT64, num(0), num(unix.RLIMIT_NOFILE), c.Words("more", num(limit+1), num(limit+1)), num(0))
	without, within, o := c.both(t, false, budget(spec.Handles, limit))
	ok := func(a answers) (n int) {
		for name, r := range a {
			if strings.HasPrefix(name, "dup") && r >= 0 {
				n++
			} else if strings.HasPrefix(name, "dup") && r != -int64(unix.EMFILE) {
				t.Errorf("%s gave %v", name, unix.Errno(-r))
			}
		}
		return n
	}
	if n := ok(without); n != 40 {
		t.Errorf("control: %d duplicates", n)
	}
	if n := ok(within); n != limit-3 {
		t.Errorf("%d duplicates beside three streams, expected %d", n, limit-3)
	}
	if within["raise"] != -int64(unix.EPERM) {
		t.Errorf("raising the limit gave %d", within["raise"])
	}
	b := o.bounded(t, spec.Handles)
	if b.ReadBack == nil || *b.ReadBack != limit || b.Finding != "within" {
		t.Errorf("budget %+v", b)
	}
}
