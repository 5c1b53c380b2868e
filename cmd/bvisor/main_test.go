package main

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/plan"
)

// The test binary is bvisor, the workload of its runs and the helper of its
// scripts, by the name it is started with.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"bvisor": main, "prog": prog, "onfs": onFS, "nouserns": noUserNamespaces, "bvisor-dies": dies})
}

// TestScripts runs testdata/script. Scripts that start a workload begin with
// [!confine] skip; BVISOR_NEED=confine makes it a failure that they cannot.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireUniqueNames:  true,
		RequireExplicitExec: false,
		Setup:               setup,
		Condition:           condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":    code,
			"await":   await,
			"absent":  absent,
			"corrupt": corrupt,
			"big":     big,
			"module":  module,
		},
	})
}

// setup gives each script a state directory outside its working directory,
// which boundaries show to workloads.
func setup(env *testscript.Env) error {
	state, err := os.MkdirTemp("", "bvisor-state")
	if err != nil {
		return err
	}
	env.Defer(func() { os.RemoveAll(state) })
	path, err := exec.LookPath("prog")
	if err != nil {
		return err
	}
	env.Setenv("BVISOR_STATE_DIR", filepath.Join(state, "bvisor"))
	env.Setenv("STATE", filepath.Join(state, "bvisor"))
	env.Setenv("PROG", path)
	env.Setenv("BINDIR", filepath.Dir(path))
	env.Setenv("ESC", "\x1b[2J")
	return nil
}

func condition(name string) (bool, error) {
	switch name {
	case "root":
		return os.Geteuid() == 0, nil
	case "confine", "userns", "overlay":
		err := needs[name]()
		if err != nil && strings.Contains(os.Getenv("BVISOR_NEED"), name) {
			return false, fmt.Errorf("BVISOR_NEED names %s: %w", name, err)
		}
		return err == nil, nil
	}
	switch name {
	case "dynamic":
		return dynamic("/bin/true"), nil
	case "static":
		return !dynamic("/proc/self/exe"), nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// dynamic says that a program names a loader.
func dynamic(name string) bool {
	f, err := elf.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	return slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}

var needs = map[string]func() error{"confine": canConfine, "userns": canMount, "overlay": canHoldBack}

// canHoldBack says why this host cannot hold writes back.
func canHoldBack() error {
	p, err := linux.New().Probe(context.Background())
	if err != nil {
		return err
	}
	i := slices.IndexFunc(p.Offers, func(o plan.Offer) bool { return o.Kind == plan.CommitArtifact })
	if len(p.Offers[i].Ways) == 0 {
		return errors.New(p.Offers[i].Fact)
	}
	return nil
}

// canConfine says why this host cannot hold the baseline; nil is that it can.
func canConfine() error {
	p, err := linux.New().Probe(context.Background())
	if err != nil {
		return err
	}
	for _, o := range p.Offers {
		for _, b := range plan.Baseline {
			if o.Kind == b.Kind && len(o.Ways) == 0 {
				return errors.New(string(o.Kind) + ": " + o.Fact)
			}
		}
	}
	return nil
}

// code checks a command's exit code: code N COMMAND ARG...
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND [ARG...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s\n[stdout]\n%s[stderr]\n%s", got, args[0], ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// await waits until a file is there.
func await(ts *testscript.TestScript, neg bool, args []string) {
	for range 1000 {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("%s did not come", args[0])
}

// absent checks that no file below a directory contains a text: absent TEXT DIR
func absent(ts *testscript.TestScript, neg bool, args []string) {
	files := 0
	err := filepath.WalkDir(ts.MkAbs(args[1]), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), args[0]) {
			ts.Fatalf("%s contains %q", path, args[0])
		}
		return err
	})
	ts.Check(err)
	if files == 0 {
		ts.Fatalf("there is no file below %s to look into", args[1])
	}
}

// corrupt changes one byte in the middle of a file.
func corrupt(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	data[len(data)/2] ^= 1
	ts.Check(os.WriteFile(path, data, 0o600))
}

// prog is what scripts run inside boundaries.
func prog() {
	if err := act(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "prog:", err)
		os.Exit(1)
	}
}

func act(name string, args []string) error {
	switch name {
	case "exit":
		n, err := strconv.Atoi(args[0])
		if err == nil {
			os.Exit(n)
		}
		return err
	case "say":
		_, err := fmt.Println(strings.Join(args, " "))
		return err
	case "complain":
		_, err := fmt.Fprintln(os.Stderr, strings.Join(args, " "))
		return err
	case "env":
		for _, e := range os.Environ() {
			fmt.Println(e)
		}
		return nil
	case "pwd":
		dir, err := os.Getwd()
		fmt.Println(dir)
		return err
	case "cat":
		return show(args[0])
	case "copy":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case "catfd":
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		_, err = io.Copy(os.Stdout, os.NewFile(uintptr(n), "given"))
		return err
	case "write":
		return os.WriteFile(args[0], []byte("written\n"), 0o644)
	case "spew":
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write(make([]byte, n))
		return err
	case "wait": // says in a file that it is there, then stays
		if err := os.WriteFile(args[0], nil, 0o644); err != nil {
			return err
		}
		time.Sleep(time.Hour)
		return nil
	case "signal": // SIGKILL and SIGTERM; the Go runtime turns others into an exit status
		return die(args[0])
	case "spawn":
		p, err := os.StartProcess(args[0], args, &os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr}})
		if err == nil {
			_, err = p.Wait()
		}
		return err
	}
	return fmt.Errorf("no act is named %q on %s", name, runtime.GOOS)
}

func show(name string) error {
	data, err := os.ReadFile(name)
	if err == nil {
		_, err = os.Stdout.Write(data)
	}
	return err
}

// big makes a spec of ten million bytes.
func big(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte("version: 1\n"+strings.Repeat("# padding\n", 1e6)), 0o600))
}

// writes is a module that makes the file "new" in its working directory.
const writes = "\x00asm\x01\x00\x00\x00" +
	"\x01\x11\x02\x60\x00\x00\x60\x09\x7f\x7f\x7f\x7f\x7f\x7e\x7e\x7f\x7f\x01\x7f" + // types: nothing to nothing, that of path_open
	"\x02\x24\x01\x16wasi_snapshot_preview1\x09path_open\x00\x01" +
	"\x03\x02\x01\x00" + "\x05\x03\x01\x00\x01" + // a function, a memory of one page
	"\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x01" +
	"\x0a\x1d\x01\x1b\x00" + // path_open(3, 0, 0, 3, creat, fd_write, 0, 0, 16); an errno is a trap
	"\x41\x03\x41\x00\x41\x00\x41\x03\x41\x01\x42\xc0\x00\x42\x00\x41\x00\x41\x10\x10\x00\x04\x40\x00\x0b\x0b" +
	"\x0b\x09\x01\x00\x41\x00\x0b\x03new"

// module writes a WebAssembly module: module FILE exits|traps|spins|recurses|wants|writes.
func module(ts *testscript.TestScript, neg bool, args []string) {
	if args[1] == "writes" {
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(writes), 0o600))
		return
	}
	head := "\x00asm\x01\x00\x00\x00" +
		"\x01\x08\x02\x60\x00\x00\x60\x01\x7f\x00" // types: nothing to nothing, a number to nothing
	host, name := "wasi_snapshot_preview1", "proc_exit"
	if args[1] == "wants" {
		host, name = "env", "host"
	}
	wanted := "\x01" + string(rune(len(host))) + host + string(rune(len(name))) + name + "\x00\x01"
	body := map[string]string{
		"exits":    "\x41\x07\x10\x00", // exit status 7
		"wants":    "\x41\x07\x10\x00",
		"traps":    "\x00",
		"spins":    "\x03\x40\x0c\x00\x0b",
		"recurses": "\x10\x01",
	}[args[1]]
	code := "\x01" + string(rune(len(body)+2)) + "\x00" + body + "\x0b"
	binary := head + "\x02" + string(rune(len(wanted))) + wanted + "\x03\x02\x01\x00" + "\x07\x0a\x01\x06_start\x00\x01" +
		"\x0a" + string(rune(len(code))) + code
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(binary), 0o600))
}
