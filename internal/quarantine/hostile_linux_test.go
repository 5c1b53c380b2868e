package quarantine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/need"
)

// A file that somebody wrote and gave its old times is one that the host changed.
func TestTimesThatWereSetBack(t *testing.T) {
	b := newBench(t)
	info, err := os.Stat(b.host + "/changed")
	must(t, err)
	b.collect(t)
	write(t, b.host+"/changed", "CHANGED") // as many bytes
	must(t, os.Chtimes(b.host+"/changed", time.Time{}, info.ModTime()))
	if r := b.commit(t, Options{}); r.Conflicts != 1 || files(t, b.host)["changed"] != "CHANGED" {
		t.Errorf("got %+v, and the host has %v", r, files(t, b.host))
	}
	// The control: with its old contents, too, it is as the run saw it.
	write(t, b.host+"/changed", "changed")
	if r := b.commit(t, Options{}); r.Conflicts != 0 || files(t, b.host)["changed"] != want["changed"] {
		t.Errorf("got %+v, and the host has %v", r, files(t, b.host))
	}
}

// What the host makes in the place of something whose removal was cut short is
// the host's.
func TestMadeAgainAfterACutRemoval(t *testing.T) {
	b := newBench(t)
	b.collect(t)
	c := committer{temp: fmt.Sprintf(".bvisor-%.12s-0-", attempt)}
	must(t, os.Rename(b.host+"/gone", filepath.Join(b.host, c.tempName(&Entry{Path: "gone"}))))
	write(t, b.host+"/gone", "mine")
	if r := b.commit(t, Options{}); r.Conflicts != 1 || r.Problems[0].Path != "gone" || files(t, b.host)["gone"] != "mine" {
		t.Errorf("got %+v, and the host has %v", r, files(t, b.host))
	}
	noLeftovers(t, b.host)
	if r := b.commit(t, Options{Force: true}); r.Conflicts+r.Failed != 0 || !alike(files(t, b.host), want) {
		t.Errorf("by force: %+v, and the host has %v", r, files(t, b.host))
	}
}

// A FIFO in the place of a file that is about to be read does not stop the commit.
func TestFIFOIsNotRead(t *testing.T) {
	dir := t.TempDir()
	must(t, unix.Mkfifo(dir+"/fifo", 0o600))
	both, err := unix.Open(dir+"/fifo", unix.O_RDWR, 0) // without a writer the read would end
	must(t, err)
	defer unix.Close(both)
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(fd)
	if _, err := sum(fd, "fifo", 0); err == nil {
		t.Error("it has a digest")
	}
}

// The longest line that there can be: a path, and the targets of two links, of
// bytes that take six each.
func TestLongestLine(t *testing.T) {
	b := newBench(t)
	const control = "\x01"
	// Of every tree the same directories, as long as a path may be.
	open := func(top string) int {
		at, err := unix.Open(top, unix.O_PATH|unix.O_DIRECTORY, 0)
		must(t, err)
		for left := MaxPath - len(b.host) - 1; left > 1; {
			n := min(left-2, 255)
			left -= n + 1
			must(t, unix.Mkdirat(at, strings.Repeat(control, n), 0o755))
			next, err := unix.Openat(at, strings.Repeat(control, n), unix.O_PATH|unix.O_DIRECTORY, 0)
			must(t, err)
			unix.Close(at)
			at = next
		}
		return at
	}
	host, upper := open(b.host), open(b.upper)
	defer unix.Close(host)
	defer unix.Close(upper)
	target := strings.Repeat(control, MaxPath-1)
	must(t, unix.Symlinkat(target+"\x02", host, "l"))
	must(t, unix.Symlinkat(target+"\x03", upper, "l"))
	must(t, unix.Mknodat(host, "g", unix.S_IFREG|0o644, 0))
	must(t, unix.Mknodat(upper, "g", unix.S_IFCHR, 0))
	b.collect(t)
	if r := b.commit(t, Options{}); r.Conflicts+r.Failed+r.Refused != 0 {
		t.Fatalf("got %.300s", fmt.Sprint(r))
	}
	if got, err := readlink(host, "l"); got != target+"\x03" {
		t.Errorf("the link has %d bytes, %v", len(got), err)
	}
	if st, err := stat(host, "g"); st != nil || err != nil {
		t.Errorf("what was removed is there: %v", err)
	}
}

// Somebody who exchanges a directory with a link all the while does not lead a
// commit out of the tree. Who writes by path is led out.
func TestSwapsWhileCommitting(t *testing.T) {
	b := newBench(t)
	for i := range 50 { // much to do in the directory, and at turns elsewhere
		write(t, fmt.Sprintf("%s/dir/new%d", b.upper, i), "led out")
		write(t, fmt.Sprintf("%s/made/new%d", b.upper, i), "in")
	}
	b.collect(t)
	outside := filepath.Join(filepath.Dir(b.host), "outside")
	write(t, outside+"/keep", "dir/keep")
	must(t, os.Symlink(outside, b.host+"/link"))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, b.host+"/dir", unix.AT_FDCWD, b.host+"/link", unix.RENAME_EXCHANGE)
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	led := func() int { return len(files(t, outside)) - 1 }
	for range need.Rounds(t, 10, 200) {
		r := b.commit(t, Options{})
		if n := led(); n > 0 || files(t, outside)["keep"] != "dir/keep" {
			t.Fatalf("%d files were led out: %+v", n, r)
		}
	}
	for i := 0; led() == 0; i++ { // the control
		if i == 100_000 {
			t.Fatal("the control was never led out")
		}
		_ = os.WriteFile(b.host+"/dir/control", []byte("control"), 0o644)
	}
}
