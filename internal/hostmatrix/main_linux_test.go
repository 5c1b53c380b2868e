//go:build amd64 || arm64

package hostmatrix

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/selftest"
	"github.com/bvisor/bvisor/internal/victim"
)

var (
	golden = flag.Bool("golden", false, "write what this host gives into docs/host-matrix.md instead of comparing")
	from   = flag.String("from", "", "with -golden: no host is tried, but the rows in this output of -v, of another kernel, are added")
	table  = flag.String("table", "../../docs/host-matrix.md", "where that is")
)

const nobody = 65534

// exe is a copy of this binary where every user may execute it.
var exe string

// This binary is its own victim, and its own host: see simulate_linux_test.go.
// Whoever starts the tests as root gets them a second time as an ordinary user.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case victim.Word:
			os.Exit(selftest.Victim(os.Args[2:]))
		case wordEnter:
			os.Exit(enter(os.Args[2:]))
		case wordInside:
			os.Exit(inside(os.Args[2:]))
		case wordExercise:
			os.Exit(exerciseAlone(os.Args[2]))
		case wordAnswer:
			os.Exit(answerABI(os.Args[2]))
		}
	}
	flag.Parse()
	os.Exit(suite(m))
}

func suite(m *testing.M) int {
	if *golden && *from != "" {
		if err := adopt(*from); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	unix.Umask(0o022)
	dir, err := os.MkdirTemp("", "bvisor-host-matrix-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	exe = filepath.Join(dir, "victim")
	err = copyProgram("/proc/self/exe", exe)
	if err == nil {
		err = writeCalls(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if code == 0 && os.Geteuid() == 0 && flag.Lookup("test.list").Value.String() == "" {
		code = again()
	}
	return code
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

// again runs the suite as an ordinary user without groups, who may not read or
// write our sources: it gets a copy of the table.
func again() int {
	fmt.Fprintln(os.Stderr, "once more as uid", nobody)
	theirs := filepath.Join(filepath.Dir(exe), "table")
	text, err := os.ReadFile(*table)
	if err == nil {
		err = os.WriteFile(theirs, text, 0o644)
	}
	if err == nil {
		err = os.Chown(theirs, nobody, nobody)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	args := []string{"-table=" + theirs}
	for _, name := range []string{"test.run", "test.skip", "test.v", "test.count", "test.failfast", "test.timeout", "golden"} {
		if v := flag.Lookup(name).Value.String(); v != "" {
			args = append(args, "-"+name+"="+v)
		}
	}
	cmd := exec.Command(exe, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = os.Stdout, os.Stderr, "/"
	env := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "HOME=") || strings.HasPrefix(e, "XDG_") })
	demands := slices.DeleteFunc(strings.Split(os.Getenv(need.Variable), ","), func(d string) bool { return d == "root" })
	cmd.Env = append(env, "HOME=/nonexistent", need.Variable+"="+strings.Join(demands, ","))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{}}}
	if err := cmd.Run(); err != nil {
		fmt.Fprintf(os.Stderr, "as uid %d: %v\n", nobody, err)
		return 1
	}
	if !*golden {
		return 0
	}
	if text, err = os.ReadFile(theirs); err == nil {
		err = os.WriteFile(*table, text, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
