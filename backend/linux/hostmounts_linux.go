package linux

import (
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// hostMount is one line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type hostMount struct {
	device string // major:minor
	root   string // the directory of the file system that is shown
	at     string // where it is shown
	fsType string
	kernel bool // of kernelFiles
}

// hostMounts lists the mounts that the supervisor sees, in their order: of two
// at one place the later one covers the other.
func hostMounts() ([]hostMount, error) {
	kept.Lock()
	defer kept.Unlock()
	if kept.file == nil {
		// Not by os.Open: the runtime's own poll would take the news.
		fd, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		kept.file = os.NewFile(uintptr(fd), "mountinfo")
	}
	changed := []unix.PollFd{{Fd: int32(kept.file.Fd()), Events: unix.POLLPRI}}
	if n, err := unix.Poll(changed, 0); err == nil && n == 0 && kept.list != nil {
		return kept.list, nil
	}
	if _, err := kept.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(kept.file)
	if err != nil {
		return nil, err
	}
	kept.list = parseMounts(string(text))
	return kept.list, nil
}

// kept is the list as it was read last. Polling the file tells whether the
// mounts of its namespace have changed since (proc_pid_mounts(5), mounts_poll
// in fs/proc_namespace.c), for a two hundredth of what reading it costs.
var kept struct {
	sync.Mutex
	file *os.File
	list []hostMount
}

// parseMounts splits at blanks only: they are escaped in names, and form feeds,
// for example, are not (show_mountinfo in fs/proc_namespace.c).
func parseMounts(text string) []hostMount {
	var list []hostMount
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		if len(f) < 8 {
			continue
		}
		i := slices.Index(f[6:], "-") // behind the optional fields
		if i < 0 || 6+i+1 >= len(f) {
			continue
		}
		fsType := f[6+i+1]
		list = append(list, hostMount{device: f[2], root: unescape(f[3]), at: unescape(f[4]), fsType: fsType, kernel: slices.Contains(kernelFiles, fsType)})
	}
	return list
}

// unescape undoes what the kernel's mangle does to blanks, newlines and
// backslashes: "\040" and the like.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// covering returns the mount that shows name.
func covering(list []hostMount, name string) (m hostMount, ok bool) {
	for _, o := range list {
		if within(name, o.at) && (!ok || len(o.at) >= len(m.at)) {
			m, ok = o, true
		}
	}
	return m, ok
}

// names are all places where the file at name is shown: a directory that is
// bound elsewhere shows it there, too.
func names(list []hostMount, name string) []string {
	all := []string{name}
	home, ok := covering(list, name)
	if !ok {
		return all
	}
	inside := path.Join(home.root, strings.TrimPrefix(name, home.at))
	for _, m := range list {
		if m.device == home.device && within(inside, m.root) {
			if other := path.Join(m.at, strings.TrimPrefix(inside, m.root)); other != name {
				all = append(all, other)
			}
		}
	}
	return all
}

// kernelFiles are file systems whose files are the kernel's own switches. Many
// ask for nothing but the superuser's uid, which root's own workload has.
var kernelFiles = []string{"binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "efivarfs", "fusectl", "proc", "pstore",
	"resctrl", "securityfs", "selinuxfs", "smackfs", "sysfs", "tracefs"}
