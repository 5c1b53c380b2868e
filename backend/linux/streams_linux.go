//go:build amd64 || arm64

package linux

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/tty"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// stream is one captured stream: relayed live, counted and hashed whole, kept
// up to its limit.
type stream struct {
	name   string
	limit  int64
	source *os.File
	done   chan struct{}

	mu      sync.Mutex // the relay may outlive the run, see wait
	hash    hash.Hash
	bytes   int64
	kept    []byte
	dropped bool // what comes now is not part of the run any more
}

// relayBuffers are kept, for the reason that procfs keeps its own.
var relayBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// relay copies to out, if there is one, until every holder of the pipe's other end is gone. Those are
// processes of the launch, so it ends with the tree.
func (s *stream) relay(w *watch, out io.Writer) {
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		memory := relayBuffers.Get().(*[32 << 10]byte)
		defer relayBuffers.Put(memory)
		buf := memory[:]
		for {
			n, err := s.source.Read(buf)
			if n > 0 {
				b := buf[:w.admit(n)]
				if !s.keep(buf[:n], b) {
					return
				}
				// A reader that went away does not stop the workload.
				if out != nil && len(b) > 0 {
					if _, e := out.Write(b); e != nil {
						out = nil
					}
				}
			}
			if err != nil {
				return
			}
		}
	}()
}

// keep counts all that was read and keeps what may pass.
func (s *stream) keep(all, pass []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dropped {
		return false
	}
	s.bytes += int64(len(all))
	s.hash.Write(all)
	if room := s.limit - int64(len(s.kept)); room > 0 {
		s.kept = append(s.kept, pass[:min(int64(len(pass)), room)]...)
	}
	return true
}

// wait returns when all that was written is relayed. A run that was ended by
// force does not wait longer than patience for a reader that does not read.
func (s *stream) wait(patience time.Duration) {
	if s.done == nil {
		return
	}
	var enough <-chan time.Time
	if patience > 0 {
		t := time.NewTimer(patience)
		defer t.Stop()
		enough = t.C
	}
	select {
	case <-s.done:
	case <-enough:
		s.mu.Lock()
		s.dropped = true
		s.mu.Unlock()
	}
}

func (s *stream) result() report.Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := sha256.Sum256(s.kept)
	return report.Stream{Name: s.name, Bytes: s.bytes, Kept: int64(len(s.kept)), SHA256: hex.EncodeToString(s.hash.Sum(nil)),
		KeptSHA: hex.EncodeToString(kept[:]), Truncated: s.bytes > int64(len(s.kept))}
}

// output returns what the workload gets as stdout or stderr: a pipe when the
// stream is captured, otherwise nowhere.
func (r *run) output(name string, ours *[]*os.File) (*os.File, error) {
	if r.terminal != nil {
		return r.terminal.slave, nil
	}
	for _, c := range r.launch.Plan.Resolved.Spec.Controls.Capture {
		if c.Stream != name {
			continue
		}
		source, sink, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("pipe for %s: %w", name, err)
		}
		*ours = append(*ours, sink)
		r.own(source)
		s := &stream{name: name, limit: c.Limit, source: source, hash: sha256.New()}
		r.streams = append(r.streams, s)
		return sink, nil
	}
	return nowhere(os.O_WRONLY, ours)
}

func nowhere(mode int, ours *[]*os.File) (*os.File, error) {
	f, err := os.OpenFile(os.DevNull, mode, 0)
	if err == nil {
		*ours = append(*ours, f)
	}
	return f, err
}

// stdin returns the workload's standard input. The caller's terminal is never
// handed over: it is relayed through a pipe, so that its ioctls stay out of reach
// (CVE-2017-5226).
func (r *run) stdin(ours *[]*os.File) (*os.File, error) {
	p := r.launch.Plan
	switch in := p.Resolved.Spec.Controls.Stdin; {
	case in.Mode == spec.StdinTTY:
		return r.openTerminal(ours)
	case in.Mode == spec.StdinFile && holds(p, plan.LandlockDomain):
		return r.res.stdin, nil
	case in.Mode == spec.StdinFile, in.Mode == spec.StdinInherit && r.launch.Stdin != nil:
		source := r.launch.Stdin
		if in.Mode == spec.StdinFile {
			source = r.res.stdin
		}
		if !tty.Is(int(source.Fd())) && holds(p, plan.LandlockDomain) {
			return source, nil
		}
		read, write, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("pipe for stdin: %w", err)
		}
		*ours = append(*ours, read)
		go relayInput(source, write)
		return read, nil
	}
	return nowhere(os.O_RDONLY, ours)
}

// relayInput passes on what is typed until the end of file or until nobody
// reads the sink, a pipe or a terminal, any more. It reads only what somebody
// is there for: the line that is typed after the run is its reader's.
func relayInput(source, sink *os.File) {
	defer sink.Close()
	buf := make([]byte, 4096)
	fds := []unix.PollFd{{Fd: int32(source.Fd()), Events: unix.POLLIN}, {Fd: int32(sink.Fd())}}
	for {
		fds[1].Events = 0
		if !pollInput(fds) {
			return
		}
		n, err := source.Read(buf)
		fds[1].Events = unix.POLLOUT
		for rest := buf[:n]; len(rest) > 0; {
			if !pollInput(fds[1:]) {
				return
			}
			m, err := unix.Write(int(fds[1].Fd), rest)
			if err == unix.EAGAIN || err == unix.EINTR {
				continue
			}
			if err != nil {
				return
			}
			rest = rest[m:]
		}
		if err != nil {
			return
		}
	}
}

// pollInput waits for one of the descriptors; false is that the last of them,
// the sink, has nobody at its other end.
func pollInput(fds []unix.PollFd) bool {
	for {
		_, err := unix.Poll(fds, -1)
		if err != unix.EINTR {
			return err == nil && fds[len(fds)-1].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) == 0 // poll(2)
		}
	}
}

// describeDescriptor states one descriptor that the boundary starts with, and checks that
// it has the shape its role needs.
func describeDescriptor(slot int, role string, f *os.File) (report.Descriptor, error) {
	fd := int(f.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return report.Descriptor{}, fmt.Errorf("descriptor %d: %w", slot, err)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return report.Descriptor{}, fmt.Errorf("descriptor %d: %w", slot, err)
	}
	d := report.Descriptor{Slot: slot, Role: role, Kind: modeKind(st.Mode, fd), Writable: flags&unix.O_ACCMODE != unix.O_RDONLY}
	want := d
	switch role {
	case "stdout", "stderr":
		want.Writable = true
	case "network", "status":
		want.Kind, want.Writable = "socket", true
	case "leaf":
		want.Kind, want.Writable = "directory", false
	case "control":
		want.Kind, want.Writable = "pipe", false
	}
	if d != want {
		return d, fmt.Errorf("descriptor %d (%s) is %s, writable %v; expected %s, writable %v", slot, role, d.Kind, d.Writable, want.Kind, want.Writable)
	}
	return d, nil
}

func modeKind(mode uint32, fd int) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFIFO:
		return "pipe"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFCHR, unix.S_IFBLK:
		if tty.Is(fd) {
			return "terminal"
		}
		return "device"
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	}
	return "other"
}

// holds says whether a plan has a requirement of a kind.
func holds(p plan.Plan, k plan.Kind) bool {
	return slices.ContainsFunc(p.Requirements, func(r plan.Requirement) bool { return r.Kind == k })
}
