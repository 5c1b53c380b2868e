package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// onFS runs a command in a mount namespace where a directory is a file system
// of its own: onfs OPTIONS DIR COMMAND ARG...
func onFS() {
	if os.Getenv("ONFS") == "" {
		cmd := namespaced(os.Args[0], os.Args[1:]...)
		cmd.Env = append(os.Environ(), "ONFS=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := cmd.Run(); cmd.ProcessState == nil {
			fmt.Fprintln(os.Stderr, "onfs:", err)
			os.Exit(99)
		}
		os.Exit(cmd.ProcessState.ExitCode())
	}
	os.Unsetenv("ONFS")
	err := syscall.Mount("small", os.Args[2], "tmpfs", 0, os.Args[1])
	if err == nil {
		var path string
		if path, err = exec.LookPath(os.Args[3]); err == nil {
			err = syscall.Exec(path, os.Args[3:], os.Environ())
		}
	}
	fmt.Fprintln(os.Stderr, "onfs:", err)
	os.Exit(99)
}

func namespaced(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	return cmd
}

// canMount says why onfs cannot work here.
func canMount() error {
	dir, err := os.MkdirTemp("", "bvisor-mount")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	cmd := exec.Command("onfs", "size=64k", dir, "prog", "exit", "0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
