//go:build amd64 || arm64

package hostmatrix

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	err = need.CopySelf(exe)
	if err == nil {
		err = writeCalls(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if code == 0 {
		code = again()
	}
	return code
}

// again is the second pass, which may not read or write our sources: it gets a
// copy of the table.
func again() int {
	theirs := filepath.Join(filepath.Dir(exe), "table")
	code := need.Again(exe, func(c *exec.Cmd) error {
		text, err := os.ReadFile(*table)
		if err == nil {
			err = errors.Join(os.WriteFile(theirs, text, 0o644), os.Chown(theirs, need.Nobody, need.Nobody))
		}
		c.Dir = "/"
		c.Args = append(c.Args, "-table="+theirs, fmt.Sprintf("-golden=%t", *golden))
		return err
	})
	if code != 0 || !*golden || os.Geteuid() != 0 {
		return code
	}
	text, err := os.ReadFile(theirs)
	if err == nil {
		err = os.WriteFile(*table, text, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
