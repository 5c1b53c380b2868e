package wasip1

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Whoever starts the tests as root gets them a second time as an ordinary user:
// file modes do not bind root. The guests are built once.
func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(guestsVariable) == "" {
		dir, err := os.MkdirTemp("", "bvisor-wasip1-guests-")
		if err == nil {
			err = os.Chmod(dir, 0o755)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Setenv(guestsVariable, dir)
		code := suite(m)
		os.RemoveAll(dir)
		os.Exit(code)
	}
	os.Exit(suite(m))
}

func suite(m *testing.M) int {
	code := m.Run()
	if code == 0 && os.Geteuid() == 0 && flag.Lookup("test.list").Value.String() == "" && flag.Lookup("test.fuzz").Value.String() == "" {
		code = again()
	}
	return code
}

func again() int {
	const nobody = 65534
	fmt.Fprintln(os.Stderr, "once more as uid", nobody)
	dir, err := os.MkdirTemp("", "bvisor-wasip1-suite-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o755)
	}
	exe := filepath.Join(dir, "suite")
	if err == nil {
		err = copyProgram("/proc/self/exe", exe)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cmd := exec.Command(exe)
	for _, name := range []string{"run", "skip", "v", "count", "failfast", "timeout"} {
		if v := flag.Lookup("test." + name).Value.String(); v != "" {
			cmd.Args = append(cmd.Args, "-test."+name+"="+v)
		}
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{}}}
	if err := cmd.Run(); err != nil {
		fmt.Fprintf(os.Stderr, "as uid %d: %v\n", nobody, err)
		return 1
	}
	return 0
}

func copyProgram(from, to string) error {
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o755)
	}
	return err
}
