package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Kinds of a host's hierarchies.
const (
	KindNone   = "none"
	KindV1     = "v1"
	KindV2     = "v2"
	KindHybrid = "hybrid"
)

// What can be in the way of a Place.
const (
	NoHierarchy   = "no-hierarchy"   // no v2, or not alone
	NotDelegated  = "not-delegated"  // no group that the caller may divide
	ReadOnly      = "read-only"      // the file system is
	Occupied      = "occupied"       // processes live where only groups may
	NoControllers = "no-controllers" // memory or pids is not there to be given on
	NotAGroup     = "not-a-group"    // what was named is none
)

// Lack says why there is no Place.
type Lack struct {
	Code     string // one of those above
	Detail   string
	Withheld []string // groups that keep memory or pids from those below, the topmost first
}

func (l *Lack) Error() string { return l.Code + ": " + l.Detail }

func lack(code, format string, args ...any) *Lack {
	return &Lack{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Hierarchy says which kind of cgroup hierarchies the mounts show, and where the
// second version is mounted.
func Hierarchy(mountinfo []byte) (kind, mount string) {
	v1 := false
	for line := range strings.Lines(string(mountinfo)) {
		// proc_pid_mountinfo(5): (5) mount point ... - (1) type
		fields, rest, found := strings.Cut(line, " - ")
		f := strings.Fields(fields)
		if !found || len(f) < 5 {
			continue
		}
		switch fsType, _, _ := strings.Cut(rest, " "); fsType {
		case "cgroup":
			v1 = true
		case "cgroup2":
			if mount == "" {
				mount = unescape(f[4])
			}
		}
	}
	switch {
	case v1 && mount != "":
		return KindHybrid, mount
	case v1:
		return KindV1, ""
	case mount != "":
		return KindV2, mount
	}
	return KindNone, ""
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	for _, c := range []string{" ", "\t", "\n", "\\"} {
		s = strings.ReplaceAll(s, fmt.Sprintf("\\%03o", c[0]), c)
	}
	return s
}

// Own is the path of the caller's group in the second hierarchy, as
// /proc/self/cgroup has it (cgroups(7)); empty where there is none.
func Own() string {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(path, "\n")
		}
	}
	return ""
}

// Place is the group below which leaves are made. Processes live in leaves only.
type Place struct {
	Path        string // on the file system
	mount       string
	Controllers []string // those that leaves have
	HugePages   []string // sizes of those that leaves count, as their files name them: "2MB" for hugetlb.2MB.max
	localEvents bool     // the hierarchy is mounted with pids_localevents
}

// home is the name of a Place in what was delegated.
const home = "bvisor"

// wanted are the controllers that leaves get where they are to be had. The
// first ones there must be.
var wanted = []string{"memory", "pids", "cpu", "hugetlb"}

const needed = 2

// Find returns the Place below parent, a directory of the second hierarchy.
// Without a parent that is the topmost group above the caller's own which the
// caller may write to: for the superuser the root, but for a unit of its own that
// systemd delegated to it. It makes the group and hands
// controllers on to it. The error is a *Lack.
func Find(parent string) (*Place, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, lack(NoHierarchy, "%v", err)
	}
	kind, mount := Hierarchy(mounts)
	if kind != KindV2 {
		return nil, lack(NoHierarchy, "this host's hierarchy is %s, expected v2 alone", kind)
	}
	base := parent
	if base == "" {
		if base, err = topmost(mount, Own()); err != nil {
			return nil, err
		}
	} else if err := isGroup(base); err != nil {
		return nil, err
	}
	p := &Place{Path: filepath.Join(base, home), mount: mount, localEvents: bytes.Contains(mounts, []byte("pids_localevents"))}
	if err := handOn(base, mount); err != nil {
		return nil, err
	}
	if err := os.Mkdir(p.Path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, explain(err, "make "+p.Path)
	}
	if err := handOn(p.Path, mount); err != nil {
		return nil, err
	}
	p.Controllers, err = list(p.Path, "cgroup.subtree_control")
	if err == nil && slices.Contains(p.Controllers, "hugetlb") {
		p.HugePages, err = hugePages(p.Path) // leaves have the same
	}
	if err != nil {
		return nil, explain(err, "read back")
	}
	return p, nil
}

func hugePages(dir string) (sizes []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if f := strings.Split(e.Name(), "."); len(f) == 3 && f[0] == "hugetlb" && f[2] == "max" {
			sizes = append(sizes, f[1])
		}
	}
	return sizes, err
}

func isGroup(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return lack(NotAGroup, "%s: %v", dir, err)
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return lack(NotAGroup, "%s is no directory of a cgroup2 file system", dir)
	}
	if !divisible(dir) {
		return lack(NotDelegated, "%s cannot be written to by uid %d", dir, os.Geteuid())
	}
	return nil
}

// divisible says whether the caller may make groups in dir, move processes in
// it, and hand on its controllers: what delegation consists of (cgroup-v2.rst,
// "Model of Delegation"). The root has no limit of its own but all of these.
func divisible(dir string) bool {
	for _, name := range []string{".", "cgroup.procs", "cgroup.subtree_control"} {
		if unix.Faccessat(unix.AT_FDCWD, filepath.Join(dir, name), unix.W_OK, unix.AT_EACCESS) != nil {
			return false
		}
	}
	return true
}

// topmost climbs from the caller's own group while it may divide what it meets.
// The superuser may divide everything: as a unit with Delegate=yes it stays in
// what it was given, so that the unit's limits are those of its workloads, too.
func topmost(mount, own string) (string, error) {
	if own == "" || strings.HasPrefix(own, "/..") {
		return "", lack(NotDelegated, "this process is in group %q, which is not below %s", own, mount)
	}
	dir := filepath.Join(mount, own)
	if !divisible(dir) {
		var fs unix.Statfs_t
		if unix.Statfs(dir, &fs) == nil && fs.Flags&unix.ST_RDONLY != 0 {
			return "", lack(ReadOnly, "%s is mounted read-only", mount)
		}
		return "", lack(NotDelegated, "uid %d may not write to its own group %s", os.Geteuid(), own)
	}
	unit := ""
	for {
		if isUnit(dir) {
			unit = dir
		}
		if dir == mount || !divisible(filepath.Dir(dir)) {
			break
		}
		dir = filepath.Dir(dir)
	}
	if unit != "" && os.Geteuid() == 0 {
		return unit, nil
	}
	return dir, nil
}

// isUnit says whether systemd marked a group as delegated to the caller, and to
// nobody else: who owns a group can let its processes go where they like.
func isUnit(dir string) bool {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil || int(st.Uid) != os.Geteuid() {
		return false
	}
	for _, name := range []string{"trusted.delegate", "user.delegate"} { // the second since systemd 251
		value := make([]byte, 8)
		if n, err := unix.Getxattr(dir, name, value); err == nil && string(value[:n]) == "1" {
			return true
		}
	}
	return false
}

// handOn lets the groups below dir have controllers. The kernel refuses that
// with EBUSY where processes are in dir itself: a caller that is alone there, with
// what it has started, moves into a group beside the Place.
func handOn(dir, mount string) error {
	has, err := list(dir, "cgroup.controllers")
	if err != nil {
		return explain(err, "read")
	}
	given, err := list(dir, "cgroup.subtree_control")
	if err != nil {
		return explain(err, "read")
	}
	for i, c := range wanted {
		if slices.Contains(given, c) {
			continue
		}
		if !slices.Contains(has, c) {
			if i < needed {
				l := lack(NoControllers, "%s has the controllers %q, expected memory and pids among them", dir, has)
				l.Withheld = withholding(dir, mount)
				return l
			}
			continue
		}
		err := write(dir, "cgroup.subtree_control", "+"+c)
		if errors.Is(err, unix.EBUSY) {
			if err = stepAside(dir); err == nil {
				err = write(dir, "cgroup.subtree_control", "+"+c)
			}
		}
		if err != nil && i < needed {
			return explain(err, "hand on "+c)
		}
	}
	return nil
}

// withholding lists the groups between the mount and dir that do not hand on
// what is needed. Where the topmost does not have it either, nobody can.
func withholding(dir, mount string) []string {
	var groups []string
	lacks := func(group, file string) bool {
		list, err := list(group, file)
		return err != nil || slices.ContainsFunc(wanted[:needed], func(c string) bool { return !slices.Contains(list, c) })
	}
	for dir != mount && strings.HasPrefix(dir, mount) {
		dir = filepath.Dir(dir)
		if lacks(dir, "cgroup.subtree_control") {
			groups = append(groups, dir)
		}
	}
	if lacks(mount, "cgroup.controllers") {
		return nil
	}
	slices.Reverse(groups)
	return groups
}

// aside is where a caller goes that is alone, with what it has started, in what
// was delegated to it.
const aside = "supervisor"

func stepAside(dir string) error {
	group := filepath.Join(dir, aside)
	const rounds = 10 // what was started may be forking
	for range rounds {
		procs, err := list(dir, "cgroup.procs")
		if err != nil || len(procs) == 0 {
			return err
		}
		var own []string
		for _, pid := range procs {
			switch is, err := isOwn(pid); {
			case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ESRCH): // gone; the next look tells
			case err != nil:
				return err
			case !is:
				return lack(Occupied, "process %s is in %s, and controllers go only to the groups of one that has none", pid, dir)
			default:
				own = append(own, pid)
			}
		}
		if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		for _, pid := range own {
			if err := write(group, "cgroup.procs", pid); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return lack(Occupied, "%s always has processes in it, and controllers go only to the groups of one that has none", dir)
}

// isOwn says whether a process is the caller or was started by it. One of another
// pid namespace has the number 0 (cgroups(7)).
func isOwn(pid string) (bool, error) {
	for own := strconv.Itoa(os.Getpid()); pid != own; {
		if pid == "0" {
			return false, nil
		}
		b, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			return false, err
		}
		// proc_pid_stat(5): the parent is the fourth field; the second, in parentheses, may hold any byte.
		f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
		if len(f) < 2 {
			return false, fmt.Errorf("/proc/%s/stat: %d fields behind the name, expected 50", pid, len(f))
		}
		pid = string(f[1])
	}
	return true, nil
}

func explain(err error, what string) error {
	if l, ok := errors.AsType[*Lack](err); ok {
		return l
	}
	code := NotDelegated
	switch {
	case errors.Is(err, unix.EROFS):
		code = ReadOnly
	case errors.Is(err, unix.EBUSY):
		code = Occupied
	}
	return lack(code, "%s: %v", what, err)
}

func list(dir, name string) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	return strings.Fields(string(b)), err
}

func write(dir, name, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// Group is the Place as /proc/PID/cgroup names it.
func (p *Place) Group() string {
	rel, err := filepath.Rel(p.mount, p.Path)
	if err != nil || rel == "." {
		return "/"
	}
	return "/" + rel
}

// CountsOwn says whether pids.events of a leaf counts forks that the leaf's own
// limit refused and no others: so it is since Linux 6.11, which also brought
// pids.events.local (cgroup-v2.rst).
func (p *Place) CountsOwn(l *Leaf) bool { return !p.localEvents && l.Has("pids.events.local") }
