package ledger

import (
	"bytes"
	"crypto/ed25519"
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
)

var _ Log = (*Dir)(nil)

// testKey signs in tests.
type testKey struct{ ed25519.PrivateKey }

func newKey(n byte) testKey {
	return testKey{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))}
}

func (k testKey) Public() (ed25519.PublicKey, error) {
	return k.PrivateKey.Public().(ed25519.PublicKey), nil
}

func (k testKey) Sign(message []byte) ([]byte, error) {
	return ed25519.Sign(k.PrivateKey, message), nil
}

var key = newKey(1)

func public(k testKey) ed25519.PublicKey {
	p, _ := k.Public()
	return p
}

var keys = []ed25519.PublicKey{public(key)}

func open(t testing.TB) *Dir {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "state", "ledger"))
}

func openAt(t testing.TB, path string) *Dir {
	t.Helper()
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	d.Signer = key
	t.Cleanup(func() { d.Close() })
	return d
}

// id makes an attempt id that starts with prefix.
func id(prefix string, n int) string { return prefix + fmt.Sprintf("%0*x", attemptLen-len(prefix), n) }

func add(t testing.TB, d *Dir, kind Kind, attempt, entry string) int64 {
	t.Helper()
	r, err := d.Append(kind, attempt, []byte(entry))
	if err != nil {
		t.Fatal(err)
	}
	return r.Index
}

// fill adds n attempts with intent and report.
func fill(t testing.TB, d *Dir, prefix string, n int) {
	t.Helper()
	var wg sync.WaitGroup
	for worker := range 32 {
		wg.Go(func() {
			for i := worker; i < n; i += 32 {
				for _, k := range []Kind{Intent, Report} {
					if _, err := d.Append(k, id(prefix, i), []byte(fmt.Sprintf("%s %d", k, i))); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

func TestAppendKeepsTheBytes(t *testing.T) {
	d := open(t)
	want := "\x00 not even JSON \xff"
	at := add(t, d, Report, id("a", 1), want)
	e, got, err := d.ReadAt(at)
	if err != nil || string(got) != want || e.Kind != Report || e.Attempt != id("a", 1) || e.Size != int64(len(want)) {
		t.Errorf("ReadAt: %+v, %q, %v; want %q", e, got, err, want)
	}
	got, err = d.Read(Report, id("a", 1))
	if err != nil || string(got) != want {
		t.Errorf("Read: %q, %v; want %q", got, err, want)
	}
	if _, err := d.Read(Intent, id("a", 1)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read of another kind: %v, want fs.ErrNotExist", err)
	}
	if _, _, err := d.ReadAt(1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadAt(1): %v, want fs.ErrNotExist", err)
	}
	err = filepath.WalkDir(d.Path(), func(path string, e fs.DirEntry, err error) error {
		if err == nil && runtime.GOOS != "windows" {
			if info, err := e.Info(); err != nil || info.Mode()&0o077 != 0 {
				t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// An attempt begins once and ends once, wherever in the log those stand.
func TestAnAttemptHasOneIntentAndOneEnd(t *testing.T) {
	d := open(t)
	a, b, c := id("a", 1), id("b", 1), id("c", 1)
	add(t, d, Intent, a, "first")
	add(t, d, Refusal, b, "no")
	add(t, d, Intent, c, "i")
	add(t, d, Report, c, "r")
	type bad struct {
		kind    Kind
		attempt string
	}
	try := func(list ...bad) {
		t.Helper()
		for _, bad := range append(list, bad{Intent, a}, bad{Report, b}, bad{Refusal, b}, bad{Recovery, b}, bad{Report, c}, bad{Recovery, c}) {
			for _, d := range []*Dir{d, openAt(t, d.Path())} {
				if _, err := d.Append(bad.kind, bad.attempt, []byte("again")); !errors.Is(err, fs.ErrExist) {
					t.Errorf("%s of %s: %v, want fs.ErrExist", bad.kind, bad.attempt, err)
				}
			}
		}
	}
	try(bad{Intent, c})
	fill(t, d, "f", 400) // into the index
	try()
	add(t, d, Disposition, c, "one")
	add(t, d, Disposition, c, "two")
	add(t, d, Recovery, a, "closed")
	list, err := d.Attempt(c)
	var got []string
	for _, e := range list {
		got = append(got, string(e.Kind))
	}
	if want := []string{"intent", "report", "disposition", "disposition"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("Attempt: %v, %v; want %v", got, err, want)
	}
	if all, err := d.All(Disposition, c); err != nil || fmt.Sprintf("%s", all) != "[one two]" {
		t.Errorf("All: %s, %v", all, err)
	}
	if o, err := d.Open(); err != nil || len(o) != 0 {
		t.Errorf("Open: %v, %v; want none", o, err)
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
	if n, err := d.Len(); err != nil || n != 0 {
		t.Errorf("Len: %d, %v; want 0", n, err)
	}
	reading, err := OpenDir(d.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer reading.Close()
	if _, err := reading.Append(Intent, good, []byte("x")); err == nil {
		t.Error("without a signer something was appended")
	}
}

func TestListGoesBackInPages(t *testing.T) {
	d := open(t)
	fill(t, d, "a", 300)
	again := openAt(t, d.Path())
	next, want := int64(-1), int64(599)
	for pages := 0; ; pages++ {
		list, more, err := again.List(next, 70, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if e.Index != want {
				t.Fatalf("page %d: entry %d, want %d", pages, e.Index, want)
			}
			want--
		}
		if more == 0 {
			break
		}
		next = more
	}
	if want != -1 {
		t.Errorf("the pages end before entry %d", want)
	}
	list, more, err := again.List(-1, 5, func(e Entry) (bool, error) { return e.Kind == Intent && e.Attempt < id("a", 3), nil })
	if err != nil || len(list) != 3 || more != 0 {
		t.Errorf("three intents: %d entries, more %d, %v", len(list), more, err)
	}
}

func TestOpenIsIntentsWithoutEnd(t *testing.T) {
	d := open(t)
	for _, prefix := range []string{"d", "c", "b", "a"} {
		add(t, d, Intent, id(prefix, 1), "i")
	}
	fill(t, d, "f", 200)
	add(t, d, Report, id("c", 1), "r")
	add(t, d, Recovery, id("b", 1), "r")
	add(t, d, Refusal, id("e", 1), "refused before there was an intent")
	for _, d := range []*Dir{d, openAt(t, d.Path())} {
		list, err := d.Open()
		var got []string
		for _, e := range list {
			got = append(got, e.Attempt)
		}
		if want := []string{id("d", 1), id("a", 1)}; err != nil || !slices.Equal(got, want) {
			t.Errorf("Open: %q, %v; want %q", got, err, want)
		}
	}
}

func TestFind(t *testing.T) {
	d := open(t)
	add(t, d, Intent, id("ab", 1), "i")
	add(t, d, Report, id("ab", 1), "r")
	add(t, d, Refusal, id("ac", 1), "r")
	find := func() {
		t.Helper()
		for prefix, want := range map[string]string{"ab": id("ab", 1), "ac0": id("ac", 1), id("ab", 1): id("ab", 1)} {
			if got, err := d.Find(prefix); err != nil || got != want {
				t.Errorf("Find(%s): %s, %v; want %s", prefix, got, err, want)
			}
		}
		if _, err := d.Find("a"); err == nil || !strings.Contains(err.Error(), id("ab", 1)+", "+id("ac", 1)+";") {
			t.Errorf("Find(a): %v, want both candidates", err)
		}
		if _, err := d.Find("0"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Find(0): %v, want fs.ErrNotExist", err)
		}
	}
	find()
	fill(t, d, "f", 2500) // twenty segments: two levels of the index
	find()
	if got, err := d.Find(id("f", 77)); err != nil || got != id("f", 77) {
		t.Errorf("Find: %s, %v", got, err)
	}
	if _, err := d.Find("f"); err == nil || !strings.Contains(err.Error(), "and 2492 more") {
		t.Errorf("Find(f): %v, want eight candidates and 2492 more", err)
	}
	for _, bad := range []string{"", "AB", "../", "xyz", id("a", 1) + "0"} {
		if _, err := d.Find(bad); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Find(%q): %v, want it refused", bad, err)
		}
	}
}

func TestOpenDirRefusesWhatOthersCanWrite(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("need file modes: windows has none")
	}
	for _, sub := range []string{"", "segments"} {
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

func TestOpenDirRefusesPlainFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	if err := os.MkdirAll(filepath.Join(path, "intents"), 0o700); err != nil {
		t.Fatal(err)
	}
	if d, err := OpenDir(path); err == nil || !strings.Contains(err.Error(), "development version") {
		t.Errorf("%v, %v; want it refused", d, err)
	}
}

func TestPreflight(t *testing.T) {
	d := open(t)
	if err := d.Preflight(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(d.Path(), "segments")); err != nil {
		t.Fatal(err)
	}
	if err := d.Preflight(); err == nil || !strings.Contains(err.Error(), "segments") {
		t.Errorf("without segments: %v, want an error that names it", err)
	}
}

// The proof of every entry at every size holds, and proves nothing else.
func TestEveryProof(t *testing.T) {
	d := open(t)
	var heads [][]byte
	for i := range 40 {
		add(t, d, Intent, id("a", i), "i")
		head, err := d.Head()
		if err != nil {
			t.Fatal(err)
		}
		heads = append(heads, head)
		for j := range i + 1 {
			checkProof(t, d, int64(j))
		}
	}
	fill(t, d, "b", 500)
	for _, i := range []int64{0, 1, 39, 255, 256, 511, 512, 700, 1039} {
		checkProof(t, d, i)
	}
	for i, old := range heads {
		c, err := d.Since(old, keys)
		if err != nil {
			t.Fatalf("since size %d: %v", i+1, err)
		}
		if _, _, err := (&Consistency{c.Hashes, c.New, c.Old}).Check(keys); err == nil {
			t.Error("the wrong way round it holds, too")
		}
	}
}

func checkProof(t *testing.T, d *Dir, i int64) {
	t.Helper()
	p, err := d.Prove(i)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseProof(p.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Check(keys); err != nil {
		t.Fatalf("entry %d: %v", i, err)
	}
	if _, err := again.Check([]ed25519.PublicKey{public(newKey(2))}); !errors.Is(err, ErrUntrusted) {
		t.Errorf("with another key: %v", err)
	}
	again.Entry.Size++
	if _, err := again.Check(keys); err == nil {
		t.Error("the proof of another leaf holds")
	}
}

// Those who look at a log now and then find its end, however far others went.
func TestOthersGoOn(t *testing.T) {
	for _, others := range []int{1, width - 1, width, width + 1, 3*width + 7} {
		d := open(t)
		add(t, d, Intent, id("a", 1), "mine")
		reading := openAt(t, d.Path())
		if n, err := reading.Len(); err != nil || n != 1 {
			t.Fatal(n, err)
		}
		fillFrom(t, openAt(t, d.Path()), 0, others, 10)
		if at := add(t, d, Report, id("a", 1), "mine, too"); at != int64(others)+1 {
			t.Errorf("%d entries of others: mine is entry %d", others, at)
		}
		if n, err := reading.Len(); err != nil || n != int64(others)+2 {
			t.Errorf("%d entries of others: %d are seen, %v", others, n, err)
		}
		if _, err := verify(d); err != nil {
			t.Error(err)
		}
	}
}

const appenderVar = "BVISOR_LEDGER_APPENDER"

// TestMain lets the test binary be an appending process: it tries to append a
// report for each of 300 attempts and prints the ones it got.
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
	d.Signer = key
	if act := acts[os.Args[1]]; act != nil {
		fmt.Println(act(d))
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

const contested = 300

// acts are what else the test binary can be told to do.
var acts = map[string]func(*Dir) error{}

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
	d := openAt(t, path)
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
	if n, err := d.Len(); err != nil || acked != contested || n != contested {
		t.Errorf("%d appends were acknowledged and %d are there, %v; want %d", acked, n, err, contested)
	}
	checkProof(t, d, 7)
}
