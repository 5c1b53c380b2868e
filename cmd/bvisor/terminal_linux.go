package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/term"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/internal/tty"
)

// callerTerminal is the terminal that bvisor was started on, while it relays
// one of a workload's own. It is raw from the moment the workload runs until
// the run is over: every key is the workload's.
type callerTerminal struct {
	file    *os.File
	resized chan backend.Window
	signals chan os.Signal
	done    chan struct{}

	mu    sync.Mutex
	begun bool
	saved *term.State // as it was; nil while the terminal is not raw
	set   *term.State // as raw has set it
}

// newCallerTerminal follows the signals that a terminal brings. A relay must be
// ended for the terminal to be as it was before. SIGQUIT would end bvisor
// without that, so it cancels the run like the others.
func newCallerTerminal(file *os.File, cancel context.CancelCauseFunc) *callerTerminal {
	t := &callerTerminal{file: file, resized: make(chan backend.Window, 1), signals: make(chan os.Signal, 8), done: make(chan struct{})}
	signal.Notify(t.signals, syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGCONT, syscall.SIGQUIT)
	go t.follow(cancel)
	return t
}

// relay is what the backend needs of it.
func (t *callerTerminal) relay() backend.Terminal {
	return backend.Terminal{Attach: t.attach, Resized: t.resized}
}

func (t *callerTerminal) attach() (backend.Window, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begun = true
	if err := t.raw(); err != nil {
		return backend.Window{}, err
	}
	return t.window(), nil
}

// raw waits until the terminal is ours: in the background a shell may be
// editing a line on it, in modes that nobody wants back.
func (t *callerTerminal) raw() error {
	if err := tty.Await(t.file); err != nil {
		return err
	}
	saved, err := term.MakeRaw(int(t.file.Fd()))
	if err != nil {
		return err
	}
	t.saved = saved
	t.set, err = term.GetState(int(t.file.Fd()))
	return err
}

// window is the size; a terminal that does not know it says 0.
func (t *callerTerminal) window() backend.Window {
	columns, rows, err := term.GetSize(int(t.file.Fd()))
	if err != nil {
		return backend.Window{}
	}
	return backend.Window{Rows: uint16(rows), Columns: uint16(columns)}
}

// restore gives the terminal back as it was. What was typed and nobody has read
// is thrown away: among it may be answers of the terminal to what the workload
// wrote, and a shell would take them for commands. In the background the
// terminal is somebody else's, who has set it as they need.
func (t *callerTerminal) restore() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lend()
	t.begun = false
}

func (t *callerTerminal) lend() {
	if t.saved == nil {
		return
	}
	if tty.Foreground(t.file) {
		// A terminal that has been hung up can be neither set nor flushed.
		_ = term.Restore(int(t.file.Fd()), t.saved)
		_ = tty.Flush(t.file)
	}
	t.saved = nil
}

func (t *callerTerminal) follow(cancel context.CancelCauseFunc) {
	for {
		select {
		case <-t.done:
			return
		case s := <-t.signals:
			switch s {
			case syscall.SIGQUIT:
				cancel(&interrupted{syscall.SIGQUIT})
			case syscall.SIGTSTP:
				t.suspend()
			case syscall.SIGCONT:
				t.resume()
			case syscall.SIGWINCH:
				t.resize()
			}
		}
	}
}

// suspend stops bvisor as SIGTSTP would have, with the terminal given back.
// SIGCONT is what comes next.
func (t *callerTerminal) suspend() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lend()
	_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) // cannot fail: the process is our own
}

// resume also follows a SIGSTOP, which nobody can see coming. Who is continued
// in the background must wait until the shell brings it back, with another
// SIGCONT.
func (t *callerTerminal) resume() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.begun || !tty.Foreground(t.file) {
		return
	}
	if now, err := term.GetState(int(t.file.Fd())); t.saved == nil || err == nil && *now != *t.set {
		_ = t.raw() // otherwise the run goes on with the terminal as it is
	}
	t.tell()
}

func (t *callerTerminal) resize() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.begun {
		t.tell()
	}
}

// tell puts the latest size in place of one that was not taken yet.
func (t *callerTerminal) tell() {
	select {
	case <-t.resized:
	default:
	}
	t.resized <- t.window()
}

// close ends all of it.
func (t *callerTerminal) close() {
	t.restore()
	signal.Stop(t.signals)
	close(t.done)
}
