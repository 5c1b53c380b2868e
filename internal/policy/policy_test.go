package policy

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

func TestTheTreeFollowsThePolicy(t *testing.T) {
	sources, assembly, err := load(root)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, s := range sources {
		seen[s.pkg()] = true
		for _, wrong := range check(s) {
			t.Error(wrong)
		}
	}
	for _, pkg := range []string{"spec", "plan", "report", "ledger", "secret", "backend", "internal/durable", "internal/policy"} {
		if !seen[pkg] {
			t.Errorf("no file of %s was read", pkg)
		}
	}
	for _, name := range assembly {
		if !strings.HasPrefix(name, "internal/launcher/") {
			t.Errorf("%s: assembly belongs to internal/launcher", name)
		}
	}
}

// The direction of the contract's packages, said once more than the table says
// it: a row that is edited carelessly still meets this.
func TestTheTableKeepsItsDirection(t *testing.T) {
	for pkg, never := range map[string][]string{
		"":       {"backend/linux", "backend/wasm", "backend/inert"},
		"spec":   {"plan", "report", "ledger", "secret", "backend"},
		"plan":   {"report", "ledger", "secret", "backend"},
		"report": {"ledger", "secret", "backend"},
		"ledger": {"spec", "plan", "report", "secret", "backend"},
	} {
		for _, n := range never {
			if slices.Contains(allowed[pkg], n) {
				t.Errorf("package %q may import %s", pkg, n)
			}
		}
	}
	for _, f := range facilities {
		if !slices.Equal(allowed[f], []string{"internal/sys"}) {
			t.Errorf("%s may import %q, want internal/sys alone", f, allowed[f])
		}
	}
	for _, r := range rules {
		if r.reason == "" || r.pkg == "" || len(r.names) == 0 {
			t.Errorf("rule without a part: %+v", r)
		}
	}
}

// Each case breaks one rule, or comes close without breaking it.
func TestTheCheckerBites(t *testing.T) {
	for _, c := range []struct {
		path, body string
		want       string // part of the one complaint; empty: none
	}{
		{"spec/a.go", `import _ "github.com/bvisor/bvisor/ledger"`, "may not"},
		{"plan/a.go", `import _ "github.com/bvisor/bvisor/spec"`, ""},
		{"spec/a.go", `import _ "github.com/bvisor/bvisor/plan"`, "may not"},
		{"ledger/a.go", `import _ "github.com/bvisor/bvisor/report"`, "may not"},
		{"ledger/a_test.go", `import _ "github.com/bvisor/bvisor/report"`, ""},
		{"bvisor.go", `import _ "github.com/bvisor/bvisor/backend/linux"`, "may not"},
		{"internal/landlock/a.go", `import _ "github.com/bvisor/bvisor/internal/seccomp"`, "may not"},
		{"internal/landlock/a.go", `import _ "github.com/bvisor/bvisor/internal/sys"`, ""},
		{"internal/landlock/a.go", `import _ "github.com/bvisor/bvisor/spec"`, "may not"},
		{"internal/new/a.go", ``, "not listed"},
		{"plan/a.go", `import _ "os"`, "equal results"},
		{"plan/a.go", `import _ "net"`, "look-ups"},
		{"plan/a.go", `import _ "net/netip"`, ""},
		{"plan/a.go", `import "time"; var _ = time.Now`, "no clock"},
		{"plan/a.go", `import clock "time"; var _ = clock.Now()`, "no clock"},
		{"plan/a.go", `import "time"; var _ = time.Second`, ""},
		{"ledger/a.go", `import "time"; var _ = time.Now`, ""},
		{"plan/a.go", `import _ "math/rand/v2"`, "guessed"},
		{"ledger/a.go", `import . "os"`, "dot"},
		{"ledger/a.go", `import "C"`, "cgo"},
		{"ledger/a_test.go", `import "C"`, "cgo"},
		{"ledger/a.go", "import _ \"unsafe\"", "memory safety"},
		{"ledger/a_test.go", "import _ \"unsafe\"", ""},
		{"internal/sys/a_unsafe_linux.go", `import _ "unsafe"`, ""},
		{"internal/sys/a_linux_unsafe.go", `import _ "unsafe"`, "memory safety"},
		{"cmd/bvisor/a_unsafe_linux.go", `import _ "unsafe"`, "memory safety"},
		{"internal/mounts/a_unsafe_linux.go", `import _ "unsafe"`, "memory safety"},
		{"internal/mounts/a_linux.go", `import "golang.org/x/sys/unix"; var _ = unix.RawSyscall6`, "raw call"},
		{"internal/mounts/a_linux.go", `import "golang.org/x/sys/unix"; var _ = unix.Mount`, ""},
		{"internal/mounts/a_linux.go", `import "syscall"; var _, _, _ = syscall.Syscall(0, 0, 0, 0)`, "raw call"},
		{"backend/linux/a.go", `import "syscall"; var _ = syscall.Exec`, "launcher execs"},
		{"ledger/a.go", "//go:linkname now time.now\nfunc now()", "linkname"},
		{"ledger/a.go", `import "os"; var _ = os.Create`, "internal/durable"},
		{"ledger/a_test.go", `import "os"; var _ = os.Create`, ""},
		{"ledger/a.go", `import "os"; func f() { os.Create("x") }`, "internal/durable"},
		{"ledger/a.go", `func f() { var os struct{ Create int }; _ = os.Create }`, ""},
		{"secret/exec.go", `import "os/exec"; var _ = exec.Command`, ""},
		{"secret/other.go", `import "os/exec"; var _ = exec.Command`, "PATH"},
		{"report/a.go", `import "encoding/json"; var _ = json.Unmarshal`, "any case"},
		{"report/a.go", `import "encoding/json"; var _ = json.Marshal`, ""},
		{"secret/a.go", `import "encoding/json"; var _ = json.Unmarshal`, ""},
		{"ledger/a.go", `import _ "github.com/tetratelabs/wazero"`, "one engine"},
		{"backend/wasm/a.go", `import _ "github.com/tetratelabs/wazero/api"`, ""},
		{"ledger/a.go", `import _ "example.com/left-pad"`, "nobody decided"},
		{"cmd/bvisor/a.go", `import "github.com/bvisor/bvisor/backend/inert"; var _ = inert.Scripted`, "for tests"},
		{"cmd/bvisor/a.go", `import "github.com/bvisor/bvisor/backend/inert"; var _ = inert.New`, ""},
		{"bvisor_test.go", `import "github.com/bvisor/bvisor/backend/inert"; var _ = inert.Scripted`, ""},
	} {
		s, err := parse(c.path, "package p\n"+c.body)
		if err != nil {
			t.Fatalf("%s: %s: %v", c.path, c.body, err)
		}
		wrong := check(s)
		switch {
		case c.want == "" && len(wrong) > 0:
			t.Errorf("%s: %s: complained: %q", c.path, c.body, wrong)
		case c.want != "" && (len(wrong) != 1 || !strings.Contains(wrong[0], c.want)):
			t.Errorf("%s: %s: said %q, want one complaint with %q", c.path, c.body, wrong, c.want)
		}
	}
}

// Everything builds and vets on systems other than this one.
func TestCrossBuild(t *testing.T) {
	if os.Getenv("BVISOR_CROSS") != "1" {
		t.Skip("need BVISOR_CROSS=1: vets the module for four systems, which takes minutes without a warm cache")
	}
	for _, system := range []string{"linux/amd64", "linux/arm64", "darwin/arm64", "windows/amd64"} {
		t.Run(system, func(t *testing.T) {
			goos, goarch, _ := strings.Cut(system, "/")
			for _, args := range [][]string{{"build", "./..."}, {"vet", "./..."}} {
				cmd := exec.Command("go", args...)
				cmd.Dir = root
				cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("go %s: %v\n%s", strings.Join(args, " "), err, out)
				}
			}
		})
	}
}
