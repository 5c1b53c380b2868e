package wasip1

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/bvisor/bvisor/internal/need"
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
	if code == 0 {
		code = need.Again("", nil)
	}
	return code
}
