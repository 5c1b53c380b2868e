//go:build amd64 || arm64

package launcher

import (
	"encoding/binary"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/need"
)

// Random programs use these many variables and descriptors.
const (
	variables = 4
	firstFD   = 300
	fds       = 4
)

// step is one operation of a random program, as it was drawn.
type step struct {
	act            uint8 // see acts
	from, to       int   // variables; to is -1 for nowhere
	fd             int   // the number itself, or, with loaded, what stands in from
	loaded         bool
	mask, want     uint64
	ignore         bool
	onError, jump  bool
	cond           bool
	expect         uint64
	expectVariable int // -1 is none
	target         int // operations to skip
}

const (
	actPID = iota
	actClock
	actDup
	actClose
	actPrctl
	actCheck
	actCopy
	acts
)

var actNames = [acts]string{"getpid", "clock_gettime", "dup3", "close", "prctl", "", ""}

// draw turns bytes into steps: eight bytes each.
func draw(data []byte) []step {
	var steps []step
	for len(data) >= 8 && len(steps) < 24 {
		b := data[:8]
		data = data[8:]
		s := step{act: b[0] % acts, from: int(b[1]) % variables, to: int(b[1]>>4)%(variables+1) - 1, fd: firstFD + int(b[2])%fds, loaded: b[2]&0x80 != 0,
			mask: ^uint64(0) >> (b[3] % 64), want: uint64(b[4] % 3), ignore: b[5]&1 != 0, onError: b[5]&2 != 0, jump: b[5]&4 != 0, cond: b[5]&8 != 0,
			expect: uint64(firstFD + int(b[6])%fds), expectVariable: -1, target: int(b[7]) % 4}
		if b[6]&0x80 != 0 {
			s.expect = 0
		}
		if b[6]&0x40 != 0 {
			s.expectVariable = int(b[6]) % variables
		}
		if b[4]&0x80 != 0 {
			s.want = uint64(firstFD + int(b[4])%fds)
		}
		steps = append(steps, s)
	}
	return steps
}

// compile makes the program of steps.
func compile(steps []step) (p *Program, vars []Arg, clock Arg) {
	p = assemble(func(p *Program) {
		for i := range variables {
			vars = append(vars, p.Var("v"+strconv.Itoa(i)))
		}
		clock = p.Bytes(make([]byte, 16), "&clock")
		labels := make([]Label, len(steps)+1)
		for i := range labels {
			labels[i] = p.NewLabel()
		}
		for i, s := range steps {
			p.Mark(labels[i])
			fd := Int(s.fd)
			if s.loaded {
				fd = vars[s.from]
			}
			var o Op
			switch s.act {
			case actPID:
				o = p.Call("getpid", unix.SYS_GETPID)
			case actClock:
				o = p.Call("clock_gettime", unix.SYS_CLOCK_GETTIME, Int(unix.CLOCK_MONOTONIC), clock)
			case actDup:
				o = p.Call("dup3", unix.SYS_DUP3, Int(0), fd, Int(0))
			case actClose:
				o = p.Call("close", unix.SYS_CLOSE, fd)
			case actPrctl:
				o = p.Call("prctl", unix.SYS_PRCTL, Flag(unix.PR_GET_KEEPCAPS, "PR_GET_KEEPCAPS"))
			case actCheck:
				o = p.Check(Addr(vars[s.from]), s.mask, s.want, "")
			case actCopy:
				o = p.Copy(vars[s.from])
			}
			if s.to >= 0 {
				o.To(Addr(vars[s.to]))
			}
			target := labels[min(i+1+s.target, len(steps))]
			if s.ignore {
				o.Ignore()
			}
			if s.onError {
				o.OnError(target)
			}
			if s.jump {
				o.Jump(target)
			}
			if s.cond {
				expect := Int(int(s.expect))
				if s.expectVariable >= 0 {
					expect = vars[s.expectVariable]
				}
				o.If(expect, target)
			}
		}
		p.Mark(labels[len(steps)])
	})
	return p, vars, clock
}

// model is what steps leave behind when a process of that number walks them.
type model struct {
	vars   [variables]uint64
	failed int // -1 is none
	errno  uint64
	calls  []string
}

func predict(steps []step, pid int) model {
	m := model{failed: -1}
	open := map[uint64]bool{}
	for fd := range uint64(dumpFD + 1) {
		open[fd] = true
	}
	for i := 0; i < len(steps); {
		s := steps[i]
		fd := uint64(s.fd)
		if s.loaded {
			fd = m.vars[s.from]
		}
		fd &= 1<<32 - 1 // an unsigned int to the kernel
		var r uint64
		switch s.act {
		case actPID:
			r = uint64(pid)
		case actDup:
			switch {
			case fd == 0:
				r = errnoResult(unix.EINVAL)
			case fd > 1<<16: // above any limit on open files here
				r = errnoResult(unix.EBADF)
			default:
				open[fd] = true
				r = fd
			}
		case actClose:
			if !open[fd] {
				r = errnoResult(unix.EBADF)
			}
			delete(open, fd)
		case actCheck:
			if m.vars[s.from]&s.mask != s.want {
				r = errnoResult(unix.ESTALE)
			}
		case actCopy:
			r = m.vars[s.from]
		}
		if name := actNames[s.act]; name != "" {
			m.calls = append(m.calls, name)
		}
		if s.to >= 0 {
			m.vars[s.to] = r
		}
		target := i + 1 + s.target
		next := i + 1
		expect := s.expect
		if s.expectVariable >= 0 {
			expect = m.vars[s.expectVariable]
		}
		switch isError := int64(r) < 0 && int64(r) >= -4095; {
		case isError && s.onError:
			next = target
		case isError && !s.ignore:
			m.failed, m.errno = i, r
			return m
		case !isError && (s.jump || s.cond && r == expect):
			next = target
		}
		i = next
	}
	return m
}

func errnoResult(e unix.Errno) uint64 { return uint64(-int64(e)) }

// harmless says that the steps do nothing to the descriptors that the test
// itself needs: only a variable can hold such a number.
func harmless(steps []step) bool {
	for _, s := range steps {
		if s.loaded && (s.act == actDup || s.act == actClose) {
			return false
		}
	}
	return true
}

// Machine, twin and model agree over what a random program leaves behind. The
// model knows only what is printed of the program, and how the steps were drawn
// makes no other one: the machine does what a reader is told.
func FuzzProgram(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{actPID, 0x10, 0, 0, 0, 0, 0, 0, actCopy, 0x20, 0, 0, 0, 0, 0, 0, actCheck, 1, 0, 0, 0, 2, 0, 3})
	f.Add([]byte{actDup, 0x10, 1, 0, 0, 8, 1, 2, actClose, 0x10, 1, 0, 0, 0, 0, 0, actClose, 0x20, 1, 0, 0, 0, 0, 0})
	f.Add([]byte{actDup, 0x10, 1, 0, 0, 0, 0, 0, actDup, 0x20, 1, 0, 0, 8, 0x40, 1, actPID, 0x30, 0, 0, 0, 4, 0, 1, actClock, 0, 0, 0, 0, 1, 0, 0, actPrctl, 0, 0, 0, 0, 8, 0x80, 0})
	f.Add([]byte{actClose, 0x10, 1, 0, 0, 1, 0, 0, actCopy, 0x20, 0, 0, 0, 1, 0, 0, actCopy, 0x30, 0, 0, 0, 2, 0, 0, actCopy, 0x20, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		steps := draw(data)
		if !harmless(steps) {
			t.Skip("would close the test's own descriptors")
		}
		p, vars, clock := compile(steps)
		printed := readPrinted(t, p, len(steps))
		for name, r := range map[string]result{"machine": runMachine(t, p), "twin": runTwin(t, p)} {
			m := predict(printed, r.pid)
			if drawn := predict(steps, r.pid); !reflect.DeepEqual(m, drawn) {
				t.Errorf("printed is what ends with %+v, drawn what ends with %+v", m, drawn)
			}
			if want := map[bool]int{true: 0, false: 7}[m.failed < 0]; r.code != want {
				t.Errorf("%s: exit status %d, the model says %d", name, r.code, want)
			}
			for i, v := range vars {
				if got := uint64(r.value(p, Addr(v))); got != m.vars[i] {
					t.Errorf("%s: v%d is %#x, the model says %#x", name, i, got, m.vars[i])
				}
			}
			at := uint64(r.value(p, Record(offFailedOp, "")))
			if i, ok := p.opAt(at); m.failed >= 0 && (!ok || i != m.failed || uint64(r.value(p, Record(offFailedErr, ""))) != m.errno) || m.failed < 0 && at != 0 {
				t.Errorf("%s: step %d failed (%v), the model says %d", name, i, ok, m.failed)
			}
			// Everything else is as it was made.
			want, _ := p.encode()
			for _, v := range vars {
				copy(want[offset(p, Addr(v)):], r.memory[0][offset(p, Addr(v)):][:8])
			}
			copy(want[:16], r.memory[0])
			copy(want[offset(p, clock):], r.memory[0][offset(p, clock):][:16])
			if !slices.Equal(want, r.memory[0]) {
				t.Errorf("%s: it wrote where no operation stores", name)
			}
		}
		if t.Failed() {
			var b strings.Builder
			_ = p.Print(&b)
			t.Log(b.String())
		}
	})
}

// Nothing but what is printed reaches the kernel.
func TestOnlyPrintedCallsHappen(t *testing.T) {
	if os.Getenv(emulatorEnv) != "" {
		t.Skip("needs no emulator: strace would see the calls of that")
	}
	strace := need.Program(t, "strace")
	data := []byte("a seed for programs that do one thing after another, at random.")
	for range 5 {
		steps := draw(data)
		for i := range steps {
			steps[i].loaded = false
		}
		p, _, _ := compile(steps)
		log := t.TempDir() + "/log"
		cmd := exec.Command(strace, "-qq", "-f", "-o", log, writeImage(t, p))
		_ = cmd.Run() // ends with 7 where a step fails
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(string(text)) {
			if _, call, ok := strings.Cut(line, " "); ok {
				call, _, _ = strings.Cut(strings.TrimSpace(call), "(")
				got = append(got, call)
			}
		}
		want := append(append([]string{"execve"}, predict(steps, 1).calls...), "write", "exit_group")
		if !slices.Equal(got, want) {
			t.Errorf("the kernel saw\n %q, the program is\n %q", got, want)
		}
		for i := range data { // another one
			data[i] = data[i]*5 + byte(binary.LittleEndian.Uint16(data)) + 1
		}
	}
}
