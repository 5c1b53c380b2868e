//go:build amd64 || arm64

package linux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/internal/cgroup"
	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/internal/quarantine"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// Launch implements backend.Backend.
//
//	supervisor                launcher            init             workload
//	  start ────────────────▶ namespaces, identity
//	                          fork ─────────────▶ mounts
//	                                              fork ──────────▶ limits, descriptors
//	  ◀──────────────────────────────────────────────────────────── settled
//	  half of the posture                                           landlock, seccomp
//	  ◀──────────────────────────────────────────────────────────── ready
//	  the other half; intent durable
//	  one byte ───────────────────────────────────────────────────▶ exec
//	                                              reap, kill, reap
//	  ◀────────────────────────────────────────── ended
//	  close control ────────▶ reap init
//	  ◀────────────────────── init
func (b *Backend) Launch(ctx context.Context, l backend.Launch) (report.Observation, func(), error) {
	res, ok := l.Resolution.(*resolution)
	if !ok {
		return report.Observation{}, func() {}, errors.New("bug: the resolution is another backend's")
	}
	if a, ok := l.Ahead.(*armed); ok {
		if r := a.take(l, res); r != nil {
			o, err := r.release(ctx, l.Commit)
			return o, r.settle, err
		}
	}
	r := newRun(b, l, res)
	o, err := r.launchAll(ctx)
	return o, r.settle, err
}

func newRun(b *Backend, l backend.Launch, res *resolution) *run {
	return &run{backend: b, launch: l, res: res, asked: monotonic(), began: quarantine.Now(), workload: -1, observer: -1, watch: newWatch(l.Plan)}
}

func (r *run) launchAll(ctx context.Context) (report.Observation, error) {
	committed := make(chan error, 1)
	go func() { committed <- r.launch.Commit() }()
	if r.placesAny() {
		// What stands on the host after a crash must stand in the intent.
		err := <-committed
		if err != nil {
			return report.Observation{}, err
		}
		committed <- nil
	}
	keep, err := r.arm(ctx)
	if e := <-committed; e != nil {
		r.letGo()
		return report.Observation{}, e
	}
	if s, ok := errors.AsType[*setupError](err); ok {
		return r.setupFailed(s.step, s.err), nil
	}
	if err != nil {
		return report.Observation{}, err
	}
	return r.complete(ctx, keep())
}

// arm does everything up to the barrier. Until keep is called, cancelling lets
// the launcher go at once: it may hang in a mount of a host that does not
// answer. keep says whether that has not happened.
func (r *run) arm(ctx context.Context) (keep func() bool, err error) {
	p := r.launch.Plan
	r.slots = slotsOf(p)
	if err := r.placeholders(); err != nil {
		return nil, &setupError{"placeholders", err}
	}
	if r.guard, err = newGuard(p.Resolved.Roots, r.lost); err != nil {
		return nil, &setupError{"watch", err}
	}
	if err := r.makeLeaf(); err != nil {
		return nil, &setupError{"cgroup", err}
	}
	if r.image, err = r.backend.images.of(p, r.res, r.launch.Env, r.slots); err != nil {
		return nil, err
	}
	r.program = r.image.program
	if err := r.begin(); err != nil {
		return nil, &setupError{"start", err}
	}
	keep = context.AfterFunc(ctx, r.letGo)
	r.awaitReady()
	r.readPosture()
	return keep, nil
}

// setupError is a step of our own that failed before there was a process.
type setupError struct {
	step string
	err  error
}

func (e *setupError) Error() string { return e.step + ": " + e.err.Error() }

// complete opens the barrier, unless the run is not wanted any more, and
// returns when everything has ended.
func (r *run) complete(ctx context.Context, wanted bool) (report.Observation, error) {
	if wanted && r.environment != nil {
		if err := writeEnvironment(r.environment, r.launch.Env); err != nil {
			r.letGo()
			return report.Observation{}, err
		}
	}
	r.witnessDenials()
	r.open(ctx, wanted)
	r.digest = r.image.digest() // while the workload runs
	r.awaitEnd()
	return r.observe(), nil
}

// run is one launch under way.
type run struct {
	backend *Backend
	launch  backend.Launch
	res     *resolution
	image   *image
	program *launcher.Program // the image's
	slots   slots
	asked   int64 // CLOCK_MONOTONIC, like the launcher's own times: when this run was

	launcher    *booted          // nil until there is one
	prepared    *report.Prepared // when it was armed for a run to come
	environment *os.File         // written before the barrier opens; nil where the program has it
	streams     []*stream
	terminal    *ownTerminal // nil without
	closers     []interface{ Close() error }
	table       []report.Descriptor

	pid      int               // the workload's, on this host
	settled  *settled          // half of its posture
	unread   error             // why that half could not be read
	workload int               // its pidfd, -1 until then
	ready    *launcher.Message // the workload's own account, at the barrier
	bare     bool              // init has no capability; said only where it kept one, see groupRoot
	detached bool              // nothing of the host's mounts is left, and the launcher is bare
	opened   int64
	gone     int64       // when the tree was known to be gone
	became   atomic.Bool // seen before the kill: the workload runs its program
	watch    *watch
	stop     func()

	failed          *launcher.Message // a step that failed
	ended           *launcher.Message // what init said
	last            *launcher.Message // what the launcher said
	fault           error             // something on our side
	kept            []*placeholder
	placed, cleared []string // paths of placeholders that were made, and removed again
	guard           *guard
	began           unix.Timespec // by the clock of inodes
	uppers          []int         // of what is held back, in the order of the roots
	observer        int           // the listener of the observing filter, -1 without one
	witness         *witness      // who serves it

	leaf      *cgroup.Leaf             // the workload's group, nil without
	group     string                   // as /proc/PID/cgroup names it
	limited   map[spec.Dimension]int64 // what the leaf's files say
	files     []plan.Param             // each of them, word for word
	ownForks  bool                     // see accounts
	full      bool                     // likewise, when the meter has ended
	cpuBefore int64                    // what the workload had used before the barrier opened
	meter     *meter
	accounts  *accounts // the leaf's figures at the end
	stuck     bool      // the tree was not gone in time
	survivors int       // who was killed and has not ended

	digest   string // of the program
	posture  *report.Posture
	mismatch string // what the posture lacks
	readBack map[spec.Dimension]int64
	stored   *int64 // bytes of private memory in use at the end
}

// settle waits for the launcher's end and gives everything back. A launcher that
// waits for survivors is reaped whenever that is.
func (r *run) settle() {
	if r.launcher != nil {
		r.letGo()
		for r.receive() != nil {
		}
		if r.launcher.isAbandoned() {
			go launcher.Wait(r.launcher.pid)
		} else if err := launcher.Wait(r.launcher.pid); err != nil && r.fault == nil {
			r.fault = fmt.Errorf("wait for the launcher: %w", err)
		}
		r.launcher.close()
	}
	r.witness.finish()
	r.endGuard()
	r.meter.finish()
	if err := r.removeLeaf(); err != nil && r.fault == nil {
		r.fault = fmt.Errorf("remove the group: %w", err)
	}
	r.removePlaceholders()
	for _, c := range r.closers {
		c.Close()
	}
	pinned := append([]int{r.workload, r.observer}, r.uppers...)
	if r.settled != nil && r.settled.memory != nil {
		pinned = append(pinned, r.settled.memory.fd)
	}
	for _, fd := range pinned {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func (r *run) endGuard() {
	r.guard.finish()
	r.guard = nil
}

// monotonic is CLOCK_MONOTONIC in nanoseconds.
func monotonic() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // cannot fail for this clock
	return t.Nano()
}

func (r *run) own(c interface{ Close() error }) { r.closers = append(r.closers, c) }

// begin hands a launcher its program and the workload's descriptors.
func (r *run) begin() (err error) {
	as := bootOf(r.launch.Plan)
	r.backend.boots.wanted(as)
	if a, ok := r.launch.Ahead.(*ahead); ok {
		r.launcher = a.take(as)
	}
	if r.launcher == nil {
		l, err := r.backend.start(as)
		if err != nil {
			return err
		}
		r.launcher = l
	}
	r.asked = r.launcher.started // it began there
	var ours []*os.File          // only the child keeps these
	defer func() {
		for _, f := range ours {
			f.Close()
		}
	}()
	files := []*os.File{r.image.body}
	if leases(r.launch.Env) {
		if r.environment, err = newEnvironment(); err != nil {
			return err
		}
		r.own(r.environment)
		files = append(files, r.environment)
	}
	if r.leaf != nil {
		f, err := r.leaf.Birthplace()
		if err != nil {
			return err
		}
		ours = append(ours, f)
		d, err := describeDescriptor(r.slots.leaf, "leaf", f)
		if err != nil {
			return err
		}
		r.table, files = append(r.table, d), append(files, f)
	}
	add := func(fd int, role string, f *os.File, err error) error {
		if err != nil {
			return err
		}
		d, err := describeDescriptor(fd, role, f)
		r.table, files = append(r.table, d), append(files, f)
		return err
	}
	f, err := r.stdin(&ours)
	if err := add(0, "stdin", f, err); err != nil {
		return err
	}
	for i, name := range []string{"stdout", "stderr"} {
		f, err := r.output(name, &ours)
		if err := add(i+1, name, f, err); err != nil {
			return err
		}
	}
	for _, fd := range r.slots.passed {
		f := r.launch.FDs[fd]
		if f == nil {
			return fmt.Errorf("descriptor %d was granted and not handed over", fd)
		}
		if err := add(fd, "passed", f, nil); err != nil {
			return err
		}
	}
	for i, d := range r.launcher.table {
		d.Slot = []int{r.slots.netRecv, r.slots.control, r.slots.status}[i]
		r.table = append(r.table, d)
	}
	return r.launcher.hand(files)
}

// receive reads one message; nil is the end: every process of the launch is gone,
// or those that are not were waited for long enough.
func (r *run) receive() *launcher.Message {
	buf := make([]byte, launcher.MessageSize+1)
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4))
	for {
		n, oobn, _, _, err := unix.Recvmsg(r.launcher.status, buf, oob, unix.MSG_CMSG_CLOEXEC)
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
			if r.failed == nil { // what fails next may fail because of that
				r.failed = &m
			}
		case launcher.MessageSettled:
			if r.pid, r.unread = sender(oob[:oobn]); r.unread == nil {
				r.settled, r.unread = readSettled(r.pid, r.launch.Plan)
			}
		case launcher.MessageObserver:
			if r.observer, err = passed(oob[:oobn]); err != nil {
				r.fault = err
			}
		case launcher.MessageHeld:
			r.receiveHeld(passed(oob[:oobn]))
		case launcher.MessageReady:
			r.ready = &m
		case launcher.MessageDetached:
			r.detached = true
		case launcher.MessageBare:
			r.bare = true
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
	for !r.confined() && r.failed == nil {
		if m := r.receive(); m == nil {
			return
		}
	}
}

// confined says that the boundary stands and the workload waits in it.
func (r *run) confined() bool {
	bare := r.bare || r.slots.leaf == 0 || !holds(r.launch.Plan, plan.CgroupNamespace)
	return r.ready != nil && r.detached && bare && r.failed == nil
}

// letGo closes the control pipe: the launcher kills and reaps what is left.
func (r *run) letGo() {
	if r.launcher != nil {
		r.launcher.letGo()
	}
}

// open starts the clocks and lets the workload execute its program, unless
// the run was cancelled before.
func (r *run) open(ctx context.Context, wanted bool) {
	if !wanted {
		r.watch.because(report.Outcome{Status: report.Killed, Reason: "cancelled before the workload ran: " + context.Cause(ctx).Error()})
	}
	if r.watch.ended() || !r.confined() || r.fault != nil || r.mismatch != "" {
		r.letGo()
		return
	}
	if r.fault = r.attach(); r.fault != nil {
		r.letGo()
		return
	}
	if r.fault = r.beginMeter(); r.fault != nil {
		r.letGo()
		return
	}
	r.opened = monotonic()
	for _, s := range r.streams {
		s.relay(r.watch, map[string]io.Writer{"stdout": r.launch.Stdout, "stderr": r.launch.Stderr, spec.StreamTTY: r.launch.Stdout}[s.name])
	}
	var kill func()
	if r.leaf != nil {
		kill = func() { _ = r.leaf.Kill() } // if it fails, what comes next does not
	}
	r.stop = r.watch.begin(ctx, r.workload, kill, func() {
		r.became.Store(becameProgram(r.pid, r.workload))
		r.letGo()
	})
	// EPIPE: nobody waits there any more, and what init says tells why.
	if _, err := r.launcher.control.Write([]byte{1}); err != nil {
		if !errors.Is(err, unix.EPIPE) {
			r.fault = fmt.Errorf("open the barrier: %w", err)
		}
		r.letGo()
	}
}

// awaitEnd collects messages until init says that the tree is empty. Without
// that word it waits until every process of the launch is gone.
func (r *run) awaitEnd() {
	for r.ended == nil {
		if r.receive() == nil {
			break
		}
	}
	reaped := r.last != nil && r.last.InitReaped
	r.stuck = r.ended == nil && !reaped && r.launcher.isAbandoned()
	if r.stop != nil {
		r.stop()
	}
	r.letGo()
	r.gone = monotonic()
	r.meter.finish()
	r.full = r.meter != nil && r.meter.full
	r.meter = nil
	r.account()
	if r.leaf == nil && r.stuck {
		var err error
		r.survivors, err = r.countSurvivors()
		r.fault = errors.Join(r.fault, err)
	}
	r.measureStorage()
	r.witness.finish()
	r.endGuard()
	patience := time.Duration(0)
	if r.watch.ended() {
		patience = stuckReader
	}
	for _, s := range r.streams {
		s.wait(patience)
	}
}

// stuckReader is how long output may take to be passed on after a run was ended
// by its deadline, by being cancelled or by its output.
const stuckReader = time.Second

// setupFailed is the observation of a launch that never had a process.
func (r *run) setupFailed(step string, err error) report.Observation {
	o := r.base()
	o.Outcome = report.Outcome{Status: report.SetupFailed, Reason: step + ": " + err.Error()}
	return o
}
