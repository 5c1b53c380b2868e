// Guest is a program for WASI that does what it is told, one word an act, and
// says what came of it. Its library is Go's own: what it does to files, a Go
// program does.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	for _, word := range os.Args[1:] {
		name, arg, _ := strings.Cut(word, "=")
		act, ok := acts[name]
		if !ok {
			fmt.Println("no such act:", name)
			os.Exit(2)
		}
		if out, err := act(arg); err != nil {
			fmt.Printf("%s: %v\n", word, describe(err))
		} else {
			fmt.Printf("%s: ok %s\n", word, out)
		}
	}
	os.Exit(7)
}

// describe names the kind of an error that programs ask for.
func describe(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "does not exist"
	case errors.Is(err, fs.ErrPermission):
		return "permission"
	case errors.Is(err, fs.ErrExist):
		return "exists"
	}
	return err.Error()
}

var acts = map[string]func(string) (string, error){
	"read": func(p string) (string, error) {
		b, err := os.ReadFile(p)
		return string(b), err
	},
	"write": func(p string) (string, error) { return "", os.WriteFile(p, []byte("guest"), 0o644) },
	"append": func(p string) (string, error) {
		f, err := os.OpenFile(p, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			return "", err
		}
		defer f.Close()
		_, err = f.WriteString("+more")
		return "", err
	},
	"update": func(p string) (string, error) {
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		if err != nil {
			return "", err
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte("GUEST"), 0); err != nil {
			return "", err
		}
		if err := f.Truncate(7); err != nil {
			return "", err
		}
		if _, err := f.Seek(1, io.SeekStart); err != nil {
			return "", err
		}
		b, err := io.ReadAll(f)
		return string(b), errors.Join(err, f.Sync())
	},
	"mkdirs": func(p string) (string, error) { return "", os.MkdirAll(p, 0o755) },
	"remove": func(p string) (string, error) { return "", os.RemoveAll(p) },
	"list": func(p string) (string, error) {
		list, err := os.ReadDir(p)
		var names []string
		for _, e := range list {
			names = append(names, fmt.Sprintf("%s %v", e.Name(), e.Type()))
		}
		return strings.Join(names, ", "), err
	},
	"walk": func(p string) (string, error) {
		var names []string
		err := filepath.WalkDir(p, func(p string, d fs.DirEntry, err error) error {
			names = append(names, p)
			return err
		})
		return strings.Join(names, " "), err
	},
	"rename": func(p string) (string, error) { return "", os.Rename(p, p+"2") },
	"symlink": func(p string) (string, error) {
		target, p, _ := strings.Cut(p, "->")
		return "", os.Symlink(target, p)
	},
	"readlink": func(p string) (string, error) { return os.Readlink(p) },
	"link":     func(p string) (string, error) { return "", os.Link(p, p+"3") },
	"stat": func(p string) (string, error) {
		info, err := os.Lstat(p)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%v %d", info.Mode().Type(), info.Size()), nil
	},
	"times": func(p string) (string, error) {
		when := time.Unix(1_000_000_000, 123_456_789)
		return "", os.Chtimes(p, when, when)
	},
	"stdin": func(string) (string, error) {
		var lines []string
		s := bufio.NewScanner(os.Stdin)
		for s.Scan() {
			lines = append(lines, s.Text())
		}
		return strings.Join(lines, "|"), s.Err()
	},
	"env":   func(string) (string, error) { return strings.Join(os.Environ(), " "), nil },
	"cwd":   func(string) (string, error) { return os.Getwd() },
	"sleep": func(string) (string, error) { time.Sleep(time.Millisecond); return "", nil },
	"both": func(string) (string, error) { // a timer and input at the same time
		lines := make(chan string)
		go func() {
			s := bufio.NewScanner(os.Stdin)
			s.Scan()
			lines <- s.Text()
		}()
		time.Sleep(time.Millisecond)
		return <-lines, nil
	},
}
