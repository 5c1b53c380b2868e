package wasmfs

import (
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"io/fs"
	"path/filepath"
)

// onDisk is what a directory takes: the oracle of a budget. Sizes count where
// they are more than the blocks, so that holes are no way out.
func onDisk(t *testing.T, dir string) (bytes int64, entries int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		entries++
		info, err := d.Info()
		if err == nil && info.Mode().IsRegular() {
			bytes += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes, entries
}

func TestStorageBudget(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		budget := NewBudget(100_000)
		r := root(t, "/in", base)
		r.Storage = budget
		v := impl.view(t, Config{Roots: []Root{r}})
		d := v.at("/in")
		used := int64(0)
		step := func(what string, cost int64, errno, should Errno) {
			t.Helper()
			want(t, what, errno, should)
			used += cost
			if budget.Used() != used {
				t.Fatalf("%s: %d used, want %d", what, budget.Used(), used)
			}
			if disk, _ := onDisk(t, base); disk > used {
				t.Fatalf("%s: %d bytes on the disk, %d counted", what, disk, used)
			}
		}
		_, f, errno := d.Open("f", OpenFlags{Read: true, Write: true, Create: true})
		step("create", EntryCost, errno, Success)
		defer f.Close()
		_, errno = f.Write(make([]byte, 1000))
		step("write", 1000, errno, Success)
		_, errno = f.WriteAt(make([]byte, 1000), 0)
		step("write over", 1000, errno, Success)
		_, errno = f.WriteAt(make([]byte, 10), 4990)
		step("write behind a hole", 4000, errno, Success)
		_, errno = f.WriteAt(make([]byte, 20), 4990)
		step("write across the end", 20, errno, Success)
		step("longer", 990, f.SetSize(6000), Success)
		step("shorter", 0, f.SetSize(100), Success)
		step("longer again", 900, f.SetSize(1000), Success)
		step("much too long", 0, f.SetSize(1<<40), NoSpace)
		_, errno = f.WriteAt([]byte("x"), 1<<40)
		step("a far hole", 0, errno, NoSpace)
		f.Append = true
		_, errno = f.Write(make([]byte, 500))
		step("append", 500, errno, Success)
		f.Append = false
		if impl.name == "descriptors" || unix.Fallocate(int(openFile(t, base+"/f", os.O_WRONLY).Fd()), 0, 0, 10) == nil {
			step("allocate", 500, f.Allocate(0, 2000), Success)
			step("allocate too much", 0, f.Allocate(0, 1<<40), NoSpace)
		}
		step("mkdir", EntryCost, d.Mkdir("d"), Success)
		step("mkdir of what is there", 0, d.Mkdir("d"), Exists)
		step("symlink", EntryCost, d.Symlink("f", "s"), Success)
		step("symlink where one is", 0, d.Symlink("f", "s"), Exists)
		step("link", EntryCost, d.Link("f", false, d, "l"), Success)
		step("link where one is", 0, d.Link("f", false, d, "l"), Exists)
		step("rename", 0, d.Rename("l", d, "l2"), Success)
		step("unlink gives nothing back", 0, d.Unlink("l2"), Success)
		_, again, errno := d.Open("f", OpenFlags{Write: true, Create: true})
		closeIf(again)
		step("open what is there", 0, errno, Success)
		f.SetSize(0)
		left := 100_000 - used
		n, errno := f.WriteAt(make([]byte, left+1000), 0)
		step("the rest, and more", left, errno, Success)
		if int64(n) != left {
			t.Errorf("%d bytes were written of %d", n, left)
		}
		v.denied = nil
		_, errno = f.Write([]byte("x"))
		step("write", 0, errno, NoSpace)
		f.Append = true
		_, errno = f.Write([]byte("x"))
		step("append", 0, errno, NoSpace)
		step("create", 0, write(d, "new", ""), NoSpace)
		step("mkdir", 0, d.Mkdir("new"), NoSpace)
		step("symlink", 0, d.Symlink("f", "new"), NoSpace)
		step("link", 0, d.Link("f", false, d, "new"), NoSpace)
		v.recorded(Denial{"fd_write", "/in/f", "w", OverBudget}, Denial{"fd_write", "/in/f", "w", OverBudget},
			Denial{"path_open", "/in/new", "w", OverBudget}, Denial{"path_create_directory", "/in/new", "w", OverBudget},
			Denial{"path_symlink", "/in/new", "w", OverBudget}, Denial{"path_link", "/in/new", "w", OverBudget})
		if !budget.Exceeded() {
			t.Error("nobody is told that it was exceeded")
		}
		if got, errno := read(d, "f"); errno != Success || len(got) == 0 {
			t.Errorf("reading costs nothing: %v", errno)
		}
	})
}

// The control: without a budget the same is possible.
func TestNoStorageBudget(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		v := impl.view(t, Config{Roots: []Root{root(t, "/in", t.TempDir())}})
		_, f, errno := v.at("/in").Open("f", OpenFlags{Write: true, Create: true})
		want(t, "create", errno, Success)
		defer f.Close()
		want(t, "a sparse file of a gigabyte", f.SetSize(1<<30), Success)
	})
}

// A million empty files are a budget's matter, too (BUD-08).
func TestEntriesAreCounted(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		r := root(t, "/in", base)
		r.Storage = NewBudget(50*EntryCost + 100)
		d := impl.view(t, Config{Roots: []Root{r}}).at("/in")
		for i := 0; ; i++ {
			if errno := d.Mkdir(string(rune('a'+i/26)) + string(rune('a'+i%26))); errno != Success {
				want(t, "mkdir", errno, NoSpace)
				break
			}
		}
		if _, entries := onDisk(t, base); entries != 50 {
			t.Errorf("%d were made", entries)
		}
	})
}

// A budget that several guests share is never exceeded.
func TestSharedBudget(t *testing.T) {
	b := NewBudget(10_000)
	var all sync.WaitGroup
	got := make([]int64, 8)
	for i := range got {
		all.Go(func() {
			for range 1000 {
				if i%2 == 0 {
					got[i] += b.takeUpTo(7)
				} else if b.take(7) == nil {
					got[i] += 7
				}
			}
		})
	}
	all.Wait()
	sum := int64(0)
	for _, n := range got {
		sum += n
	}
	if sum != b.Used() || sum > 10_000 || sum < 10_000-7 {
		t.Errorf("%d given out, %d counted", sum, b.Used())
	}
}
