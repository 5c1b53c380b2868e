package selftest

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/plan"
)

func kernel() []Attack {
	filter := []plan.Kind{plan.CallFilter}
	withPrivilege := []plan.Kind{plan.CallFilter, plan.NoCapabilities}
	plain := func(act ...string) func(*scene) (try, error) {
		return func(*scene) (try, error) { return try{act: act}, nil }
	}
	return []Attack{
		{"mount", "mount a file system", withPrivilege, func(*scene) (try, error) { return try{act: []string{"mount-tmpfs", "/"}, apart: true}, nil }},
		{"make-a-user-namespace", "gain Linux capabilities in a user namespace of its own", filter, plain("userns", "x")},
		{"rename-the-host", "change the host's name", []plan.Kind{plan.UTSNamespace, plan.NoCapabilities, plan.CallFilter}, rename},
		{"gain-another-user", "become another user by a set-user-ID program", []plan.Kind{plan.NoNewPrivileges}, setUserID},
		{"use-io-uring", "make system calls past the filter by io_uring", filter, plain("io-uring")},
		{"load-a-bpf-map", "put a map into the kernel by bpf", withPrivilege, plain("bpf")},
		{"use-userfaultfd", "hold the kernel up in page faults by userfaultfd", filter, plain("userfaultfd")},
		{"keep-a-key", "leave a text in a keyring of the kernel", filter, plain("key", "bvisor-selftest")},
		{"call-as-i386", "make a system call by the kernel's 32-bit entry", filter, i386},
		{"type-into-the-terminal", "type a command into the terminal that bvisor reads from", []plan.Kind{plan.StdinControl, plan.NewSession, plan.CallFilter}, typing},
	}
}

func rename(s *scene) (try, error) {
	before, err := os.Hostname()
	t := try{act: []string{"sethostname", "bvisor-selftest"}, apart: true, witness: "the host's name"}
	if !s.outside { // the control has another host to rename
		t.through = func(ending) bool {
			now, err := os.Hostname()
			return err != nil || now != before
		}
	}
	return t, err
}

// setUserID has a program that belongs to somebody else and runs as its owner.
func setUserID(s *scene) (try, error) {
	const somebody = 65534
	if os.Geteuid() != 0 {
		return try{}, &notHere{"only root can make a program of another user"}
	}
	path := s.path(filepath.Base(s.Exe))
	if err := copyProgram(s.Exe, path); err != nil {
		return try{}, err
	}
	if err := os.Chown(path, somebody, somebody); err != nil {
		return try{}, err
	}
	if err := os.Chmod(path, 0o755|os.ModeSetuid); err != nil {
		return try{}, err
	}
	return try{act: []string{"exec", path, victim.Word, "other-user", strconv.Itoa(os.Geteuid())}, change: grant("rx", path)}, nil
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if e := out.Close(); err == nil {
		err = e
	}
	return err
}

// i386 is a program that asks for its process number in the manner of another
// architecture, and then exits in the manner of its own.
func i386(s *scene) (try, error) {
	if runtime.GOARCH != "amd64" {
		return try{}, &notHere{"only amd64 has a second set of calls"}
	}
	path, err := s.plant("i386", string(program([]byte{
		0xb8, 20, 0, 0, 0, // mov eax, 20: getpid
		0xcd, 0x80, // int 0x80
		0x31, 0xff, // xor edi, edi
		0xb8, 231, 0, 0, 0, // mov eax, 231: exit_group of amd64
		0x0f, 0x05, // syscall
	})), 0o755)
	return try{program: path, change: grant("rx", path)}, err
}

// program is the smallest one around some code of amd64, elf(5).
func program(code []byte) []byte {
	const base, head = 0x400000, 64 + 56
	le := binary.LittleEndian
	b := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	b = le.AppendUint16(b, 2)  // executable
	b = le.AppendUint16(b, 62) // x86-64
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+head) // where it starts
	b = le.AppendUint64(b, 64)        // where the program header is
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, n := range []uint16{64, 56, 1, 0, 0, 0} {
		b = le.AppendUint16(b, n)
	}
	b = le.AppendUint32(b, 1) // load
	b = le.AppendUint32(b, 5) // to read and execute
	size := uint64(head + len(code))
	for _, n := range []uint64{0, base, base, size, size, 0x1000} {
		b = le.AppendUint64(b, n)
	}
	return append(b, code...)
}

// typing has a terminal as standard input. The terminal shows whoever sits at
// it what was typed into it.
func typing(s *scene) (try, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return try{}, &notHere{"no terminal can be made here: " + err.Error()}
	}
	s.later(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return try{}, err
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		return try{}, err
	}
	name := fmt.Sprintf("/dev/pts/%d", n)
	tty, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return try{}, &notHere{"no terminal can be opened here: " + err.Error()}
	}
	s.later(func() { tty.Close() })
	const typed = "typed"
	return try{act: []string{"type", typed}, stdin: tty, witness: "the terminal", through: func(ending) bool {
		return strings.Contains(shown(master, name), typed)
	}}, nil
}

// shown is what a terminal shows until a word of our own. It is opened once
// more for that: the end of a session hangs up on everybody who had it open.
func shown(master io.Reader, name string) string {
	tty, err := os.OpenFile(name, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return ""
	}
	defer tty.Close()
	if _, err := tty.WriteString(ours); err != nil {
		return ""
	}
	text, buf := "", make([]byte, 256)
	for !strings.Contains(text, ours) {
		n, err := master.Read(buf)
		if err != nil {
			break
		}
		text += string(buf[:n])
	}
	return text
}
