package need

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// Variable is the environment variable with what must be there.
const Variable = "BVISOR_NEED"

var skipped atomic.Bool

// Skipped says whether a test of this process was skipped for a need that the
// host could have met. That root is no ordinary user is not among them.
func Skipped() bool { return skipped.Load() }

// Missing ends the test: something it needs is not there. name is what
// BVISOR_NEED would list, with ":N" behind it where there is more or less of it.
func Missing(t testing.TB, name, why string) {
	t.Helper()
	if demanded(os.Getenv(Variable), name) {
		t.Fatalf("%s demands %s: %s", Variable, name, why)
	}
	if name != user {
		skipped.Store(true)
	}
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

const user = "user"

// OrdinaryUser needs anybody but the superuser.
func OrdinaryUser(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		Missing(t, user, "the test runs as root, whom file modes do not bind")
	}
}

// File needs a file of the host, such as an ordinary program.
func File(t testing.TB, name string) {
	t.Helper()
	if _, err := os.Stat(name); err != nil {
		Missing(t, "file="+name, err.Error())
	}
}
