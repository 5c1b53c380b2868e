//go:build linux && (amd64 || arm64)

package linux_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

var _ = victim.Register(map[string]victim.Act{
	// Makes a directory in a directory, until its path is longer than any call takes.
	"deepen": victim.One(func(dir string) error {
		if err := unix.Chdir(dir); err != nil {
			return err
		}
		for i := range 600 {
			if err := unix.Mkdir("directory", 0o755); err != nil {
				return fmt.Errorf("level %d: %w", i, err)
			}
			if err := unix.Chdir("directory"); err != nil {
				return err
			}
		}
		return nil
	}),
	// Makes a file that looks larger than any disk.
	"sparse": victim.One(func(name string) error {
		fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return err
		}
		return unix.Ftruncate(fd, 1<<42)
	}),
	// Leaves children that have ended and nobody waited for, and children of
	// those that have not.
	"litter": victim.One(func(token string) error {
		for range 20 {
			if _, err := anew("exit", "0", nil); err != nil {
				return err
			}
			if _, err := anew("leave", token, nil); err != nil {
				return err
			}
		}
		return nil
	}),
})

// Whatever stands in a private directory is gone with the run, however deep or
// large it looks, and takes no more room than its budget.
func TestDeepAndSparseFilesEndWithTheRun(t *testing.T) {
	places := mods{temp("rw", "/tmp"), budget(spec.Storage, 64*mib)}
	run(t, places, "deepen", "/tmp").succeeds(t)
	run(t, places, "sparse", "/tmp/sparse").succeeds(t)
	// Directories count against the number of files that the budget has room for.
	run(t, mods{temp("rw", "/tmp"), budget(spec.Storage, mib)}, "deepen", "/tmp").denied(t, plan.BudgetKind(spec.Storage), unix.ENOSPC)
	host := tree(t)
	control(t, "deepen", host).succeeds(t)
	control(t, "sparse", host+"/sparse").succeeds(t)
	o := run(t, places, "stat", "/tmp/directory").denied(t, plan.TempRoot, unix.ENOENT)
	o.heldBy(t, plan.BudgetKind(spec.Storage))
}

// Children that nobody waits for are reaped, and those left behind are killed.
func TestLitterIsCleared(t *testing.T) {
	for _, act := range []string{"exit", "leave", "linger"} {
		used.Store(act, true)
	}
	marked := token()
	o := run(t, mods{spawn(spec.SpawnProcesses)}, "litter", marked).succeeds(t)
	gone(t, marked, "")
	if fact(o, report.TreeKilled) == nil && fact(o, report.TreeEmptied) == nil {
		t.Errorf("no fact says that the tree is gone: %+v", o.Report.Facts)
	}
	o.heldBy(t, plan.KillTree)
	// The control: without the boundary they stay. Its streams are no pipes,
	// which they would hold open.
	marked = token()
	t.Cleanup(func() { clear(t, marked) })
	must(t, exec.Command(place.exe, victim.Word, "litter", marked).Run())
	eventually(t, "control: twenty processes stay", func() bool { return len(withToken(marked)) == 20 })
}

// clear kills what has a token.
func clear(t *testing.T, token string) {
	eventually(t, "nothing left to kill", func() bool {
		left := withToken(token)
		for _, pid := range left {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH { // some end by themselves
				t.Fatal(err)
			}
		}
		return len(left) == 0
	})
}

// A workload that stops itself cannot wait out its deadline.
func TestStoppedWorkloadMeetsItsDeadline(t *testing.T) {
	path := raising(t, unix.SIGSTOP)
	o := runCommand(t, path, budget(spec.Wall, int64(300*time.Millisecond)), grace(10*time.Millisecond))
	o.ended(t, report.Timeout, "wall", 0)
	gone(t, path, "")
	o.heldBy(t, plan.BudgetKind(spec.Wall))
}

// However output is written, every byte of it counts: one at a time, without
// a newline, or moved into the pipe without a write.
func TestEveryWayToWriteCounts(t *testing.T) {
	const writes, pages, page = 100, 8, 4096
	program := func() *calls {
		c := newCalls()
		for range writes {
			c.quiet(unix.SYS_WRITE, num(1), c.Str("."), num(1))
		}
		text := bytes.Repeat([]byte("-"), pages*page)
		c.try("vmsplice", unix.SYS_VMSPLICE, num(1), c.Words("iov", c.Bytes(text, "text"), num(len(text))), num(1), num(0))
		c.try("splice", unix.SYS_SPLICE, num(0), num(0), num(1), num(0), num(page), num(0))
		c.names = nil // its output is no results
		return c
	}
	want := strings.Repeat(".", writes) + strings.Repeat("-", pages*page) + strings.Repeat("=", page)
	path := program().file(t)
	file := filepath.Join(tree(t), "file")
	must(t, os.WriteFile(file, bytes.Repeat([]byte("="), page), 0o644))
	var relayed bytes.Buffer
	try := func(change ...func(*spec.Spec)) outcome {
		relayed.Reset()
		req := request(append(mods{preset(), grant("rx", path), command(path), stdinFile(file)}, change...), "hold")
		req.Stdout = &relayed
		o, err := attempt(t, req)
		must(t, err)
		return o
	}
	o := try()
	if s := o.stream(t, "stdout"); relayed.String() != want || s.Bytes != int64(len(want)) || s.SHA256 != digest([]byte(want)) {
		t.Errorf("%d bytes were relayed, expected %d: %+v", relayed.Len(), len(want), s)
	}
	const limit = writes + page
	o = try(budget(spec.Output, limit))
	o.ended(t, report.BudgetExceeded, "output", 0)
	if relayed.String() != want[:limit] {
		t.Errorf("%d bytes were relayed, expected %d", relayed.Len(), limit)
	}
	o.heldBy(t, plan.BudgetKind(spec.Output))
}

// Descriptors on their way through a socket count for the whole user, against
// the sender's own limit (ETOOMANYREFS in sendmsg(2)): with a budget a workload
// cannot use up what others of the same user may send.
func TestDescriptorsInFlight(t *testing.T) {
	const limit = 32
	c := newCalls()
	c.try("socketpair", unix.SYS_SOCKETPAIR, num(unix.AF_UNIX), num(unix.SOCK_DGRAM|unix.SOCK_NONBLOCK), num(0), c.Bytes(make([]byte, 8), "pair"))
	message := c.Words("message", num(0), num(0), c.Words("iov", c.Str("x"), num(1)), num(1), c.Bytes(unix.UnixRights(1), "rights"), num(unix.CmsgSpace(4)), num(0))
	for i := range 2 * limit {
		c.try(fmt.Sprint("send ", i), unix.SYS_SENDMSG, num(3), message, num(0)) // the pair is the first that is opened
	}
	without, within, o := c.both(t, false, budget(spec.Handles, limit))
	sent := 0
	for i := range 2 * limit {
		name := fmt.Sprint("send ", i)
		if without[name] != 1 {
			t.Errorf("control: %s gave %d", name, without[name])
		}
		if within[name] == 1 {
			sent++
		} else if within[name] != -int64(unix.ETOOMANYREFS) {
			t.Errorf("confined: %s gave %d", name, within[name])
		}
	}
	// The kernel looks for more than the limit before it adds one, and others of
	// the user may have some on their way just now.
	if sent > limit+1 {
		t.Errorf("confined: %d descriptors are on their way, expected at most %d", sent, limit+1)
	}
	o.heldBy(t, plan.BudgetKind(spec.Handles))
	o.reports(t, report.Completed, "")
}
