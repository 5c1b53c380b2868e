//go:build amd64 || arm64

package linux

import (
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

// view is the boundary as the workload sees it, for looking paths up the way
// the kernel does for the workload.
type view struct {
	plan   plan.Plan
	root   int // its root directory
	mounts []hostMount
	own    bool         // it has a root of its own
	held   string       // what holds the file grants
	unseen atomic.Int64 // attempts that could not be read or judged
}

func newView(p plan.Plan, pid int) (*view, error) {
	v := &view{plan: p, held: mechanismsOf(p, plan.Filesystem)}
	v.own = slices.ContainsFunc(p.Requirements, func(r plan.Requirement) bool { return r.Kind == plan.MountNamespace })
	var err error
	if v.mounts, err = hostMounts(); err != nil {
		return nil, err
	}
	v.root, err = unix.Open("/proc/"+strconv.Itoa(pid)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return v, nil
}

func (v *view) close() { unix.Close(v.root) }

// place is where a path leads in the boundary.
type place struct {
	path string // canonical; of what is missing, with the rest as it was written
	mode uint32 // of the file; 0 where there is none
	fd   int    // of the file, -1 where there is none
}

func (p *place) close() {
	if p.fd >= 0 {
		unix.Close(p.fd)
	}
}

// errApart is a path that is not judged: the boundary's own /proc, where names
// mean the process that looks, and what cannot be looked up.
var errApart = errors.New("not judged")

// resolve looks a path up in the boundary. Links are followed as the workload's
// root makes them lead, the last one unless noFollow.
func (v *view) resolve(name string, noFollow bool) (place, error) {
	if within(path.Clean(name), "/proc") {
		return place{fd: -1}, errApart
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	if noFollow {
		how.Flags |= unix.O_NOFOLLOW
	}
	fd, err := unix.Openat2(v.root, name, &how)
	switch err {
	case nil:
		return v.found(fd)
	case unix.ENOENT, unix.ENOTDIR, unix.EAGAIN: // EAGAIN: "..", while something was renamed or mounted somewhere
		return v.walk(name, noFollow)
	case unix.EACCES: // a directory that is closed, or a mask
		return place{path: path.Clean(name), fd: -1}, nil
	case unix.ELOOP, unix.ENAMETOOLONG: // to the workload, too, or it is a link of /proc
		return place{fd: -1}, errApart
	}
	v.unseen.Add(1)
	return place{fd: -1}, errApart
}

func (v *view) found(fd int) (place, error) {
	p := place{fd: fd}
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	if err == nil {
		p.mode = st.Mode
		p.path, err = os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	}
	if err != nil || within(p.path, "/proc") || !strings.HasPrefix(p.path, "/") {
		p.close()
		return place{fd: -1}, errApart
	}
	return p, nil
}

// walk goes component by component, to find the canonical path of what is not
// there: links on the way are followed to where they would lead.
func (v *view) walk(name string, noFollow bool) (place, error) {
	at, links := "/", 0
	buf := make([]byte, unix.PathMax)
	for rest := strings.Split(name, "/"); len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, part)
		if within(next, "/proc") {
			return place{fd: -1}, errApart
		}
		n, err := unix.Readlinkat(v.root, rel(next), buf)
		switch {
		case err == unix.EINVAL: // no link
			at = next
		case err == unix.ENOENT || err == unix.ENOTDIR || err == unix.EACCES:
			return place{path: path.Join(append([]string{next}, rest...)...), fd: -1}, os.ErrNotExist
		case noFollow && err == nil && strings.Trim(strings.Join(rest, ""), ".") == "":
			at = next
		case links == maxLinks:
			return place{fd: -1}, errApart
		case err != nil:
			v.unseen.Add(1)
			return place{fd: -1}, errApart
		default:
			links++
			target := string(buf[:n])
			if strings.HasPrefix(target, "/") {
				at = "/"
			}
			rest = append(strings.Split(target, "/"), rest...)
		}
	}
	fd, err := unix.Openat2(v.root, rel(at), &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		v.unseen.Add(1) // it changes faster than it can be looked at
		return place{fd: -1}, errApart
	}
	return v.found(fd)
}

// finding is one attempt that the plan does not give, as candidates: the first
// that holds on the host is what was denied.
type finding []candidate

// candidate is what may have been denied.
type candidate struct {
	path, access, mechanism string
	connect                 bool
	allow                   bool   // a grant would allow it
	flag                    string // instead: what would
	host                    string // it was, only if this is there on the host
}

const mountNamespace = "mount-namespace"

// absent is a candidate for what the boundary does not show.
func absent(name, access string) candidate {
	return candidate{path: name, access: access, mechanism: mountNamespace, allow: true, host: name}
}

// maxInterpreters is how often an interpreter may need another one
// (exec_binprm in fs/exec.c).
const maxInterpreters = 5

// judge compares an attempt with the plan.
func (v *view) judge(a attempt, depth int) []finding {
	switch {
	case a.abstract:
		return v.judgeAbstract(a)
	case a.remove || a.place:
		return v.judgeChange(a)
	}
	p, err := v.resolve(a.path, a.noFollow)
	defer p.close()
	switch {
	case err == errApart:
		return nil
	case err != nil && (a.create || a.makes):
		return v.judgeNew(a, p)
	case err != nil:
		return v.judgeMissing(a, p)
	case a.makes:
		return nil // EEXIST
	}
	if c, ok := v.lacks(p, a.access); ok {
		return []finding{{c}}
	}
	if a.access == "x" && depth < maxInterpreters && p.mode&unix.S_IFMT == unix.S_IFREG {
		return v.judgeInterpreter(p, depth)
	}
	return nil
}

// judgeMissing is for what the boundary does not show.
func (v *view) judgeMissing(a attempt, p place) []finding {
	c := absent(p.path, a.access)
	c.connect = a.connect
	if r := v.granted(p.path); r != nil && r.Role == spec.RoleCarveOut {
		c.allow, c.host = false, v.hostPath(p.path)
	} else if t := v.temp(p.path); t != nil && (a.create || a.makes) {
		return nil // it is made there, whatever the host has
	} else if t == nil && r != nil {
		return nil // the host has no such file either
	}
	return []finding{{c}}
}

// judgeNew is for a name that would have to be made.
func (v *view) judgeNew(a attempt, p place) []finding {
	f := finding(slices.Concat(v.judgeMissing(a, p)...)) // it is there on the host: then that was meant
	dir, err := v.resolve(path.Dir(p.path), false)
	defer dir.close()
	if err == nil {
		if c, ok := v.lacks(dir, "w"); ok {
			f = append(f, c)
		}
	} else if err != errApart && v.granted(dir.path) == nil {
		f = append(f, absent(dir.path, "w"))
	}
	if len(f) == 0 {
		return nil
	}
	return []finding{f}
}

// judgeChange is for a name in a directory: what becomes of it is up to that.
func (v *view) judgeChange(a attempt) []finding {
	dir, err := v.resolve(a.directory(), false)
	defer dir.close()
	name := path.Join(dir.path, path.Base(path.Clean(a.path)))
	c, ok := candidate{}, false
	if err == nil {
		c, ok = v.lacks(dir, "w")
	} else if err != errApart && v.granted(dir.path) == nil {
		c, ok = absent(dir.path, "w"), true
	}
	if !ok {
		return nil
	}
	if a.remove { // of what is not there the kernel would say so
		if c.host = v.hostPath(name); c.host == "" {
			c.host = name
		}
	}
	return []finding{{c}}
}

// judgeInterpreter looks at what the kernel would execute in the program's place.
func (v *view) judgeInterpreter(p place, depth int) []finding {
	f, err := os.Open("/proc/self/fd/" + strconv.Itoa(p.fd))
	if err != nil {
		return nil
	}
	defer f.Close()
	head := make([]byte, 1024)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil
	}
	name := interpreterOf(f, head[:n])
	if !strings.HasPrefix(name, "/") {
		return nil
	}
	return v.judge(attempt{path: name, access: "x"}, depth+1)
}

// judgeAbstract is for a socket without a path: it belongs to a network
// namespace, so it is denied if the host has it and the boundary has not.
func (v *view) judgeAbstract(a attempt) []finding {
	if !a.connect || hasAbstract("/proc/"+strconv.Itoa(a.pid)+"/net/unix", a.path) || !hasAbstract("/proc/net/unix", a.path) {
		return nil
	}
	return []finding{{candidate{path: "@" + a.path, mechanism: "network-namespace", connect: true}}}
}

func hasAbstract(list, name string) bool {
	text, err := os.ReadFile(list)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 8 && f[7] == "@"+name {
			return true
		}
	}
	return false
}

// granted returns the innermost root that a path of the boundary lies in.
func (v *view) granted(name string) *spec.Root {
	var best *spec.Root
	roots := v.plan.Resolved.Roots
	for i := range roots {
		if r := &roots[i]; within(name, r.Dest) && (best == nil || len(r.Dest) > len(best.Dest)) {
			best = r
		}
	}
	return best
}

// temp returns the innermost private directory that a path lies in, unless a
// root lies deeper.
func (v *view) temp(name string) *spec.Temp {
	all := append(slices.Clone(v.plan.Resolved.Spec.Controls.Temp), spec.Temp{Path: "/dev/shm", Access: "rw"})
	var best *spec.Temp
	for i := range all {
		if t := &all[i]; v.own && within(name, t.Path) && (best == nil || len(t.Path) > len(best.Path)) {
			best = t
		}
	}
	if r := v.granted(name); best != nil && r != nil && len(r.Dest) > len(best.Path) {
		return nil
	}
	return best
}

// hostPath is what a path of the boundary shows of the host, "" for its own.
func (v *view) hostPath(name string) string {
	r := v.granted(name)
	if r == nil || v.temp(name) != nil {
		return ""
	}
	return path.Join(r.Path, strings.TrimPrefix(name, r.Dest))
}

// lacks says which of the rights the plan does not give on what is there.
func (v *view) lacks(p place, access string) (candidate, bool) {
	c := candidate{path: p.path, mechanism: v.held}
	var have spec.Access
	switch r, t := v.granted(p.path), v.temp(p.path); {
	case t != nil:
		have, c.flag = t.Access, "--temp "+shellWord(t.Path)+":rwx"
	case r != nil && r.Role == spec.RoleCarveOut,
		r != nil && r.NonRecursive && p.path != r.Dest && (path.Dir(p.path) != r.Dest || p.mode&unix.S_IFMT == unix.S_IFDIR):
		c.mechanism = mountNamespace
		if !v.own {
			c.mechanism = v.held
		}
		c.access = access
		return c, access != "" || r.Role == spec.RoleCarveOut && p.path != r.Dest
	case r != nil:
		have, c.allow = r.Access, r.Role == spec.RoleGrant
	case within(p.path, "/dev"):
		have = "rw"
		if p.mode&unix.S_IFMT == unix.S_IFDIR {
			have = "r"
		}
	case v.own:
		have = "r" // the skeleton, and what the boundary writes there itself
	default:
		c.allow = true
	}
	for _, right := range access {
		if !strings.ContainsRune(string(have), right) {
			c.access += string(right)
		}
	}
	return c, c.access != ""
}

// slowFiles are file systems where a look can wait for another machine or
// program, or cause a mount: nothing of the workload's choice is looked up there.
var slowFiles = []string{"9p", "afs", "autofs", "ceph", "cifs", "fuse", "fuse.sshfs", "nfs", "nfs4", "smb3"}

// onHost says whether a path is there on the host, if that can be known.
func (v *view) onHost(name string) (there, known bool) {
	if m, ok := covering(v.mounts, name); ok && (slices.Contains(slowFiles, m.fsType) || strings.HasPrefix(m.fsType, "fuse.")) {
		return false, false
	}
	p, err := lookup(name)
	switch {
	case err == nil:
		unix.Close(p.fd)
		return !within(p.path, "/proc"), true
	case err == unix.EACCES:
		return true, true // something is: the user would be refused there, too
	}
	return false, true
}
