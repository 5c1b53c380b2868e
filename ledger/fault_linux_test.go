package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bvisor/bvisor/internal/need"
)

func init() { acts["endless"], acts["limited"] = endless, limitedAppend }

// A process that is killed while it appends takes nothing back that it
// acknowledged, and leaves a log that others go on with.
func TestKilledAppendersLoseNothing(t *testing.T) {
	d := open(t)
	path := d.Path()
	acked := 0
	for range need.Rounds(t, 30, 500) {
		cmd := exec.Command(os.Args[0], "endless")
		cmd.Env = append(os.Environ(), appenderVar+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// It is killed behind an acknowledgement, in the middle of the next.
		want := 1 + rand.IntN(40)
		var said bytes.Buffer
		buf := make([]byte, 1)
		for lines := 0; lines < want; {
			if _, err := out.Read(buf); err != nil {
				t.Fatalf("the appender ended: %s", said.String())
			}
			said.Write(buf)
			if buf[0] == '\n' {
				lines++
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		for line := range strings.Lines(said.String()) {
			var index int64
			var body string
			if _, err := fmt.Sscan(line, &index, &body); err != nil {
				t.Fatalf("it said %q: %v", line, err)
			}
			_, got, err := d.ReadAt(index)
			if err != nil || !strings.HasPrefix(string(got), body+" ") {
				t.Fatalf("entry %d was acknowledged with %s and holds %.40q, %v", index, body, got, err)
			}
			acked++
		}
		add(t, d, Disposition, id("a", 1), "between")
	}
	if _, err := verify(d); err != nil {
		t.Error(err)
	}
	t.Logf("%d acknowledged", acked)
}

// endless appends and tells the index and the beginning of each entry.
func endless(d *Dir) error {
	for {
		mark := fmt.Sprintf("%d", rand.Uint64())
		r, err := d.Append(Disposition, id("b", 1), append([]byte(mark+" "), bytes.Repeat([]byte("x"), rand.IntN(60_000))...))
		if err != nil {
			return err
		}
		fmt.Println(r.Index, mark)
	}
}

// Whatever a write leaves of itself, the log ends with the last whole commit,
// and the rest is moved away, not lost.
func TestTornTails(t *testing.T) {
	d := open(t)
	for i := range 3 {
		add(t, d, Intent, id("a", i), "kept")
	}
	whole := readFiles(t, d.Path())
	add(t, d, Intent, id("a", 3), "torn")
	more := readFiles(t, d.Path())[segment0]
	from := len(whole[segment0])
	for cut := from; cut < len(more); cut++ {
		dir := filepath.Join(t.TempDir(), "ledger")
		torn := bytes.Clone(more[:cut])
		if cut%3 == 0 { // a page that never came to the disk
			for i := from; i < (from+cut)/2; i++ {
				torn[i] = 0
			}
		}
		edited := files{"origin": whole["origin"], segment0: torn}
		edited.write(t, dir)
		d := openAt(t, dir)
		if n, err := d.Len(); err != nil || n != 3 {
			t.Fatalf("cut at %d: %d entries, %v", cut, n, err)
		}
		if cut > from {
			if seen := d.Torn(); len(seen) != 1 || seen[0].Bytes != int64(cut-from) || seen[0].Kept != "" {
				t.Fatalf("cut at %d: seen %+v", cut, seen)
			}
			var bad *Problem
			if _, err := verify(d); !errors.As(err, &bad) || bad.Check != CheckSegment {
				t.Fatalf("cut at %d: %v", cut, err)
			}
		}
		add(t, d, Intent, id("b", 1), "after")
		if seen := d.Torn(); cut > from {
			kept, err := os.ReadFile(seen[len(seen)-1].Kept)
			if err != nil || !bytes.Equal(kept, torn[from:]) {
				t.Fatalf("cut at %d: what was moved away is %q, %v", cut, kept, err)
			}
		}
		if v, err := verify(d); err != nil || v.Entries != 4 {
			t.Fatalf("cut at %d: %+v, %v", cut, v, err)
		}
		d.Close()
		os.RemoveAll(dir)
	}
}

// After a power cut a commit may end with its mark and lack its first half. The
// boot tells when to look.
func TestHolesOfAnotherBoot(t *testing.T) {
	d := open(t)
	d.boot = [16]byte{1}
	for i := range 3 {
		add(t, d, Intent, id("a", i), strings.Repeat("body", 50))
	}
	all := readFiles(t, d.Path())
	f := takeApart(t, all[segment0])
	at := bytes.LastIndex(all[segment0], f.frames[2]) + 200
	all[segment0][at] ^= 0xff
	dir := filepath.Join(t.TempDir(), "ledger")
	all.write(t, dir)
	d = openAt(t, dir)
	if n, err := d.Len(); err != nil || n != 2 || len(d.Torn()) != 1 {
		t.Errorf("%d entries, torn %v, %v; want 2 and a torn tail", n, d.Torn(), err)
	}
	add(t, d, Intent, id("a", 2), "again")
	if _, err := verify(d); err != nil {
		t.Error(err)
	}
}

// A crash between making a segment and its first commit leaves an empty file.
func TestEmptySegments(t *testing.T) {
	for _, n := range []int{0, width} {
		d := open(t)
		fillLarge(t, d, n, 10)
		dir := d.Path()
		if err := os.WriteFile(filepath.Join(dir, "segments", segmentName(int64(n/width))), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, d := range []*Dir{openAt(t, dir), d} {
			if got, err := d.Len(); err != nil || got != int64(n) {
				t.Errorf("%d entries, %v; want %d", got, err, n)
			}
		}
		d = openAt(t, dir)
		add(t, d, Intent, id("b", 1), "on")
		if v, err := verify(d); err != nil || v.Entries != int64(n+1) {
			t.Errorf("%+v, %v", v, err)
		}
	}
}

// What cannot be kept is not acknowledged, the error says why, and the log is
// as before.
func TestNoRoom(t *testing.T) {
	d := open(t)
	add(t, d, Intent, id("a", 1), "kept")
	out := limited(t, d.Path())
	if !strings.Contains(out, "ulimit -f") || !strings.Contains(out, "file too large") {
		t.Errorf("it said %q", out)
	}
	if v, err := verify(d); err != nil || v.Entries != 1 {
		t.Errorf("%+v, %v", v, err)
	}
	add(t, d, Report, id("a", 1), strings.Repeat("x", 100_000))
}

// limited appends what does not fit under RLIMIT_FSIZE, in a process of its own.
func limited(t *testing.T, path string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "limited")
	cmd.Env = append(os.Environ(), appenderVar+"="+path)
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Error("it was kept all the same")
	}
	return string(out)
}

func limitedAppend(d *Dir) error {
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 40_000, Max: 40_000}); err != nil {
		return err
	}
	_, err := d.Append(Report, id("b", 1), bytes.Repeat([]byte("x"), 100_000))
	return err
}

// A lock that others do not see is none.
func TestLostLock(t *testing.T) {
	d := open(t)
	add(t, d, Intent, id("a", 1), "kept")
	name := filepath.Join(d.Path(), "lock")
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Append(Report, id("a", 1), []byte("x")); err == nil || !strings.Contains(err.Error(), "is lost") {
		t.Errorf("without its lock: %v", err)
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Append(Report, id("a", 1), []byte("x")); err == nil || !strings.Contains(err.Error(), "was replaced") {
		t.Errorf("with another lock: %v", err)
	}
	add(t, openAt(t, d.Path()), Report, id("a", 1), "x")
}

// A log that somebody cuts under a process that uses it is not gone on with.
func TestCutWhileInUse(t *testing.T) {
	d := open(t)
	add(t, d, Intent, id("a", 1), "one")
	add(t, d, Intent, id("a", 2), "two")
	if err := os.Truncate(filepath.Join(d.Path(), segment0), 100); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Append(Intent, id("a", 3), []byte("x")); !errors.Is(err, ErrDamaged) {
		t.Errorf("%v, want it damaged", err)
	}
}

// The order is the log's, whatever the clock says.
func TestClockThatGoesBack(t *testing.T) {
	d := open(t)
	now := time.Now()
	d.now = func() time.Time { now = now.Add(-time.Hour); return now }
	for i := range 5 {
		add(t, d, Intent, id("a", i), "x")
	}
	list, _, err := d.List(-1, 10, nil)
	if err != nil || len(list) != 5 || list[0].Index != 4 || !list[0].Time.Before(list[4].Time) {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := verify(d); err != nil {
		t.Error(err)
	}
}
