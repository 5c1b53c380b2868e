package notify

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/sys"
)

// Listener serves one filter. Its descriptor is closed when it ends, and then
// the kernel answers whoever waits, or comes, with ENOSYS.
type Listener struct {
	fd   int
	stop [2]int // a pipe; closing its write end asks for the end
	done chan struct{}
	err  error // why it ended by itself; read after done
}

// Call is one call while it waits.
type Call struct {
	sys.Notification
	listener int
}

// Waiting says whether the caller still waits, so that what was read of the
// process with its number was read of the caller.
func (c *Call) Waiting() bool { return sys.NotifyValid(c.listener, c.ID) }

// Listen serves fd, which becomes the listener's, until Close or an error. look
// is given each call while it waits, and what it returns, if anything, runs
// after the call was let go on.
func Listen(fd int, look func(*Call) (after func())) (*Listener, error) {
	l := &Listener{fd: fd, done: make(chan struct{})}
	if err := unix.Pipe2(l.stop[:], unix.O_CLOEXEC); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen to the observer: %w", err)
	}
	go l.serve(look)
	return l, nil
}

func (l *Listener) serve(look func(*Call) func()) {
	defer close(l.done)
	defer unix.Close(l.fd)
	fds := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}, {Fd: int32(l.stop[0])}}
	for {
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		} else if err != nil {
			l.err = fmt.Errorf("poll: %w", err)
			return
		}
		switch {
		case fds[1].Revents != 0:
			return
		case fds[0].Revents&unix.POLLIN != 0:
			if err := l.one(look); err != nil {
				l.err = err
				return
			}
		case fds[0].Revents != 0:
			return // POLLHUP: nobody is left under the filter (Linux 5.8)
		}
	}
}

// one takes one call and lets it go on.
func (l *Listener) one(look func(*Call) func()) error {
	n, err := sys.NotifyReceive(l.fd)
	if err == unix.ENOENT || err == unix.EINTR {
		return nil // its caller was killed, or a signal took it out of the call
	}
	if err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	after := look(&Call{n, l.fd})
	if err := sys.NotifyContinue(l.fd, n.ID); err != nil && err != unix.ENOENT {
		return fmt.Errorf("answer: %w", err)
	}
	if after != nil {
		after()
	}
	return nil
}

// ErrBusy says that the listener did not come to its end in time: what it looks
// at does not answer.
var ErrBusy = errors.New("it hangs in a look at the host's files")

// Close ends the listener and returns why it ended earlier, or ErrBusy after
// patience. It then ends by itself as soon as it can.
func (l *Listener) Close(patience time.Duration) error {
	unix.Close(l.stop[1])
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-l.done:
		unix.Close(l.stop[0])
		return l.err
	case <-timer.C:
		go func() { <-l.done; unix.Close(l.stop[0]) }()
		return ErrBusy
	}
}
