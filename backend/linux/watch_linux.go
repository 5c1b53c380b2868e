//go:build amd64 || arm64

package linux

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// watch ends a run that must not go on: deadline, cancellation, output.
type watch struct {
	wall   time.Duration // 0 is no deadline
	grace  time.Duration
	output int64 // bytes that may be written in all; negative is no bound

	mu      sync.Mutex
	written int64
	reason  report.Outcome // why the run was ended; zero while it was not
	killed  bool           // the tree was killed, not only asked to end
	now     chan struct{}  // closed for an end without grace
}

func newWatch(p plan.Plan) *watch {
	w := &watch{output: -1, grace: p.Resolved.Spec.Controls.Kill.Grace, now: make(chan struct{})}
	for _, b := range p.Budgets {
		switch b.Dimension {
		case spec.Wall:
			w.wall = time.Duration(b.Limit)
		case spec.Output:
			w.output = b.Limit
		}
	}
	return w
}

// initPatience is how long init may take to say how a killed tree ended, before
// it is killed itself.
const initPatience = time.Second

// because records the first reason for ending the run.
func (w *watch) because(o report.Outcome) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reason.Status != "" {
		return false
	}
	w.reason = o
	return true
}

// kill ends the run without grace, unless it is being ended already.
func (w *watch) kill(o report.Outcome) {
	if w.because(o) {
		close(w.now)
	}
}

// total is how many bytes were written.
func (w *watch) total() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.written
}

// ended says whether the run was ended by force.
func (w *watch) ended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reason.Status != ""
}

// admit counts n more bytes of output and returns how many of them may pass.
func (w *watch) admit(n int) int {
	w.mu.Lock()
	left := w.output - w.written
	w.written += int64(n)
	over := w.output >= 0 && w.written > w.output
	w.mu.Unlock()
	if !over {
		return n
	}
	w.kill(report.Outcome{Status: report.BudgetExceeded, Reason: string(spec.Output)})
	return int(max(left, 0))
}

// begin starts the deadline. SIGTERM goes to the workload's first process;
// after the grace everything is killed. Who can kill the tree and leave init
// alive, to tell how that went, hands over kill. stop ends the watch and returns
// when it has no further effect.
func (w *watch) begin(ctx context.Context, pidfd int, kill, letGo func()) (stop func()) {
	done, finished := make(chan struct{}), make(chan struct{})
	var deadline <-chan time.Time
	var timer *time.Timer
	if w.wall > 0 {
		timer = time.NewTimer(w.wall)
		deadline = timer.C
	}
	go func() {
		defer close(finished)
		if timer != nil {
			defer timer.Stop()
		}
		grace := w.grace
		select {
		case <-done:
			return
		case <-deadline:
			w.because(report.Outcome{Status: report.Timeout, Reason: string(spec.Wall)})
		case <-ctx.Done():
			w.because(report.Outcome{Status: report.Killed, Reason: "cancelled: " + context.Cause(ctx).Error()})
		case <-w.now:
			grace = 0
		}
		if grace > 0 {
			_ = unix.PidfdSendSignal(pidfd, unix.SIGTERM, nil, 0) // it may have ended by itself
			select {
			case <-done:
				return
			case <-time.After(grace):
			case <-w.now:
			}
		}
		w.mu.Lock()
		w.killed = true
		w.mu.Unlock()
		if kill != nil {
			kill()
			select {
			case <-done:
				return
			case <-time.After(initPatience):
			}
		}
		letGo()
	}()
	return sync.OnceFunc(func() {
		close(done)
		<-finished
	})
}
