//go:build amd64 || arm64

package linux

import (
	"encoding/binary"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/landlock"
	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

// base is where the new root is mounted before it becomes the root. Every host
// that can be probed has it, and nothing can be granted from below it.
const base = "/proc"

// devices of the minimal /dev, by number: the host's node is used only if it
// really is that device.
var devices = []device{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}}

type device struct {
	name         string
	major, minor uint32
}

// mount is one place of the boundary's tree.
type mount struct {
	dest   string
	root   *spec.Root // a granted, exposed or carved-out path, with its pin
	pin    *pin
	temp   bool // private memory
	exec   bool // with temp
	bind   bool // the directory onto itself: it cannot be renamed any more
	parent *spec.Root
	source string // with temp: where its memory stands in the skeleton
}

// mounts builds the boundary's root in memory and makes it the root. Relative
// paths are inside the new root, absolute ones on the host.
func (l *lowering) mounts() error {
	l.closed = closedProc(l.plan)
	if l.slots.leaf != 0 {
		l.closed = append(slices.Clone(l.closed), "1/cgroup") // it would name the supervisor's group
	}
	abi, _ := l.param(plan.LandlockDomain, "abi")
	if l.has(plan.LandlockDomain) {
		l.makeRuleset(abi)
	}
	if !l.has(plan.MountNamespace) {
		return l.hostPaths(abi)
	}
	list, err := l.mountList()
	if err != nil {
		return err
	}
	if !l.has(plan.PrivateProc) {
		l.openTree("/proc", true)
		l.setAttributes(true, attrPlain|unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOEXEC, attrPlainText+",ro,noexec")
		l.Copy(l.tree).To(launcher.Addr(l.hostProc))
	}
	l.nameTerminal()
	l.makeRoot(list, abi)
	l.minimalDev(abi)
	for i := range list {
		l.place(&list[i], abi)
	}
	l.verify(list)
	l.privateProc(abi)
	l.enterRoot(abi)
	l.done("mounts")
	return nil
}

func (l *lowering) makeRuleset(abi int) {
	var net, scopes uint64
	// A rule for TCP names a port and no address, so it cannot tell loopback
	// from the rest: what the namespace holds is all there is.
	if !slices.Contains(l.plan.Accepted, "host-network") && !l.has(plan.NetworkLoopback) {
		net = landlock.Network(abi)
	}
	if l.has(plan.LandlockScopes) {
		scopes = landlock.Scopes(abi)
	}
	attr := landlock.Ruleset(abi, landlock.Handled(abi), net, scopes)
	text := fmt.Sprintf("{fs=%#x, net=%#x, scoped=%#x}", uint64(landlock.Handled(abi)), net, scopes)
	l.Call("landlock_create_ruleset", unix.SYS_LANDLOCK_CREATE_RULESET, l.Bytes(attr, text), launcher.Int(len(attr)), launcher.Int(0)).To(launcher.Addr(l.ruleset))
}

// rule lets rights through below what fd names.
func (l *lowering) rule(fd launcher.Arg, r landlock.Rights) {
	if !l.has(plan.LandlockDomain) || r == 0 {
		return
	}
	attr := l.Bytes(landlock.Rule(r), rightsText(r))
	l.Copy(fd).To(launcher.At(attr, landlock.RuleParentOffset, "rule.parent"))
	l.Call("landlock_add_rule", unix.SYS_LANDLOCK_ADD_RULE, l.ruleset, launcher.Flag(1, "LANDLOCK_RULE_PATH_BENEATH"), attr, launcher.Int(0))
}

// rightsText is worked out only for rights that differ: there are few.
var rightsTexts sync.Map

func rightsText(r landlock.Rights) string {
	if s, ok := rightsTexts.Load(r); ok {
		return s.(string)
	}
	s := fmt.Sprintf("{%#x, parent}", uint64(r))
	rightsTexts.Store(r, s)
	return s
}

// mountList is everything that is mounted, parents before what lies in them.
func (l *lowering) mountList() ([]mount, error) {
	var list []mount
	roots := l.plan.Resolved.Roots
	for i := range roots {
		list = append(list, mount{dest: roots[i].Dest, root: &roots[i], pin: l.res.pins[i]})
	}
	for _, t := range l.plan.Resolved.Spec.Controls.Temp {
		list = append(list, mount{dest: path.Clean(t.Path), temp: true, exec: t.Access.Exec()})
	}
	if !slices.ContainsFunc(list, func(m mount) bool { return m.dest == "/dev/shm" }) {
		list = append(list, mount{dest: "/dev/shm", temp: true})
	}
	for i := range list {
		m := &list[i]
		m.parent = enclosing(roots, m.dest)
		m.source = rel(m.dest)
		if m.parent != nil || !l.has(plan.MinimalDev) && within(m.dest, "/dev") {
			m.source = ".temp" + strconv.Itoa(i) // the directory is the host's
		}
	}
	for _, m := range slices.Clone(list) {
		if m.parent != nil && m.parent.Access.Write() {
			list = pinAncestors(list, m)
		}
		if m.root != nil && m.root.NonRecursive && m.root.Kind == spec.KindDirectory {
			masks, err := subdirectories(m.root, m.pin)
			if err != nil {
				return nil, err
			}
			list = append(list, slices.DeleteFunc(masks, func(mask mount) bool {
				return slices.ContainsFunc(list, func(o mount) bool { return o.dest == mask.dest })
			})...)
		}
	}
	slices.SortStableFunc(list, func(a, b mount) int { return strings.Compare(a.dest, b.dest) })
	return list, nil
}

// enclosing returns the innermost directory of the roots that holds dest.
func enclosing(roots []spec.Root, dest string) *spec.Root {
	var best *spec.Root
	for i := range roots {
		r := &roots[i]
		if r.Role != spec.RoleCarveOut && r.Kind == spec.KindDirectory && dest != r.Dest && within(dest, r.Dest) &&
			(best == nil || len(r.Dest) > len(best.Dest)) {
			best = r
		}
	}
	return best
}

// pinAncestors mounts every directory between the granted root and what lies
// in it onto itself: a mount point cannot be renamed or removed (EBUSY), so the
// path of a carve-out, or of a tree with fewer rights, keeps leading there and
// the workload cannot put a tree of its own in its place (CVE-2026-25725).
func pinAncestors(list []mount, m mount) []mount {
	for dir := path.Dir(m.dest); dir != m.parent.Dest; dir = path.Dir(dir) {
		if !slices.ContainsFunc(list, func(o mount) bool { return o.dest == dir }) {
			list = append(list, mount{dest: dir, bind: true, parent: m.parent})
		}
	}
	return list
}

// subdirectories masks each directory below a root that is not recursive; the
// caller leaves out those that are granted themselves. The workload has no
// right to make others.
func subdirectories(r *spec.Root, p *pin) ([]mount, error) {
	dir, err := os.Open("/proc/self/fd/" + strconv.Itoa(p.fd))
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", r.Path, err)
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", r.Path, err)
	}
	var masks []mount
	for _, e := range entries {
		if e.IsDir() {
			dest := path.Join(r.Dest, e.Name())
			masks = append(masks, mount{dest: dest, parent: r, root: &spec.Root{Path: path.Join(r.Path, e.Name()), Dest: dest,
				Kind: spec.KindDirectory, Access: spec.AccessNone, Role: spec.RoleCarveOut}})
		}
	}
	return masks, nil
}

// rel is dest inside the new root, which is the working directory.
func rel(dest string) string {
	if dest == "/" {
		return "."
	}
	return dest[1:]
}

// What closes other files and directories; they stand in the new root.
const (
	maskFile = ".mask"
	maskDir  = ".masked"
)

// makeRoot mounts the memory that holds the skeleton and all private
// directories: one instance, so its size bounds their sum.
func (l *lowering) makeRoot(list []mount, abi int) {
	size, inodes := storage(l.plan)
	options := fmt.Sprintf("mode=0755,size=%d,nr_inodes=%d", size+skeleton(l.plan), inodes+64+4*int64(len(list)))
	tmpfs := l.Str("tmpfs")
	l.Call("mount", unix.SYS_MOUNT, tmpfs, l.Str(base), tmpfs, launcher.Flag(unix.MS_NOSUID|unix.MS_NODEV, "MS_NOSUID|MS_NODEV"), l.Str(options))
	l.Call("chdir", unix.SYS_CHDIR, l.Str(base))

	made := map[string]bool{"/": true}
	var mkdir func(dir string)
	mkdir = func(dir string) {
		if !made[dir] {
			mkdir(path.Dir(dir))
			made[dir] = true
			l.mkdirat(rel(dir), 0o755)
		}
	}
	mkdir("/dev")
	mkdir("/proc")
	for _, m := range list {
		if m.parent != nil {
			continue // the mount point exists inside what is granted
		}
		if m.root != nil && m.root.Kind != spec.KindDirectory {
			mkdir(path.Dir(m.dest))
			l.emptyFile(rel(m.dest))
		} else {
			mkdir(m.dest)
		}
	}
	for _, k := range l.plan.Resolved.Links {
		if !made[k.Path] {
			mkdir(path.Dir(k.Path))
			l.symlink(k.Target, rel(k.Path))
		}
	}
	if files := accountFiles(l.plan); len(files) > 0 {
		mkdir("/etc")
		l.writeAccounts(files, abi)
	}
	masks := func(directory bool) bool {
		return slices.ContainsFunc(list, func(m mount) bool {
			return m.root != nil && m.root.Role == spec.RoleCarveOut && (m.root.Kind == spec.KindDirectory) == directory
		})
	}
	if len(l.closed) > 0 || masks(false) {
		l.emptyFile(maskFile)
	}
	if masks(true) {
		l.mkdirat(maskDir, 0)
	}
	if !l.has(plan.NoSys) {
		mkdir("/sys")
	}
}

// storage is the plan's bound on private memory: bytes, and files at one for
// each 16 KiB.
func storage(p plan.Plan) (size, inodes int64) {
	for _, b := range p.Budgets {
		if b.Dimension == spec.Storage {
			size = b.Limit
		}
	}
	return size, min(max(size/16384, 256), 1<<20)
}

func (l *lowering) emptyFile(name string) {
	l.Call("mknodat", unix.SYS_MKNODAT, launcher.Flag(unix.AT_FDCWD, "AT_FDCWD"), l.Str(name), launcher.Flag(unix.S_IFREG, "S_IFREG"), launcher.Int(0))
}

func (l *lowering) mkdirat(name string, mode int) {
	l.Call("mkdirat", unix.SYS_MKDIRAT, launcher.Flag(unix.AT_FDCWD, "AT_FDCWD"), l.Str(name), launcher.Flag(mode, fmt.Sprintf("%#o", mode)))
}

func (l *lowering) symlink(target, name string) {
	l.Call("symlinkat", unix.SYS_SYMLINKAT, l.Str(target), launcher.Flag(unix.AT_FDCWD, "AT_FDCWD"), l.Str(name))
}

// smallFile is one that a boundary has of its own; name is without the slash.
type smallFile struct{ name, text string }

// accountFiles tell user and host names apart from the host's
// own, without those that are granted, there or where the host's link leads.
func accountFiles(p plan.Plan) []smallFile {
	if enclosing(p.Resolved.Roots, "/etc/passwd") != nil {
		return nil
	}
	uid, gid := p.Resolved.UID, p.Resolved.GID
	passwd, group := "root:x:0:0:root:/:/bin/sh\n", "root:x:0:\n"
	if uid != 0 {
		passwd += fmt.Sprintf("user:x:%d:%d:user:/:/bin/sh\n", uid, gid)
	}
	if gid != 0 {
		group += fmt.Sprintf("user:x:%d:\n", gid)
	}
	if uid != 65534 {
		passwd += "nobody:x:65534:65534:nobody:/:/bin/false\n"
	}
	if gid != 65534 {
		group += "nogroup:x:65534:\n"
	}
	return slices.DeleteFunc([]smallFile{
		{"etc/passwd", passwd},
		{"etc/group", group},
		{"etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"},
		{"etc/hosts", "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 bvisor\n"},
	}, func(f smallFile) bool {
		return slices.ContainsFunc(p.Resolved.Roots, func(r spec.Root) bool { return r.Dest == "/"+f.name }) ||
			slices.ContainsFunc(p.Resolved.Links, func(k spec.Link) bool { return k.Path == "/"+f.name })
	})
}

// skeleton is how many bytes of private memory are bvisor's own: each file takes
// a page.
func skeleton(p plan.Plan) int64 { return int64(len(accountFiles(p)) * os.Getpagesize()) }

func (l *lowering) writeAccounts(files []smallFile, abi int) {
	file := l.Var("file")
	for _, f := range files {
		l.Call("openat", unix.SYS_OPENAT, launcher.Flag(unix.AT_FDCWD, "AT_FDCWD"), l.Str(f.name),
			launcher.Flag(unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, "O_CREAT|O_EXCL|O_WRONLY|O_CLOEXEC"), launcher.Flag(0o644, "0644")).To(launcher.Addr(file))
		l.Call("write", unix.SYS_WRITE, file, l.Str(f.text), launcher.Int(len(f.text)))
		l.rule(file, landlock.ReadFile&landlock.Handled(abi))
		l.Call("close", unix.SYS_CLOSE, file)
	}
}

// attributes of a mount: nothing is ever followed back to the host.
func (l *lowering) setAttributes(recursive bool, set uint64, text string) {
	attr := make([]byte, 32) // struct mount_attr
	binary.LittleEndian.PutUint64(attr, set)
	binary.LittleEndian.PutUint64(attr[16:], unix.MS_PRIVATE)
	flags, flagText := unix.AT_EMPTY_PATH, "AT_EMPTY_PATH"
	if recursive {
		flags, flagText = flags|unix.AT_RECURSIVE, flagText+"|AT_RECURSIVE"
	}
	l.Call("mount_setattr", unix.SYS_MOUNT_SETATTR, l.tree, l.Str(""), launcher.Flag(flags, flagText), l.Bytes(attr, "{"+text+", private}"), launcher.Int(len(attr)))
}

func (l *lowering) openTree(name string, recursive bool) { l.openTreeAt(l.Str(name), recursive) }

func (l *lowering) openTreeAt(name launcher.Arg, recursive bool) {
	flags, text := uint(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC), "OPEN_TREE_CLONE"
	if recursive {
		flags, text = flags|unix.AT_RECURSIVE, text+"|AT_RECURSIVE"
	}
	l.Call("open_tree", unix.SYS_OPEN_TREE, launcher.Flag(unix.AT_FDCWD, "AT_FDCWD"), name, launcher.Flag(uint64(flags), text)).To(launcher.Addr(l.tree))
}

// spot opens a mount point that lies in what is granted. Others on the host may
// change names there meanwhile, so no link is followed, and where it is known
// which file was resolved it must be that one.
func (l *lowering) spot(m *mount) launcher.Arg {
	spot := l.Var("mount point")
	l.openLinkFree(rel(m.dest)).To(launcher.Addr(spot))
	if m.pin != nil && m.root.Role != spec.RoleExpose && m.parent.Role == spec.RoleGrant && !m.parent.Held { // an overlay has numbers of its own
		l.identify(spot, &m.pin.stat)
	}
	return spot
}

func (l *lowering) openLinkFree(name string) launcher.Op {
	how := binary.LittleEndian.AppendUint64(nil, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW)
	how = binary.LittleEndian.AppendUint64(how, 0)
	how = binary.LittleEndian.AppendUint64(how, unix.RESOLVE_NO_SYMLINKS)
	return l.Call("openat2", unix.SYS_OPENAT2, launcher.Flag(unix.AT_FDCWD, "AT_FDCWD"), l.Str(name),
		l.Bytes(how, "{O_PATH|O_CLOEXEC|O_NOFOLLOW, RESOLVE_NO_SYMLINKS}"), launcher.Int(len(how)))
}

const moveToEmptyPath = 0x40 // MOVE_MOUNT_T_EMPTY_PATH, linux/mount.h

// put attaches the tree at the place of m.
func (l *lowering) put(m *mount) {
	if m.parent == nil {
		l.attach(m.dest)
		return
	}
	l.putAt(l.spot(m))
}

func (l *lowering) putAt(spot launcher.Arg) {
	l.Call("move_mount", unix.SYS_MOVE_MOUNT, l.tree, l.Str(""), spot, l.Str(""),
		launcher.Flag(unix.MOVE_MOUNT_F_EMPTY_PATH|moveToEmptyPath, "MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH"))
	l.Call("close", unix.SYS_CLOSE, l.tree)
	l.Call("close", unix.SYS_CLOSE, spot)
}

// verify looks again at every mount point that lies in what is granted, once
// all of them stand: from now on none of the names above them can be changed
// from inside, so what is at the path then stays there. An exchange of names
// on the host, between the mount of a parent and that of its child, ends here.
func (l *lowering) verify(list []mount) {
	for _, m := range list {
		if m.parent == nil {
			continue
		}
		l.openLinkFree(rel(m.dest)).To(launcher.Addr(l.tree))
		l.Call("statx", unix.SYS_STATX, l.tree, l.Str(""), launcher.Flag(unix.AT_EMPTY_PATH, "AT_EMPTY_PATH"), launcher.Flag(unix.STATX_TYPE, "STATX_TYPE"), l.statx)
		l.Check(launcher.At(l.statx, 8, "stat.attributes"), unix.STATX_ATTR_MOUNT_ROOT, unix.STATX_ATTR_MOUNT_ROOT, "STATX_ATTR_MOUNT_ROOT")
		l.Call("close", unix.SYS_CLOSE, l.tree)
	}
}

func (l *lowering) attach(dest string) { l.attachAt(l.Str(rel(dest))) }

func (l *lowering) attachAt(dest launcher.Arg) {
	l.Call("move_mount", unix.SYS_MOVE_MOUNT, l.tree, l.Str(""), launcher.Flag(unix.AT_FDCWD, "AT_FDCWD"), dest,
		launcher.Flag(unix.MOVE_MOUNT_F_EMPTY_PATH, "MOVE_MOUNT_F_EMPTY_PATH"))
	l.Call("close", unix.SYS_CLOSE, l.tree)
}

const (
	attrPlain     = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	attrPlainText = "nosuid,nodev"
)

// place mounts one entry of the list.
func (l *lowering) place(m *mount, abi int) {
	switch {
	case m.temp:
		l.placeTemp(m, abi)
	case m.bind:
		spot := l.spot(m)
		flags := launcher.Flag(uint64(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH), "OPEN_TREE_CLONE|AT_RECURSIVE|AT_EMPTY_PATH")
		l.Call("open_tree", unix.SYS_OPEN_TREE, spot, l.Str(""), flags).To(launcher.Addr(l.tree))
		l.putAt(spot)
	case m.root.Role == spec.RoleCarveOut:
		l.placeMask(m)
	case m.root.Held:
		l.placeHeld(m, abi)
	default:
		l.placeRoot(m, abi)
	}
}

func (l *lowering) placeTemp(m *mount, abi int) {
	if m.source != rel(m.dest) {
		l.mkdirat(m.source, 0o755)
	}
	l.openTree(m.source, false)
	set, text := uint64(attrPlain), attrPlainText
	if !m.exec {
		set, text = set|unix.MOUNT_ATTR_NOEXEC, text+",noexec"
	}
	l.setAttributes(false, set, text)
	l.rule(l.tree, landlock.For(true, true, m.exec)&landlock.Handled(abi))
	l.put(m)
}

// placeMask puts something empty and closed over a path. Mode 0 closes it: the
// workload has no capability that overrides modes, and a read-only mount keeps
// the mode.
func (l *lowering) placeMask(m *mount) {
	name := maskFile
	if m.root.Kind == spec.KindDirectory {
		name = maskDir
	}
	l.openMask(name)
	l.put(m)
}

func (l *lowering) openMask(name string) {
	l.openTree(name, false)
	l.setAttributes(false, attrPlain|unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOEXEC, attrPlainText+",ro,noexec")
}

// mask puts the closed file over one of the boundary's own.
func (l *lowering) mask(dest string) {
	l.openMask(maskFile)
	l.attach(dest)
}

func (l *lowering) placeRoot(m *mount, abi int) {
	l.openTree(m.root.Path, true)
	l.identify(l.tree, &m.pin.stat)
	set, text := uint64(unix.MOUNT_ATTR_NOSUID), "nosuid"
	if m.root.Kind != spec.KindDevice {
		set, text = set|unix.MOUNT_ATTR_NODEV, text+",nodev"
	}
	if !m.root.Access.Write() {
		set, text = set|unix.MOUNT_ATTR_RDONLY, text+",ro"
	}
	if !m.root.Access.Exec() {
		set, text = set|unix.MOUNT_ATTR_NOEXEC, text+",noexec"
	}
	l.setAttributes(true, set, text)
	l.rule(l.tree, rights(*m.root, abi))
	l.put(m)
}

// minimalDev binds the five devices of memory and randomness, and links the
// standard streams. A read-only mount keeps their metadata; a special file can
// be written through it all the same.
func (l *lowering) minimalDev(abi int) {
	all := (landlock.ReadFile | landlock.WriteFile) & landlock.Handled(abi)
	if !l.has(plan.MinimalDev) {
		l.openTree("/dev", true)
		l.setAttributes(true, unix.MOUNT_ATTR_NOSUID, "nosuid")
		l.rule(l.tree, (all|landlock.ReadDir|landlock.IoctlDev)&landlock.Handled(abi))
		l.attach("/dev")
		return
	}
	for _, d := range devices {
		l.bindDevice(d, all)
	}
	l.terminalDevices(abi)
	l.symlink("/proc/self/fd", "dev/fd")
	for fd, name := range []string{"stdin", "stdout", "stderr"} {
		l.symlink("/proc/self/fd/"+strconv.Itoa(fd), "dev/"+name)
	}
}

const (
	deviceMount     = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOEXEC
	deviceMountText = "nosuid,ro,noexec"
)

// bindDevice shows one of the host's devices if it is the one of that number.
func (l *lowering) bindDevice(d device, r landlock.Rights) {
	name := "dev/" + d.name
	l.emptyFile(name)
	l.openTree("/"+name, false)
	l.Call("statx", unix.SYS_STATX, l.tree, l.Str(""), launcher.Flag(unix.AT_EMPTY_PATH, "AT_EMPTY_PATH"), launcher.Flag(unix.STATX_TYPE, "STATX_TYPE"), l.statx)
	l.Check(launcher.At(l.statx, 0x1c, "stat.mode"), unix.S_IFMT, unix.S_IFCHR, "S_IFCHR")
	l.Check(launcher.At(l.statx, 0x80, "stat.rdev"), ^uint64(0), uint64(d.major)|uint64(d.minor)<<32, fmt.Sprintf("%d:%d", d.major, d.minor))
	l.setAttributes(false, deviceMount, deviceMountText)
	l.rule(l.tree, r)
	l.attach("/" + name)
}

// rootOnly are entries of /proc that modes alone keep from other users: for
// the superuser's own workload they are closed by a mount.
var rootOnly = []string{"kcore", "keys", "kpagecount", "kpageflags", "kpagecgroup", "pagetypeinfo", "slabinfo", "vmallocinfo",
	"timer_list", "sysrq-trigger", "mtrr"}

// privateProc mounts the pid namespace's own /proc, read-only: /proc/sys and
// the like cannot be written even where the modes would let the superuser.
func (l *lowering) privateProc(abi int) {
	read := landlock.For(true, false, false) & landlock.Handled(abi)
	if !l.has(plan.PrivateProc) {
		l.Call("move_mount", unix.SYS_MOVE_MOUNT, l.hostProc, l.Str(""), launcher.Flag(unix.AT_FDCWD, "AT_FDCWD"), l.Str("proc"),
			launcher.Flag(unix.MOVE_MOUNT_F_EMPTY_PATH, "MOVE_MOUNT_F_EMPTY_PATH"))
		l.rule(l.hostProc, read)
		return
	}
	proc := l.Str("proc")
	l.Call("mount", unix.SYS_MOUNT, proc, proc, proc,
		launcher.Flag(unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "MS_RDONLY|MS_NOSUID|MS_NODEV|MS_NOEXEC"), launcher.Int(0))
	l.openPath("proc")
	l.rule(l.tree, read)
	l.Call("close", unix.SYS_CLOSE, l.tree)
	for i, name := range l.closed {
		if i == 0 {
			l.mask("/proc/" + name)
			continue
		}
		// A clone of the first mask is as closed as that is.
		l.openTree("proc/"+l.closed[0], false)
		l.attach("/proc/" + name)
	}
}

// closedProc lists what of rootOnly this kernel has and this user could read.
func closedProc(p plan.Plan) []string {
	if p.Resolved.UID != 0 {
		return nil
	}
	return presentRootOnly()
}

// presentRootOnly does not change while a kernel runs.
var presentRootOnly = sync.OnceValue(func() []string {
	return slices.DeleteFunc(slices.Clone(rootOnly), func(name string) bool { return !exists("/proc/" + name) })
})

func (l *lowering) openPath(name string) {
	l.openat(name, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, "O_PATH|O_CLOEXEC|O_NOFOLLOW").To(launcher.Addr(l.tree))
}

// enterRoot seals the skeleton and makes it the root. pivot_root(".", ".")
// stacks the old root over the new one (pivot_root(2), "pivot_root(".", ".")");
// the launcher detaches it, see detachHost.
func (l *lowering) enterRoot(abi int) {
	if !l.has(plan.NoSys) {
		l.openTree("/sys", true)
		l.setAttributes(true, attrPlain|unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOEXEC, attrPlainText+",ro,noexec")
		l.rule(l.tree, landlock.For(true, false, false)&landlock.Handled(abi))
		l.attach("/sys")
	}
	l.openPath(".")
	if l.listable() {
		l.rule(l.tree, landlock.ReadDir)
	}
	l.setAttributes(false, attrPlain|unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOEXEC, attrPlainText+",ro,noexec")
	l.Call("close", unix.SYS_CLOSE, l.tree)
	dot := l.Str(".")
	l.Call("pivot_root", unix.SYS_PIVOT_ROOT, dot, dot)
	l.Call("chdir", unix.SYS_CHDIR, l.Str("/"))
	l.tellLauncher(l.slots.netRecv, l.Str(rootWord))
}

// listable says whether the skeleton's own directories may be listed. The
// right reaches everything below, so a directory that is granted without
// reading forbids it.
func (l *lowering) listable() bool {
	return !slices.ContainsFunc(l.plan.Resolved.Roots, func(r spec.Root) bool {
		return r.Role != spec.RoleCarveOut && r.Kind == spec.KindDirectory && !r.Access.Read()
	})
}

// hostPaths is the boundary without a root of its own: Landlock alone, with
// what that leaves visible accepted by name.
func (l *lowering) hostPaths(abi int) error {
	for i, r := range l.plan.Resolved.Roots {
		l.openPath(r.Path)
		l.identify(l.tree, &l.res.pins[i].stat)
		l.rule(l.tree, rights(r, abi))
		l.Call("close", unix.SYS_CLOSE, l.tree)
	}
	for _, h := range []struct {
		name   string
		rights landlock.Rights
	}{
		{"/dev", landlock.ReadFile | landlock.WriteFile | landlock.ReadDir | landlock.IoctlDev},
		{"/proc", landlock.ReadFile | landlock.ReadDir},
	} {
		l.openPath(h.name)
		l.rule(l.tree, h.rights&landlock.Handled(abi))
		l.Call("close", unix.SYS_CLOSE, l.tree)
	}
	l.done("mounts")
	return nil
}
