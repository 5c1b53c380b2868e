package wasm_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend/wasm"
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
