package notify

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const patience = time.Minute

// A descriptor that cannot be served ends the listener, which closes it: the
// kernel then fails the calls instead of letting them wait.
func TestBrokenListenerCloses(t *testing.T) {
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	looked := false
	l, err := Listen(fd, func(*Call) func() { looked = true; return nil })
	if err != nil {
		t.Fatal(err)
	}
	<-l.done
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("the descriptor is still open: %v", err)
	}
	if err := l.Close(patience); err == nil || !strings.Contains(err.Error(), "receive") {
		t.Errorf("got %v, expected what failed", err)
	}
	if looked {
		t.Error("a call was made up")
	}
}

// One that nobody calls ends when it is asked to.
func TestIdleListenerEnds(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[1])
	l, err := Listen(pipe[0], func(*Call) func() { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(patience); err != nil {
		t.Error(err)
	}
}
