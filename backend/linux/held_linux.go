//go:build amd64 || arm64

package linux

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/internal/quarantine"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// heldDir is where the layers of what is held back stand in the skeleton. Its
// mode is 0: the workload has no capability that would open it. Nobody but an
// overlay writes there, so what stands in an upper layer is the kernel's word.
const heldDir = ".held"

// linux/mount.h
const (
	fsopenCloexec    = 1
	fsconfigString   = 1 // FSCONFIG_SET_STRING
	fsconfigCreate   = 6 // FSCONFIG_CMD_CREATE
	fsmountCloexec   = 1
	overlayUserXattr = "userxattr" // Linux 5.11: marks are user.overlay.*, which an ordinary user may set
)

// overlayOptions are those of every overlay here. Without an index and without
// metadata-only copies an upper layer alone is the whole of what was written;
// with userxattr no directory is renamed by reference (ovl_fs_params_verify in
// fs/overlayfs/params.c), so rename(2) of one that the host has gives EXDEV.
var overlayOptions = [][2]string{{"index", "off"}, {"metacopy", "off"}, {"xino", "off"}}

// heldRoots are the roots whose writes are held back, in order.
func heldRoots(roots []spec.Root) []*spec.Root {
	var list []*spec.Root
	for i := range roots {
		if roots[i].Held {
			list = append(list, &roots[i])
		}
	}
	return list
}

// heldRoot returns the innermost root that shows a path, if it is held.
func heldRoot(roots []spec.Root, name string) *spec.Root {
	var best *spec.Root
	for i := range roots {
		if r := &roots[i]; within(name, r.Dest) && (best == nil || len(r.Dest) > len(best.Dest)) {
			best = r
		}
	}
	if best != nil && best.Held {
		return best
	}
	return nil
}

// placeHeld puts an overlay in the place of a granted directory: the host's, to
// read, below a layer in the boundary's own memory, which takes every write. The
// supervisor gets a descriptor of that layer: it outlives the boundary. Landlock
// judges a path by the overlay's own inodes, never by those of its layers
// (landlock(7), "OverlayFS mounts").
func (l *lowering) placeHeld(m *mount, abi int) {
	l.layers++
	if l.layers == 1 {
		l.mkdirat(heldDir, 0)
	}
	at := heldDir + "/" + strconv.Itoa(l.layers)
	l.mkdirat(at, 0o700)
	l.mkdirat(at+"/lower", 0o700)
	l.mkdirat(at+"/work", 0o700)
	l.mkdirat(at+"/upper", 0o700)
	mode := int(m.pin.stat.Mode & 0o7777) // what shows as the directory's own
	l.Call("fchmodat", unix.SYS_FCHMODAT, launcher.Flag(unix.AT_FDCWD, "AT_FDCWD"), l.Str(at+"/upper"), launcher.Flag(mode, fmt.Sprintf("%#o", mode)))

	l.openTree(m.root.Path, false)
	l.identify(l.tree, &m.pin.stat)
	l.setAttributes(false, attrPlain|unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOEXEC, attrPlainText+",ro,noexec")
	l.attach("/" + at + "/lower")

	fs := l.Var("overlay")
	l.Call("fsopen", unix.SYS_FSOPEN, l.Str("overlay"), launcher.Flag(fsopenCloexec, "FSOPEN_CLOEXEC")).To(launcher.Addr(fs))
	set := func(key string, value launcher.Arg, how launcher.Arg) {
		l.Call("fsconfig", unix.SYS_FSCONFIG, fs, how, l.Str(key), value, launcher.Int(0))
	}
	text := launcher.Flag(fsconfigString, "FSCONFIG_SET_STRING")
	set("lowerdir", l.Str(at+"/lower"), text)
	set("upperdir", l.Str(at+"/upper"), text)
	set("workdir", l.Str(at+"/work"), text)
	for _, o := range overlayOptions {
		set(o[0], l.Str(o[1]), text)
	}
	set(overlayUserXattr, launcher.Int(0), launcher.Flag(0, "FSCONFIG_SET_FLAG"))
	l.Call("fsconfig", unix.SYS_FSCONFIG, fs, launcher.Flag(fsconfigCreate, "FSCONFIG_CMD_CREATE"), launcher.Int(0), launcher.Int(0), launcher.Int(0))
	l.Call("fsmount", unix.SYS_FSMOUNT, fs, launcher.Flag(fsmountCloexec, "FSMOUNT_CLOEXEC"), launcher.Int(0)).To(launcher.Addr(l.tree))
	l.Call("close", unix.SYS_CLOSE, fs)
	// The overlay has a private copy of this mount (clone_private_mount).
	l.Call("umount2", unix.SYS_UMOUNT2, l.Str(at+"/lower"), launcher.Flag(unix.MNT_DETACH, "MNT_DETACH"))

	attr, shown := uint64(attrPlain), attrPlainText
	if !m.root.Access.Exec() {
		attr, shown = attr|unix.MOUNT_ATTR_NOEXEC, shown+",noexec"
	}
	l.setAttributes(false, attr, shown)
	l.rule(l.tree, rights(*m.root, abi))
	l.put(m)

	cmsg := l.oneDescriptor("SCM_RIGHTS upper layer")
	// By a mount of its own: that of the skeleton becomes read-only, and what the
	// workload closed to its user can only be read after chmod(2).
	l.openTree(at+"/upper", false)
	l.Copy(l.tree).To(launcher.At(cmsg, 16, "upper layer"))
	l.handOut(launcher.MessageHeld, cmsg, "upper layer")
}

// identifyNumber checks the inode's number alone: an overlay shows that of the
// layer below under a device of its own (overlayfs, "Inode properties").
func (l *lowering) identifyNumber(fd launcher.Arg, st *unix.Stat_t) {
	l.Call("statx", unix.SYS_STATX, fd, l.Str(""), launcher.Flag(unix.AT_EMPTY_PATH, "AT_EMPTY_PATH"),
		launcher.Flag(unix.STATX_INO|unix.STATX_TYPE, "STATX_INO|STATX_TYPE"), l.statx)
	l.Check(launcher.At(l.statx, 0x20, "stat.ino"), ^uint64(0), st.Ino, "")
}

// receiveHeld takes the descriptor of an upper layer out of a message.
func (r *run) receiveHeld(fd int, err error) {
	if err != nil {
		r.fault = err
		return
	}
	r.uppers = append(r.uppers, fd)
}

// shownArtifacts bounds what a report repeats of its manifests, in bytes: it must
// be fit to be sealed whatever names a workload chose.
const shownArtifacts = 1 << 20

// collect keeps what the layers took, if nobody is left who could write. What
// cannot be kept is lost with the boundary, and said to be.
func (r *run) collect() []report.Artifacts {
	p := r.launch.Plan
	roots := heldRoots(p.Resolved.Roots)
	if len(roots) == 0 || r.opened == 0 {
		return nil // nothing ran that could have written
	}
	size, _ := storage(p)
	limits := quarantine.Limits{Room: size + skeleton(p), Show: shownArtifacts} // what makeRoot gives them all
	err := quarantine.Make(r.launch.Quarantine)
	if r.stuck || r.survivors > 0 {
		err = errors.New("not everything has ended that could write")
	}
	if len(r.uppers) != len(roots) {
		err = fmt.Errorf("bug: %d layers for %d directories", len(r.uppers), len(roots))
	}
	list := make([]report.Artifacts, 0, len(roots))
	for i, root := range roots {
		a := report.Artifacts{Path: root.Path}
		var s quarantine.Summary
		if err == nil {
			tree := quarantine.Tree{Path: root.Path, Upper: r.uppers[i], Lower: r.res.pinOf(root).fd}
			s, err = quarantine.Collect(r.launch.Quarantine, r.launch.Attempt, i, tree, limits, r.began)
			limits.Room, limits.Show = limits.Room-s.Bytes, limits.Show-s.Shown
		}
		if err != nil {
			a.Lost = err.Error()
		} else {
			a.Manifest, a.Created, a.Changed, a.Deleted, a.Refused, a.Bytes = s.Manifest, s.Created, s.Changed, s.Deleted, s.Refused, s.Bytes
			a.Omitted = s.Count() - int64(len(s.First))
			for i := range s.First {
				a.Entries = append(a.Entries, artifact(&s.First[i]))
			}
		}
		list = append(list, a)
	}
	return list
}

func artifact(e *quarantine.Entry) report.Artifact {
	state := func(s *quarantine.State) *report.ArtifactState {
		if s == nil {
			return nil
		}
		return &report.ArtifactState{Type: string(s.Type), Mode: s.Mode, Size: s.Size, SHA256: s.SHA256, Target: s.Target}
	}
	return report.Artifact{Path: e.Path, Act: string(e.Act), Why: e.Why, After: state(e.After), Before: state(e.Before)}
}

// pinOf returns what pins a root.
func (r *resolution) pinOf(root *spec.Root) *pin {
	for i := range r.pins {
		if o := &r.resolved.Roots[i]; o.Path == root.Path && o.Dest == root.Dest && o.Role == root.Role {
			return r.pins[i]
		}
	}
	return nil
}

// readHeld looks at what stands where writes are to be held back.
func (s *settled) readHeld(p interface {
	StatFS(string) (unix.Statfs_t, error)
}, roots []spec.Root) {
	for _, root := range heldRoots(roots) {
		st, err := p.StatFS(root.Dest)
		switch {
		case err != nil:
			s.lacks = append(s.lacks, "writes below "+root.Dest+" may not be held back: "+err.Error())
		case st.Type != unix.OVERLAYFS_SUPER_MAGIC:
			s.lacks = append(s.lacks, fmt.Sprintf("writes below %s are not held back: the file system there is %#x", root.Dest, st.Type))
		}
	}
}

// tryOverlay finds out whether writes can be held back: an overlay in this user
// namespace, in a tmpfs, that can make a directory where the layer below has
// one that was removed. That takes a mark, and a tmpfs keeps extended
// attributes of users since Linux 6.6 only.
func tryOverlay(p *launcher.Program, try func(fact, text string, o launcher.Op) launcher.Op, last func() launcher.Arg) {
	at, done, zero := launcher.Flag(unix.AT_FDCWD, "AT_FDCWD"), p.NewLabel(), launcher.Int(0)
	for _, dir := range []string{"lower", "lower/dir", "upper", "work", "merged"} {
		p.Call("mkdirat", unix.SYS_MKDIRAT, at, p.Str(dir), launcher.Flag(0o755, "0755")).OnError(done)
	}
	fs := p.Var("overlay")
	p.Call("fsopen", unix.SYS_FSOPEN, p.Str("overlay"), launcher.Int(fsopenCloexec)).To(launcher.Addr(fs)).Ignore()
	for _, o := range append([][2]string{{"lowerdir", "lower"}, {"upperdir", "upper"}, {"workdir", "work"}}, overlayOptions...) {
		p.Call("fsconfig", unix.SYS_FSCONFIG, fs, launcher.Int(fsconfigString), p.Str(o[0]), p.Str(o[1]), zero).Ignore()
	}
	p.Call("fsconfig", unix.SYS_FSCONFIG, fs, zero, p.Str(overlayUserXattr), zero, zero).Ignore()
	try("mount.overlay", "fsconfig(overlay, userxattr, FSCONFIG_CMD_CREATE) over a tmpfs",
		p.Call("fsconfig", unix.SYS_FSCONFIG, fs, launcher.Int(fsconfigCreate), zero, zero, zero)).OnError(done)
	try("mount.overlay.fsmount", "fsmount(overlay)", p.Call("fsmount", unix.SYS_FSMOUNT, fs, launcher.Int(fsmountCloexec), zero)).OnError(done)
	try("mount.overlay.move_mount", "move_mount(overlay)", p.Call("move_mount", unix.SYS_MOVE_MOUNT, last(), p.Str(""), at, p.Str("merged"), launcher.Int(unix.MOVE_MOUNT_F_EMPTY_PATH))).OnError(done)
	p.Call("unlinkat", unix.SYS_UNLINKAT, at, p.Str("merged/dir"), launcher.Flag(unix.AT_REMOVEDIR, "AT_REMOVEDIR")).OnError(done)
	try("mount.overlay.opaque", "mkdirat in place of a directory of the layer below", p.Call("mkdirat", unix.SYS_MKDIRAT, at, p.Str("merged/dir"), launcher.Flag(0o755, "0755"))).OnError(done)
	p.Mark(done)
}

var overlayFacts = []string{"mount.overlay", "mount.overlay.opaque"}

// artifactOffers says how writes are held back. The layer that holds them is
// what shows them.
func (h *host) artifactOffers(offer offerFunc, mounted []string) {
	const remedy = "use a kernel with overlayfs and, for a tmpfs that keeps extended attributes of users, Linux 6.6 or newer (CONFIG_OVERLAY_FS, CONFIG_TMPFS_XATTR)"
	layers := mechanism("overlayfs", param("shows", "the paths of controls.artifacts"))
	layers.Evidence = []spec.Claim{spec.FilesystemDelta, spec.ArtifactLineage}
	for _, k := range []plan.Kind{plan.CommitArtifact, plan.DiscardArtifact, plan.ListOutputs} {
		offer(k, "overlayfs in a user namespace, in memory", remedy, append(append([]string{}, mounted...), overlayFacts...),
			plan.Way{Mechanisms: []plan.Mechanism{layers, mechanism("tmpfs")}, Requires: []plan.Kind{plan.MountNamespace}})
	}
}
