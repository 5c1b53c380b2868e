//go:build linux && (amd64 || arm64)

package linux_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/cgroup"
	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// bomb makes a program that starts others without end, each of which does the
// same. It takes note of nothing, so that threads can share all they have.
func bomb(t *testing.T, one func(c *calls) launcher.Op) string {
	t.Helper()
	c := newCalls()
	again := c.NewLabel()
	c.Mark(again)
	one(c).OnError(again).Jump(again)
	return c.file(t)
}

func clone(flags int) func(c *calls) launcher.Op {
	return func(c *calls) launcher.Op {
		return c.Call("clone", unix.SYS_CLONE, num(flags), num(0), num(0), num(0), num(0))
	}
}

// A fork bomb, whatever it starts others with, ends with its budget. A run beside
// it, of the same user and the same supervisor, notices nothing.
func TestForkBombs(t *testing.T) {
	grouped(t)
	const limit = 30
	for _, b := range []struct {
		name string
		one  func(c *calls) launcher.Op
		with mods
	}{
		{"fork", clone(int(unix.SIGCHLD)), nil},
		{"vfork", clone(unix.CLONE_VFORK | unix.CLONE_VM | int(unix.SIGCHLD)), nil},
		{"threads", clone(unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SYSVSEM), nil},
		// The filter has no clone3(2), so it must be given up for this.
		{"clone3", func(c *calls) launcher.Op {
			args := []launcher.Arg{num(0), num(0), num(0), num(0), num(int(unix.SIGCHLD)), num(0), num(0), num(0)}
			return c.Call("clone3", unix.SYS_CLONE3, c.Words("{SIGCHLD}", args...), num(8*len(args)))
		}, mods{accept(unscoped("unfiltered-calls", "host-network")...)}},
	} {
		t.Run(b.name, func(t *testing.T) {
			path := bomb(t, b.one)
			outgrows(t, path, 2*limit)
			bystander := start(t, t.Context(), nil, "hold")
			o := runCommand(t, path, append(mods{spawn(spec.SpawnProcesses), budget(spec.Processes, limit)}, b.with...)...)
			if got, want := o.Report.Outcome, (report.Outcome{Status: report.BudgetExceeded, Reason: "processes"}); got != want {
				t.Fatalf("%+v, expected %+v: %s", got, want, o.why())
			}
			gone(t, path, "")
			o.groupGone(t)
			r := o.bounded(t, spec.Processes)
			if r.ReadBack == nil || *r.ReadBack != limit || r.Finding != report.Exceeded || event(r, "pids.events.max") < 1 || r.Peak != nil && *r.Peak != limit {
				t.Errorf("budget: %+v", r)
			}
			bystander.input.Close()
			if o := bystander.wait(); o.Code != 0 {
				t.Errorf("the run beside it: %d, %+v", o.Code, o.Report.Outcome)
			}
		})
	}
}

// outgrows is the control: with another limit, in a group that the test makes,
// the program gets to that one.
func outgrows(t *testing.T, path string, limit int64) {
	t.Helper()
	place, err := cgroup.Find("")
	must(t, err)
	leaf, err := place.Leaf(token())
	must(t, err)
	defer func() { must(t, leaf.Remove()) }()
	_, err = leaf.Set("pids.max", strconv.FormatInt(limit, 10))
	must(t, err)
	into, err := leaf.Birthplace()
	must(t, err)
	defer into.Close()
	cmd := exec.Command(path)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(into.Fd())}
	must(t, cmd.Start())
	eventually(t, "control: as many as there may be", func() bool {
		n, err := leaf.Number("pids.current")
		return err == nil && n == limit
	})
	must(t, leaf.Kill())
	_ = cmd.Wait()
	if empty, err := leaf.Empty(time.Minute); err != nil || !empty {
		t.Fatalf("control: the bomb is still there: %v", err)
	}
}

var _ = victim.Register(map[string]victim.Act{
	// Writes so many MiB to a file, a MiB at a time, and reads all of it again.
	"cache": victim.Two(func(name, amount string) error {
		n, err := strconv.Atoi(amount)
		if err != nil {
			return err
		}
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		block := make([]byte, mib)
		for range n {
			if _, err := f.Write(block); err != nil {
				return err
			}
			if err := f.Sync(); err != nil {
				return err
			}
		}
		for i := range n {
			if _, err := f.ReadAt(block, int64(i)*mib); err != nil {
				return err
			}
		}
		return nil
	}),
})

// The kernel's copies of a file's pages are memory of who brought them in: they
// make room for each other within the budget, and exceed nothing.
func TestPageCacheStaysWithinMemory(t *testing.T) {
	grouped(t)
	const limit, amount = 48, 96 // MiB
	dir := tree(t)
	var fs unix.Statfs_t
	must(t, unix.Statfs(dir, &fs))
	if fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		need.Missing(t, "disk", dir+" is in memory, or not one file system")
	}
	file := filepath.Join(dir, "control")
	if o := control(t, "cache", file, strconv.Itoa(amount)); o.Code != 0 {
		t.Fatalf("without a boundary: %s", o.Stderr)
	}
	if n := resident(t, file); n < amount*mib*3/4 {
		need.Missing(t, "disk", fmt.Sprintf("without a boundary only %d MiB stay in memory", n/mib))
	}
	file = filepath.Join(dir, "file")
	o := run(t, mods{grant("rw", dir), budget(spec.Memory, limit*mib)}, "cache", file, strconv.Itoa(amount)).succeeds(t)
	b := o.bounded(t, spec.Memory)
	if b.Finding != report.Within || b.Peak == nil || *b.Peak > (limit+1)*mib || *b.Peak < limit*mib/2 || event(b, "memory.events.max") < 1 || event(b, "memory.events.oom") != 0 {
		t.Errorf("budget: %+v", b)
	}
	if n := resident(t, file); n > (limit+1)*mib {
		t.Errorf("%d MiB of the file are in memory, with a budget of %d", n/mib, limit)
	}
	o.groupGone(t)
}
