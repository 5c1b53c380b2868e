//go:build amd64 || arm64

package launcher

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	twinEnv     = "LAUNCHER_TEST_TWIN"     // set: this process is the slow twin
	emulatorEnv = "LAUNCHER_TEST_EMULATOR" // the program that runs images of this architecture on this machine
)

func TestMain(m *testing.M) {
	if os.Getenv(twinEnv) != "" {
		twin()
	}
	os.Exit(m.Run())
}

// Descriptors that a program under test starts with: 0 to 3 are /dev/null and
// this one is where its memory goes.
const dumpFD = 4

// assemble wraps a body: what it leaves in memory is written out at the end,
// with exit status 0 behind the body's last call and 7 where a step failed.
func assemble(body func(p *Program)) *Program {
	p := &Program{}
	failed := p.NewLabel()
	p.OnFailure(failed)
	p.Begin(RoleLauncher, "test")
	body(p)
	finish(p, 0)
	p.Mark(failed)
	finish(p, 7)
	boot, _ := p.encode()
	for _, o := range p.ops {
		if o.name == "dump" {
			p.args[o.args+2].value = uint64(len(boot))
		}
	}
	return p
}

func finish(p *Program, code int) {
	p.Call("dump", unix.SYS_WRITE, Int(dumpFD), Record(0, "memory"), Int(0)).Ignore()
	p.Call("exit_group", unix.SYS_EXIT_GROUP, Int(code))
}

// result is what a run left: its exit status and its memory, once for each
// process that came to an end of the program.
type result struct {
	pid, code int
	memory    [][]byte
}

// value reads what a variable or an address holds at the end.
func (r result) value(p *Program, a Arg) int64 {
	return int64(binary.LittleEndian.Uint64(r.memory[len(r.memory)-1][offset(p, a):]))
}

// offset finds a place of the program in its memory.
func offset(p *Program, a Arg) int {
	if a.kind == argRecord {
		return int(a.value)
	}
	at := recordSize + len(p.ops)*opSize
	for _, c := range p.chunks[:a.chunk] {
		n := len(c.data)
		if c.pointer != nil {
			n = len(c.pointer) * 8
		}
		at += (n + 7) &^ 7
	}
	return at + int(a.value)
}

// runMachine executes a program's image.
func runMachine(t testing.TB, p *Program) result {
	t.Helper()
	return runImage(t, p, nil)
}

// runImage does so with a descriptor 3.
func runImage(t testing.TB, p *Program, third *os.File) result {
	t.Helper()
	image, err := p.Image().Seal()
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	// A number that none of the child's own descriptors takes before it executes.
	fd, err := unix.FcntlInt(image.Fd(), unix.F_DUPFD_CLOEXEC, 2*dumpFD)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	name, argv := "/proc/self/fd/"+strconv.Itoa(fd), []string{"machine"}
	if emulator := os.Getenv(emulatorEnv); emulator != "" {
		name, argv = emulator, []string{emulator, writeImage(t, p)}
	}
	return collect(t, p, name, argv, nil, third)
}

// runTwin has the same program carried out by plain Go.
func runTwin(t testing.TB, p *Program) result {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "program")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	boot, _ := p.encode()
	if _, err := file.Write(boot); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	argv := []string{exe}
	if emulator := os.Getenv(emulatorEnv); emulator != "" {
		exe, argv = emulator, append([]string{emulator}, exe)
	}
	return collect(t, p, exe, argv, []string{twinEnv + "=1", "GODEBUG=asyncpreemptoff=1"}, file)
}

func writeImage(t testing.TB, p *Program) string {
	t.Helper()
	i := p.Image()
	name := t.TempDir() + "/image"
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for at, part := range map[int64][]byte{0: i.header, page: Machine, 2 * page: i.data} {
		if _, err := f.WriteAt(part, at); err != nil {
			t.Fatal(err)
		}
	}
	return name
}

func collect(t testing.TB, p *Program, name string, argv, env []string, third *os.File) result {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if third == nil {
		third = null
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	stderr, err := os.CreateTemp(t.TempDir(), "stderr")
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	cmd := exec.Cmd{Path: name, Args: argv, Env: append([]string{}, env...), Stderr: stderr, ExtraFiles: []*os.File{third, write}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	dump, err := io.ReadAll(read)
	if err != nil {
		t.Fatal(err)
	}
	waitErr := cmd.Wait()
	r := result{pid: cmd.Process.Pid, code: cmd.ProcessState.ExitCode()}
	boot, _ := p.encode()
	if size := len(boot); len(dump) == 0 || len(dump)%size != 0 {
		text, _ := os.ReadFile(stderr.Name())
		t.Fatalf("%s wrote %d bytes, expected a multiple of %d; %v; %s", argv[0], len(dump), size, waitErr, text)
	} else {
		for len(dump) > 0 {
			r.memory, dump = append(r.memory, dump[:size]), dump[size:]
		}
	}
	return r
}

// same compares two runs; what the kernel gives each process anew is masked.
func same(p *Program, a, b result, masked ...Arg) error {
	if a.code != b.code || len(a.memory) != len(b.memory) {
		return fmt.Errorf("one ended with %d and %d memories, the other with %d and %d", a.code, len(a.memory), b.code, len(b.memory))
	}
	hidden := map[int]bool{}
	for _, m := range masked {
		for i := range 8 {
			hidden[offset(p, m)+i] = true
		}
	}
	for n := range a.memory {
		for i := range a.memory[n] {
			if a.memory[n][i] != b.memory[n][i] && !hidden[i] {
				return fmt.Errorf("memory %d differs at %#x: %#x and %#x", n, i, a.memory[n][i], b.memory[n][i])
			}
		}
	}
	return nil
}
