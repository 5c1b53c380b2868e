package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/tty"
)

// Names of tests that begin with TestTTY run a second time as an ordinary user,
// see TestScriptsAsOrdinaryUser.

// desk is a terminal of the test's own with somebody before it: bvisor is
// started on it, the test types and looks at what is shown.
type desk struct {
	*testing.T
	master, slave *os.File
	dir, state    string
	before        unix.Termios
	cmd           *exec.Cmd
	mu            sync.Mutex
	shown         bytes.Buffer
	read          int // of shown, by see
}

// patience is how long a test waits for something before it calls it a hang.
const patience = time.Minute

func newDesk(t *testing.T) *desk {
	t.Helper()
	if err := canConfine(); err != nil {
		need.Missing(t, "confine", err.Error())
	}
	master, slave, err := tty.Open()
	if err != nil {
		need.Missing(t, "pty", err.Error())
	}
	d := &desk{T: t, master: master, slave: slave, dir: t.TempDir(), state: t.TempDir()}
	read := make(chan struct{})
	t.Cleanup(func() {
		if d.cmd != nil && d.cmd.ProcessState == nil {
			d.cmd.Process.Kill()
			d.cmd.Wait()
		}
		slave.Close() // ends the reader
		<-read
		master.Close()
	})
	d.size(30, 100)
	d.before = d.modes()
	go func() {
		defer close(read)
		d.watch(int(master.Fd()))
	}()
	return d
}

// watch reads what is shown until nobody has the terminal any more.
func (d *desk) watch(master int) {
	buf, fds := make([]byte, 4096), []unix.PollFd{{Fd: int32(master), Events: unix.POLLIN}}
	for {
		unix.Poll(fds, -1)
		n, err := unix.Read(master, buf)
		if err == unix.EAGAIN || err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		d.mu.Lock()
		d.shown.Write(buf[:n])
		d.mu.Unlock()
	}
}

func (d *desk) must(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

func (d *desk) modes() unix.Termios {
	d.Helper()
	m, err := unix.IoctlGetTermios(int(d.slave.Fd()), unix.TCGETS)
	d.must(err)
	return *m
}

func (d *desk) raw() bool { return d.modes().Lflag&(unix.ICANON|unix.ISIG|unix.ECHO) == 0 }

// size changes the size of the terminal; the kernel sends SIGWINCH.
func (d *desk) size(rows, columns uint16) { d.Helper(); d.must(tty.Resize(d.master, rows, columns)) }

func (d *desk) file(name, text string) string {
	d.Helper()
	path := filepath.Join(d.dir, name)
	d.must(os.WriteFile(path, []byte(text), 0o644))
	return path
}

// start starts bvisor as a shell would: the terminal is its controlling one.
// Without arguments it starts what is set already.
func (d *desk) start(args ...string) {
	d.Helper()
	if len(args) > 0 {
		d.cmd = exec.Command("bvisor", args...)
	}
	d.cmd.Dir = d.dir
	d.cmd.Env = append(os.Environ(), "BVISOR_STATE_DIR="+filepath.Join(d.state, "bvisor"), "TERM=vt100")
	d.cmd.Stdin, d.cmd.Stdout, d.cmd.Stderr = d.slave, d.slave, d.slave
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	d.must(d.cmd.Start())
}

func (d *desk) run(args ...string) { d.Helper(); d.start(append([]string{"run", "--tty"}, args...)...) }

func (d *desk) kinds(keys string) {
	d.Helper()
	_, err := d.master.Write([]byte(keys))
	d.must(err)
}

// until waits for something that comes by itself.
func (d *desk) until(what string, f func() bool) {
	d.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			d.Fatalf("%s did not come; the terminal shows\n%q", what, d.all())
		}
	}
}

func (d *desk) all() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.shown.String()
}

// see waits for a text after what was seen before, and returns all up to it.
func (d *desk) see(text string) string {
	d.Helper()
	var got string
	d.until(fmt.Sprintf("%q", text), func() bool {
		rest := d.all()[d.read:]
		i := strings.Index(rest, text)
		if i < 0 {
			return false
		}
		got = rest[:i+len(text)]
		d.read += len(got)
		return true
	})
	return got
}

// end waits for bvisor and returns its exit code; the terminal must be as it was.
func (d *desk) end() int {
	d.Helper()
	exited := make(chan error, 1)
	go func() { exited <- d.cmd.Wait() }()
	select {
	case err := <-exited:
		if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
			d.Fatal(err)
		}
	case <-time.After(patience):
		d.cmd.Process.Kill()
		<-exited
		d.Fatalf("bvisor did not end; the terminal shows\n%q", d.all())
	}
	d.asBefore()
	return d.cmd.ProcessState.ExitCode()
}

func (d *desk) asBefore() {
	d.Helper()
	if after := d.modes(); after != d.before {
		d.Errorf("the terminal's modes are\n%+v, expected\n%+v", after, d.before)
	}
}

func (d *desk) signal(s syscall.Signal) { d.Helper(); d.must(d.cmd.Process.Signal(s)) }

// report reads what was sealed, after bvisor itself has verified it.
func (d *desk) report() (r struct {
	Outcome struct{ Status, Reason string }
	Posture struct {
		Session     bool
		Terminal    string
		Descriptors []struct {
			FD      int
			Kind    string
			Survive bool
		}
	}
	Descriptors []struct {
		Role, Kind string
		Slot       int
	}
	Streams []struct {
		Name, SHA256 string
		Bytes, Kept  int64
	}
	Plan struct {
		Requirements []struct {
			Kind       string
			Mechanisms []struct{ Name, Enforcement string }
		}
	}
}) {
	d.Helper()
	name := filepath.Join(d.dir, "report.json")
	bvisor := func(args ...string) []byte {
		cmd := exec.Command("bvisor", args...)
		cmd.Env = d.cmd.Env
		out, err := cmd.CombinedOutput()
		if err != nil {
			d.Fatalf("%q: %v\n%s", args, err, out)
		}
		return out
	}
	bvisor("verify", name)
	var statement struct{ Predicate json.RawMessage }
	d.must(json.Unmarshal(bvisor("report", "show", "--json", name), &statement))
	d.must(json.Unmarshal(statement.Predicate, &r))
	return r
}

func bash(t *testing.T) string { t.Helper(); return need.Program(t, "bash") }

// Job control is the boundary's own: ctrl-Z and ctrl-C reach the foreground job
// and nothing else, and bvisor is neither stopped nor interrupted.
func TestTTYJobControl(t *testing.T) {
	d := newDesk(t)
	d.file("job", `trap 'echo con''tinued' CONT; echo star''ted; while :; do :; done`)
	d.run("--report", "report.json", "--", bash(t), "--norc", "-i")
	d.kinds("PS1='$ '; echo rea''dy\r")
	d.see("ready\r\n")
	if !d.raw() {
		t.Error("the caller's terminal is not raw while the program runs")
	}
	d.kinds("sh job\r")
	d.see("started")
	d.kinds("\x1a")
	d.see("Stopped")
	d.kinds("jobs; echo jobs=$?\r")
	d.see("jobs=0")
	d.kinds("fg\r")
	d.see("continued") // the shell gives the terminal away before it continues a job
	d.kinds("\x03")
	d.kinds("echo status=$?\r")
	d.see("status=130")
	d.kinds("exit 7\r")
	if code := d.end(); code != 7 {
		t.Errorf("exit code %d, expected the shell's 7", code)
	}
	r := d.report()
	if r.Outcome.Status != "failed" || !r.Posture.Session {
		t.Errorf("the report says %+v, own session %v", r.Outcome, r.Posture.Session)
	}
}

// The size is the caller's from the first instruction on, and follows it.
func TestTTYWindowSize(t *testing.T) {
	d := newDesk(t)
	d.size(33, 77)
	d.run("--", "sh", "-c", `trap 'stty size; exit 0' WINCH; stty size; while :; do sleep 0.05; done`)
	d.see("33 77\r\n")
	d.size(44, 99)
	d.see("44 99\r\n")
	if code := d.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// What the program has is a terminal of its own in every respect, by the
// kernel's word inside and outside; of the caller's it has nothing.
func TestTTYIsOwn(t *testing.T) {
	d := newDesk(t)
	d.run("--report", "report.json", "--", "sh", "-c", `tty; stty size </dev/tty; echo again >/dev/stdout; echo through >/dev/tty; ls /dev/pts; cut -d' ' -f7 /proc/self/stat; read line </dev/tty; echo "got $line"`)
	shown := d.see("through\r\n")
	name, _, _ := strings.Cut(shown, "\r\n")
	number, ok := strings.CutPrefix(name, "/dev/pts/")
	if !ok {
		t.Fatalf("tty says %q, expected a name below /dev/pts", name)
	}
	if want := name + "\r\n30 100\r\nagain\r\nthrough\r\n"; shown != want {
		t.Errorf("shown is %q, expected %q", shown, want)
	}
	var st, mine unix.Stat_t
	d.must(unix.Stat(name, &st))
	d.must(unix.Fstat(int(d.slave.Fd()), &mine))
	if st.Rdev == mine.Rdev {
		t.Errorf("%s is the caller's terminal", name)
	}
	d.see(number + "\r\n")
	d.see(fmt.Sprintf("%d\r\n", unix.Minor(uint64(st.Rdev))|unix.Major(uint64(st.Rdev))<<8))
	d.kinds("hello\r")
	d.see("got hello")
	if code := d.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	r := d.report()
	if want := fmt.Sprintf("%d:%s", unix.Major(uint64(st.Rdev)), number); r.Posture.Terminal != want {
		t.Errorf("the posture's terminal is %q, expected %s", r.Posture.Terminal, want)
	}
	for fd, role := range []string{"stdin", "stdout", "stderr"} {
		if got := r.Descriptors[fd]; got.Role != role || got.Kind != "terminal" {
			t.Errorf("descriptor %d is %+v, expected the terminal as %s", fd, got, role)
		}
		if got := r.Posture.Descriptors[fd]; got.FD != fd || got.Kind != "terminal" || !got.Survive {
			t.Errorf("the kernel says of descriptor %d: %+v", fd, got)
		}
	}
	held := false
	for _, q := range r.Plan.Requirements {
		held = held || q.Kind == "terminal" && len(q.Mechanisms) == 2 && q.Mechanisms[0].Enforcement == "enforced"
	}
	if !held {
		t.Errorf("the plan does not hold a terminal: %+v", r.Plan.Requirements)
	}
}

// The report counts and hashes what was shown, byte by byte.
func TestTTYCapture(t *testing.T) {
	d := newDesk(t)
	d.run("--report", "report.json", "--", "sh", "-c", `i=0; while [ $i -lt 3000 ]; do echo "out $i"; echo "err $i" >&2; i=$((i+1)); done; printf '\033[1mlast'`)
	d.see("\x1b[1mlast")
	if code := d.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	r := d.report()
	shown, _, _ := strings.Cut(d.all(), "bvisor:")
	sum := sha256.Sum256([]byte(shown))
	if len(r.Streams) != 1 || r.Streams[0].Name != "tty" || r.Streams[0].SHA256 != hex.EncodeToString(sum[:]) || r.Streams[0].Bytes != int64(len(shown)) {
		t.Errorf("the report says %+v, shown were %d bytes, %x", r.Streams, len(shown), sum)
	}
	if !strings.Contains(shown, "out 2999\r\nerr 2999\r\n") {
		t.Error("output of both kinds is not there in order")
	}
}

// However a run ends, the terminal is afterwards as it was before.
func TestTTYIsRestored(t *testing.T) {
	ready := []string{"sh", "-c", `trap 'exit 5' TERM; echo rea''dy; while :; do sleep 0.05; done`}
	bySignal := func(s syscall.Signal) func(*desk) { return func(d *desk) { d.signal(s) } }
	for _, tt := range []struct {
		name string
		args []string
		do   func(*desk) // when "ready" is shown and the terminal is raw; nil is not to wait for that
		code int
	}{
		{"success", []string{"--", "true"}, nil, 0},
		{"failure", []string{"--", "sh", "-c", "exit 3"}, nil, 3},
		{"killed by itself", []string{"--", "sh", "-c", "kill -9 $$"}, nil, 137},
		{"left raw by the program", []string{"--", "stty", "raw", "-echo"}, nil, 0},
		{"refusal", []string{"--accept", "shared-session", "--", "true"}, nil, 120},
		{"bad spec", []string{"--temp", "/proc", "--", "true"}, nil, 121},
		{"command not found", []string{"--", "no-such-program"}, nil, 127},
		{"no interpreter", []string{"--", "./lost"}, nil, 126},
		{"the kernel does not execute it", []string{"--", "./broken"}, nil, 126},
		{"interrupt", ready, bySignal(syscall.SIGINT), 130},
		{"termination", ready, bySignal(syscall.SIGTERM), 143},
		{"hangup", ready, bySignal(syscall.SIGHUP), 129},
		{"quit", ready, bySignal(syscall.SIGQUIT), 131},
		{"deadline", append([]string{"--wall", "2s"}, ready...), func(*desk) {}, 124},
		{"too much output", append([]string{"--output", "64"}, "sh", "-c", "echo ready; while :; do echo more; done"), nil, 125},
		{"reader of the output gone", ready, func(d *desk) { d.signal(syscall.SIGPIPE); d.signal(syscall.SIGTERM) }, 143},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t)
			for name, text := range map[string]string{"lost": "#!/no/such/interpreter\n", "broken": "\x7fELF"} {
				d.must(os.Chmod(d.file(name, text), 0o755))
			}
			d.run(tt.args...)
			if tt.do != nil {
				d.see("ready")
				if !d.raw() {
					t.Error("the terminal is not raw while the program runs")
				}
				tt.do(d)
			}
			if code := d.end(); code != tt.code {
				t.Errorf("exit code %d, expected %d; the terminal shows\n%q", code, tt.code, d.all())
			}
		})
	}
}

// SIGTSTP stops bvisor with the terminal given back, SIGCONT goes on, also
// after a SIGSTOP that nobody could see coming.
func TestTTYStoppedAndContinued(t *testing.T) {
	d := newDesk(t)
	d.run("--", "sh", "-c", `echo ready; read line; echo "got $line"; read line; echo "got $line"`)
	d.see("ready")
	stopped := func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.cmd.Process.Pid))
		d.must(err)
		return strings.HasPrefix(string(stat[bytes.LastIndexByte(stat, ')')+2:]), "T")
	}
	d.signal(syscall.SIGTSTP)
	d.until("the stop", stopped)
	d.asBefore()
	d.signal(syscall.SIGCONT)
	d.until("raw mode", d.raw)
	d.kinds("one\r")
	d.see("got one")

	d.signal(syscall.SIGSTOP)
	d.until("the stop", stopped)
	d.must(unix.IoctlSetTermios(int(d.slave.Fd()), unix.TCSETS, &d.before)) // as a shell does
	d.signal(syscall.SIGCONT)
	d.until("raw mode", d.raw)
	d.kinds("two\r")
	d.see("got two")
	if code := d.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A shell's job is what bvisor is, with a terminal as well as without: keys go
// through it, what it is told by the shell holds, and the shell has its
// terminal back afterwards.
func TestTTYUnderAShell(t *testing.T) {
	d := newDesk(t)
	d.cmd = exec.Command(bash(t), "--norc", "--noediting", "-i")
	d.start()
	d.kinds("PS1='ou''ter> '\r")
	d.see("outer> ")
	d.kinds("bvisor run -t -- bash --norc --noediting -i\r")
	d.until("raw mode", d.raw)
	d.kinds("echo in''side $PPID\r")
	d.see("inside 1\r\n") // the parent is init of the boundary
	d.kinds("\x1a")       // stops neither the shell inside nor bvisor
	d.kinds("echo still in''side\r")
	d.see("still inside\r\n")
	d.kinds("exit 9\r")
	d.see("outer> ")
	d.asBefore()
	d.kinds("echo code=$?\r")
	d.see("code=9\r\n")

	// In the background it must wait until the terminal is its own.
	d.kinds("bvisor run -t -- sh -c 'echo be''gun; read x; echo \"got $x\"' & wait; echo wai''ted\r")
	d.see("Stopped")
	d.see("waited")
	d.asBefore()
	d.kinds("fg\r")
	d.see("begun")
	if !d.raw() {
		t.Error("the terminal is not raw while the program runs")
	}
	d.kinds("it\r")
	d.see("got it")
	d.see("outer> ")
	d.asBefore()
	d.kinds("exit 0\r")
	if code := d.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A panic of bvisor's own goes past the deferred restore.
func TestTTYPanic(t *testing.T) {
	d := newDesk(t)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		c := newCallerTerminal(d.slave, func(error) {})
		defer c.close()
		_, err := c.relay().Attach()
		d.must(err)
		if !d.raw() {
			t.Error("the terminal is not raw")
		}
		panic("bug")
	}()
	d.asBefore()
}

// What was typed, or answered by the terminal itself, and not read by the
// program does not reach who reads the terminal next.
func TestTTYTypedAheadIsThrownAway(t *testing.T) {
	d := newDesk(t)
	d.must(syscall.Mkfifo(filepath.Join(d.dir, "gate"), 0o600))
	d.run("--", "sh", "-c", `stty raw -echo; printf 'ready\033[c'; read x <gate; exit 0`)
	d.see("ready\x1b[c")
	waiting := func() int {
		n, err := unix.IoctlGetInt(int(d.slave.Fd()), unix.TIOCINQ)
		d.must(err)
		return n
	}
	// A terminal's answer, again and again, until nothing inside takes any more
	// of it and the rest stays where it is.
	answers, full := bytes.Repeat([]byte("\x1b[?1;2c reboot\r"), 100), 0
	d.until("a full terminal", func() bool {
		n, err := unix.Write(int(d.master.Fd()), answers)
		if err != nil && err != unix.EAGAIN {
			t.Fatal(err)
		}
		if full++; n > 0 || waiting() == 0 {
			full = 0
		}
		return full == 100
	})
	gate, err := os.OpenFile(filepath.Join(d.dir, "gate"), os.O_WRONLY, 0)
	d.must(err)
	gate.Close()
	if code := d.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if n := waiting(); n != 0 {
		t.Errorf("%d bytes wait for the next reader of the terminal", n)
	}
}

// Without --tty there is no terminal: neither as the controlling one nor by a
// name.
func TestTTYOnlyWhenAskedFor(t *testing.T) {
	d := newDesk(t)
	d.start("run", "--report", "report.json", "--", "sh", "-c", `cut -d' ' -f7 /proc/self/stat; ls /dev; tty; : </dev/tty`)
	code := d.end()
	var shown string
	d.until("the end of both streams", func() bool { // each has its own relay
		shown = d.all()
		return strings.Contains(shown, "not a tty") && strings.Contains(shown, "/dev/tty: No such")
	})
	if code == 0 || !strings.Contains("\n"+shown, "\n0\r\n") || strings.Contains(shown, "pts") {
		t.Errorf("exit code %d, so there is a terminal; shown: %q", code, shown)
	}
	if r := d.report(); r.Posture.Terminal != "" {
		t.Errorf("the posture names the terminal %s", r.Posture.Terminal)
	}
}

// Programs that are used on terminals do their work.
func TestTTYPrograms(t *testing.T) {
	t.Run("vim", func(t *testing.T) {
		vim := need.Program(t, "vim")
		d := newDesk(t)
		path := d.file("notes.txt", "first line\n")
		d.run("--write", ".", "--", vim, "-u", "NONE", "notes.txt")
		d.see("first line")
		d.kinds("Gosecond line\x1b:wq\r")
		if code := d.end(); code != 0 {
			t.Errorf("exit code %d; shown: %q", code, d.all())
		}
		if got, err := os.ReadFile(path); string(got) != "first line\nsecond line\n" {
			t.Errorf("the file holds %q, %v", got, err)
		}
	})
	t.Run("less", func(t *testing.T) {
		less := need.Program(t, "less")
		d := newDesk(t)
		var text strings.Builder
		for i := range 500 {
			fmt.Fprintf(&text, "line number %d\n", i)
		}
		d.file("long.txt", text.String())
		d.run("--", less, "long.txt")
		d.see("line number 28")
		d.kinds(" ")
		d.see("line number 55")
		d.kinds("G")
		d.see("line number 499")
		d.kinds("q")
		if code := d.end(); code != 0 {
			t.Errorf("exit code %d; shown: %q", code, d.all())
		}
	})
	t.Run("python", func(t *testing.T) {
		need.File(t, "/usr/bin/python3")
		d := newDesk(t)
		d.run("--", "/usr/bin/python3", "-q")
		d.see(">>> ")
		d.kinds("print(6 * 7, 'is it')\r")
		d.see("42 is it")
		d.kinds("import os; os.get_terminal_size()\r")
		d.see("columns=100, lines=30")
		d.kinds("while True: print('spin'+'ning') if not globals().setdefault('said', 0) else None; said = 1\r\r")
		d.see("spinning")
		d.kinds("\x03")
		d.see("KeyboardInterrupt")
		d.see(">>> ")
		d.kinds("os._exit(4)\r")
		if code := d.end(); code != 4 {
			t.Errorf("exit code %d; shown: %q", code, d.all())
		}
	})
}

// interactive is the recipe of programs that need a terminal: TestTTYRecipe
// does what it says, TestRecipes the others.
const interactive = "interactive"

// Every command of the recipe works as it is written, and so does its spec.
func TestTTYRecipe(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(recipes, interactive+".md"))
	if err != nil {
		t.Fatal(err)
	}
	// What is done with the program that a command starts.
	sessions := map[string]func(d *desk){
		"bash":    func(d *desk) { d.kinds("echo in''side; exit\r"); d.see("inside") },
		"vim":     func(d *desk) { d.see("~"); d.kinds("ihello\x1b:wq\r") },
		"less":    func(d *desk) { d.see("line number 28"); d.kinds("q") },
		"python3": func(d *desk) { d.see(">>> "); d.kinds("print(6 * 7, 'is it'); exit()\r"); d.see("42 is it") },
	}
	tried := map[string]bool{}
	begin := func(t *testing.T, program string) *desk {
		need.Program(t, program)
		d := newDesk(t)
		d.must(os.Mkdir(filepath.Join(d.dir, "notes"), 0o755))
		d.file("big.log", strings.Repeat("line number 28\n", 100))
		return d
	}
	finish := func(d *desk, program string) {
		sessions[program](d)
		if code := d.end(); code != 0 {
			d.Errorf("exit code %d; shown: %q", code, d.all())
		}
	}
	for line := range strings.Lines(string(text)) {
		command, _, _ := strings.Cut(line, " #")
		args := strings.Fields(command)
		if len(args) < 2 || args[0] != "bvisor" || args[1] != "run" {
			continue
		}
		program := args[slices.Index(args, "--")+1]
		t.Run(program, func(t *testing.T) {
			d := begin(t, program)
			d.start(args[1:]...)
			finish(d, program)
			if program == "vim" {
				if got, err := os.ReadFile(filepath.Join(d.dir, "notes/today")); string(got) != "hello\n" {
					t.Errorf("the file holds %q, %v", got, err)
				}
			}
		})
		tried[program] = true
	}
	if len(tried) != len(sessions) {
		t.Errorf("the recipe has commands for %v, expected one for each of %d programs", tried, len(sessions))
	}
	t.Run("spec", func(t *testing.T) {
		_, rest, _ := strings.Cut(string(text), "```yaml\n")
		yaml, _, found := strings.Cut(rest, "```")
		if !found {
			t.Fatal("there is no spec")
		}
		d := begin(t, "bash")
		d.file("job.yaml", yaml)
		d.start("run", "--spec", "job.yaml")
		finish(d, "bash")
	})
}

// Without a terminal there is nothing to relay to, which is said before
// anything is started.
func TestTTYNeedsATerminal(t *testing.T) {
	for _, args := range [][]string{{"-t", "--", "true"}, {"--spec", "job.yaml"}, {"-t", "--stdin", "none", "--", "true"}} {
		dir := t.TempDir()
		spec := "version: 1\nworkload: {command: [/bin/true]}\npresets: [system]\ncontrols: {stdin: tty}\n"
		if err := os.WriteFile(filepath.Join(dir, "job.yaml"), []byte(spec), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(context.Background(), "bvisor", append([]string{"run"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "BVISOR_STATE_DIR="+filepath.Join(dir, "state"))
		out, err := cmd.CombinedOutput()
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || exit.ExitCode() != exitUsage {
			t.Errorf("%q: %v, expected exit code %d", args, err, exitUsage)
		}
		words := []string{"terminal", "bvisor: hint: "}
		if slices.Contains(args, "--stdin") {
			words = []string{"--tty", "--stdin", "bvisor: hint: "}
		}
		for _, w := range words {
			if !strings.Contains(string(out), w) {
				t.Errorf("%q: said %q, expected %q in it", args, out, w)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "state")); err == nil {
			t.Errorf("%q: there is a state directory, so something was begun", args)
		}
	}
}
