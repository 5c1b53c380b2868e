//go:build linux && (amd64 || arm64)

package linux_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/internal/cgroup"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/recovery"
)

// A leaf that a supervisor left is found and taken away with who is in it; one
// whose supervisor lives is neither.
func TestLeavesAreRecovered(t *testing.T) {
	place, err := cgroup.Find("")
	if err != nil {
		need.Missing(t, "cgroup2", err.Error())
	}
	leaf, err := place.Leaf("0123456789abcdef0123456789abcdef")
	must(t, err)
	cmd := exec.Command(need.Program(t, "sleep"), "1000")
	must(t, cmd.Start())
	defer cmd.Process.Kill()
	must(t, os.WriteFile(filepath.Join(leaf.Path(), "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0))
	b, i := linux.New(), recovery.Intent{Attempt: leaf.Name}
	want := recovery.Trace{Kind: recovery.TraceGroup, Name: leaf.Path()}
	if got, err := b.Find(i); err != nil || len(got) != 0 {
		t.Errorf("as long as it is locked: %v, %v", got, err)
	}
	must(t, leaf.Close())
	for range 2 {
		if got, err := b.Find(i); err != nil || !slices.Contains(got, want) {
			t.Errorf("when it is left: %v, %v", got, err)
		}
	}
	must(t, b.Sweep(i, want))
	if state, err := cmd.Process.Wait(); err != nil || state.Sys().(interface{ Signal() unix.Signal }).Signal() != unix.SIGKILL {
		t.Errorf("who was in it: %v, %v", state, err)
	}
	if _, err := os.Stat(want.Name); err == nil {
		t.Error("it is there still")
	}
	must(t, b.Sweep(i, want)) // gone already
}

// Whose supervisor lives is not gone, and whose number somebody else has is.
func TestSupervisorsLife(t *testing.T) {
	b, self := linux.New(), recovery.Self()
	life := func(change func(*recovery.Process)) recovery.Life {
		p := self
		change(&p)
		l, _ := b.Supervisor(recovery.Intent{Supervisor: p})
		return l
	}
	if got := life(func(*recovery.Process) {}); got != recovery.Alive {
		t.Errorf("this process: %v", got)
	}
	if got := life(func(p *recovery.Process) { p.Start = "1" }); got != recovery.Gone {
		t.Errorf("another start: %v", got)
	}
	if got := life(func(p *recovery.Process) { p.PIDNamespace = "pid:[1]" }); got != recovery.Unknown {
		t.Errorf("another namespace: %v", got)
	}
	if got := life(func(p *recovery.Process) { p.PIDNamespace = "" }); got != recovery.Unknown {
		t.Errorf("no namespace: %v", got)
	}
	cmd := exec.Command(need.Program(t, "sleep"), "1000")
	must(t, cmd.Start())
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/stat")
	must(t, err)
	s, _ := recovery.ParseStat(stat)
	child := func(p *recovery.Process) { p.PID, p.Start = cmd.Process.Pid, s.Start }
	if got := life(child); got != recovery.Alive {
		t.Errorf("a child: %v", got)
	}
	must(t, cmd.Process.Kill())
	eventually(t, "a killed one that nobody reaped", func() bool { return life(child) == recovery.Gone })
	_ = cmd.Wait()
	if got := life(child); got != recovery.Gone {
		t.Errorf("one that is reaped: %v", got)
	}
}
