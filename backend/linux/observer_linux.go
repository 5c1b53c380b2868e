//go:build amd64 || arm64

package linux

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/internal/procfs"
	"github.com/bvisor/bvisor/internal/seccomp"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

// Names of what shows denied attempts. Where a call that waits for the listener
// can be interrupted by any signal (before Linux 5.19), it is made anew
// afterwards, and seen again.
const (
	byNotify        = "seccomp-notify (partial)"
	byNotifyRestart = "seccomp-notify (partial, calls restart)"
)

const killableListener = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV

func (h *host) observerName() string {
	switch {
	case !h.has("launcher", "seccomp.notify.effect"):
		return ""
	case h.has("seccomp.notify.killable"):
		return byNotify
	case h.has("seccomp.notify"):
		return byNotifyRestart
	}
	return ""
}

// observerOf returns what shows a plan's denied attempts, or "".
func observerOf(p plan.Plan) string {
	for _, e := range p.Evidence {
		for _, by := range e.By {
			if e.Claim == spec.DeniedAttempts && (by == byNotify || by == byNotifyRestart) {
				return by
			}
		}
	}
	return ""
}

func observed(p plan.Plan) bool { return observerOf(p) != "" }

// observer loads the filter that tells the supervisor of calls, and sends the
// supervisor its listener. The workload keeps no end of it.
func (l *lowering) observer() error {
	if !observed(l.plan) {
		return nil
	}
	flags, text := killableListener, "NEW_LISTENER|WAIT_KILLABLE_RECV"
	if observerOf(l.plan) == byNotifyRestart {
		flags, text = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, "NEW_LISTENER"
	}
	f, err := seccomp.CompileObserver(runtime.GOARCH)
	if err != nil {
		return fmt.Errorf("bug: the observer does not compile: %w", err)
	}
	cmsg := l.oneDescriptor("SCM_RIGHTS observer")
	code := l.Bytes(f.Bytes(), fmt.Sprintf("observer of %d instructions", len(f)))
	l.Call("seccomp", unix.SYS_SECCOMP, launcher.Flag(unix.SECCOMP_SET_MODE_FILTER, "SECCOMP_SET_MODE_FILTER"), launcher.Flag(flags, text),
		l.Words(fmt.Sprintf("{%d, observer}", len(f)), launcher.Int(len(f)), code)).To(launcher.At(cmsg, 16, "observer"))
	l.handOut(launcher.MessageObserver, cmsg, "observer")
	return nil
}

// handOut sends the supervisor the descriptor in cmsg under a kind, and closes it here.
func (l *lowering) handOut(kind int, cmsg launcher.Arg, name string) {
	zero := launcher.Int(0)
	iov := l.Words(fmt.Sprintf("{%d, record}", kind), l.Words(fmt.Sprint(kind), launcher.Int(kind)), launcher.Int(8), launcher.Record(0, "record"), launcher.Int(launcher.RecordWords*8))
	header := l.Words("{"+cmsg.Name()+"}", zero, zero, iov, launcher.Int(2), cmsg, launcher.Int(24), zero)
	l.Call("sendmsg", unix.SYS_SENDMSG, launcher.Flag(l.slots.status, "status"), header, launcher.Flag(unix.MSG_NOSIGNAL, "MSG_NOSIGNAL"))
	l.Call("close", unix.SYS_CLOSE, launcher.Load(cmsg, 16, name))
}

// passed takes the one descriptor out of a message.
func passed(oob []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return -1, fmt.Errorf("a message with a descriptor: %w", err)
	}
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil && len(fds) == 1 {
			return fds[0], nil
		}
	}
	return -1, errors.New("a message that should carry a descriptor carries none")
}

// tryObserver finds out whether a filter can have a listener: once nobody
// serves it any more, the filter's calls fail with ENOSYS.
func tryObserver(p *launcher.Program, try tryFunc, last func() launcher.Arg, expect func(int64)) error {
	f, err := seccomp.CompileObserver(runtime.GOARCH)
	if err != nil {
		return err
	}
	filter := p.Words("observer", launcher.Int(len(f)), p.Bytes(f.Bytes(), "observer"))
	for _, o := range []struct {
		fact, text string
		flags      int
	}{{"seccomp.notify.killable", "NEW_LISTENER|WAIT_KILLABLE_RECV", killableListener}, {"seccomp.notify", "NEW_LISTENER", unix.SECCOMP_FILTER_FLAG_NEW_LISTENER}} {
		try(o.fact, "seccomp(SECCOMP_SET_MODE_FILTER, "+o.text+")",
			p.Call("seccomp", unix.SYS_SECCOMP, launcher.Flag(unix.SECCOMP_SET_MODE_FILTER, "SECCOMP_SET_MODE_FILTER"), launcher.Flag(o.flags, o.text), filter))
		p.Call("close", unix.SYS_CLOSE, last()).Ignore()
	}
	try("seccomp.notify.effect", "chdir(.) under an observer that nobody serves", p.Call("chdir", unix.SYS_CHDIR, p.Str(".")))
	expect(-int64(unix.ENOSYS))
	return nil
}

// ownFilters is how many filters the supervisor itself runs under, or -1 where
// the kernel does not say (before Linux 5.9).
var ownFilters = sync.OnceValue(func() int {
	p, err := procfs.Open(unix.Getpid())
	if err != nil {
		return -1
	}
	defer p.Close()
	st, err := p.Status()
	if err != nil {
		return -1
	}
	return st.Filters
})
