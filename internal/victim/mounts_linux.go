package victim

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func mountActs() map[string]Act {
	return map[string]Act{
		"umount":        One(func(p string) error { return unix.Unmount(p, unix.MNT_DETACH) }),
		"remount":       One(remount),
		"mount-tmpfs":   One(func(p string) error { return unix.Mount("tmpfs", p, "tmpfs", 0, "") }),
		"bind":          Two(func(from, to string) error { return unix.Mount(from, to, "", unix.MS_BIND, "") }),
		"mount-setattr": One(mountSetattr),
		"open-tree":     One(openTree),
		"move-mount":    Two(moveMount),
		"fsopen":        One(func(t string) error { _, err := unix.Fsopen(t, 0); return err }),
		"pivot":         One(pivot),
		"chroot":        One(unix.Chroot),
		"chroot-out":    One(chrootOut),
		"climb":         One(climb),
		"proc-climb":    One(procClimb),
		"open-handle":   One(openHandle),
		"overwrite":     One(overwrite),
	}
}

// remount makes a mount writable.
func remount(p string) error {
	return unix.Mount("", p, "", unix.MS_REMOUNT|unix.MS_BIND, "")
}

func mountSetattr(p string) error {
	return unix.MountSetattr(unix.AT_FDCWD, p, 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
}

func openTree(p string) error {
	_, err := unix.OpenTree(unix.AT_FDCWD, p, unix.OPEN_TREE_CLONE|unix.AT_RECURSIVE)
	return err
}

func moveMount(from, to string) error {
	return unix.MoveMount(unix.AT_FDCWD, from, unix.AT_FDCWD, to, 0)
}

// pivot makes a directory the root: it is made a mount first, where that works.
func pivot(p string) error {
	_ = unix.Mount(p, p, "", unix.MS_BIND, "") // pivot_root tells
	if err := unix.Chdir(p); err != nil {
		return fmt.Errorf("chdir: %v", err)
	}
	return unix.PivotRoot(".", ".")
}

// chrootOut is the old way out: a root below the working directory, and then
// up. It fails with chroot's error, and with ENOENT when the file is not found
// at the top.
func chrootOut(file string) error {
	dir := "/tmp/chroot"
	_ = unix.Mkdir(dir, 0o755)
	if err := unix.Chroot(dir); err != nil {
		return err
	}
	return climb(file)
}

// climb goes up from the working directory as far as it goes, and looks there
// for a file of the host.
func climb(file string) error {
	up := strings.Repeat("../", 64) + strings.TrimPrefix(file, "/")
	return unix.Stat(up, new(unix.Stat_t))
}

// procClimb looks for a file of the host through every link to a root, a
// working directory or an open file that /proc has. It succeeds with the first
// that leads there, and otherwise fails with the error that says most.
func procClimb(file string) error {
	pids, err := entries("/proc")
	if err != nil {
		return err
	}
	last := error(unix.ENOENT)
	for _, pid := range append(pids, "self", "thread-self") {
		if _, err := strconv.Atoi(pid); err != nil && !strings.HasSuffix(pid, "self") {
			continue
		}
		links := []string{"root", "cwd", "root/..", "cwd/.."}
		fds, _ := entries(path.Join("/proc", pid, "fd")) // none of a process that is closed to us
		for _, fd := range fds {
			links = append(links, "fd/"+fd, "fd/"+fd+"/..")
		}
		for _, l := range links {
			err := unix.Stat("/proc/"+pid+"/"+l+file, new(unix.Stat_t))
			if err == nil {
				return nil
			}
			if err == unix.EACCES || err == unix.EPERM {
				last = err
			}
		}
	}
	return last
}

func entries(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// openHandle opens a file by its number on the file system, past any mount.
func openHandle(p string) error {
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, p, 0)
	if err != nil {
		return err
	}
	mount, err := unix.Open(path.Dir(p), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.OpenByHandleAt(mount, handle, unix.O_RDONLY)
	return err
}

// overwrite opens a program for writing, in every way there is, and writes to
// it. It fails with the error of the last way.
func overwrite(name string) error {
	var last error
	for _, flags := range []int{unix.O_RDWR, unix.O_WRONLY | unix.O_APPEND, unix.O_WRONLY | unix.O_TRUNC, unix.O_WRONLY} {
		fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0)
		if err == nil {
			return fill(fd, []byte(Mark))
		}
		last = err
	}
	return last
}
