//go:build linux && (amd64 || arm64)

package linux_test

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
)

// A socket file of the host is reached by no name, unless its directory is
// granted; then it is, since connecting is a matter of the file's mode
// (unix(7)) and not of a read-only mount.
func TestSocketFiles(t *testing.T) {
	root := tree(t, "out/", "in/")
	inside, outside := filepath.Join(root, "in"), filepath.Join(root, "out", "socket")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: outside}))
	must(t, unix.Listen(fd, 100))
	must(t, os.Chmod(outside, 0o777))
	arrived := func() (n int) { // a connection waits as soon as connect(2) returned
		for ; ; n++ {
			c, _, err := unix.Accept(fd)
			if err != nil {
				return n
			}
			unix.Close(c)
		}
	}
	must(t, os.Symlink("../out/socket", filepath.Join(inside, "link")))
	must(t, os.Symlink("../out", filepath.Join(inside, "dir")))
	ways := []string{outside, inside + "/link", inside + "/dir/socket", "/proc/self/root" + outside, "/proc/1/root" + outside}
	c := newCalls()
	for _, way := range ways {
		fd := c.try("socket for "+way, unix.SYS_SOCKET, num(unix.AF_UNIX), num(unix.SOCK_STREAM), num(0))
		at := unixAddress(way + "\x00")
		c.try(way, unix.SYS_CONNECT, fd, c.Bytes(at, way), num(len(at)))
	}
	without, within, o := c.both(t, false, grant("r", inside))
	control := 0
	for _, way := range ways {
		if without[way] == 0 {
			control++
		} else if way != "/proc/1/root"+outside { // of a process that may be another user's
			t.Errorf("control: %s gave %v", way, unix.Errno(-without[way]))
		}
		if r := within[way]; r != -int64(unix.ENOENT) && r != -int64(unix.EACCES) {
			t.Errorf("confined: %s gave %d", way, r)
		}
	}
	if n := arrived(); n != control {
		t.Errorf("%d connections arrived, %d are the control's", n, control)
	}
	o.heldBy(t, plan.MountNamespace)
	o.reports(t, report.Completed, "")

	if _, within, _ := c.both(t, false, grant("r", root)); within[outside] != 0 {
		t.Errorf("with its directory granted: connect gave %d", within[outside])
	}
	if n := arrived(); n <= control {
		t.Errorf("with its directory granted: %d connections arrived, %d are the control's", n, control)
	}
}

// A program with file capabilities gains none.
func TestFileCapabilitiesGainNothing(t *testing.T) {
	need.Root(t)
	const rawSockets = 1 << unix.CAP_NET_RAW
	c := newCalls()
	sets := make([]byte, 24)
	header := binary.NativeEndian.AppendUint32(nil, unix.LINUX_CAPABILITY_VERSION_3)
	data := c.Bytes(sets, "sets")
	c.try("capget", unix.SYS_CAPGET, c.Bytes(append(header, 0, 0, 0, 0), "header"), data)
	c.try("socket", unix.SYS_SOCKET, num(unix.AF_PACKET), num(unix.SOCK_RAW), num(0))
	c.quiet(unix.SYS_WRITE, num(1), data, num(len(sets)))
	path := c.file(t)
	// struct vfs_cap_data, version 2 with the effective bit: capabilities(7).
	value := binary.LittleEndian.AppendUint32(nil, 0x02000001)
	for _, word := range []uint32{rawSockets, 0, 0, 0} {
		value = binary.LittleEndian.AppendUint32(value, word)
	}
	if err := unix.Setxattr(path, "security.capability", value, 0); err != nil {
		need.Missing(t, "file-capabilities", err.Error())
	}
	effective := func(out string) uint32 { return binary.NativeEndian.Uint32([]byte(out)) }
	cmd := exec.Command(path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: need.Nobody, Gid: need.Nobody, Groups: []uint32{}}}
	out, err := cmd.Output()
	must(t, err)
	if got := effective(string(out)); got != rawSockets {
		need.Missing(t, "file-capabilities", "a program with them has none here")
	}
	if got := c.read(t, "control", string(out)[len(sets):])["socket"]; got < 0 {
		t.Errorf("control: a packet socket gave %v", unix.Errno(-got))
	}
	o := runCommand(t, path)
	if got := effective(o.Stdout); got != 0 {
		t.Errorf("it has the Linux capabilities %#x", got)
	}
	if got := c.read(t, "confined", o.Stdout[len(sets):])["socket"]; got != -int64(unix.EACCES) {
		t.Errorf("a packet socket gave %d", got)
	}
	o.heldBy(t, plan.NoNewPrivileges)
	o.heldBy(t, plan.NoCapabilities)
}
