package wasmfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// implementation is one of the two ways to hold a directory.
type implementation struct {
	name string
	open func(*os.File) (hostDir, error)
}

var implementations = []implementation{{"descriptors", openHostDir}, {"os.Root", openRootDir}}

// box is a view in a test, and what it recorded.
type box struct {
	*FS
	t      testing.TB
	denied []Denial
}

// both runs a test with each implementation.
func both(t *testing.T, run func(t *testing.T, impl implementation)) {
	for _, impl := range implementations {
		t.Run(impl.name, func(t *testing.T) { run(t, impl) })
	}
}

func (impl implementation) view(t testing.TB, c Config) *box {
	t.Helper()
	b, err := impl.try(t, c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (impl implementation) try(t testing.TB, c Config) (*box, error) {
	b := &box{t: t}
	c.Denied = func(d Denial) { b.denied = append(b.denied, d) }
	var err error
	if b.FS, err = newFS(c, impl.open, false); err == nil {
		t.Cleanup(b.Close)
	}
	return b, err
}

// at is the directory of the view at an absolute path.
func (b *box) at(p string) *Dir {
	b.t.Helper()
	d, err := b.rootDir().openDirectory(strings.TrimPrefix(p, "/"))
	if err != nil {
		b.t.Fatalf("%s: %v", p, err)
	}
	b.t.Cleanup(func() { d.Close() })
	return d
}

// read reads a whole file of the view.
func read(d *Dir, p string) (string, Errno) {
	dir, f, errno := d.Open(p, OpenFlags{Read: true, Follow: true})
	if dir != nil {
		dir.Close()
		return "", IsDir
	}
	if errno != Success {
		return "", errno
	}
	defer f.Close()
	buf := make([]byte, 1<<16)
	n, errno := f.Read(buf)
	return string(buf[:n]), errno
}

// write replaces a file of the view.
func write(d *Dir, p, data string) Errno {
	_, f, errno := d.Open(p, OpenFlags{Write: true, Create: true, Truncate: true, Follow: true})
	if errno != Success {
		return errno
	}
	defer f.Close()
	_, errno = f.Write([]byte(data))
	return errno
}

func openFile(t testing.TB, name string, flag int) *os.File {
	t.Helper()
	f, err := os.OpenFile(name, flag, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func openPath(t testing.TB, name string) *os.File { return openFile(t, name, unix.O_PATH) }

// root is a directory that is granted for reading and writing.
func root(t testing.TB, at, host string) Root {
	return Root{Path: at, File: openPath(t, host), Read: true, Write: true}
}

// plant makes files (name=content), directories (name/) and links (name->target).
func plant(t testing.TB, dir string, list ...string) {
	t.Helper()
	for _, entry := range list {
		var err error
		if name, target, ok := strings.Cut(entry, "->"); ok {
			err = os.Symlink(target, filepath.Join(dir, name))
		} else if name, content, ok := strings.Cut(entry, "="); ok {
			if err = os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err == nil {
				err = os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644)
			}
		} else {
			err = os.MkdirAll(filepath.Join(dir, entry), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// tree says all there is below a directory: the oracle on the host's disk.
func tree(t testing.TB, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		switch {
		case d.IsDir():
			list = append(list, name+"/")
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			list = append(list, name+"->"+target)
		case d.Type().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil && !errors.Is(err, fs.ErrPermission) {
				return err
			}
			list = append(list, name+"="+string(b))
		default:
			list = append(list, fmt.Sprintf("%s %v", name, d.Type()))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// unchanged fails if something below dir is not as it was, times included.
func unchanged(t testing.TB, dir string, do func()) {
	t.Helper()
	times := func() (list []string) {
		filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if info, err := d.Info(); err == nil {
				list = append(list, fmt.Sprint(p, info.Mode(), info.ModTime(), info.Size()))
			}
			return nil
		})
		return list
	}
	before, beforeTimes := tree(t, dir), times()
	do()
	if after := tree(t, dir); !slices.Equal(before, after) {
		t.Errorf("the disk has changed:\n%q\n%q", before, after)
	}
	if after := times(); !slices.Equal(beforeTimes, after) {
		t.Errorf("times, modes or sizes have changed:\n%q\n%q", beforeTimes, after)
	}
}

func want(t testing.TB, what string, got, want Errno) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// recorded fails unless exactly the given denials were recorded since the last
// look: call, path and reason.
func (b *box) recorded(list ...Denial) {
	b.t.Helper()
	if !slices.Equal(b.denied, list) {
		b.t.Errorf("recorded:\n%+v\nwant\n%+v", b.denied, list)
	}
	b.denied = nil
}
