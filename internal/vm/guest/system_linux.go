package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ownRoot puts the archive's files once more over the root: the first root has
// no mount above it, so pivot_root(2) fails with EINVAL there.
func ownRoot() error {
	const at = "/vm/root"
	if err := unix.Mount("/", at, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind the root: %w", err)
	}
	if err := unix.Chdir(at); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	// As most distributions have it.
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
}

func mounts() error {
	unix.Umask(0)
	for _, m := range []struct {
		at, fs string
		flags  uintptr
		data   string
	}{
		{"/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
		{"/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0620,ptmxmode=0666"},
		{"/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
		{"/sys/fs/cgroup", "cgroup2", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "nsdelegate"},
	} {
		if err := os.Mkdir(m.at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		if err := unix.Mount(m.fs, m.at, m.fs, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.fs, m.at, err)
		}
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink(target, "/dev/"+name); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	unix.Umask(0o022)
	return nil
}

// prepare does what a distribution does when it starts, as far as suites see it.
func prepare(modules []string) error {
	for _, name := range modules {
		if err := load(name); err != nil {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	// Suites try programs that gain something: nosuid would hide whether the
	// boundary stops them.
	if err := unix.Mount("/dev/vda", "/tmp", "ext4", unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("mount the disk: %w", err)
	}
	if err := unix.Chmod("/tmp", 0o1777); err != nil {
		return err
	}
	if err := os.Remove("/tmp/lost+found"); err != nil {
		return err
	}
	if err := loopback(); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	if err := unix.Sethostname([]byte("machine")); err != nil {
		return err
	}
	return controllers(cgroupRoot)
}

func load(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if strings.HasSuffix(name, ".xz") {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	if err := unix.FinitModule(int(f.Fd()), "", flags); err != nil && err != unix.EEXIST {
		return err
	}
	return nil
}

// loopback switches the loopback device on, which gives it its address
// (netdevice(7)).
func loopback() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(s, unix.SIOCGIFFLAGS, ifr); err != nil {
		return err
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr)
}

const cgroupRoot = "/sys/fs/cgroup"

// controllers gives every controller there is to the children of a cgroup.
func controllers(dir string) error {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, c := range strings.Fields(string(have)) {
		if err := put(filepath.Join(dir, "cgroup.subtree_control"), "+"+c); err != nil {
			return err
		}
	}
	return nil
}

// newCgroup makes the cgroup that a suite starts in. An ordinary user's is one
// level below a cgroup that is delegated to them, as systemd does it for
// user@.service (cgroup v2 documentation, "Delegation").
func newCgroup(uid int) (*os.File, error) {
	dir := filepath.Join(cgroupRoot, "suite")
	if uid != 0 {
		dir = filepath.Join(cgroupRoot, "user-"+strconv.Itoa(uid))
	}
	leaf := filepath.Join(dir, "tests")
	if err := os.MkdirAll(leaf, 0o755); err != nil {
		return nil, err
	}
	if err := controllers(dir); err != nil {
		return nil, err
	}
	if uid != 0 {
		for _, cgroup := range []string{dir, leaf} {
			for _, name := range []string{".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} {
				if err := os.Chown(filepath.Join(cgroup, name), uid, uid); err != nil {
					return nil, err
				}
			}
		}
	}
	return os.Open(leaf)
}

func put(name, value string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
