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

// mangle is what the kernel does to names in this file (show_mountinfo in
// fs/proc_namespace.c).
func mangle(s string) string {
	return strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace(s)
}

// Whoever may mount chooses the names in the list, and no name hides a mount.
func FuzzParseMounts(f *testing.F) {
	f.Add("/", "/mnt", "ext4", uint8(0))
	f.Add("/a b\t\\040", "/#\n", "fuse.\\", uint8(2))
	f.Add("/\f", "/a\v-\rproc\u00a0x\u0085", "proc", uint8(1))
	f.Fuzz(func(t *testing.T, root, at, fsType string, optional uint8) {
		if root == "" || at == "" || fsType == "" || fsType == "-" || strings.Contains(root+at+fsType, "\x00") {
			return // are not in any list
		}
		line := "36 35 98:0 " + mangle(root) + " " + mangle(at) + " rw,noatime" + strings.Repeat(" shared:1", int(optional%4)) + " - " + mangle(fsType) + " /dev/x rw\n"
		got := parseMounts("35 1 98:1 / / rw - ext4 /dev/y rw\n" + line)
		if len(got) != 2 || got[1].device != "98:0" || got[1].root != root || got[1].at != at || got[1].fsType != mangle(fsType) {
			t.Errorf("%q was read as %+v", line, got)
		}
	})
}
