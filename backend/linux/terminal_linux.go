//go:build amd64 || arm64

package linux

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/internal/landlock"
	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/internal/tty"
	"github.com/bvisor/bvisor/plan"
)

// ownTerminal is the pseudo-terminal of one workload. Only the slave gets
// inside. It is one of the host's and not of a devpts of the boundary's own, in
// which some process inside would have to open the master; and every instance
// counts from 0, so the kernel's number of the controlling terminal would not
// tell whose it is.
type ownTerminal struct {
	master, slave *os.File
	number        string        // of the slave, as the posture shows it
	over          chan struct{} // closed when the run is
	following     sync.WaitGroup
}

// openTerminal makes the terminal and what captures it, and returns the
// workload's end.
func (r *run) openTerminal(ours *[]*os.File) (*os.File, error) {
	master, slave, err := tty.Open()
	if err != nil {
		return nil, err
	}
	*ours = append(*ours, slave)
	t := &ownTerminal{master: master, slave: slave, over: make(chan struct{})}
	r.own(t)
	r.terminal = t
	var st unix.Stat_t
	if err := unix.Fstat(int(slave.Fd()), &st); err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	t.number = deviceNumber(unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
	c := r.launch.Plan.Resolved.Spec.Controls.Capture[0] // the plan has just this one
	r.streams = append(r.streams, &stream{name: c.Stream, limit: c.Limit, source: master, hash: sha256.New()})
	return slave, nil
}

// Close ends what follows the caller's terminal.
func (t *ownTerminal) Close() error {
	close(t.over)
	t.following.Wait()
	return t.master.Close()
}

// attach joins the workload's terminal with the caller's side of it.
func (r *run) attach() error {
	t, caller := r.terminal, r.launch.Terminal
	if t == nil {
		return nil
	}
	if caller.Attach != nil {
		w, err := caller.Attach()
		if err != nil {
			return fmt.Errorf("the caller's terminal: %w", err)
		}
		if err := t.resize(w); err != nil {
			return err
		}
	}
	if r.launch.Stdin != nil {
		// A number of its own: the relay may outlive the run while it reads.
		fd, err := unix.FcntlInt(t.master.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("terminal: %w", err)
		}
		go relayInput(r.launch.Stdin, os.NewFile(uintptr(fd), "terminal"))
	}
	t.following.Go(func() { t.follow(caller.Resized) })
	return nil
}

func (t *ownTerminal) resize(w backend.Window) error {
	if err := tty.Resize(t.master, w.Rows, w.Columns); err != nil {
		return fmt.Errorf("size of the terminal: %w", err)
	}
	return nil
}

// follow passes sizes on until the run is over. One that cannot be set is
// followed by the next.
func (t *ownTerminal) follow(sizes <-chan backend.Window) {
	for {
		select {
		case <-t.over:
			return
		case w, ok := <-sizes:
			if !ok {
				return
			}
			_ = t.resize(w)
		}
	}
}

// deviceNumber is how a posture names a terminal.
func deviceNumber(major, minor uint32) string {
	return strconv.FormatUint(uint64(major), 10) + ":" + strconv.FormatUint(uint64(minor), 10)
}

// newTerminal makes standard input the controlling terminal of the session
// that was just begun.
func (l *lowering) newTerminal() {
	if l.has(plan.Terminal) {
		l.Call("ioctl", unix.SYS_IOCTL, launcher.Int(0), launcher.Flag(unix.TIOCSCTTY, "TIOCSCTTY"), launcher.Int(0))
	}
}

// ttyDevice is the name that stands for a process's own controlling terminal,
// tty(4).
var ttyDevice = device{"tty", 5, 0}

// ptsDir is where terminals are by name; its eight bytes are compared as one
// number.
const ptsDir = "/dev/pts"

// trialTerminal opens what a launch would, for the probe.
func trialTerminal() (master, slave *os.File, err error) {
	var st unix.Stat_t
	name := "/dev/" + ttyDevice.name
	if err := unix.Stat(name, &st); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	want := deviceNumber(ttyDevice.major, ttyDevice.minor)
	if got := deviceNumber(unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))); st.Mode&unix.S_IFMT != unix.S_IFCHR || got != want {
		return nil, nil, fmt.Errorf("%s is not the device %s", name, want)
	}
	if master, slave, err = tty.Open(); err != nil {
		return nil, nil, err
	}
	link, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(slave.Fd())))
	if err == nil && !strings.HasPrefix(link, ptsDir+"/") {
		err = fmt.Errorf("the terminal is %s, expected it in %s", link, ptsDir)
	}
	if err != nil {
		master.Close()
		slave.Close()
	}
	return master, slave, err
}

// terminalName has room for the name of a terminal.
func terminalName(p *launcher.Program) launcher.Arg { return p.Bytes(make([]byte, 64), "terminal") }

// readTerminalName asks /proc what the host calls the terminal at fd.
func readTerminalName(p *launcher.Program, fd int, name launcher.Arg) launcher.Op {
	const room = 64 - 1
	return p.Call("readlinkat", unix.SYS_READLINKAT, launcher.Flag(unix.AT_FDCWD, "AT_FDCWD"), p.Str("/proc/self/fd/"+strconv.Itoa(fd)), name, launcher.Int(room))
}

// checkTerminalName goes on where that is a name in ptsDir.
func checkTerminalName(p *launcher.Program, name launcher.Arg) launcher.Op {
	return p.Check(name, ^uint64(0), binary.LittleEndian.Uint64([]byte(ptsDir)), strconv.Quote(ptsDir))
}

// tryTerminalName does so in a mount namespace, as a launch does. For a
// supervisor in a chroot the name begins outside of it there.
func tryTerminalName(p *launcher.Program, try func(fact, text string, o launcher.Op) launcher.Op, fd int) {
	name := terminalName(p)
	readTerminalName(p, fd, name).Ignore()
	try("terminal.name", "readlinkat(/proc/self/fd/N) in a mount namespace, for a name in "+ptsDir, checkTerminalName(p, name))
}

// terminalFacts are what a terminal takes. Its name is asked for only where
// there is a /dev of the boundary's own to show it in.
func (h *host) terminalFacts() []string {
	facts := []string{"launcher", "terminal.pty", "terminal.controlling"}
	if h.has("namespace.mnt") {
		facts = append(facts, "terminal.name")
	}
	return facts
}

// nameTerminal asks what the host calls the terminal, while its /proc is there
// to be asked. The number differs from run to run, so it cannot stand in the
// program.
func (l *lowering) nameTerminal() {
	if !l.has(plan.Terminal) || !l.has(plan.MinimalDev) {
		return
	}
	l.tty = terminalName(l.Program)
	readTerminalName(l.Program, 0, l.tty)
	checkTerminalName(l.Program, l.tty)
}

// terminalDevices shows /dev/tty and the terminal by its name on the host, and
// no other. ttyname(3) finds it there: that is where the link of standard input
// in /proc leads.
func (l *lowering) terminalDevices(abi int) {
	if !l.has(plan.Terminal) {
		return
	}
	rights := (landlock.ReadFile | landlock.WriteFile | landlock.IoctlDev) & landlock.Handled(abi)
	l.bindDevice(ttyDevice, rights)
	l.mkdirat("dev/pts", 0o755)
	at, dest := launcher.Flag(unix.AT_FDCWD, "AT_FDCWD"), launcher.At(l.tty, 1, "terminal inside") // without the slash
	l.Call("mknodat", unix.SYS_MKNODAT, at, dest, launcher.Flag(unix.S_IFREG, "S_IFREG"), launcher.Int(0))
	l.openTreeAt(l.tty, false)
	mine, empty := l.Bytes(make([]byte, 256), "&terminal.stat"), launcher.Flag(unix.AT_EMPTY_PATH, "AT_EMPTY_PATH")
	mask := launcher.Flag(unix.STATX_INO|unix.STATX_TYPE, "STATX_INO|STATX_TYPE")
	l.Call("statx", unix.SYS_STATX, launcher.Int(0), l.Str(""), empty, mask, mine)
	l.Call("statx", unix.SYS_STATX, l.tree, l.Str(""), empty, mask, l.statx)
	l.Same(launcher.At(l.statx, 0x20, "stat.ino"), launcher.At(mine, 0x20, "terminal.ino"))
	l.Same(launcher.At(l.statx, 0x80, "stat.rdev"), launcher.At(mine, 0x80, "terminal.rdev"))
	l.Same(launcher.At(l.statx, 0x88, "stat.dev"), launcher.At(mine, 0x88, "terminal.dev"))
	l.setAttributes(false, deviceMount, deviceMountText)
	l.rule(l.tree, rights)
	l.attachAt(dest)
}
