package victim

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func fileActs() map[string]Act {
	return map[string]Act{
		"exit":      One(exit),
		"read":      One(read),
		"write":     One(write),
		"list":      One(list),
		"stat":      One(func(p string) error { return unix.Lstat(p, new(unix.Stat_t)) }),
		"create":    One(create),
		"mkdir":     One(func(p string) error { return unix.Mkdir(p, 0o755) }),
		"mkfifo":    One(func(p string) error { return unix.Mkfifo(p, 0o644) }),
		"rmdir":     One(unix.Rmdir),
		"unlink":    One(unix.Unlink),
		"chdir":     One(unix.Chdir),
		"rename":    Two(unix.Rename),
		"link":      Two(unix.Link),
		"symlink":   Two(unix.Symlink),
		"truncate":  One(func(p string) error { return unix.Truncate(p, 0) }),
		"chmod":     One(func(p string) error { return unix.Chmod(p, 0o600) }),
		"chown":     One(func(p string) error { return unix.Lchown(p, os.Getuid(), os.Getgid()) }),
		"utimes":    One(func(p string) error { return unix.UtimesNano(p, make([]unix.Timespec, 2)) }),
		"setxattr":  One(func(p string) error { return unix.Lsetxattr(p, "user.bvisor", []byte("x"), 0) }),
		"read-each": readEach,
		"copy-each": copyEach,
	}
}

// exit ends with the given status, or fails if it is no number.
func exit(status string) error {
	var n int
	if _, err := fmt.Sscan(status, &n); err != nil {
		return err
	}
	os.Exit(n)
	return nil
}

// read prints what a file holds.
func read(name string) error {
	data, err := contents(name)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(data)
	return err
}

// readEach prints all that can be read of several files.
func readEach(args []string) error {
	for _, name := range args {
		data, _ := contents(name) // what cannot be read prints nothing
		if _, err := os.Stdout.Write(append(data, '\n')); err != nil {
			return err
		}
	}
	return nil
}

func contents(name string) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var data []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return data, nil
		}
		data = append(data, buf[:n]...)
	}
}

// Mark is what acts write.
const Mark = "the victim was here\n"

// write puts Mark over what an existing file begins with.
func write(name string) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return fill(fd, []byte(Mark))
}

// create makes a file that must not exist, and puts Mark into it.
func create(name string) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return fill(fd, []byte(Mark))
}

func fill(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// copyFile makes a copy that must not exist yet, executable if it can be.
func copyFile(from, to string) error {
	data, err := contents(from)
	if err != nil {
		return err
	}
	fd, err := unix.Open(to, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o755)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return fill(fd, data)
}

// copyEach copies pairs of files and prints how each ended: 0 or the number of
// its error.
func copyEach(args []string) error {
	if len(args)%2 != 0 {
		return ErrUsage
	}
	var ends []string
	for i := 0; i < len(args); i += 2 {
		n := unix.Errno(0)
		if err := copyFile(args[i], args[i+1]); err != nil && !errors.As(err, &n) {
			return err
		}
		ends = append(ends, strconv.Itoa(int(n)))
	}
	_, err := os.Stdout.WriteString(strings.Join(ends, " "))
	return err
}

// list prints the names in a directory, one per line.
func list(name string) error {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var names []string
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
	_, err = os.Stdout.WriteString(strings.Join(names, "\n"))
	return err
}
