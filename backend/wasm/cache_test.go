package wasm_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend/wasm"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/report"
)

// kept lists the files of a cache, with their contents.
func kept(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	must(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		files[strings.TrimPrefix(name, dir)] = string(b)
		return err
	}))
	return files
}

// answers is a module that exits with 42. A stub of it would trap.
func answers(t *testing.T) string {
	t.Helper()
	return moduleFile(t, module(section(1, signature(nil, nil), signature([]byte{0x7f}, nil)),
		section(2, slices.Concat(text("wasi_snapshot_preview1"), text("proc_exit"), []byte{0, 1})), section(3, u(0)),
		section(7, export("_start", 0, 1)), section(10, code(noLocals, 0x41, 42, 0x10, 0))))
}

// answer runs the module with a cache and expects that it does what it does.
func answer(t *testing.T, o wasm.Options, wall, name string) {
	t.Helper()
	newHost(t, o).try(t.Context(), bvisor.Request{Spec: request(wall, name, nil)}).ends(report.Failed, "exit status 42")
}

// A compiled module is kept, and taken by the next backend as it is. What a
// worker has compiled serves in process, too.
func TestCompiledModulesAreKept(t *testing.T) {
	for _, wall := range walls {
		t.Run(wall, func(t *testing.T) {
			o := options(t, wall)
			o.Cache = filepath.Join(t.TempDir(), "cache")
			name := answers(t)
			answer(t, o, wall, name)
			first := kept(t, o.Cache)
			if len(first) != 3 {
				t.Fatalf("%d files are kept, expected 3", len(first))
			}
			answer(t, o, wall, name)
			other := options(t, "in-process")
			other.Cache = o.Cache
			answer(t, other, "in-process", name)
			for name, text := range kept(t, o.Cache) {
				if first[name] != text {
					t.Errorf("%s was written again", name)
				}
			}
		})
	}
}

// An entry that is gone when many runs at a time want it is made again, by one of
// them before the others look.
func TestEntryThatIsGoneForManyAtATime(t *testing.T) {
	both(t, func(t *testing.T, _ *host, wall string) {
		o := options(t, wall)
		o.Cache = filepath.Join(t.TempDir(), "cache")
		name := answers(t)
		for range need.Rounds(t, 3, 50) {
			answer(t, o, wall, name)
			h := newHost(t, o)
			if _, _, err := h.Plan(t.Context(), request(wall, name, nil)); err != nil { // which finds the entry
				t.Fatal(err)
			}
			must(t, os.RemoveAll(o.Cache))
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					res, err := h.Run(t.Context(), bvisor.Request{Spec: request(wall, name, nil)})
					if err != nil || res.Report.Outcome.Reason != "exit status 42" {
						t.Errorf("%+v, %v", res, err)
					}
				})
			}
			all.Wait()
		}
	})
}

// Whatever is wrong with an entry, it is made again, and what runs is the
// module.
func TestBrokenEntriesAreMadeAgain(t *testing.T) {
	o := options(t, "in-process")
	o.Cache = filepath.Join(t.TempDir(), "cache")
	module := answers(t)
	answer(t, o, "in-process", module)
	whole := kept(t, o.Cache)
	for name, text := range whole {
		for what, broken := range map[string]string{
			"flipped": text[:len(text)/2] + string(text[len(text)/2]^1) + text[len(text)/2+1:],
			"cut":     text[:len(text)/2],
			"empty":   "",
		} {
			must(t, os.WriteFile(filepath.Join(o.Cache, name), []byte(broken), 0o600))
			answer(t, o, "in-process", module)
			if again := kept(t, o.Cache); len(again) != len(whole) || again[name] != text {
				t.Errorf("%s %s: it was not made again", filepath.Base(name), what)
			}
		}
	}
}

// A directory that somebody else can write is not used: neither read nor
// written.
func TestCacheOfOthersIsNotUsed(t *testing.T) {
	o := options(t, "in-process")
	o.Cache = filepath.Join(t.TempDir(), "cache")
	module := answers(t)
	answer(t, o, "in-process", module)
	before := kept(t, o.Cache)
	var entry string
	for name := range before {
		entry = filepath.Join(o.Cache, strings.Split(name, string(filepath.Separator))[1])
	}
	for _, open := range []string{o.Cache, entry, filepath.Join(entry, "code")} {
		must(t, os.Chmod(open, 0o777))
		answer(t, o, "in-process", module)
		if open == o.Cache {
			must(t, os.Chmod(open, 0o700))
			continue
		}
		info, err := os.Stat(open)
		if err != nil || info.Mode().Perm() == 0o777 {
			t.Errorf("%s was left as it was (%v)", open, err)
		}
	}
}

// Backends that share a directory do not meet each other's half made entries.
func TestCacheIsShared(t *testing.T) {
	o := options(t, "in-process")
	o.Cache = filepath.Join(t.TempDir(), "cache")
	module := answers(t)
	var all sync.WaitGroup
	for range 4 {
		h := newHost(t, o)
		all.Go(func() {
			h.try(t.Context(), bvisor.Request{Spec: request("in-process", module, nil)}).ends(report.Failed, "exit status 42")
		})
	}
	all.Wait()
	if files := kept(t, o.Cache); len(files) != 3 {
		t.Errorf("%d files are left, expected 3", len(files))
	}
}

// The key of an entry names the engine's version.
func TestEngineVersion(t *testing.T) {
	b, err := os.ReadFile("../../go.mod")
	must(t, err)
	p, err := wasm.New(wasm.Options{}).Probe(t.Context())
	must(t, err)
	for _, f := range p.Facts {
		if f.Name == "engine.version" && !strings.Contains(string(b), "github.com/tetratelabs/"+f.Value+"\n") {
			t.Errorf("go.mod does not require %s", f.Value)
		}
	}
}

// What was used least lately goes first, and what a process that died left half
// made goes as well.
func TestCacheIsBounded(t *testing.T) {
	o := options(t, "in-process")
	o.Cache = filepath.Join(t.TempDir(), "cache")
	module := answers(t)
	answer(t, o, "in-process", module)
	whole, err := os.ReadFile(module)
	must(t, err)
	entries := func() map[string]bool {
		names := map[string]bool{}
		list, err := os.ReadDir(o.Cache)
		must(t, err)
		for _, d := range list {
			names[d.Name()] = true
		}
		return names
	}
	var own string
	for name := range entries() {
		own = name
	}
	// Sixty-three others, the oldest first, and ours older than all.
	age := func(name string, minutes int) {
		at := time.Now().Add(-time.Duration(minutes) * time.Minute)
		must(t, os.Chtimes(filepath.Join(o.Cache, name), at, at))
	}
	for i := range 63 {
		must(t, os.Mkdir(filepath.Join(o.Cache, fmt.Sprintf("other-%02d", i)), 0o700))
		age(fmt.Sprintf("other-%02d", i), 100-i)
	}
	age(own, 200)
	for name, minutes := range map[string]int{"new-dead": 61, "new-alive": 1} {
		must(t, os.Mkdir(filepath.Join(o.Cache, name), 0o700))
		age(name, minutes)
	}
	answer(t, o, "in-process", module) // ours is the one used last now
	more := func() {                   // one more entry
		whole = append(whole, 0, 2, 1, 'x')
		answer(t, o, "in-process", moduleFile(t, whole))
	}
	more()
	left := entries()
	if len(left) != 64+1 || !left[own] || left["other-00"] || !left["other-01"] || left["new-dead"] || !left["new-alive"] {
		t.Errorf("%d entries are left: %v", len(left), left)
	}
	// What is too large goes as well, and everything that is older.
	must(t, os.WriteFile(filepath.Join(o.Cache, "other-40", "large"), nil, 0o600))
	must(t, os.Truncate(filepath.Join(o.Cache, "other-40", "large"), 1<<30))
	age("other-40", 60)
	more()
	if left = entries(); !left[own] || left["other-40"] || left["other-39"] || !left["other-41"] {
		t.Errorf("%d entries are left: %v", len(left), left)
	}
}
