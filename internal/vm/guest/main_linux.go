// Command guest is process 1 of a machine that tests run in: it makes an
// ordinary system of the archive that the kernel unpacked, runs the suites of
// its job one after the other, and says over a serial line how they went.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/vm"
)

func main() {
	if err := run(); err != nil {
		// The console is all there is if the line could not be opened.
		fmt.Fprintln(os.Stderr, "guest:", err)
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Fprintln(os.Stderr, "guest: power off:", err)
	}
}

func run() error {
	if err := ownRoot(); err != nil {
		return err
	}
	text, err := os.ReadFile(vm.JobFile)
	if err != nil {
		return err
	}
	var job vm.Job
	if err := json.Unmarshal(text, &job); err != nil {
		return err
	}
	if err := mounts(); err != nil {
		return err
	}
	port, err := open(job.Port)
	if err != nil {
		return err
	}
	line := json.NewEncoder(port)
	if err := prepare(job.Modules); err != nil {
		return line.Encode(vm.Message{Failed: err.Error()})
	}
	for i, s := range job.Suites {
		if err := suite(line, i, s); err != nil {
			return line.Encode(vm.Message{Failed: fmt.Sprintf("%s: %v", s.Name, err)})
		}
	}
	if err := line.Encode(vm.Message{Done: true}); err != nil {
		return err
	}
	return drain(port)
}

// suite runs one test binary to its end, and ends what it left.
func suite(line *json.Encoder, index int, s vm.Suite) error {
	cgroup, err := newCgroup(s.UID)
	if err != nil {
		return err
	}
	defer cgroup.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	attr := &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	if s.UID != 0 {
		attr.Credential = &syscall.Credential{Uid: uint32(s.UID), Gid: uint32(s.UID), Groups: []uint32{}}
	}
	start := time.Now()
	p, err := os.StartProcess(s.Path, append([]string{s.Path}, s.Args...), &os.ProcAttr{
		Dir: s.Dir, Env: s.Env, Files: []*os.File{null, write, write}, Sys: attr,
	})
	write.Close()
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		buf := make([]byte, 8<<10)
		for {
			n, err := read.Read(buf)
			if n > 0 {
				if err := line.Encode(vm.Message{Suite: index, Output: buf[:n]}); err != nil {
					sent <- err
					return
				}
			}
			if err == io.EOF {
				err = nil
				sent <- err
				return
			}
			if err != nil {
				sent <- err
				return
			}
		}
	}()
	status, err := wait(p.Pid)
	if err != nil {
		return err
	}
	// What a suite left would disturb the next one, and keeps the pipe open.
	if err := unix.Kill(-1, unix.SIGKILL); err != nil && err != unix.ESRCH {
		return err
	}
	if _, err := wait(0); err != nil {
		return err
	}
	if err := <-sent; err != nil {
		return err
	}
	ended := &vm.Ended{Code: -1, How: "exit status", Seconds: time.Since(start).Seconds()}
	if status.Exited() {
		ended.Code = status.ExitStatus()
	} else {
		ended.How = "signal " + status.Signal().String()
	}
	return line.Encode(vm.Message{Suite: index, Ended: ended})
}

// wait reaps every child, as process 1 must, until pid is among them; without a
// pid until none is left.
func wait(pid int) (unix.WaitStatus, error) {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err == unix.ECHILD && pid == 0:
			return 0, nil
		case err != nil:
			return 0, err
		case got == pid:
			return status, nil
		}
	}
}

// open gives the serial line as it is, without a terminal's editing.
func open(name string) (*os.File, error) {
	signal.Ignore(unix.SIGHUP)
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, err
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	return f, unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t)
}

// drain waits until everything written has left.
func drain(f *os.File) error { return unix.IoctlSetInt(int(f.Fd()), unix.TCSBRK, 1) }
