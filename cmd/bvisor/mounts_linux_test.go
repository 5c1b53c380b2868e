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
		again(os.Args[0], os.Args[1:])
	}
	os.Unsetenv("ONFS")
	err := syscall.Mount("small", os.Args[2], "tmpfs", 0, os.Args[1])
	if err == nil {
		err = become(os.Args[3:])
	}
	fmt.Fprintln(os.Stderr, "onfs:", err)
	os.Exit(99)
}

// noUserNamespaces runs a command where no user namespace can be made:
// nouserns COMMAND ARG... The limit is that of an own namespace, so the host's
// stays as it is (namespaces(7)).
func noUserNamespaces() {
	if os.Getenv("ONFS") == "" {
		again(os.Args[0], os.Args[1:])
	}
	os.Unsetenv("ONFS")
	err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0)
	if err == nil {
		err = become(os.Args[1:])
	}
	fmt.Fprintln(os.Stderr, "nouserns:", err)
	os.Exit(99)
}

// again runs this helper once more, in namespaces of its own.
func again(name string, args []string) {
	cmd := namespaced(name, args...)
	cmd.Env = append(os.Environ(), "ONFS=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(99)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

// become returns only if it cannot.
func become(args []string) error {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, args, os.Environ())
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
