//go:build amd64 || arm64

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// truth is the program of the launch measurements: it does nothing, so the
// rest is the launch.
const truth = "/bin/true"

// bubblewrap returns how bwrap is asked for the same: all namespaces, a new
// root with /usr, /proc, /dev and /tmp, a filter, no capabilities.
func bubblewrap(filter string) (func(argv ...string) *exec.Cmd, string, error) {
	bwrap, err := exec.LookPath("bwrap")
	if err != nil {
		return nil, "", fmt.Errorf("bwrap is not in PATH")
	}
	out, err := exec.Command(bwrap, "--version").Output()
	if err != nil {
		return nil, "", fmt.Errorf("bwrap --version: %w", err)
	}
	program, err := os.Open(filter)
	if err != nil {
		return nil, "", err
	}
	args := []string{"--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--ro-bind", "/usr", "/usr"}
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
		if target, err := os.Readlink("/" + link); err == nil {
			args = append(args, "--symlink", target, "/"+link)
		}
	}
	args = append(args, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--clearenv", "--seccomp", "3")
	return func(argv ...string) *exec.Cmd {
		program.Seek(0, 0) // bwrap reads the shared descriptor to its end
		cmd := exec.Command(bwrap, append(args[:len(args):len(args)], argv...)...)
		cmd.ExtraFiles = []*os.File{program}
		return cmd
	}, strings.TrimSpace(string(out)), nil
}

// buildCommand builds the command line program as it is shipped.
func buildCommand(module, dir string) (string, error) {
	if _, err := os.Stat(filepath.Join(module, "cmd", "bvisor", "main.go")); err != nil {
		return "", fmt.Errorf("cmd/bvisor is not in this tree")
	}
	binary := filepath.Join(dir, "bvisor")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, "./cmd/bvisor")
	cmd.Dir = module
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/bvisor: %w: %s", err, out)
	}
	return binary, nil
}

// command runs one process to a good end. Nothing is read from it.
func command(make func() *exec.Cmd) func() error {
	return func() error {
		cmd := make()
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(cmd.Path), err)
		}
		return nil
	}
}
