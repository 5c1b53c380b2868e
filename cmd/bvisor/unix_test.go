//go:build unix

package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

var signals = map[string]syscall.Signal{"KILL": syscall.SIGKILL, "TERM": syscall.SIGTERM}

// die ends the process by a signal of its own.
func die(name string) error {
	if err := syscall.Kill(os.Getpid(), signals[name]); err != nil {
		return err
	}
	time.Sleep(10 * time.Second)
	return fmt.Errorf("signal %s did not end it", name)
}

const recipes = "../../docs/recipes"

func TestScriptsAsOrdinaryUser(t *testing.T) { asOrdinaryUser(t, "TestScripts") }

func TestTTYAsOrdinaryUser(t *testing.T) { asOrdinaryUser(t, "TestTTY.*") }

func TestCommandsBesideEachOtherAsOrdinaryUser(t *testing.T) {
	asOrdinaryUser(t, "TestManyCommandsAtOnce|TestSignalsAtAnyMoment")
}

// asOrdinaryUser runs a test once more without privileges when the tests run as
// root, whose rights hide what an ordinary user would meet.
func asOrdinaryUser(t *testing.T, name string) {
	const user = 65534
	if os.Geteuid() != 0 {
		return // the test was that already
	}
	// Everything the user needs lies in one directory that it can reach: the
	// directories of go test are its owner's.
	dir, err := os.MkdirTemp("", "bvisor-user")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	here := filepath.Join(dir, "cmd", "bvisor") // as deep as here, for the recipes
	for from, to := range map[string]string{"testdata": filepath.Join(here, "testdata"), recipes: filepath.Join(here, recipes)} {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	test := filepath.Join(dir, "bvisor.test")
	if err := os.WriteFile(test, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	temp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(temp, user, user); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(test, "-test.run=^("+name+")$", "-test.skip="+flag.Lookup("test.skip").Value.String(), "-test.timeout=10m")
	cmd.Dir = here
	cmd.Env = append(os.Environ(), "TMPDIR="+temp, "HOME="+temp, "GOCACHE="+filepath.Join(temp, "gocache"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("as uid %d: %v\n%s", user, err, out)
	}
}
