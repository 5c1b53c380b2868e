package durable

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func open(t *testing.T) *Dir {
	t.Helper()
	path := filepath.Join(t.TempDir(), "d")
	if err := MkdirAll(path); err != nil {
		t.Fatal(err)
	}
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestCreateNeverReplaces(t *testing.T) {
	d := open(t)
	if err := d.Create("a", []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Create("a", []byte("two"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second Create: %v, want fs.ErrExist", err)
	}
	wantFile(t, d, "a", "one")
}

// The way for file systems without nameless files keeps the same promises.
func TestCreateNamedNeverReplaces(t *testing.T) {
	d := open(t)
	if err := d.createNamed("a", []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.createNamed("a", []byte("two"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second createNamed: %v, want fs.ErrExist", err)
	}
	wantFile(t, d, "a", "one")
	wantOnly(t, d.Path(), "a")
}

func TestCreateDoesNotFollowALink(t *testing.T) {
	d := open(t)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Symlink(outside, filepath.Join(d.Path(), "a")); err != nil {
		t.Fatal(err)
	}
	if err := d.Create("a", []byte("x"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create over a dangling link: %v, want fs.ErrExist", err)
	}
	if _, err := os.Lstat(outside); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the link's target: %v, want it absent", err)
	}
	if err := d.WriteFile("a", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(outside); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the link's target after WriteFile: %v, want it absent", err)
	}
	wantFile(t, d, "a", "x")
}

func TestWriteFileReplaces(t *testing.T) {
	d := open(t)
	for _, want := range []string{"one", "", strings.Repeat("long", 100_000)} {
		if err := d.WriteFile("a", []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		wantFile(t, d, "a", want)
	}
	wantOnly(t, d.Path(), "a")
	info, err := d.Stat("a")
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
}

func TestOneOfManyCreatesWins(t *testing.T) {
	d := open(t)
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			err := d.Create("a", bytes.Repeat([]byte{byte('a' + i)}, 5000), 0o600)
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of 16 made the same file, want 1", won.Load())
	}
	data, err := d.ReadFile("a")
	if err != nil || len(data) != 5000 || bytes.Count(data, data[:1]) != 5000 {
		t.Errorf("the file mixes writers or is not whole: %d bytes, %v", len(data), err)
	}
	wantOnly(t, d.Path(), "a")
}

func TestNamesShowsFinishedFilesOnly(t *testing.T) {
	d := open(t)
	for _, name := range []string{"b", "a"} {
		if err := d.Create(name, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(d.Path(), tempPrefix+"left"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(d.Path(), "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	names, err := d.Names()
	if err != nil || !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("Names: %q, %v, want a and b", names, err)
	}
}

func TestRemove(t *testing.T) {
	d := open(t)
	if err := d.Create("a", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove("a"); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("second Remove: %v, want fs.ErrNotExist", err)
	}
	if _, err := d.ReadFile("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadFile: %v, want fs.ErrNotExist", err)
	}
}

func TestNamesAreOfThisDirectory(t *testing.T) {
	d := open(t)
	for _, name := range []string{"", ".", "..", "a/b", "../a", "/a", tempPrefix + "a"} {
		if err := d.Create(name, nil, 0o600); err == nil || !strings.Contains(err.Error(), "bug:") {
			t.Errorf("Create(%q): %v, want a bug", name, err)
		}
		if err := d.WriteFile(name, nil, 0o600); err == nil || !strings.Contains(err.Error(), "bug:") {
			t.Errorf("WriteFile(%q): %v, want a bug", name, err)
		}
	}
	wantOnly(t, filepath.Dir(d.Path()), "d")
}

func TestWritableLeavesNothing(t *testing.T) {
	d := open(t)
	if err := d.Writable(1 << 20); err != nil {
		t.Fatal(err)
	}
	if err := d.tryNamed(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	wantOnly(t, d.Path())
}

func TestWritableNoticesAMovedDirectory(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("need a system that renames open directories: windows does not")
	}
	d := open(t)
	if err := os.Rename(d.Path(), d.Path()+".old"); err != nil {
		t.Fatal(err)
	}
	if err := d.Writable(1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("moved away: %v, want fs.ErrNotExist", err)
	}
	if err := os.Mkdir(d.Path(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.Writable(1); err == nil || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("replaced: %v, want that said", err)
	}
}

func TestMkdirAll(t *testing.T) {
	top := t.TempDir()
	path := filepath.Join(top, "a", "b", "c")
	for range 2 {
		if err := MkdirAll(path); err != nil {
			t.Fatal(err)
		}
	}
	for p := path; p != top; p = filepath.Dir(p) {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && info.Mode() != fs.ModeDir|0o700 {
			t.Errorf("%s: mode %v, want drwx------", p, info.Mode())
		}
	}
}

func TestMkdirAllThroughALink(t *testing.T) {
	top := t.TempDir()
	if err := os.Mkdir(filepath.Join(top, "real"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", filepath.Join(top, "link")); err != nil {
		t.Fatal(err)
	}
	if err := MkdirAll(filepath.Join(top, "link", "a")); err != nil {
		t.Fatal(err)
	}
	wantOnly(t, filepath.Join(top, "real"), "a")
}

func TestBadDirectoriesAreNamed(t *testing.T) {
	top := t.TempDir()
	file := filepath.Join(top, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(top, "link")
	if err := os.Symlink(top, link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		do   func(string) error
		path string
		want string
	}{
		{openOnly, file, "not a directory"},
		{openOnly, link, "symbolic link"},
		{openOnly, filepath.Join(top, "absent"), "no such file"},
		{MkdirAll, file, "not a directory"},
		{MkdirAll, link, "symbolic link"},
		{MkdirAll, filepath.Join(file, "x"), "not a directory"},
	} {
		err := c.do(c.path)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), top) {
			t.Errorf("%s: %v, want %q and the path", c.path, err, c.want)
		}
	}
}

func openOnly(path string) error {
	d, err := OpenDir(path)
	if err == nil {
		d.Close()
	}
	return err
}

func wantFile(t *testing.T, d *Dir, name, want string) {
	t.Helper()
	got, err := d.ReadFile(name)
	if err != nil || string(got) != want {
		t.Errorf("%s holds %d bytes, %v; want the %d written", name, len(got), err, len(want))
	}
}

// wantOnly fails if the directory holds anything else, temporary files included.
func wantOnly(t *testing.T, path string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s holds %q, want %q", path, got, want)
	}
}
