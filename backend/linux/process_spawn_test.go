//go:build linux && (amd64 || arm64)

package linux_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

const threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SYSVSEM

// breed makes a call that may make a child; the child ends at once.
func (c *calls) breed(name string, nr uintptr, args ...launcher.Arg) {
	child := c.NewLabel()
	at := launcher.At(c.results, len(c.names)*8, name)
	c.names = append(c.names, name)
	pid := c.Var("pid")
	c.Call(name, nr, args...).To(launcher.Addr(pid)).Ignore().If(num(0), child)
	c.Copy(pid).To(at).Ignore()
	end := c.NewLabel()
	c.Call("getpid", unix.SYS_GETPID).Jump(end)
	c.Mark(child)
	c.quiet(unix.SYS_EXIT, num(0))
	c.Mark(end)
}

func breeders() *calls {
	c := newCalls()
	zero := num(0)
	clone := func(name string, flags int) {
		c.breed(name, unix.SYS_CLONE, launcher.Flag(uint64(flags), name), zero, zero, zero, zero)
	}
	clone("fork", int(unix.SIGCHLD))
	clone("vfork", unix.CLONE_VM|unix.CLONE_VFORK|int(unix.SIGCHLD))
	clone("thread", threadFlags)
	args := c.Bytes(make([]byte, 88), "args")
	c.breed("clone3", unix.SYS_CLONE3, args, num(88))
	namespaces := []struct {
		name string
		flag int
	}{{"user", unix.CLONE_NEWUSER}, {"mnt", unix.CLONE_NEWNS}, {"net", unix.CLONE_NEWNET}, {"pid", unix.CLONE_NEWPID}}
	for _, n := range namespaces {
		clone("clone "+n.name, n.flag|int(unix.SIGCHLD))
	}
	for _, n := range namespaces {
		c.try("unshare "+n.name, unix.SYS_UNSHARE, launcher.Flag(uint64(n.flag), n.name))
	}
	c.try("unshare with high bits", unix.SYS_UNSHARE, word(1<<32|unix.CLONE_NEWUSER))
	return c
}

// What a workload may start is what its spec says, and never a namespace.
func TestSpawn(t *testing.T) {
	for _, s := range []struct {
		spawn spec.Spawn
		kind  plan.Kind
		ok    map[string]bool
	}{
		{spec.SpawnNone, plan.SpawnNone, nil},
		{spec.SpawnThreads, plan.SpawnThreads, map[string]bool{"thread": true}},
		{spec.SpawnProcesses, plan.SpawnProcesses, map[string]bool{"thread": true, "fork": true, "vfork": true}},
	} {
		without, within, o := breeders().both(t, true, spawn(s.spawn))
		for _, name := range []string{"fork", "vfork", "thread", "clone user", "unshare mnt"} {
			if without[name] < 0 {
				t.Errorf("control: %s gave %v", name, unix.Errno(-without[name]))
			}
		}
		if without["clone3"] == -int64(unix.ENOSYS) {
			t.Error("control: clone3 is not there")
		}
		for name, got := range within {
			switch {
			case s.ok[name] && got < 0:
				t.Errorf("spawn %s: %s gave %d, expected a child", s.spawn, name, got)
			case name == "clone3" && got != -int64(unix.ENOSYS):
				t.Errorf("spawn %s: clone3 gave %d, expected ENOSYS", s.spawn, got)
			case !s.ok[name] && name != "clone3" && got != -int64(unix.EPERM):
				t.Errorf("spawn %s: %s gave %d (%v), expected EPERM", s.spawn, name, got, unix.Errno(-got))
			}
		}
		o.reports(t, report.Completed, "")
		o.heldBy(t, s.kind)
	}
}
