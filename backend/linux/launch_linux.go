//go:build amd64 || arm64

package linux

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// Launch implements backend.Backend.
//
//	supervisor                launcher            init             workload
//	  start ────────────────▶ namespaces, identity
//	                          fork ─────────────▶ mounts
//	                                              fork ──────────▶ limits … seccomp
//	  ◀──────────────────────────────────────────────────────────── ready
//	  posture; intent durable
//	  one byte ───────────────────────────────────────────────────▶ exec
//	                                              reap, kill, reap
//	  ◀────────────────────────────────────────── ended
//	  close control ────────▶ reap init
//	  ◀────────────────────── init
func (b *Backend) Launch(ctx context.Context, l backend.Launch) (report.Observation, error) {
	res, ok := l.Resolution.(*resolution)
	if !ok {
		return report.Observation{}, errors.New("bug: the resolution is another backend's")
	}
	r := &run{launch: l, res: res, started: monotonic(), workload: -1, pidfd: -1, watch: newWatch(l.Plan)}
	r.slots = newSlots(l.Plan.Resolved.Spec.Capabilities.FDs)
	defer r.close()

	if err := r.placeholders(); err != nil {
		return r.setupFailed("placeholders", err), nil
	}
	defer r.removePlaceholders()
	program, err := lower(l.Plan, res, l.Env, r.slots)
	if err != nil {
		return report.Observation{}, err
	}
	r.program = program
	committed := make(chan error, 1)
	go func() { committed <- l.Commit() }()
	if err := r.start(); err != nil {
		if e := <-committed; e != nil {
			return report.Observation{}, e
		}
		return r.setupFailed("start", err), nil
	}
	r.awaitReady()
	r.readPosture()
	if err := <-committed; err != nil {
		r.abort()
		return report.Observation{}, err
	}
	r.open(ctx)
	r.awaitEnd()
	return r.observe(), nil
}

// run is one launch under way.
type run struct {
	launch  backend.Launch
	res     *resolution
	program *launcher.Program
	slots   slots
	started int64 // CLOCK_MONOTONIC, like the launcher's own times

	process *os.Process
	pidfd   int // the launcher's
	status  int // our end of the status socket
	control *os.File
	streams []*stream
	closers []interface{ Close() error }
	table   []report.Descriptor

	pid      int               // the workload's, on this host; 0 until it waits at the barrier
	workload int               // its pidfd, -1 until then
	ready    *launcher.Message // the workload's own account, at the barrier
	opened   int64
	watch    *watch
	stop     func()

	failed *launcher.Message // a step that failed
	ended  *launcher.Message // what init said
	last   *launcher.Message // what the launcher said
	fault  error             // something on our side
	kept   []*placeholder

	posture  *report.Posture
	mismatch string // what the posture lacks
	readBack map[spec.Dimension]int64
}

func (r *run) close() {
	for _, c := range r.closers {
		c.Close()
	}
	for _, fd := range []int{r.workload, r.pidfd} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// monotonic is CLOCK_MONOTONIC in nanoseconds.
func monotonic() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // cannot fail for this clock
	return t.Nano()
}

func (r *run) own(c interface{ Close() error }) { r.closers = append(r.closers, c) }

// start makes the descriptors and starts the launcher with exactly these.
func (r *run) start() error {
	image, err := r.program.Image().Seal()
	if err != nil {
		return err
	}
	defer image.Close()

	files := make([]*os.File, r.slots.status+1)
	var ours []*os.File // only the child keeps these
	defer func() {
		for _, f := range ours {
			f.Close()
		}
	}()
	if files[0], err = r.stdin(&ours); err != nil {
		return err
	}
	for fd, name := range []string{1: "stdout", 2: "stderr"} {
		if name == "" {
			continue
		}
		if files[fd], err = r.output(name, &ours); err != nil {
			return err
		}
	}
	for _, fd := range r.slots.passed {
		f := r.launch.FDs[fd]
		if f == nil {
			return fmt.Errorf("descriptor %d was granted and not handed over", fd)
		}
		files[fd] = f
	}
	controlRead, controlWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	ours = append(ours, controlRead)
	r.control = controlWrite
	r.own(controlWrite)
	files[r.slots.control] = controlRead

	// SO_PASSCRED makes the kernel name the sender of every message in our
	// own pid namespace (unix(7)); that is how the workload's pid is learnt.
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("status socket: %w", err)
	}
	r.status = pair[0]
	r.own(os.NewFile(uintptr(pair[0]), "status"))
	theirs := os.NewFile(uintptr(pair[1]), "status")
	ours = append(ours, theirs)
	files[r.slots.status] = theirs
	if err := unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return fmt.Errorf("status socket: %w", err)
	}
	if r.table, err = describeTable(files, r.slots); err != nil {
		return err
	}
	r.process, err = os.StartProcess("/proc/self/fd/"+strconv.Itoa(int(image.Fd())), []string{"bvisor-launcher"}, &os.ProcAttr{
		Env:   []string{},
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: newSession(r.launch.Plan), PidFD: &r.pidfd},
	})
	if err != nil {
		return fmt.Errorf("start the launcher: %w", err)
	}
	return nil
}

// receive reads one message; nil is the end: every process of the launch is gone.
func (r *run) receive() *launcher.Message {
	buf := make([]byte, launcher.MessageSize+1)
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
		n, oobn, _, _, err := unix.Recvmsg(r.status, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			if err != nil && r.fault == nil {
				r.fault = fmt.Errorf("status socket: %w", err)
			}
			return nil
		}
		m, err := r.program.Decode(buf[:n])
		if err != nil {
			r.fault = err
			return nil
		}
		switch m.Kind {
		case launcher.MessageFailed:
			r.failed = &m
		case launcher.MessageReady:
			r.ready = &m
			r.pid, r.fault = sender(oob[:oobn])
		case launcher.MessageEnded:
			r.ended = &m
		case launcher.MessageInit:
			r.last = &m
		}
		return &m
	}
}

// sender is who the kernel says sent a message.
func sender(oob []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) == 0 {
		return 0, errors.New("status message without its sender")
	}
	cred, err := unix.ParseUnixCredentials(&messages[0])
	if err != nil {
		return 0, fmt.Errorf("status message's sender: %w", err)
	}
	return int(cred.Pid), nil
}

func (r *run) awaitReady() {
	for r.ready == nil {
		if m := r.receive(); m == nil {
			return
		}
	}
}

// abort lets go of the barrier without opening it.
func (r *run) abort() {
	r.letGo()
	r.awaitEnd()
}

// letGo closes the control pipe: the launcher kills and reaps what is left.
func (r *run) letGo() { r.control.Close() }

// open starts the clocks and lets the workload execute its program.
func (r *run) open(ctx context.Context) {
	if r.ready == nil || r.fault != nil || r.mismatch != "" {
		r.letGo()
		return
	}
	r.opened = monotonic()
	for _, s := range r.streams {
		s.relay(r.watch)
	}
	r.stop = r.watch.begin(ctx, r.workload, r.letGo)
	if _, err := r.control.Write([]byte{1}); err != nil {
		r.fault = fmt.Errorf("open the barrier: %w", err)
		r.letGo()
	}
}

// awaitEnd collects messages until every process of the launch is gone.
func (r *run) awaitEnd() {
	for {
		m := r.receive()
		if m == nil {
			break
		}
		if m.Kind == launcher.MessageEnded {
			if r.stop != nil {
				r.stop()
			}
			r.letGo()
		}
	}
	if r.stop != nil {
		r.stop()
	}
	r.letGo()
	for _, s := range r.streams {
		s.wait()
	}
	if r.process != nil {
		if _, err := r.process.Wait(); err != nil && r.fault == nil {
			r.fault = fmt.Errorf("wait for the launcher: %w", err)
		}
	}
}

// setupFailed is the observation of a launch that never had a process.
func (r *run) setupFailed(step string, err error) report.Observation {
	o := r.base()
	o.Outcome = report.Outcome{Status: report.SetupFailed, Reason: step + ": " + err.Error()}
	return o
}
