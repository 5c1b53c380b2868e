package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var _ Log = (*Dir)(nil)

func open(t testing.TB) *Dir {
	t.Helper()
	d, err := OpenDir(filepath.Join(t.TempDir(), "state", "bvisor"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// id makes an attempt id that starts with prefix.
func id(prefix string, n int) string { return prefix + fmt.Sprintf("%0*x", attemptLen-len(prefix), n) }

func add(t testing.TB, d *Dir, kind Kind, attempt, entry string) Receipt {
	t.Helper()
	r, err := d.Append(kind, attempt, []byte(entry))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAppendKeepsTheBytes(t *testing.T) {
	d := open(t)
	want := "\x00 not even JSON \xff"
	r := add(t, d, Report, id("a", 1), want)
	if r.Path != filepath.Join(d.Path(), "reports", id("a", 1)+".json") {
		t.Errorf("receipt names %s", r.Path)
	}
	onDisk, err := os.ReadFile(r.Path)
	if err != nil || string(onDisk) != want {
		t.Errorf("the file holds %q, %v; want %q", onDisk, err, want)
	}
	got, err := d.Read(Report, id("a", 1))
	if err != nil || string(got) != want {
		t.Errorf("Read: %q, %v; want %q", got, err, want)
	}
	if _, err := d.Read(Intent, id("a", 1)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read of another kind: %v, want fs.ErrNotExist", err)
	}
	if info, err := os.Stat(r.Path); err != nil || runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
}

func TestAppendNeverReplaces(t *testing.T) {
	d := open(t)
	a := id("a", 1)
	add(t, d, Intent, a, "first")
	if _, err := d.Append(Intent, a, []byte("second")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second intent: %v, want fs.ErrExist", err)
	}
	add(t, d, Report, a, "another kind")
	if got, err := d.Read(Intent, a); err != nil || string(got) != "first" {
		t.Errorf("Read: %q, %v; want the first entry", got, err)
	}
}

func TestAppendRefusesWhatIsNoEntry(t *testing.T) {
	d := open(t)
	good := id("a", 1)
	for _, c := range []struct {
		kind    Kind
		attempt string
		entry   string
	}{
		{Intent, "", "x"},
		{Intent, good[1:], "x"},
		{Intent, good + "0", "x"},
		{Intent, strings.ToUpper(good), "x"},
		{Intent, "../" + good[3:], "x"},
		{"", good, "x"},
		{"intents", good, "x"},
		{Intent, good, ""},
	} {
		if _, err := d.Append(c.kind, c.attempt, []byte(c.entry)); err == nil {
			t.Errorf("Append(%q, %q, %q) succeeded", c.kind, c.attempt, c.entry)
		}
	}
	if list, err := d.List(); err != nil || len(list) != 0 {
		t.Errorf("List: %v, %v; want nothing", list, err)
	}
}

func TestListIsInOrderOfTime(t *testing.T) {
	d := open(t)
	now := time.Now().Truncate(time.Second)
	at := func(r Receipt, seconds int) {
		when := now.Add(time.Duration(seconds) * time.Second)
		if err := os.Chtimes(r.Path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	at(add(t, d, Report, id("a", 1), "late"), 30)
	at(add(t, d, Intent, id("a", 1), "i"), 10)
	at(add(t, d, Refusal, id("b", 1), "no"), 20)
	at(add(t, d, Report, id("c", 1), "same moment"), 5)
	at(add(t, d, Intent, id("c", 1), "same moment"), 5)
	for _, name := range []string{"notes.txt", id("d", 1), id("D", 1) + ".json", ".tmp-X.json"} {
		if err := os.WriteFile(filepath.Join(d.Path(), "reports", name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list, err := d.List()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range list {
		got = append(got, fmt.Sprintf("%s %s %d", e.Attempt[:1], e.Kind, e.Size))
	}
	want := []string{"c intent 11", "c report 11", "a intent 1", "b refusal 2", "a report 4"}
	if !slices.Equal(got, want) {
		t.Errorf("List: %q, want %q", got, want)
	}
	if !list[2].Time.Equal(now.Add(10*time.Second)) || list[2].Path != filepath.Join(d.Path(), "intents", id("a", 1)+".json") {
		t.Errorf("entry: %+v", list[2])
	}
}

func TestOpenIsIntentsWithoutEnd(t *testing.T) {
	d := open(t)
	for i, prefix := range []string{"d", "c", "b", "a"} {
		r := add(t, d, Intent, id(prefix, 1), "i")
		when := time.Unix(int64(1000+i), 0)
		if err := os.Chtimes(r.Path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	add(t, d, Report, id("c", 1), "r")
	add(t, d, Refusal, id("b", 1), "r")
	add(t, d, Refusal, id("e", 1), "refused before there was an intent")
	got, err := d.Open()
	if want := []string{id("d", 1), id("a", 1)}; err != nil || !slices.Equal(got, want) {
		t.Errorf("Open: %q, %v; want %q", got, err, want)
	}
}

func TestFind(t *testing.T) {
	d := open(t)
	add(t, d, Intent, id("ab", 1), "i")
	add(t, d, Report, id("ab", 1), "r")
	add(t, d, Refusal, id("ac", 1), "r")
	for i := range 10 {
		add(t, d, Intent, id("f", i), "i")
	}
	for prefix, want := range map[string]string{"ab": id("ab", 1), "ac0": id("ac", 1), id("ab", 1): id("ab", 1)} {
		if got, err := d.Find(prefix); err != nil || got != want {
			t.Errorf("Find(%s): %s, %v; want %s", prefix, got, err, want)
		}
	}
	if _, err := d.Find("a"); err == nil || !strings.Contains(err.Error(), id("ab", 1)+", "+id("ac", 1)+";") {
		t.Errorf("Find(a): %v, want both candidates", err)
	}
	if _, err := d.Find("f"); err == nil || !strings.Contains(err.Error(), "and 2 more") {
		t.Errorf("Find(f): %v, want eight candidates and 2 more", err)
	}
	if _, err := d.Find("0"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Find(0): %v, want fs.ErrNotExist", err)
	}
	for _, bad := range []string{"", "AB", "../", "xyz", id("a", 1) + "0"} {
		if _, err := d.Find(bad); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Find(%q): %v, want it refused", bad, err)
		}
	}
}

func TestOpenDirTwice(t *testing.T) {
	d := open(t)
	add(t, d, Intent, id("a", 1), "i")
	again, err := OpenDir(d.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got, err := again.Read(Intent, id("a", 1)); err != nil || string(got) != "i" {
		t.Errorf("Read after reopening: %q, %v", got, err)
	}
}

func TestOpenDirRefusesWhatOthersCanWrite(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("need file modes: windows has none")
	}
	for _, sub := range []string{"", "intents", "reports", "refusals"} {
		d := open(t)
		if err := os.Chmod(filepath.Join(d.Path(), sub), 0o777); err != nil {
			t.Fatal(err)
		}
		if again, err := OpenDir(d.Path()); err == nil {
			again.Close()
			t.Errorf("%q with mode 0777 was opened", sub)
		} else if !strings.Contains(err.Error(), "lets others write") {
			t.Errorf("%q: %v", sub, err)
		}
	}
}

func TestPreflight(t *testing.T) {
	d := open(t)
	if err := d.Preflight(); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"intents", "reports", "refusals"} {
		d := open(t)
		if err := os.Remove(filepath.Join(d.Path(), sub)); err != nil {
			t.Fatal(err)
		}
		if err := d.Preflight(); err == nil || !strings.Contains(err.Error(), sub) {
			t.Errorf("without %s: %v, want an error that names it", sub, err)
		}
	}
	if list, err := d.List(); err != nil || len(list) != 0 {
		t.Errorf("Preflight left %v, %v", list, err)
	}
}

const appenderVar = "BVISOR_LEDGER_APPENDER"

// TestMain lets the test binary be an appending process: it tries to append a
// report for each of 50 attempts and prints the ones it got.
func TestMain(m *testing.M) {
	path := os.Getenv(appenderVar)
	if path == "" {
		os.Exit(m.Run())
	}
	d, err := OpenDir(path)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := range contested {
		_, err := d.Append(Report, id("a", i), bytes.Repeat([]byte(os.Args[1]), 3000))
		if err == nil {
			fmt.Println(i)
		} else if !errors.Is(err, fs.ErrExist) {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

const contested = 50

// Processes that start on an absent directory and append the same attempts:
// each attempt belongs to exactly one, whole.
func TestManyProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	outs := make([][]byte, 6)
	var wg sync.WaitGroup
	for i := range outs {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0], string(rune('0'+i)))
			cmd.Env = append(os.Environ(), appenderVar+"="+path)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("appender %d: %v: %s", i, err, out)
			}
			outs[i] = out
		})
	}
	wg.Wait()
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	acked := 0
	for i, out := range outs {
		for line := range bytes.Lines(out) {
			var n int
			if _, err := fmt.Sscan(string(line), &n); err != nil {
				t.Fatalf("appender %d said %q", i, line)
			}
			acked++
			got, err := d.Read(Report, id("a", n))
			if err != nil || !bytes.Equal(got, bytes.Repeat([]byte{byte('0' + i)}, 3000)) {
				t.Errorf("attempt %d was acknowledged to %d and holds %.8q (%d bytes), %v", n, i, got, len(got), err)
			}
		}
	}
	if acked != contested {
		t.Errorf("%d appends were acknowledged, want %d", acked, contested)
	}
}

// Each append contains two real fsyncs; BenchmarkBareFsync is what the disk
// itself takes for them.
func BenchmarkAppend(b *testing.B) {
	d := open(b)
	entry := bytes.Repeat([]byte("x"), 4096)
	for i := 0; b.Loop(); i++ {
		if _, err := d.Append(Intent, id("a", i), entry); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBareFsync(b *testing.B) {
	f, err := os.OpenFile(filepath.Join(b.TempDir(), "f"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	block := bytes.Repeat([]byte("x"), 4096)
	for b.Loop() {
		if _, err := f.Write(block); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPreflight(b *testing.B) {
	d := open(b)
	for b.Loop() {
		if err := d.Preflight(); err != nil {
			b.Fatal(err)
		}
	}
}
