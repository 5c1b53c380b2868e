package need

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// Variable is the environment variable with what must be there.
const Variable = "BVISOR_NEED"

var skipped atomic.Bool

// Skipped says whether a test of this process was skipped for something that
// the host lacks.
func Skipped() bool { return skipped.Load() }

// Missing ends the test: something it needs is not there. name is what
// BVISOR_NEED would list, with ":N" behind it where there is more or less of it.
func Missing(t testing.TB, name, why string) {
	t.Helper()
	if demanded(os.Getenv(Variable), name) {
		t.Fatalf("%s demands %s: %s", Variable, name, why)
	}
	skipped.Store(true)
	t.Skipf("needs %s: %s", name, why)
}

// demanded says whether list holds name. Who demands 3 of something demands
// less of it, too.
func demanded(list, name string) bool {
	what, amount, _ := strings.Cut(name, ":")
	n, _ := strconv.Atoi(amount)
	for entry := range strings.SplitSeq(list, ",") {
		other, limit, _ := strings.Cut(strings.TrimSpace(entry), ":")
		if other != what {
			continue
		}
		if m, err := strconv.Atoi(limit); amount == "" || err == nil && n <= m {
			return true
		}
	}
	return false
}

// Root needs the superuser.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "root", "the test runs as uid "+strconv.Itoa(os.Geteuid()))
	}
}

// OrdinaryUser needs anybody but the superuser. That is no lack of the host:
// suites that root starts run once more as an ordinary user.
func OrdinaryUser(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		t.Skip("root runs this test as an ordinary user, in the second pass: file modes do not bind root")
	}
}

// LongVariable asks, with 1, for the long form of tests that repeat something.
const LongVariable = "BVISOR_LONG"

// Rounds is how often a test repeats what it does: a fifth of usual with
// -short, long where BVISOR_LONG=1 asks for it. The log says which.
func Rounds(t testing.TB, usual, long int) int {
	t.Helper()
	n := usual
	switch {
	case os.Getenv(LongVariable) == "1":
		n = long
	case testing.Short():
		n = max(usual/5, 1)
	}
	t.Logf("%d rounds; %s=1 makes it %d", n, LongVariable, long)
	return n
}

// File needs a file of the host, such as an ordinary program.
func File(t testing.TB, name string) {
	t.Helper()
	if _, err := os.Stat(name); err != nil {
		Missing(t, "file="+name, err.Error())
	}
}

// Program needs a program on PATH, and says where it is.
func Program(t testing.TB, name string) string {
	t.Helper()
	file, err := exec.LookPath(name)
	if err != nil {
		Missing(t, "program="+name, err.Error())
	}
	return file
}
