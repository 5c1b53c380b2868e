//go:build amd64 || arm64

package selftest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/victim"
)

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
	if err := need.CopySelf(exe); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if code == 0 {
		code = need.Again(exe, nil)
	}
	return code
}
