package wasmfs

import (
	"flag"
	"os"
	"testing"

	"github.com/bvisor/bvisor/internal/need"
)

// Whoever starts the tests as root gets them a second time as an ordinary user:
// file modes do not bind root.
func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if code == 0 {
		code = need.Again("", nil)
	}
	os.Exit(code)
}
