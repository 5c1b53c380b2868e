package wasmfs

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/need"
)

// The numbers are the specification's: Go's own port to WASI has them, too.
func TestErrnoNumbers(t *testing.T) {
	program, err := filepath.EvalSymlinks(need.Program(t, "go"))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(filepath.Dir(program), "../src/syscall/tables_wasip1.go")
	need.File(t, name)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	theirs := map[string]Errno{}
	for _, m := range regexp.MustCompile(`(?m)^\tE([A-Z0-9]+)\s+Errno = (\d+)`).FindAllStringSubmatch(string(b), -1) {
		n, _ := strconv.Atoi(m[2])
		theirs[strings.ToLower(m[1])] = Errno(n)
	}
	if len(theirs) < 70 {
		t.Fatalf("found %d errnos", len(theirs))
	}
	for errno, name := range errnoNames {
		if errno != Success && theirs[name] != errno {
			t.Errorf("%s is %d, and %d to Go", name, errno, theirs[name])
		}
	}
	for host, errno := range hostErrnos {
		name := strings.ToLower(strings.TrimPrefix(unix.ErrnoName(host), "E"))
		if name == "opnotsupp" {
			name = "notsup"
		}
		if theirs[name] != errno {
			t.Errorf("%s becomes %v", unix.ErrnoName(host), errno)
		}
	}
}
