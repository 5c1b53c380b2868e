package selftest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/sys"
	"github.com/bvisor/bvisor/internal/victim"
)

// Victim carries out one act and returns the exit status. Acts that package
// victim does not have are added here.
func Victim(args []string) int {
	victim.Register(acts())
	return victim.Main(args)
}

func acts() map[string]victim.Act {
	return map[string]victim.Act{
		"may-read":  victim.One(func(p string) error { return open(p, unix.O_RDONLY) }),
		"may-write": victim.One(func(p string) error { return open(p, unix.O_WRONLY) }),
		"write-to":  victim.One(writeTo),
		"variables": variables,
		"bystander": bystander,
		"see":       victim.One(see),
		"signal": victim.One(func(pid string) error {
			return withNumber(pid, func(n int) error { return unix.Kill(n, unix.SIGKILL) })
		}),
		"trace":        victim.One(trace),
		"read-mem":     victim.Two(readMem),
		"vm-read":      victim.Two(vmRead),
		"shm":          victim.One(sharedMemory),
		"tcp":          victim.One(connectTCP),
		"udp":          victim.One(sendUDP),
		"unix":         victim.One(connectUnix),
		"socket":       socket,
		"type":         victim.One(typeIn),
		"sethostname":  victim.One(func(name string) error { return unix.Sethostname([]byte(name)) }),
		"other-user":   victim.One(otherUser),
		"userns":       victim.One(userNamespace),
		"io-uring":     func([]string) error { _, err := sys.IOUringSetup(); return err },
		"bpf":          func([]string) error { _, err := sys.BPFArray(); return err },
		"userfaultfd":  func([]string) error { _, err := sys.Userfaultfd(); return err },
		"key":          victim.One(key),
		"stay":         victim.One(stay),
		"leave-behind": victim.One(leaveBehind),
		"flood":        flood,
		"dup":          victim.One(duplicate),
		"take-memory":  victim.One(takeMemory),
		"compute":      victim.One(compute),

		"write-every-way": victim.One(writeEveryWay),
	}
}

func open(name string, flags int) error {
	fd, err := unix.Open(name, flags|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func withNumber(text string, f func(n int) error) error {
	n, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	return f(n)
}

// writeTo writes to a descriptor that it was started with.
func writeTo(fd string) error {
	return withNumber(fd, func(n int) error {
		_, err := unix.Write(n, []byte(victim.Mark))
		return err
	})
}

// variables prints the names of the environment's variables.
func variables([]string) error {
	data, err := os.ReadFile("/proc/self/environ")
	if err != nil {
		return err
	}
	for _, entry := range strings.Split(string(data), "\x00") {
		if name, _, ok := strings.Cut(entry, "="); ok {
			fmt.Fprintln(os.Stdout, name)
		}
	}
	return nil
}

// bystander is another process of the same user. It has a text in its memory,
// says where, lets everybody trace it, and answers each line it reads until
// there are no more.
func bystander(args []string) error {
	if len(args) != 3 {
		return victim.ErrUsage
	}
	if err := unix.Prctl(unix.PR_SET_PTRACER, ^uintptr(0), 0, 0, 0); err != nil && err != unix.EINVAL { // Yama
		return err
	}
	text := bytes.ToUpper([]byte(args[2]))
	fmt.Fprintf(os.Stdout, "%p\n", &text[0])
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if _, err := os.Stdout.WriteString("here\n"); err != nil {
			return err
		}
	}
	runtime.KeepAlive(text)
	return lines.Err()
}

// see prints the command lines with a token of all processes but itself.
func see(token string) error {
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return err
	}
	dir, err := os.Open("/proc")
	if err != nil {
		return err
	}
	defer dir.Close()
	pids, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	found := error(victim.ErrNothing)
	for _, pid := range pids {
		line, err := os.ReadFile("/proc/" + pid + "/cmdline")
		if err != nil || pid == self || pid == "self" || pid == "thread-self" || !strings.Contains(string(line), token) {
			continue
		}
		found = nil
		fmt.Fprintf(os.Stdout, "%q\n", line)
	}
	return found
}

// trace becomes the tracer of a process, and stops being it by ending.
func trace(pid string) error {
	runtime.LockOSThread()
	return withNumber(pid, unix.PtraceSeize)
}

const peek = 24 // bytes read of another process, a token

func readMem(pid, address string) error {
	at, err := strconv.ParseInt(address, 0, 64)
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/" + pid + "/mem")
	if err != nil {
		return err
	}
	defer f.Close()
	text := make([]byte, peek)
	if _, err := f.ReadAt(text, at); err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}

func vmRead(pid, address string) error {
	at, err := strconv.ParseUint(address, 0, 64)
	if err != nil {
		return err
	}
	text := make([]byte, peek)
	local := []unix.Iovec{{Base: &text[0]}}
	local[0].SetLen(len(text))
	return withNumber(pid, func(n int) error {
		if _, err := unix.ProcessVMReadv(n, local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(text)}}, 0); err != nil {
			return err
		}
		_, err := os.Stdout.Write(text)
		return err
	})
}

func sharedMemory(id string) error {
	return withNumber(id, func(n int) error {
		data, err := unix.SysvShmAttach(n, 0, unix.SHM_RDONLY)
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write(bytes.TrimRight(data, "\x00"))
		return err
	})
}

func connectTCP(port string) error {
	return toLoopback(port, unix.SOCK_STREAM, unix.Connect)
}

func sendUDP(port string) error {
	return toLoopback(port, unix.SOCK_DGRAM, func(fd int, to unix.Sockaddr) error { return unix.Sendto(fd, []byte(victim.Mark), 0, to) })
}

func toLoopback(port string, kind int, do func(fd int, to unix.Sockaddr) error) error {
	return withNumber(port, func(n int) error {
		fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return do(fd, &unix.SockaddrInet4{Port: n, Addr: [4]byte{127, 0, 0, 1}})
	})
}

// connectUnix connects to a socket of the file system, or to an abstract one if
// its name starts with "@".
func connectUnix(name string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Connect(fd, &unix.SockaddrUnix{Name: name})
}

// socket opens a socket of a family, type and protocol.
func socket(args []string) error {
	if len(args) != 3 {
		return victim.ErrUsage
	}
	var n [3]int
	for i, a := range args {
		var err error
		if n[i], err = strconv.Atoi(a); err != nil {
			return err
		}
	}
	_, err := unix.Socket(n[0], n[1]|unix.SOCK_CLOEXEC, n[2])
	return err
}

// typeIn puts text into the input of the terminal at standard input, as if
// somebody had typed it.
func typeIn(text string) error {
	for _, b := range []byte(text) {
		if err := unix.IoctlSetPointerInt(0, unix.TIOCSTI, int(b)); err != nil { // it takes the first byte
			return err
		}
	}
	return nil
}

// otherUser succeeds when it runs as somebody else than the given user.
func otherUser(uid string) error {
	return withNumber(uid, func(n int) error {
		if os.Geteuid() == n {
			return victim.ErrNothing
		}
		return nil
	})
}

// userNamespace has a child started in a user namespace of its own.
func userNamespace(word string) error {
	p, err := anew("say", word, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER})
	if err != nil {
		return err
	}
	_, err = p.Wait()
	return err
}

// anew starts the victim's own program once more.
func anew(act, arg string, sys *syscall.SysProcAttr) (*os.Process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return os.StartProcess(exe, []string{exe, victim.Word, act, arg}, &os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr}, Sys: sys})
}

// key puts a key where the next program of this user could find it. It goes
// into the keyring of this process, which ends with it.
func key(name string) error {
	_, err := unix.AddKey("user", name, []byte("x"), unix.KEY_SPEC_PROCESS_KEYRING)
	return err
}

// stay does not go when it is asked to. Should nobody end it, it ends by
// itself.
func stay(string) error {
	signal.Ignore(unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGPIPE)
	time.Sleep(5 * time.Minute)
	return errors.New("nobody ended it")
}

// leaveBehind starts a process in a session of its own and goes, once that one
// can be told by its arguments. execve(2) closes descriptors first, which is when
// it counts as started; until it has a stack of its own, its arguments are those
// of its parent, whose memory it shares (CLONE_VM in clone(2)), and then none.
func leaveBehind(token string) error {
	const act = "stay"
	p, err := anew(act, token, &syscall.SysProcAttr{Setsid: true})
	// With the host's /proc, where numbers are others', there is nobody to be seen.
	self, e := os.Readlink("/proc/self")
	for err == nil && e == nil && self == strconv.Itoa(os.Getpid()) {
		var line []byte
		if line, err = os.ReadFile("/proc/" + strconv.Itoa(p.Pid) + "/cmdline"); bytes.Contains(line, []byte("\x00"+act+"\x00")) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

// flood writes without end, or nearly.
func flood([]string) error {
	block := bytes.Repeat([]byte("flood "), 10_000)
	for range 20_000 {
		if _, err := os.Stdout.Write(block); err != nil {
			return err
		}
	}
	return nil
}

// duplicate opens so many descriptors.
func duplicate(times string) error {
	return withNumber(times, func(n int) error {
		for range n {
			if _, err := unix.Dup(2); err != nil {
				return err
			}
		}
		return nil
	})
}
