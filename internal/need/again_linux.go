package need

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Nobody is the ordinary user of second passes.
const Nobody = 65534

// Again runs the suite a second time as an ordinary user without groups, where
// root runs it and it is more than listed or fuzzed. exe is a copy of the test's
// binary that every user may execute (CopySelf); where it is empty, one is made.
// change adds to the command what is the suite's own; nil is nothing. The result
// is what TestMain exits with.
func Again(exe string, change func(*exec.Cmd) error) int {
	if os.Geteuid() != 0 || testFlag("list")+testFlag("fuzz") != "" || testFlag("fuzzworker") == "true" {
		return 0
	}
	fmt.Fprintln(os.Stderr, "once more as uid", Nobody)
	if err := again(exe, change); err != nil {
		fmt.Fprintf(os.Stderr, "as uid %d: %v\n", Nobody, err)
		return 1
	}
	return 0
}

func again(exe string, change func(*exec.Cmd) error) error {
	if exe == "" {
		dir, err := os.MkdirTemp("", "bvisor-suite-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		exe = filepath.Join(dir, "suite")
		if err := errors.Join(os.Chmod(dir, 0o755), CopySelf(exe)); err != nil {
			return err
		}
	}
	cmd := exec.Command(exe)
	for _, name := range []string{"run", "skip", "v", "short", "count", "failfast", "timeout", "parallel", "bench", "benchtime"} {
		if v := testFlag(name); v != "" {
			cmd.Args = append(cmd.Args, "-test."+name+"="+v)
		}
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	env := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "HOME=") || strings.HasPrefix(e, "XDG_") })
	demands := slices.DeleteFunc(strings.Split(os.Getenv(Variable), ","), func(d string) bool { return d == "root" })
	cmd.Env = append(env, "HOME=/nonexistent", Variable+"="+strings.Join(demands, ","))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: Nobody, Gid: Nobody, Groups: []uint32{}}}
	if change != nil {
		if err := change(cmd); err != nil {
			return err
		}
	}
	return cmd.Run()
}

func testFlag(name string) string {
	if f := flag.Lookup("test." + name); f != nil {
		return f.Value.String()
	}
	return ""
}

// CopySelf copies the test's binary to a new file that everybody may execute;
// go test's own directory is closed to others.
func CopySelf(name string) error {
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if e := out.Close(); err == nil {
		err = e
	}
	return err
}
