//go:build amd64

package launcher

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/bvisor/bvisor/internal/need"
)

// The other architecture's machine passes the same tests under an emulator.
func TestArm64(t *testing.T) {
	emulator := need.Program(t, "qemu-aarch64")
	if testing.Short() {
		t.Skip("needs a cross-build, which -short leaves out")
	}
	binary := t.TempDir() + "/arm64.test"
	build := exec.Command("go", "test", "-c", "-o", binary, ".")
	build.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cross-build: %v\n%s", err, out)
	}
	const tests = "TestMachine|FuzzProgram|TestImageIsAnELF|TestEncode|TestDecode|TestPrint"
	cmd := exec.Command(emulator, binary, "-test.v", "-test.run", tests)
	cmd.Env = append(os.Environ(), emulatorEnv+"="+emulator)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("under %s: %v\n%s", emulator, err, out)
	}
	for _, name := range []string{"TestMachine/fork", "TestMachineBody", "TestMachine/check_fails", "FuzzProgram/seed#2", "TestImageIsAnELF"} {
		if !strings.Contains(string(out), "--- PASS: "+name+" ") {
			t.Errorf("%s did not run:\n%s", name, out)
		}
	}
}
