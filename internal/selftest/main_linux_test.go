//go:build amd64 || arm64

package selftest

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/victim"
)

const nobody = 65534

// exe is a copy of this binary where every user may execute it.
var exe string

// The binary is its own victim. Whoever starts the tests as root gets them a
// second time as an ordinary user.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == victim.Word {
		os.Exit(Victim(os.Args[2:]))
	}
	flag.Parse()
	os.Exit(suite(m))
}

func suite(m *testing.M) int {
	dir, err := os.MkdirTemp("", "bvisor-selftest-suite-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	exe = filepath.Join(dir, "victim")
	if err := copyProgram("/proc/self/exe", exe); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if code == 0 && os.Geteuid() == 0 && flag.Lookup("test.list").Value.String() == "" {
		code = again()
	}
	return code
}

// again runs the suite as an ordinary user without groups.
func again() int {
	fmt.Fprintln(os.Stderr, "once more as uid", nobody)
	var args []string
	for _, name := range []string{"run", "skip", "v", "count", "failfast", "timeout"} {
		if v := flag.Lookup("test." + name).Value.String(); v != "" {
			args = append(args, "-test."+name+"="+v)
		}
	}
	cmd := exec.Command(exe, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	env := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "HOME=") || strings.HasPrefix(e, "XDG_") })
	demands := slices.DeleteFunc(strings.Split(os.Getenv(need.Variable), ","), func(d string) bool { return d == "root" })
	cmd.Env = append(env, "HOME=/nonexistent", need.Variable+"="+strings.Join(demands, ","))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{}}}
	if err := cmd.Run(); err != nil {
		fmt.Fprintf(os.Stderr, "as uid %d: %v\n", nobody, err)
		return 1
	}
	return 0
}
