package linux

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/need"
)

const inNamespace = "BVISOR_TEST_OWN_MOUNTS"

// The list that is kept follows every mount and umount. The test does both, so
// it starts itself again in a mount namespace of its own.
func TestKeptMountsFollowTheHost(t *testing.T) {
	need.UserNamespace(t)
	dir := os.Getenv(inNamespace)
	if dir == "" {
		child := exec.Command("/proc/self/exe", "-test.run=^TestKeptMountsFollowTheHost$", "-test.count=1", "-test.v")
		child.Env = append(os.Environ(), inNamespace+"="+t.TempDir())
		child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}}
		// What the suite does after its tests may fail in there.
		if out, err := child.CombinedOutput(); !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	shown := func() bool {
		list, err := hostMounts()
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(list, func(m hostMount) bool { return m.at == dir })
	}
	for range 3 {
		if shown() {
			t.Fatalf("%s is listed before it is mounted", dir)
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		if !shown() {
			t.Fatalf("%s is not listed though it is mounted", dir)
		}
		if err := unix.Unmount(dir, 0); err != nil {
			t.Fatal(err)
		}
	}
}
