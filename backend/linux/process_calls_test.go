//go:build linux && (amd64 || arm64)

package linux_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/spec"
)

// calls is a workload that makes the given system calls and nothing else: no
// runtime, no libraries, one thread. It is what the launcher is made of.
type calls struct {
	*launcher.Program
	results launcher.Arg
	names   []string
	failed  launcher.Label
}

const maxCalls = 256

func newCalls() *calls {
	c := &calls{Program: &launcher.Program{}}
	c.failed = c.NewLabel()
	c.OnFailure(c.failed)
	c.results = c.Bytes(make([]byte, maxCalls*8), "results")
	c.Begin(launcher.RoleWorkload, "calls")
	return c
}

// try makes a call whose result is told under a name; any result is fine.
func (c *calls) try(name string, nr uintptr, args ...launcher.Arg) launcher.Arg {
	at := len(c.names) * 8
	c.names = append(c.names, name)
	c.Call(name, nr, args...).To(launcher.At(c.results, at, name)).Ignore()
	return launcher.Load(c.results, at, name)
}

// quiet makes a call whose result does not matter.
func (c *calls) quiet(nr uintptr, args ...launcher.Arg) { c.Call("quiet", nr, args...).Ignore() }

// file writes the program out where every boundary can be granted it.
func (c *calls) file(t testing.TB) string {
	t.Helper()
	c.Mark(c.failed)
	c.Call("write", unix.SYS_WRITE, num(1), c.results, num(len(c.names)*8)).Ignore()
	c.Call("exit_group", unix.SYS_EXIT_GROUP, num(0))
	f, err := c.Image().Seal()
	must(t, err)
	defer f.Close()
	path := filepath.Join(tree(t), "calls")
	// A process that is forked meanwhile would have the file open for writing, and
	// nobody could execute it yet (golang/go#22315).
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	must(t, err)
	defer out.Close()
	_, err = io.Copy(out, io.NewSectionReader(f, 0, 1<<30))
	must(t, err)
	return path
}

// answers maps each call's name to its result: an error as negative number.
type answers map[string]int64

func (c *calls) read(t testing.TB, who, output string) answers {
	t.Helper()
	if len(output) < len(c.names)*8 {
		t.Fatalf("%s: %d bytes of results, expected %d", who, len(output), len(c.names)*8)
	}
	a := answers{}
	for i, name := range c.names {
		a[name] = int64(binary.LittleEndian.Uint64([]byte(output)[i*8:]))
	}
	return a
}

// both runs the calls without a boundary and within one. With apart the former
// is in namespaces of its own.
func (c *calls) both(t testing.TB, apart bool, change ...func(*spec.Spec)) (control, confined answers, o outcome) {
	t.Helper()
	need.MountNamespace(t)
	path := c.file(t)
	cmd := exec.CommandContext(t.Context(), path)
	var out bytes.Buffer
	cmd.Stdout = &out
	if apart {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		}
	}
	must(t, cmd.Run())
	control = c.read(t, "control", out.String())
	o = runCommand(t, path, change...)
	confined = c.read(t, "confined", o.Stdout)
	return control, confined, o
}

// runCommand runs a program of its own within a boundary that starts nothing.
func runCommand(t testing.TB, path string, change ...func(*spec.Spec)) outcome {
	t.Helper()
	s := baseSpec("", "")
	s.Workload.Command = []string{path}
	s.Capabilities.Filesystem = []spec.Grant{{Access: "rx", Paths: []string{path}, Origin: spec.FromSpec}}
	s.Capabilities.Spawn = spec.SpawnNone
	s.Presets = nil
	for _, f := range change {
		f(&s)
	}
	o, err := attempt(t, bvisor.Request{Spec: s})
	must(t, err)
	o.Act = filepath.Base(path)
	return o
}

func num(n int) launcher.Arg { return launcher.Int(n) }

// word is a number of 64 bits.
func word(n uint64) launcher.Arg { return launcher.Flag(n, "word") }
