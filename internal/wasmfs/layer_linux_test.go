package wasmfs

import (
	"os"
	"path/filepath"
	"testing"
)

// What a layer has to copy is paid for once, before it is copied; what the guest
// made itself is there already.
func TestLayerBudget(t *testing.T) {
	both(t, func(t *testing.T, impl implementation) {
		base := t.TempDir()
		plant(t, base, "a=aaaaa", "b=bb", "c=ccc", "d=", "link->a", "dir/in=in", "large=")
		if err := os.Truncate(filepath.Join(base, "large"), 1<<40); err != nil {
			t.Fatal(err)
		}
		r := root(t, "/in", base)
		r.Storage, r.Held = NewBudget(200_000), true
		v := impl.view(t, Config{Roots: []Root{r}})
		d := v.at("/in")
		used := int64(0)
		step := func(what string, cost int64, errno, should Errno) {
			t.Helper()
			want(t, what, errno, should)
			if used += cost; r.Storage.Used() != used {
				t.Fatalf("%s: %d used, want %d", what, r.Storage.Used(), used)
			}
		}
		open := func(name string, o OpenFlags) Errno {
			_, f, errno := d.Open(name, o)
			closeIf(f)
			return errno
		}
		step("read", 0, open("a", OpenFlags{Read: true}), Success)
		step("open for writing", EntryCost+5, open("a", OpenFlags{Write: true}), Success)
		step("again", 0, open("a", OpenFlags{Read: true, Write: true}), Success)
		step("another name of what is copied", EntryCost, d.Link("a", false, d, "a2"), Success)
		step("open that", 0, open("a2", OpenFlags{Write: true}), Success)
		step("another name of what is not", 2*EntryCost+2, d.Link("b", false, d, "b2"), Success)
		step("rename", EntryCost+3, d.Rename("c", d, "c2"), Success)
		step("rename back", 0, d.Rename("c2", d, "c"), Success)
		step("rename a link", EntryCost, d.Rename("link", d, "link2"), Success)
		_, f, errno := d.Open("d", OpenFlags{Read: true})
		step("read an empty file", 0, errno, Success)
		defer f.Close()
		if impl.name == "descriptors" { // elsewhere times of a file that is open to read may not be set
			step("its times", EntryCost, f.SetTimes(Time{Set: true, Nano: 1}, Time{}), Success)
			step("once more, by its name", 0, d.SetTimes("d", false, Time{Set: true, Nano: 2}, Time{}), Success)
		}
		step("a directory's times", 0, d.SetTimes("dir", false, Time{Set: true, Nano: 2}, Time{}), Success)
		step("create", EntryCost, open("new", OpenFlags{Write: true, Create: true}), Success)
		step("open what was made", 0, open("new", OpenFlags{Write: true}), Success)
		step("remove", 0, d.Unlink("dir/in"), Success)
		step("more than there is room for", 0, open("large", OpenFlags{Write: true}), NoSpace)
		step("that by another name", 0, d.Rename("large", d, "larger"), NoSpace)
		v.recorded(Denial{"path_open", "/in/large", "w", OverBudget}, Denial{"path_rename", "/in/larger", "w", OverBudget})
		if !r.Storage.Exceeded() {
			t.Error("nobody is told that it was exceeded")
		}
	})
}
