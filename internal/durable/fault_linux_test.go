package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/need"
)

func init() {
	roles["mounts"] = inNamespace(func(string) int { return 0 })
	roles["full"] = inNamespace(full)
	roles["inodes"] = inNamespace(inodes)
	roles["read-only"] = inNamespace(readOnly)
	roles["file-size"] = fileSize
	roles["denied"] = denied
}

// runHelper runs a role in a process of its own, which fails by saying why.
func runHelper(t *testing.T, role string, attr *syscall.SysProcAttr) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "d")
	if err := MkdirAll(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(path, 0o700) }) // else what "denied" leaves cannot be removed
	cmd := helper(role, path)
	cmd.SysProcAttr = attr
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", role, err, out)
	}
}

// namespaces gives the helper mounts of its own, as an ordinary user or as root.
func namespaces() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

func needMounts(t *testing.T) {
	t.Helper()
	cmd := helper("mounts", t.TempDir())
	cmd.SysProcAttr = namespaces()
	out, err := cmd.CombinedOutput()
	if err == nil {
		return
	}
	need.Missing(t, "userns", fmt.Sprintf("a mount in a user namespace of our own: %v: %s", err, out))
}

// inNamespace mounts a small tmpfs (256 KiB, 12 inodes) at path before test.
func inNamespace(test func(string) int) func(string) int {
	return func(path string) int {
		if err := unix.Mount("tmpfs", path, "tmpfs", 0, "size=256k,nr_inodes=12,mode=0700"); err != nil {
			return fail("mount tmpfs: %v", err)
		}
		return test(path)
	}
}

func fail(format string, args ...any) int {
	fmt.Printf(format+"\n", args...)
	return 1
}

func TestFullDisk(t *testing.T)          { needMounts(t); runHelper(t, "full", namespaces()) }
func TestNoInodes(t *testing.T)          { needMounts(t); runHelper(t, "inodes", namespaces()) }
func TestReadOnlyDisk(t *testing.T)      { needMounts(t); runHelper(t, "read-only", namespaces()) }
func TestFileSizeLimit(t *testing.T)     { runHelper(t, "file-size", nil) }
func TestMissingPermission(t *testing.T) { runHelper(t, "denied", nil) }

// ways are the calls that have to fail alike.
func ways(d *Dir, size int) map[string]func(name string) error {
	data := make([]byte, size)
	return map[string]func(string) error{
		"create":   func(n string) error { return d.Create(n, data, 0o600) },
		"named":    func(n string) error { return explain("create", n, d.createNamed(n, data, 0o600)) },
		"write":    func(n string) error { return d.WriteFile(n, data, 0o600) },
		"writable": func(string) error { return d.Writable(size) },
	}
}

// failAll fails unless every way reports want with its hint and leaves nothing.
func failAll(d *Dir, size int, want error, hint string) int {
	before, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return fail("%v", err)
	}
	for name, way := range ways(d, size) {
		err := way("x-" + name)
		if !errors.Is(err, want) || !strings.Contains(err.Error(), hint) {
			return fail("%s: %v, want %v with %q", name, err, want, hint)
		}
	}
	after, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil || len(after) != len(before) {
		return fail("failed calls left %d files, want %d (%v)", len(after), len(before), err)
	}
	return 0
}

func full(path string) int {
	d, err := OpenDir(path)
	if err != nil {
		return fail("%v", err)
	}
	// The control: the same call works while there is room.
	if err := d.WriteFile("keep", make([]byte, 100_000), 0o600); err != nil {
		return fail("%v", err)
	}
	if code := failAll(d, 200_000, unix.ENOSPC, "free space"); code != 0 {
		return code
	}
	if err := d.WriteFile("keep", make([]byte, 200_000), 0o600); err == nil {
		return fail("replacing by more than fits succeeded")
	}
	if data, err := d.ReadFile("keep"); err != nil || len(data) != 100_000 {
		return fail("a failed replacement left %d bytes (%v), want the old 100000", len(data), err)
	}
	return 0
}

func inodes(path string) int {
	d, err := OpenDir(path)
	if err != nil {
		return fail("%v", err)
	}
	made := 0
	for ; made < 100; made++ {
		if err = d.Create(fmt.Sprint(made), []byte("x"), 0o600); err != nil {
			break
		}
	}
	if made == 0 || !errors.Is(err, unix.ENOSPC) {
		return fail("%d files, then %v; want some, then ENOSPC", made, err)
	}
	return failAll(d, 1, unix.ENOSPC, "inodes")
}

func readOnly(path string) int {
	d, err := OpenDir(path)
	if err != nil {
		return fail("%v", err)
	}
	if err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fail("remount: %v", err)
	}
	if err := MkdirAll(filepath.Join(path, "sub")); !errors.Is(err, unix.EROFS) {
		return fail("MkdirAll: %v, want EROFS", err)
	}
	return failAll(d, 10, unix.EROFS, "mounted read-only")
}

func fileSize(path string) int {
	d, err := OpenDir(path)
	if err != nil {
		return fail("%v", err)
	}
	signal.Ignore(unix.SIGXFSZ)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 4096, Max: 4096}); err != nil {
		return fail("%v", err)
	}
	if err := d.Create("small", make([]byte, 4096), 0o600); err != nil {
		return fail("control: %v", err)
	}
	return failAll(d, 4097, unix.EFBIG, "ulimit -f")
}

// denied tries as an ordinary user in a directory that such a user cannot write.
func denied(path string) int {
	d, err := OpenDir(path)
	if err != nil {
		return fail("%v", err)
	}
	if err := d.Create("control", nil, 0o600); err != nil {
		return fail("control: %v", err)
	}
	if err := os.Chmod(path, 0o555); err != nil {
		return fail("%v", err)
	}
	if os.Getuid() == 0 {
		if err := errors.Join(syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
			return fail("%v", err)
		}
	}
	return failAll(d, 10, fs.ErrPermission, "must belong to the user")
}
