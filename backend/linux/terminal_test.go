//go:build linux && (amd64 || arm64)

package linux_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/tty"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/secret"
	"github.com/bvisor/bvisor/spec"
)

// onTerminal gives the workload a terminal of its own.
func onTerminal(s *spec.Spec) {
	s.Controls.Stdin, s.Controls.Capture = spec.Stdin{Mode: spec.StdinTTY}, nil
}

// pty is a terminal of the test's own, in the place of the caller's.
func pty(t testing.TB) (master, slave *os.File) {
	t.Helper()
	master, slave, err := tty.Open()
	if err != nil {
		need.Missing(t, "pty", err.Error())
	}
	t.Cleanup(func() { master.Close(); slave.Close() })
	return master, slave
}

// waiting is how much was typed on a terminal and not read. In canonical mode
// the kernel counts nothing before the end of a line.
func waiting(t testing.TB, slave *os.File) int {
	t.Helper()
	modes, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	must(t, err)
	modes.Lflag &^= unix.ICANON
	must(t, unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, modes))
	n, err := unix.IoctlGetInt(int(slave.Fd()), unix.TIOCINQ)
	must(t, err)
	return n
}

// What a workload types into its terminal does not arrive at the caller's: the
// filter refuses it, and without the filter it is the workload's own
// (CVE-2017-5226, CVE-2023-28100).
func TestTerminalTakesNoTyping(t *testing.T) {
	need.MountNamespace(t)
	if b, err := os.ReadFile("/proc/sys/dev/tty/legacy_tiocsti"); err == nil && strings.TrimSpace(string(b)) == "0" {
		need.Missing(t, "tiocsti", "dev.tty.legacy_tiocsti is 0, so the control could not type either")
	}
	c := newCalls()
	// The answers are numbers: nothing may be changed on the way out.
	raw := binary.LittleEndian.AppendUint64(make([]byte, 8, 36), unix.CS8|unix.CREAD|unix.B38400) // struct termios: four words, then characters
	c.quiet(unix.SYS_IOCTL, num(1), num(unix.TCSETS), c.Bytes(append(raw, make([]byte, 20)...), "raw"))
	opened := c.try("open /dev/tty", unix.SYS_OPENAT, num(-1), c.Str("/dev/tty"), num(unix.O_RDWR), num(0))
	for which, fd := range map[string]launcher.Arg{"stdin": num(0), "/dev/tty": opened} {
		c.try("is a terminal "+which, unix.SYS_IOCTL, fd, num(unix.TCGETS), c.Bytes(make([]byte, 64), "termios"))
		c.try("TIOCSTI "+which, unix.SYS_IOCTL, fd, num(unix.TIOCSTI), c.Str("x"))
		c.try("TIOCSTI with high bits "+which, unix.SYS_IOCTL, fd, word(7<<32|unix.TIOCSTI), c.Str("x"))
	}
	path := c.file(t)

	// The control: on the caller's terminal the same calls type.
	t.Run("control", func(t *testing.T) {
		master, slave := pty(t)
		cmd := exec.CommandContext(t.Context(), path)
		cmd.Stdin, cmd.Stdout = slave, slave
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		out := make(chan []byte, 1)
		go func() {
			got := make([]byte, 0, 4096)
			for len(got) < 8*len(c.names) {
				n, err := master.Read(got[len(got):cap(got)])
				if err != nil {
					break
				}
				got = got[:len(got)+n]
			}
			out <- got
		}()
		must(t, cmd.Run())
		got := c.read(t, "control", string(<-out))
		if got["TIOCSTI stdin"] != 0 || got["TIOCSTI /dev/tty"] != 0 || waiting(t, slave) != 4 {
			t.Errorf("control: %v, %d bytes were typed, expected 4", got, waiting(t, slave))
		}
	})
	for _, tt := range []struct {
		name    string
		accept  mods
		tiocsti int64
	}{{"filtered", nil, -int64(unix.EPERM)}, {"unfiltered", mods{accept(unscoped("unfiltered-calls", "host-network")...), spawn(spec.SpawnProcesses)}, 0}} {
		t.Run(tt.name, func(t *testing.T) {
			_, slave := pty(t)
			req := request(append(mods{grant("rx", path), command(path), onTerminal}, tt.accept...), "hold")
			req.Stdin = slave
			o, err := attempt(t, req)
			must(t, err)
			if o.Report.Outcome.Status != report.Completed {
				t.Fatalf("%+v %+v", o.Report.Outcome, o.Report.Refusal)
			}
			got := c.read(t, "confined", o.Stdout)
			for _, which := range []string{"stdin", "/dev/tty"} {
				if got["is a terminal "+which] != 0 || got["TIOCSTI "+which] != tt.tiocsti || got["TIOCSTI with high bits "+which] != tt.tiocsti {
					t.Errorf("%s: %v, expected a terminal, and TIOCSTI to give %d", which, got, tt.tiocsti)
				}
			}
			if n := waiting(t, slave); n != 0 {
				t.Errorf("%d bytes were typed into the caller's terminal", n)
			}
			o.heldBy(t, plan.Terminal)
		})
	}
}

// Output on a terminal is counted, bounded, kept and hashed like any other.
func TestTerminalOutput(t *testing.T) {
	const limit = 100_000
	var relayed bytes.Buffer
	req := request(mods{onTerminal, capture(spec.StreamTTY, 1000), budget(spec.Output, limit)}, "flood", "50000")
	req.Stdout = &relayed
	o, err := attempt(t, req)
	must(t, err)
	want := bytes.ReplaceAll(pattern[:50000], []byte("\n"), []byte("\r\n"))
	if !bytes.Equal(relayed.Bytes(), want) {
		t.Errorf("%d bytes were relayed, expected %d of a known pattern", relayed.Len(), len(want))
	}
	s := o.stream(t, spec.StreamTTY)
	if s.Bytes != int64(len(want)) || s.Kept != 1000 || !s.Truncated || s.SHA256 != digest(want) || s.KeptSHA != digest(want[:1000]) || o.Stdout != string(want[:1000]) {
		t.Errorf("stream %+v", s)
	}
	if b := o.bounded(t, spec.Output); b.Finding != "within" || b.Used == nil || *b.Used != int64(len(want)) {
		t.Errorf("budget %+v", b)
	}
	o.heldBy(t, plan.CaptureStreams)
	o.heldBy(t, plan.Terminal)

	relayed.Reset()
	req = request(mods{onTerminal, budget(spec.Output, limit)}, "flood", "1000000000")
	req.Stdout = &relayed
	o, err = attempt(t, req)
	must(t, err)
	o.ended(t, report.BudgetExceeded, "output", 0)
	if relayed.Len() != limit {
		t.Errorf("%d bytes were relayed, expected the first %d", relayed.Len(), limit)
	}
}

// A secret is taken out of what is kept, also where the terminal has changed
// its line ends. What is typed is echoed, and so is a secret that is typed.
func TestTerminalLeaseIsRedacted(t *testing.T) {
	const value = "-----BEGIN KEY-----\nc2VjcmV0\n-----END KEY-----"
	sup := withSecrets(t, secret.Map{"key": value})
	o, err := attemptWith(t, sup, t.Context(), request(mods{onTerminal, lease("TOKEN", "test:key")}, "tell", "TOKEN"))
	must(t, err)
	if o.Code != 0 || !strings.Contains(o.Stdout, "plain ") {
		t.Fatalf("the workload ended with %d: %q", o.Code, o.Stdout)
	}
	if strings.Contains(o.Stdout, "c2VjcmV0") {
		t.Errorf("output holds the value: %q", o.Stdout)
	}
	if s := o.stream(t, spec.StreamTTY); s.Redacted != 3 || s.SHA256 != "" {
		t.Errorf("stream %+v, expected three places and no digest of the whole", s)
	}
	// The control: a literal is no secret.
	o, err = attempt(t, request(mods{onTerminal, env("TOKEN", value)}, "tell", "TOKEN"))
	must(t, err)
	if !strings.Contains(o.Stdout, "c2VjcmV0\r\n") {
		t.Errorf("output of a literal is %q", o.Stdout)
	}
}

// The caller's side is attached before the program runs, and what it fails with
// keeps the program from running.
func TestTerminalAttach(t *testing.T) {
	need.MountNamespace(t)
	stty := real(t, "/usr/bin/stty")
	inside := mods{preset("system"), command(stty, "size"), onTerminal}
	req := request(inside, "hold")
	req.Terminal.Attach = func() (backend.Window, error) { return backend.Window{Rows: 12, Columns: 34}, nil }
	o, err := attempt(t, req)
	must(t, err)
	if o.Stdout != "12 34\r\n" {
		t.Errorf("the size is %q", o.Stdout)
	}
	dir := tree(t)
	must(t, os.Chmod(dir, 0o777))
	req = request(mods{onTerminal, grant("rw", dir)}, "create", filepath.Join(dir, "made"))
	req.Terminal.Attach = func() (backend.Window, error) { return backend.Window{}, errors.New("no such caller") }
	o, err = attempt(t, req)
	must(t, err)
	if o.Report.Outcome.Status != report.SupervisorFault || !strings.Contains(o.Report.Outcome.Reason, "no such caller") {
		t.Errorf("%+v", o.Report.Outcome)
	}
	holds(t, filepath.Join(dir, "made"), "")
}

// begins is called when there is output.
type begins func()

func (f begins) Write(b []byte) (int, error) {
	f()
	return len(b), nil
}

// Runs of one plan share their program, and each has a terminal of its own: it
// sees that one and no other.
func TestTerminalOfEachRun(t *testing.T) {
	need.MountNamespace(t)
	const script = `tty; ls /dev/pts; read line; exit 0`
	type end struct {
		o   outcome
		err error
	}
	ends := make(chan end)
	begun := make(chan bool, 2)
	var masters []*os.File
	for range 2 {
		master, slave := pty(t)
		masters = append(masters, master)
		req := request(mods{preset("system"), spawn(spec.SpawnProcesses), command(real(t, "/bin/sh"), "-c", script), env("PATH", "/usr/bin:/bin"), onTerminal}, "hold")
		req.Stdin, req.Stdout = slave, begins(sync.OnceFunc(func() { begun <- true }))
		go func() {
			o, err := attempt(t, req)
			ends <- end{o, err}
		}()
	}
	for range masters {
		select {
		case <-begun:
		case e := <-ends:
			t.Fatalf("%+v, %v", e.o.Report.Outcome, e.err)
		}
	}
	for _, m := range masters { // both run now, each waits for its line
		_, err := m.Write([]byte("\n"))
		must(t, err)
	}
	var names []string
	for range 2 {
		e := <-ends
		must(t, e.err)
		lines := strings.Fields(e.o.Stdout) // the line that was typed is echoed in between
		if len(lines) < 2 || lines[0] != "/dev/pts/"+lines[1] {
			t.Errorf("tty and ls say %q", e.o.Stdout)
		}
		names = append(names, lines[0]+" "+e.o.Report.Posture.Terminal)
	}
	if names[0] == names[1] {
		t.Errorf("two runs at once had the terminal %s", names[0])
	}
	for _, n := range names {
		if number, terminal, _ := strings.Cut(strings.TrimPrefix(n, "/dev/pts/"), " "); terminal != "136:"+number {
			t.Errorf("the terminal is %s", n)
		}
	}
}

// Weakenings that leave the boundary without mounts or Landlock of its own do
// not take the terminal away; without a session of its own there is none.
func TestTerminalAndWeakenings(t *testing.T) {
	need.MountNamespace(t)
	for _, names := range [][]spec.Weakening{{"no-landlock"}, {"host-devices"}, {"visible-host-paths", "host-devices", "host-proc", "host-sys"}, unscoped("host-pid-namespace", "host-proc")} {
		t.Run(fmt.Sprint(names), func(t *testing.T) {
			m := mods{preset("system"), command(real(t, "/usr/bin/stty"), "-F", "/dev/tty"), onTerminal, accept(names...)}
			if names[0] == "visible-host-paths" && needsMounts(t, m) {
				return
			}
			o, err := attempt(t, request(m, "hold"))
			must(t, err)
			if o.Report.Outcome.Status != report.Completed || !strings.Contains(o.Stdout, "speed ") || o.Report.Posture.Terminal == "" {
				t.Errorf("%+v %+v: %q", o.Report.Outcome, o.Report.Refusal, o.Stdout)
			}
		})
	}
	o, err := attempt(t, request(mods{onTerminal, accept("shared-session")}, "hold"))
	must(t, err)
	if got := reasons(t, o); !slices.Equal(got, []string{"weakening.conflict"}) {
		t.Errorf("reasons %v", got)
	}
}

// What was typed for a program that does not read it holds nothing up, and
// leaves nothing in the supervisor.
func TestTerminalInputIsLetGo(t *testing.T) {
	need.MountNamespace(t)
	typed, hand, err := os.Pipe()
	must(t, err)
	defer typed.Close()
	defer hand.Close()
	req := request(mods{onTerminal}, "exit", "0")
	req.Stdin = typed
	go hand.Write(bytes.Repeat([]byte("line\n"), 1_000_000))
	once := func() {
		o, err := attempt(t, req)
		must(t, err)
		o.reports(t, report.Completed, "")
	}
	once() // what is kept on purpose is there afterwards
	before := len(descriptors(t, os.Getpid()))
	for range 5 {
		once()
	}
	supervisor(t).Wait()
	eventually(t, "every descriptor of the terminals closed", func() bool { return len(descriptors(t, os.Getpid())) <= before })
}

// A boundary that was armed before its run has its terminal already; who sits
// at the other end comes with the run.
func TestTerminalOfAPreparedRun(t *testing.T) {
	a := prepared(t, supervisor(t), 1, system(onTerminal), "sh", "-c", "tty >/dev/null && stty size && read line && echo got $line")
	for _, rows := range []uint16{11, 22} {
		master, slave := pty(t)
		var shown bytes.Buffer
		_, err := master.Write([]byte("typed\n"))
		must(t, err)
		o := a.once(bvisor.Request{Stdin: slave, Stdout: &shown, Terminal: backend.Terminal{
			Attach: func() (backend.Window, error) { return backend.Window{Rows: rows, Columns: 5}, nil },
		}})
		o.wasPrepared(t, true)
		if want := fmt.Sprintf("%d 5", rows); !strings.Contains(shown.String(), want) || !strings.Contains(shown.String(), "got typed") {
			t.Errorf("shown is %q, expected %q and what was typed", shown.String(), want)
		}
	}
}
