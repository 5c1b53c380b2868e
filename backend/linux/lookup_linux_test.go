package linux

import (
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pieces are what paths and targets of links are put together from. A tree that
// has few names is full of links that lead somewhere.
var pieces = []string{"a", "b", "c", "..", ".", "", "a/b", "../c"}

// reading takes numbers from data, and zeros when there are no more.
type reading struct{ data []byte }

func (r *reading) next(n int) int {
	if len(r.data) == 0 {
		return 0
	}
	b := r.data[0]
	r.data = r.data[1:]
	return int(b) % n
}

// route is a path of up to five pieces: relative, or below root.
func (r *reading) route(root string) string {
	n := r.next(10)
	parts := make([]string, 1+n/2)
	for i := range parts {
		parts[i] = pieces[r.next(len(pieces))]
	}
	p := strings.Join(parts, "/")
	if n%2 == 1 || p == "" {
		return root + "/" + p
	}
	return p
}

// grow makes a tree of directories, files and links, and chains of links that
// are about as long as the kernel follows. What cannot be made is left out.
func (r *reading) grow(t *testing.T, root string) {
	for range 24 {
		if len(r.data) == 0 {
			return
		}
		at := path.Join(root, strings.TrimLeft(r.route(root), "/"))
		if !within(at, root) || at == root {
			continue
		}
		switch r.next(6) {
		case 0, 1:
			_ = os.MkdirAll(at, 0o755)
		case 2:
			if f, err := os.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644); err == nil {
				f.Close()
			}
		case 3, 4:
			_ = os.Symlink(r.route(root), at)
		case 5:
			if os.Chmod(at, 0) == nil {
				t.Cleanup(func() { _ = os.Chmod(at, 0o755) })
			}
			if n := r.next(8); n > 3 {
				for i := range 36 + n {
					_ = os.Symlink("chain"+strconv.Itoa(i), root+"/chain"+strconv.Itoa(i+1))
				}
				_ = os.Symlink(r.route(root), root+"/chain0")
				_ = os.Symlink(root+"/chain"+strconv.Itoa(36+n), at)
			}
		}
	}
}

// kernelSees is what the kernel makes of name: it opens what is there and says
// where that is.
func kernelSees(t *testing.T, name string) (where string, st unix.Stat_t, err error) {
	fd := -1
	// A walk that starts over, because it met what is not cached, counts its
	// links twice (total_link_count in fs/namei.c): the next one does not.
	for tries := 0; tries == 0 || tries < 10 && err == unix.ELOOP; tries++ {
		fd, err = unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return "", st, err
	}
	defer unix.Close(fd)
	if where, err = os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return where, st, nil
}

// A look-up ends where the kernel's own does, or fails as that does, whatever
// links are on the way; and the links it notes are there.
func FuzzLookup(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("a tree that grows out of a sentence, at random, with links"))
	f.Add([]byte{0, 0, 2, 0, 1, 3, 2, 0, 3, 0, 2, 3, 2, 0, 5})             // a is a file, b -> a/.., c -> a/
	f.Add([]byte{0, 0, 2, 0, 1, 3, 2, 0, 4})                               // a is a file, b -> a/.
	f.Add([]byte{0, 6, 0, 0, 2, 3, 2, 6, 7})                               // a/b is a directory, c -> a/b/../c
	f.Add([]byte{0, 0, 3, 0, 1, 0, 1, 3, 0, 0})                            // a -> b, b -> a
	f.Add([]byte{0, 0, 0, 0, 0, 5, 0, 0, 1, 3, 2, 0, 3, 0, 2, 3, 2, 0, 4}) // a may not be searched, b -> a/.., c -> a/.
	f.Add([]byte{0, 1, 0, 0, 0, 2, 0, 0, 5, 4, 0, 1, 0})                   // as many links in a row as there may be
	f.Add([]byte{0, 1, 0, 0, 0, 2, 0, 0, 5, 5, 0, 1, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		root, err := filepath.EvalSymlinks(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		r := &reading{data}
		r.grow(t, root)
		var names []string
		for range 3 {
			names = append(names, path.Join(root, r.route("")))
		}
		for _, n := range []string{"a", "b", "c", "a/b", "b/a", "c/a", "a/b/c", "chain40", "chain39"} {
			names = append(names, root+"/"+n)
		}
		for _, name := range names {
			checkLookup(t, name)
		}
	})
}

func checkLookup(t *testing.T, name string) {
	t.Helper()
	where, st, want := kernelSees(t, name)
	p, err := lookup(name)
	if err != want {
		t.Fatalf("lookup(%q): %v, the kernel says %v", name, err, want)
	}
	if err != nil {
		return
	}
	defer unix.Close(p.fd)
	if p.path != where || p.stat.Ino != st.Ino || p.stat.Dev != st.Dev {
		t.Fatalf("lookup(%q): %s, inode %d; the kernel says %s, inode %d", name, p.path, p.stat.Ino, where, st.Ino)
	}
	for _, l := range p.links {
		target, err := os.Readlink(l.Path)
		dir, _, dirErr := kernelSees(t, path.Dir(l.Path))
		if err != nil || target != l.Target || dirErr != nil || dir != path.Dir(l.Path) {
			t.Fatalf("lookup(%q) noted the link %+v; the kernel says %q %v, in %q %v", name, l, target, err, dir, dirErr)
		}
	}
}
