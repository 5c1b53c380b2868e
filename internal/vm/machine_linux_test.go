//go:build amd64 || arm64

package vm

import (
	"context"
	"errors"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/bvisor/bvisor/internal/need"
)

// What a machine says is believed only if it says all of it.
func TestListen(t *testing.T) {
	const ended = `{"Suite":0,"Ended":{"Code":0,"How":"exit status","Seconds":1}}` + "\n"
	for name, tt := range map[string]struct {
		said string
		done bool
		want string // part of the error
	}{
		"everything":        {`{"Suite":0,"Output":"UEFTUwo="}` + "\n" + ended + `{"Done":true}` + "\n", true, ""},
		"nothing":           {"", false, ""},
		"no end":            {ended, false, ""},
		"half a message":    {ended + `{"Done":tr`, false, "has no end"},
		"something else":    {"Kernel panic\n", false, "Kernel panic"},
		"an unknown suite":  {`{"Suite":3,"Output":"UEFTUwo="}` + "\n", false, "no suite 3"},
		"a failure of ours": {`{"Failed":"load overlay.ko"}` + "\n", false, "inside: load overlay.ko"},
	} {
		t.Run(name, func(t *testing.T) {
			results := make([]Result, 1)
			done, err := listen(strings.NewReader(tt.said), results, func(Suite, []byte) {})
			if done != tt.done || (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("done is %v with error %v, expected %v and %q", done, err, tt.done, tt.want)
			}
		})
	}
}

// Only a machine that said nothing is started again.
func TestEmulate(t *testing.T) {
	for script, want := range map[string]struct{ done, heard bool }{
		`echo '{"Done":true}'`:         {true, true},
		`echo '{"Done":true}'; exit 1`: {true, true},
		`echo '{"Suite":0}'`:           {false, true},
		`echo 'Kernel panic'`:          {false, true},
		`echo no kernel >&2; exit 1`:   {false, false},
		``:                             {false, false},
	} {
		done, heard, err := emulate(t.Context(), exec.Command(need.Program(t, "sh"), "-c", script), make([]Result, 1), func(Suite, []byte) {})
		if done != want.done || heard != want.heard {
			t.Errorf("%s: done %v, heard %v, %v", script, done, heard, err)
		}
		if strings.Contains(script, "exit 1") && err == nil || strings.Contains(script, ">&2") && !strings.Contains(err.Error(), "no kernel") {
			t.Errorf("%s: %v", script, err)
		}
	}
}

// A machine that panics, and one that has to be stopped, are failures, and
// their suites did not end.
func TestMachinesThatDoNotEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("starts virtual machines, which -short leaves out")
	}
	k, err := Find("6.12", runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	m := machine(t, k)
	stopped := errors.New("stopped by the test")
	for _, tt := range []struct{ name, script, want string }{
		{"panic", "echo started; echo c >/proc/sysrq-trigger", "Kernel panic"},
		{"hang", "echo started; exec sleep infinity", stopped.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, stop := context.WithCancelCause(deadline(t))
			defer stop(nil)
			started := ""
			results, err := m.Run(ctx, []Suite{{Name: tt.name, Path: "/bin/sh", Dir: "/", Args: []string{"-c", tt.script}}}, nil, func(_ Suite, output []byte) {
				started += string(output)
				if tt.name == "hang" {
					stop(stopped)
				}
			})
			if err == nil || !strings.Contains(err.Error(), "ended early") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, expected %q", err, tt.want)
			}
			// What was written right before a panic may not have left the machine.
			if len(results) != 1 || results[0].Ended != nil || tt.name == "hang" && started != "started\n" {
				t.Errorf("results %+v after %q", results, started)
			}
		})
	}
}

// A package that is not the one of the signed list is not used.
func TestPackageIsChecked(t *testing.T) {
	file := t.TempDir() + "/x.deb"
	if err := write(file, []byte("kernel")); err != nil {
		t.Fatal(err)
	}
	p := Package{File: file, SHA256: "f0a0278e4372459cca6159cd5e71cfee638302a7b9ca9b05c34181ac0a65ac5d"}
	if err := p.check(); err == nil || !strings.Contains(err.Error(), "the signed list says") {
		t.Errorf("other bytes: %v", err)
	}
	if err := write(file, []byte("other")); err != nil {
		t.Fatal(err)
	}
	p.SHA256 = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"
	if err := p.check(); err != nil {
		t.Error(err)
	}
}

// What failed is told without the rest.
func TestFailures(t *testing.T) {
	const output = `=== RUN   TestA
=== RUN   TestA/one
    a_test.go:1: fine
=== RUN   TestA/two
    a_test.go:2: too few
        of them
=== NAME  TestA
    a_test.go:3: left
--- FAIL: TestA (1.00s)
    --- PASS: TestA/one (0.00s)
    --- FAIL: TestA/two (0.00s)
=== RUN   TestB
    b_test.go:1: fine
--- PASS: TestB (0.00s)
FAIL
once more as uid 65534
=== RUN   TestA
--- PASS: TestA (0.00s)
`
	const want = `--- FAIL: TestA (1.00s)
    a_test.go:3: left
    --- FAIL: TestA/two (0.00s)
    a_test.go:2: too few
        of them`
	if got := failures(output); got != want {
		t.Errorf("%s", got)
	}
	if got := failures("=== RUN   TestA\npanic: of something\n"); got != "=== RUN   TestA\npanic: of something" {
		t.Errorf("%s", got)
	}
}
