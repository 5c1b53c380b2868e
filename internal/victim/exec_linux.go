package victim

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

func execActs() map[string]Act {
	return map[string]Act{
		"say":           One(say),
		"exec":          execute,
		"copy-exec":     copyExec,
		"memfd-exec":    memfdExec,
		"map-exec":      One(mapExec),
		"map-then-exec": One(mapThenExec),
		"sealed-exec":   sealedExec,
	}
}

// say prints a word, so that a test can see that a program ran.
func say(word string) error {
	_, err := os.Stdout.WriteString(word)
	return err
}

// execute becomes the program args[0]; it returns only if it cannot.
func execute(args []string) error {
	if len(args) == 0 {
		return ErrUsage
	}
	return unix.Exec(args[0], args, nil)
}

// copyExec copies args[0] to args[1] and becomes the copy.
func copyExec(args []string) error {
	if len(args) < 2 {
		return ErrUsage
	}
	if err := copyFile(args[0], args[1]); err != nil {
		return fmt.Errorf("the copy: %v", err) // no error number: the copy itself is not the act
	}
	return execute(args[1:])
}

// memfdExec becomes a copy of args[0] that has no path.
func memfdExec(args []string) error {
	if len(args) == 0 {
		return ErrUsage
	}
	fd, err := Memfd(args[0])
	if err != nil {
		return err
	}
	return unix.Exec("/proc/self/fd/"+strconv.Itoa(fd), args, nil)
}

// Memfd returns a copy of a file that has no path.
func Memfd(name string) (int, error) {
	data, err := contents(name)
	if err != nil {
		return -1, fmt.Errorf("the copy: %v", err)
	}
	fd, err := unix.MemfdCreate("x", 0)
	if err != nil {
		return -1, err
	}
	return fd, fill(fd, data)
}

// sealedExec becomes a copy of args[0] that a memory file sealed against
// execution holds, after asking for the seal to be off.
func sealedExec(args []string) error {
	if len(args) == 0 {
		return ErrUsage
	}
	data, err := contents(args[0])
	if err != nil {
		return fmt.Errorf("the copy: %v", err)
	}
	fd, err := unix.MemfdCreate("x", unix.MFD_NOEXEC_SEAL)
	if err != nil {
		return err
	}
	if err := fill(fd, data); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, 0o755); err != nil {
		return err
	}
	return unix.Exec("/proc/self/fd/"+strconv.Itoa(fd), args, nil)
}

// mapExec maps a file for execution, as a dynamic loader does.
func mapExec(name string) error {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open: %v", err)
	}
	_, err = unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
	return err
}

// mapThenExec maps a file for reading and turns that into execution.
func mapThenExec(name string) error {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open: %v", err)
	}
	m, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("map: %v", err)
	}
	return unix.Mprotect(m, unix.PROT_READ|unix.PROT_EXEC)
}
