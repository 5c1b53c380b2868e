package selftest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/plan"
)

func processes() []Attack {
	return []Attack{
		{"see-processes", "find a process of the host and read its arguments", []plan.Kind{plan.PrivateProc}, func(s *scene) (try, error) {
			b, err := s.bystander()
			return try{act: []string{"see", b.known}, witness: theToken, through: func(e ending) bool { return strings.Contains(e.stdout, b.secret) }}, err
		}},
		{"signal-a-process", "kill a process of the host that has the same user", []plan.Kind{plan.PIDNamespace, plan.LandlockScopes}, func(s *scene) (try, error) {
			b, err := s.bystander()
			return try{act: []string{"signal", b.pid}, witness: "the process", through: func(ending) bool { return !b.answers() }}, err
		}},
		{"trace-a-process", "become the tracer of a process of the host", []plan.Kind{plan.CallFilter, plan.PIDNamespace, plan.LandlockDomain}, func(s *scene) (try, error) {
			b, err := s.bystander()
			return try{act: []string{"trace", b.pid}}, err
		}},
		{"read-memory", "read the memory of a process of the host with process_vm_readv", []plan.Kind{plan.CallFilter, plan.PIDNamespace, plan.LandlockDomain}, func(s *scene) (try, error) {
			b, err := s.bystander()
			return b.read("vm-read"), err
		}},
		{"read-memory-by-proc", "read the memory of a process of the host below /proc", []plan.Kind{plan.PrivateProc, plan.UserNamespace, plan.LandlockDomain}, func(s *scene) (try, error) {
			b, err := s.bystander()
			return b.read("read-mem"), err
		}},
		{"attach-shared-memory", "attach System V shared memory of the host", []plan.Kind{plan.IPCNamespace}, func(s *scene) (try, error) {
			text := token()
			id, err := s.share(text)
			return try{act: []string{"shm", id}, witness: theToken, through: func(e ending) bool { return e.stdout == text }}, err
		}},
		{"read-the-environment", "find variables of bvisor's environment that were not given", []plan.Kind{plan.Environment}, func(s *scene) (try, error) {
			given := map[string]bool{}
			for _, e := range s.Spec.Capabilities.Environment {
				given[e.Name] = true
			}
			others := func(e ending) bool {
				return slices.ContainsFunc(strings.Fields(e.stdout), func(name string) bool { return !given[name] })
			}
			return try{act: []string{"variables"}, witness: "the names that the spec gives", through: others}, nil
		}},
		{"use-a-leaked-descriptor", "write to a file of the host through a descriptor that leaked into bvisor", []plan.Kind{plan.FDsNone, plan.FDsOnly}, func(s *scene) (try, error) {
			path, err := s.plant(canary, canary, 0o644)
			if err != nil {
				return try{}, err
			}
			fd, err := s.leaked(path)
			return try{act: []string{"write-to", fd}, witness: theFile, through: func(ending) bool { return differs(path, canary) }}, err
		}},
	}
}

// person is a bystander: a process outside with the user's own id.
type person struct {
	pid     string
	known   string // in its arguments
	secret  string // in its arguments, too; the victim is not told
	memory  string // what it has in memory at an address
	address string
	in      io.Writer
	out     *bufio.Reader
}

// bystander starts one. Its number must be none that a process or a thread in
// the boundary has, or the victim would attack itself: those are small.
func (s *scene) bystander() (person, error) {
	const small = 64
	for range 2 * small {
		b, err := s.person()
		if pid, _ := strconv.Atoi(b.pid); err != nil || pid > small {
			return b, err
		}
	}
	return person{}, &notHere{"the numbers of processes are as small here as those in a boundary"}
}

func (s *scene) person() (person, error) {
	inRead, inWrite, err := os.Pipe()
	if err != nil {
		return person{}, err
	}
	defer inRead.Close()
	s.later(func() { inWrite.Close() })
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return person{}, err
	}
	defer outWrite.Close()
	s.later(func() { outRead.Close() })
	b := person{known: token(), secret: token(), in: inWrite, out: bufio.NewReader(outRead)}
	word := token()
	b.memory = strings.ToUpper(word)
	p, err := os.StartProcess(s.Exe, []string{s.Exe, victim.Word, "bystander", b.known, b.secret, word},
		&os.ProcAttr{Env: []string{}, Files: []*os.File{inRead, outWrite, nil}})
	if err != nil {
		return person{}, err
	}
	s.later(func() {
		p.Kill()
		p.Wait()
	})
	b.pid = strconv.Itoa(p.Pid)
	line, err := b.out.ReadString('\n')
	if err != nil {
		return person{}, fmt.Errorf("the bystander does not speak: %w", err)
	}
	b.address = strings.TrimSpace(line)
	return b, nil
}

// answers says whether it is alive. A process that was sent SIGKILL runs no
// further instruction, whatever it is sent afterwards.
func (b person) answers() bool {
	if _, err := io.WriteString(b.in, "there?\n"); err != nil {
		return false
	}
	line, err := b.out.ReadString('\n')
	return err == nil && line == "here\n"
}

// read is an act that prints what is in its memory.
func (b person) read(act string) try {
	return try{act: []string{act, b.pid, b.address}, witness: theToken, through: func(e ending) bool { return e.stdout == b.memory }}
}

// share makes shared memory that holds a text, and returns its number.
func (s *scene) share(text string) (string, error) {
	const private = 0 // IPC_PRIVATE
	id, err := unix.SysvShmGet(private, 4096, unix.IPC_CREAT|0o600)
	if err != nil {
		return "", &notHere{"no System V shared memory here: " + err.Error()}
	}
	s.later(func() { unix.SysvShmCtl(id, unix.IPC_RMID, nil) })
	data, err := unix.SysvShmAttach(id, 0, 0)
	if err != nil {
		return "", err
	}
	copy(data, text)
	return strconv.Itoa(id), unix.SysvShmDetach(data)
}

// withToken are the processes of the host that have a text in their arguments.
func withToken(token string) []int {
	dir, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var list []int
	for _, e := range dir {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if line, err := os.ReadFile("/proc/" + e.Name() + "/cmdline"); err == nil && strings.Contains(string(line), token) {
			list = append(list, pid)
		}
	}
	return list
}

// end kills what has a text in its arguments.
func end(token string) {
	for _, pid := range withToken(token) {
		if p, err := os.FindProcess(pid); err == nil {
			p.Signal(syscall.SIGKILL)
		}
	}
}
