//go:build amd64 || arm64

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/bvisor/bvisor/internal/seccomp"
)

// floor is the built C program with what it needs.
type floor struct{ binary, root, filter string }

// buildFloor compiles floor.c of the source directory and prepares its root
// below dir.
func buildFloor(source, dir, filter string) (*floor, error) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		return nil, errors.New("no C compiler (cc) in PATH")
	}
	f := &floor{binary: filepath.Join(dir, "floor"), root: filepath.Join(dir, "root"), filter: filter}
	out, err := exec.Command(cc, "-O2", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-s",
		"-o", f.binary, filepath.Join(source, "floor.c")).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("cc: %w: %s", err, out)
	}
	return f, prepareRoot(f.root)
}

// prepareRoot makes the directory that the floor turns into a root: mount
// points, and the links of a merged /usr.
func prepareRoot(root string) error {
	for _, dir := range []string{"usr", "proc", "tmp", "dev", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
		target, err := os.Readlink("/" + link)
		if err != nil {
			continue // not a merged /usr, or an architecture without it
		}
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			return err
		}
	}
	for _, device := range []string{"null", "zero", "urandom"} {
		if err := write(filepath.Join(root, "dev", device), nil); err != nil {
			return err
		}
	}
	return nil
}

// exportFilter writes the filter of the default boundary as the kernel reads it.
func exportFilter(name string) (instructions int, err error) {
	f, err := seccomp.Compile(seccomp.Options{Arch: runtime.GOARCH, Spawn: seccomp.SpawnProcesses, SocketFamilies: []uint16{seccomp.AFUnix}})
	if err != nil {
		return 0, err
	}
	return len(f), write(name, f.Bytes())
}

// write makes a new file.
func write(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func (f *floor) command(argv ...string) *exec.Cmd {
	return exec.Command(f.binary, append([]string{f.root, f.filter}, argv...)...)
}
