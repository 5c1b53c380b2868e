package victim

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func fillActs() map[string]Act {
	return map[string]Act{
		"device":           One(device),
		"readable-to-root": One(readableToRoot),
		"fill":             func(args []string) error { return fillDirs(args, endless) },
		"fill-two":         func(args []string) error { return fillDirs(args, endless) },
		"fill-some":        Two(fillSome),
		"fill-again":       Two(fillAgain),
		"fill-names":       One(fillNames),
	}
}

const endless = 1 << 40

// device prints which device a file is.
func device(name string) error {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return err
	}
	_, err := fmt.Fprintf(os.Stdout, "%o %d:%d", st.Mode&unix.S_IFMT, unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
	return err
}

// readableToRoot prints the files at most three levels below dir that can be
// read though their mode keeps everybody but their owner from it. Processes are
// left out, since what is the victim's own it may read, and so are settings:
// no sysctl(8) holds what another process has.
func readableToRoot(dir string) error {
	var found []string
	var walk func(dir string, depth int)
	walk = func(dir string, depth int) {
		names, _ := entries(dir) // closed is what it should be
		for _, n := range names {
			name := path.Join(dir, n)
			if _, err := strconv.Atoi(n); err == nil && dir == "/proc" || n == "kmsg" || n == "self" || n == "thread-self" || n == "net" || name == "/proc/sys" {
				continue // reading kmsg waits for the next message
			}
			var st unix.Stat_t
			if unix.Lstat(name, &st) != nil {
				continue
			}
			switch st.Mode & unix.S_IFMT {
			case unix.S_IFDIR:
				if depth < 3 {
					walk(name, depth+1)
				}
			case unix.S_IFREG:
				if st.Mode&0o044 == 0 && canRead(name) {
					found = append(found, name)
				}
			}
		}
	}
	walk(dir, 0)
	_, err := os.Stdout.WriteString(strings.Join(found, "\n"))
	return err
}

func canRead(name string) bool {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	_, err = unix.Read(fd, make([]byte, 512))
	return err == nil
}

// fillDirs writes a file in each directory until there is no more room, and
// prints how many bytes that took in all.
func fillDirs(dirs []string, limit int) error {
	total := 0
	var last error
	for _, dir := range dirs {
		n, err := fillFile(path.Join(dir, "fill"), limit)
		total += n
		last = err
	}
	fmt.Fprint(os.Stdout, total)
	return last
}

func fillFile(name string, limit int) (int, error) {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	block := make([]byte, 64<<10)
	for i := range block {
		block[i] = byte(i)
	}
	total := 0
	for total < limit {
		n, err := unix.Write(fd, block[:min(len(block), limit-total)])
		if err != nil {
			return total, err
		}
		total += n
	}
	return total, nil
}

func fillSome(dir, bytes string) error {
	n, err := strconv.Atoi(bytes)
	if err != nil {
		return err
	}
	return fillDirs([]string{dir}, n)
}

// fillAgain writes and removes that many bytes a few times.
func fillAgain(dir, bytes string) error {
	for range 5 {
		if err := fillSome(dir, bytes); err != nil {
			return err
		}
		if err := unix.Unlink(path.Join(dir, "fill")); err != nil {
			return err
		}
	}
	return nil
}

// fillNames makes empty files until there can be no more, and prints how many.
func fillNames(dir string) error {
	for i := range 1 << 20 {
		fd, err := unix.Open(path.Join(dir, "n"+strconv.Itoa(i)), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
		if err != nil {
			fmt.Fprint(os.Stdout, i)
			return err
		}
		unix.Close(fd)
	}
	return nil
}
