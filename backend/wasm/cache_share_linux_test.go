package wasm_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/backend/wasm"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

// A process of its own that runs modules with a cache, each time as a backend
// that has nothing in memory: cached CACHE ROUNDS MODULE...
func init() {
	workers["cached"] = func(_, _ *os.File) int {
		cache, modules := os.Args[2], os.Args[4:]
		var rounds int
		if _, err := fmt.Sscan(os.Args[3], &rounds); err != nil {
			return 2
		}
		for i := range rounds {
			if err := runCached(cache, modules[i%len(modules)]); err != nil {
				fmt.Println(err)
				return 1
			}
		}
		return 0
	}
}

func runCached(cache, module string) error {
	ctx := context.Background()
	b := wasm.New(wasm.Options{Cache: cache})
	defer b.Close()
	res, err := b.Resolve(ctx, spec.Expand(request("in-process", module, nil)), nil)
	if err != nil {
		return err
	}
	defer res.Close()
	profile, err := b.Probe(ctx)
	if err != nil {
		return err
	}
	p, refusal := plan.Make(res.Resolved(), profile)
	if refusal != nil {
		return refusal
	}
	o, settle, err := b.Launch(ctx, backend.Launch{Attempt: "test", Plan: p, Resolution: res, Commit: func() error { return nil }})
	settle()
	if err == nil && o.Outcome.Reason != "exit status 42" {
		err = fmt.Errorf("outcome %+v", o.Outcome)
	}
	return err
}

// Processes that share a directory of compiled modules do each other no harm,
// while somebody breaks and removes what is in it: each runs its modules, and
// nothing but them.
func TestCacheIsSharedByProcesses(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "cache")
	rounds := need.Rounds(t, 40, 1000)
	args := []string{"cached", cache, fmt.Sprint(rounds)}
	for range 3 {
		// Different bytes, so that each has an entry: the name of a section says which.
		m, err := os.ReadFile(answers(t))
		must(t, err)
		name := append([]byte{0, 2, 1}, byte('a'+len(args)))
		args = append(args, moduleFile(t, append(m, name...)))
	}
	ended := make(chan string)
	const processes = 4
	for range processes {
		go func() {
			out, err := exec.Command(place.exe, args...).CombinedOutput()
			if err != nil {
				out = append(out, err.Error()...)
			}
			ended <- string(out)
		}()
	}
	random := rand.New(rand.NewPCG(1, 2))
	broken := 0
	for left := processes; left > 0; {
		select {
		case said := <-ended:
			if left--; said != "" {
				t.Error(said)
			}
		default:
			broken += breakSome(t, cache, random)
		}
	}
	if broken == 0 {
		t.Error("nothing was broken: the test proves nothing")
	}
	must(t, runCached(cache, args[3])) // what is left of it does, too
}

// breakSome flips a byte of a file, cuts it or removes its entry.
func breakSome(t *testing.T, cache string, random *rand.Rand) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(cache, "*", "*"))
	must(t, err)
	more, err := filepath.Glob(filepath.Join(cache, "*", "code", "*", "*"))
	must(t, err)
	if files = append(files, more...); len(files) == 0 {
		return 0
	}
	name := files[random.IntN(len(files))]
	switch random.IntN(3) {
	case 0:
		err = os.RemoveAll(filepath.Dir(name))
	case 1:
		err = os.Truncate(name, 10)
	default:
		var f *os.File
		if f, err = os.OpenFile(name, os.O_WRONLY, 0); err == nil {
			_, err = f.WriteAt([]byte{byte(random.Int())}, int64(random.IntN(300)))
			f.Close()
		}
	}
	if err != nil { // somebody else was quicker
		return 0
	}
	return 1
}

// A directory that belongs to somebody else is not used, and nor is an entry in
// it that does.
func TestCacheOfAnotherUserIsNotUsed(t *testing.T) {
	need.Root(t)
	o := options(t, "in-process")
	o.Cache = filepath.Join(t.TempDir(), "cache")
	module := answers(t)
	answer(t, o, "in-process", module)
	first := kept(t, o.Cache)
	entries, err := filepath.Glob(filepath.Join(o.Cache, "*"))
	if err != nil || len(entries) != 1 {
		t.Fatalf("entries %q (%v)", entries, err)
	}
	// Valid, but of somebody else: it is made again.
	must(t, os.Chown(entries[0], need.Nobody, need.Nobody))
	answer(t, o, "in-process", module)
	info, err := os.Stat(entries[0])
	must(t, err)
	if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 0 {
		t.Errorf("an entry of uid %d was left and used", owner)
	}
	// The whole directory: nothing in it is touched.
	must(t, os.Chown(o.Cache, need.Nobody, need.Nobody))
	old := time.Unix(1, 0)
	must(t, os.Chtimes(entries[0], old, old))
	answer(t, o, "in-process", module)
	if info, err = os.Stat(entries[0]); err != nil || !info.ModTime().Equal(old) || len(kept(t, o.Cache)) != len(first) {
		t.Errorf("a directory of uid %d was used: %v (%v)", need.Nobody, info.ModTime(), err)
	}
}
