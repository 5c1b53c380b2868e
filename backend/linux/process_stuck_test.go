//go:build linux && (amd64 || arm64)

package linux_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

var _ = victim.Register(map[string]victim.Act{
	"open-stuck": victim.Two(func(name, _ string) error {
		os.Stdout.WriteString("ready\n")
		_, err := os.Open(name)
		return err
	}),
})

// silentFS is a file system that never answers who opens a file: after its
// server has read the request, not even SIGKILL ends the wait
// (request_wait_answer in fs/fuse/dev.c).
type silentFS struct {
	dev    int
	opened chan struct{} // a file, by somebody
}

// Calls of linux/fuse.h, and how large the answers are that are not mere errors.
const (
	fuseLookup, fuseGetattr, fuseOpen, fuseStatfs, fuseInit = 1, 3, 14, 17, 26
	fuseForget, fuseInterrupt, fuseBatchForget              = 2, 36, 42
)

func mountSilent(t *testing.T, at string) silentFS {
	t.Helper()
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(dev) })
	must(t, os.MkdirAll(at, 0o755))
	must(t, unix.Mount("silent", at, "fuse", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("fd=%d,rootmode=40755,user_id=0,group_id=0,allow_other", dev)))
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_FORCE|unix.MNT_DETACH) })
	s := silentFS{dev, make(chan struct{}, 10)}
	go s.serve()
	return s
}

func (s silentFS) serve() {
	buf := make([]byte, 1<<17)
	for {
		n, err := unix.Read(s.dev, buf)
		if err == unix.EINTR || err == unix.ENOENT { // the latter: whoever asked is gone
			continue
		}
		if err != nil || n < 40 { // struct fuse_in_header
			return
		}
		call, unique, node := binary.LittleEndian.Uint32(buf[4:]), binary.LittleEndian.Uint64(buf[8:]), binary.LittleEndian.Uint64(buf[16:])
		var body []byte
		switch call {
		case fuseOpen:
			s.opened <- struct{}{}
			continue
		case fuseForget, fuseInterrupt, fuseBatchForget:
			continue
		case fuseInit: // struct fuse_init_out of 7.31
			body = make([]byte, 64)
			binary.LittleEndian.PutUint32(body, 7)
			binary.LittleEndian.PutUint32(body[4:], 31)
			binary.LittleEndian.PutUint32(body[20:], 4096)
		case fuseLookup: // struct fuse_entry_out: the one file
			body = append(binary.LittleEndian.AppendUint64(nil, 2), make([]byte, 32)...)
			body = append(body, attributes(2)...)
		case fuseGetattr: // struct fuse_attr_out
			body = append(make([]byte, 16), attributes(node)...)
		case fuseStatfs:
			body = make([]byte, 80)
		}
		answer := binary.LittleEndian.AppendUint32(nil, uint32(16+len(body)))
		status := int32(0)
		if body == nil {
			status = -int32(unix.ENOSYS)
		}
		answer = binary.LittleEndian.AppendUint32(answer, uint32(status))
		answer = binary.LittleEndian.AppendUint64(answer, unique)
		_, _ = unix.Write(s.dev, append(answer, body...)) // whoever asked may be gone
	}
}

// attributes is struct fuse_attr: inode 1 is the directory, every other a file.
func attributes(inode uint64) []byte {
	mode := uint32(unix.S_IFREG | 0o644)
	if inode == 1 {
		mode = unix.S_IFDIR | 0o755
	}
	b := binary.LittleEndian.AppendUint64(nil, inode)
	b = append(b, make([]byte, 52)...) // sizes and times
	b = binary.LittleEndian.AppendUint32(b, mode)
	b = binary.LittleEndian.AppendUint32(b, 1)
	return append(b, make([]byte, 20)...)
}

// Who waits for a file system that does not answer survives every kill. The run
// ends without it all the same, and says so.
func TestSurvivorsOfAGroup(t *testing.T) {
	need.File(t, "/dev/fuse")
	grouped(t)
	if apart(t) {
		survive(t, mods{budget(spec.Processes, 100)}, true, false)
	}
}

// What survives may still be writing, so nothing that it wrote is kept.
func TestSurvivorsLoseWhatIsHeldBack(t *testing.T) {
	need.File(t, "/dev/fuse")
	needHeld(t)
	if apart(t) {
		survive(t, mods{held(tree(t))}, false, true)
	}
}

func survive(t *testing.T, change mods, grouped, loses bool) {
	t.Helper()
	at := tree(t, "remote/") + "/remote"
	file := at + "/file"
	bare := exec.Command(place.exe, victim.Word, "open-stuck", file, token())
	t.Cleanup(func() { _ = bare.Wait() }) // after the file system is gone
	silent := mountSilent(t, at)
	must(t, bare.Start())
	<-silent.opened
	must(t, bare.Process.Kill())
	waits := func(pid int) bool { return strings.Contains(everyState(pid), "D") }
	eventually(t, "a process outside that cannot be killed", func() bool { return waits(bare.Process.Pid) })

	ctx, cancel := context.WithCancel(t.Context())
	l := start(t, ctx, append(change, grant("r", at), spawn(spec.SpawnThreads), grace(time.Millisecond)), "open-stuck", file)
	<-silent.opened
	cancel()
	<-l.ended
	o := l.out
	if _, lost := errors.AsType[*bvisor.Fault](l.err); o.Report == nil || lost != loses {
		t.Fatal(l.err)
	}
	if !waits(l.pid) || !waits(bare.Process.Pid) {
		t.Fatalf("threads are in state %q, those of the other %q: they were killed after all", everyState(l.pid), everyState(bare.Process.Pid))
	}
	o.ended(t, report.Killed, "cancelled", 0)
	if f := fact(o, report.TreeKilled); f["emptied"] != "false" || f["survivors"] != "1" {
		t.Errorf("the report says of the tree: %v", f)
	}
	if f := fact(o, report.GroupEmptied); grouped && f["survivors"] != "1" {
		t.Errorf("the report says of the group: %v", f)
	}
	if a := o.Report.Artifacts; loses && (len(a) != 1 || a[0].Lost != "not everything has ended that could write") {
		t.Errorf("the report says of what was held back: %+v", a)
	}
	init := parent(t, l.pid)
	launcher := parent(t, init)

	// The server's end is the wait's.
	must(t, unix.Unmount(at, unix.MNT_FORCE|unix.MNT_DETACH))
	for _, pid := range []int{l.pid, init, launcher} {
		eventually(t, fmt.Sprintf("the end of process %d", pid), func() bool { return !exists(fmt.Sprintf("/proc/%d", pid)) })
	}
	if err := bare.Wait(); err == nil {
		t.Error("the one outside ended by itself")
	}
}

// everyState has a letter for each thread of a process (proc_pid_stat(5)).
func everyState(pid int) (states string) {
	threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, thread := range threads {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", pid, thread.Name()))
		_, rest, _ := strings.Cut(string(b), ") ")
		states += rest[:min(1, len(rest))]
	}
	return states
}
