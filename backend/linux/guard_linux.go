//go:build amd64 || arm64

package linux

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// guard ends a run when the host takes away what a mount inside a granted tree
// stands on. The workload cannot: to it a mount point is busy. But a rename or
// an unlink from another mount namespace detaches the mount (d_invalidate and
// __detach_mounts in the kernel, Linux 3.18), and what then has the name would
// be the workload's. inotify(7) reports it by inode, whoever does it, but for
// changes made on another machine's side of a network file system.
type guard struct {
	inotify int
	stop    [2]int // a pipe; closing its write end asks for the end
	dirs    map[int32]*guarded
	done    chan struct{}
	tripped func(what string)
}

// guarded is one directory and the names in it that must stay.
type guarded struct {
	path  string
	names []string
	flat  bool // of a root that is not recursive: no directory may come to be
}

const guardEvents = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// guardedDirs is what the plan's mounts inside granted trees depend on, by the
// host's paths.
func guardedDirs(roots []spec.Root) []*guarded {
	var list []*guarded
	dir := func(name string) *guarded {
		for _, g := range list {
			if g.path == name {
				return g
			}
		}
		list = append(list, &guarded{path: name})
		return list[len(list)-1]
	}
	for i := range roots {
		r := &roots[i]
		if r.NonRecursive && r.Kind == spec.KindDirectory {
			dir(r.Path).flat = true
		}
		outer := enclosing(roots, r.Dest)
		if outer == nil {
			continue
		}
		host := path.Join(outer.Path, strings.TrimPrefix(r.Dest, outer.Dest))
		for name := host; name != outer.Path; name = path.Dir(name) {
			g := dir(path.Dir(name))
			if base := path.Base(name); !slices.Contains(g.names, base) {
				g.names = append(g.names, base)
			}
		}
	}
	return list
}

// newGuard starts watching, or returns nil when there is nothing to watch.
func newGuard(roots []spec.Root, tripped func(string)) (*guard, error) {
	list := guardedDirs(roots)
	if len(list) == 0 {
		return nil, nil
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch what is carved out: inotify_init1: %w (sysctl fs.inotify.max_user_instances)", err)
	}
	g := &guard{inotify: fd, dirs: map[int32]*guarded{}, done: make(chan struct{}), tripped: tripped}
	for _, d := range list {
		pin, err := lookup(d.path)
		if err == nil && pin.path != d.path {
			unix.Close(pin.fd)
			err = unix.ESTALE
		}
		var wd int
		if err == nil {
			wd, err = unix.InotifyAddWatch(fd, "/proc/self/fd/"+strconv.Itoa(pin.fd), guardEvents)
			unix.Close(pin.fd)
		}
		if err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("watch %s: %w", d.path, err)
		}
		g.dirs[int32(wd)] = d
	}
	if err := unix.Pipe2(g.stop[:], unix.O_CLOEXEC); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("watch what is carved out: %w", err)
	}
	go g.watch()
	return g, nil
}

// finish returns when everything that happened until now was looked at.
func (g *guard) finish() {
	if g == nil {
		return
	}
	unix.Close(g.stop[1])
	<-g.done
	unix.Close(g.stop[0])
	unix.Close(g.inotify)
}

func (g *guard) watch() {
	defer close(g.done)
	fds := []unix.PollFd{{Fd: int32(g.inotify), Events: unix.POLLIN}, {Fd: int32(g.stop[0])}}
	buf := make([]byte, 64<<10)
	for {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			g.tripped("the host's changes cannot be watched: " + err.Error())
			return
		}
		last := fds[1].Revents != 0
		for {
			n, err := unix.Read(g.inotify, buf)
			if err != nil || n <= 0 {
				break // EAGAIN: nothing more
			}
			g.look(buf[:n])
		}
		if last {
			return
		}
	}
}

// look goes through struct inotify_event after struct inotify_event.
func (g *guard) look(b []byte) {
	for len(b) >= unix.SizeofInotifyEvent {
		wd := int32(binary.LittleEndian.Uint32(b))
		mask := binary.LittleEndian.Uint32(b[4:])
		size := unix.SizeofInotifyEvent + int(binary.LittleEndian.Uint32(b[12:]))
		if size > len(b) {
			break
		}
		name, _, _ := bytes.Cut(b[unix.SizeofInotifyEvent:size], []byte{0})
		b = b[size:]
		d := g.dirs[wd]
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0:
			g.tripped("the host changes more than can be watched")
		case d == nil || mask&unix.IN_IGNORED != 0:
		case mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF) != 0:
			g.tripped(d.path + " was moved or removed on the host")
		case slices.Contains(d.names, string(name)):
			g.tripped(path.Join(d.path, string(name)) + " was replaced on the host")
		case d.flat && mask&unix.IN_ISDIR != 0 && mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0:
			g.tripped(path.Join(d.path, string(name)) + " came to be in a directory that is granted without what lies below it")
		}
	}
}

// lost ends the run because the boundary no longer is what the plan says.
func (r *run) lost(what string) {
	r.watch.kill(report.Outcome{Status: report.Killed, Reason: "boundary: " + what})
}
