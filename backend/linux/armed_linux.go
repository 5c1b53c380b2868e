//go:build amd64 || arm64

package linux

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// armed is a boundary whose workload waits at the barrier for a run to come. It
// serves one run, or none.
type armed struct {
	mu  sync.Mutex
	run *run // nil when it was taken or closed
}

// Arm implements backend.Starter.
func (b *Backend) Arm(ctx context.Context, l backend.Launch) (backend.Ahead, error) {
	res, ok := l.Resolution.(*resolution)
	if !ok {
		return nil, errors.New("bug: the resolution is another backend's")
	}
	r := newRun(b, l, res)
	r.own(res)
	var err error
	switch {
	case len(l.Plan.Resolved.Spec.Capabilities.FDs) > 0:
		err = &backend.NotArmable{Why: "capabilities.fds: descriptors come with each run"}
	case len(heldRoots(l.Plan.Resolved.Roots)) > 0:
		err = &backend.NotArmable{Why: "controls.artifacts: what the host changes while the boundary waits would show in it half"}
	case slices.ContainsFunc(l.Plan.Resolved.Roots, func(r spec.Root) bool { return r.Kind == spec.KindAbsent }):
		err = &backend.NotArmable{Why: "a carve-out does not exist: the placeholder in its place would stand on the host as long as the boundary waits"}
	}
	began := time.Now()
	if err == nil {
		var keep func() bool
		if keep, err = r.arm(ctx); err == nil && !keep() {
			err = context.Cause(ctx)
		}
	}
	if err == nil && (!r.confined() || r.fault != nil || r.mismatch != "") {
		r.letGo()
		for r.receive() != nil { // until it is known what failed
		}
		err = errors.New(r.outcome(nil).Reason)
	}
	if err != nil {
		r.settle()
		return nil, err
	}
	ready := time.Now()
	r.prepared = &report.Prepared{At: ready.UTC().Format(time.RFC3339Nano), Took: int64(ready.Sub(began))}
	return &armed{run: r}, nil
}

// take returns the armed run if it is what a launch needs: the same plan, whose
// paths still lead to the same files under the same mounts, and nothing that
// only this launch brings.
func (a *armed) take(l backend.Launch, res *resolution) *run {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.run
	if r == nil || l.Plan.ID() != r.launch.Plan.ID() || !r.res.same(res) || !r.waits() ||
		l.Stdin != nil && l.Plan.Resolved.Spec.Controls.Stdin.Mode == spec.StdinInherit {
		return nil
	}
	a.run = nil
	r.launch, r.asked = l, monotonic()
	return r
}

// waits says whether the workload still waits and its boundary is whole.
func (r *run) waits() bool {
	if r.watch.ended() {
		return false
	}
	var launcher unix.Siginfo
	if err := unix.Waitid(unix.P_PID, r.launcher.pid, &launcher, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil || launcher.Signo != 0 {
		return false // it was killed, and with it the others
	}
	// A message or the end of file: another one was.
	status := []unix.PollFd{{Fd: int32(r.launcher.status), Events: unix.POLLIN}}
	n, err := unix.Poll(status, 0)
	return n == 0 && err == nil
}

// same says whether two resolutions found the same files.
func (r *resolution) same(o *resolution) bool {
	same := func(a, b *pin) bool {
		return (a == nil) == (b == nil) && (a == nil || a.stat.Dev == b.stat.Dev && a.stat.Ino == b.stat.Ino)
	}
	if (r.stdin == nil) != (o.stdin == nil) || r.stdin != nil && !sameInode(r.stdin, o.stdin) {
		return false
	}
	return slices.EqualFunc(r.pins, o.pins, same) && same(r.exe, o.exe) && version(&r.exe.stat) == version(&o.exe.stat) &&
		slices.Equal(r.mounts, o.mounts)
}

func sameInode(a, b *os.File) bool {
	x, err1 := a.Stat()
	y, err2 := b.Stat()
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// release is the rest of a launch for a boundary that stands.
func (r *run) release(ctx context.Context, commit func() error) (report.Observation, error) {
	if err := commit(); err != nil {
		r.letGo()
		return report.Observation{}, err
	}
	if changed, err := r.executableChanged(); err != nil || changed {
		r.mismatch = "the executable changed after it was hashed"
	}
	return r.complete(ctx, ctx.Err() == nil)
}

// Close implements backend.Ahead.
func (a *armed) Close() error {
	a.mu.Lock()
	r := a.run
	a.run = nil
	a.mu.Unlock()
	if r == nil {
		return nil
	}
	r.settle()
	return r.fault
}
