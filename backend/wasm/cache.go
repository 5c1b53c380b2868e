package wasm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"golang.org/x/sys/cpu"

	"github.com/bvisor/bvisor/internal/durable"
	"github.com/bvisor/bvisor/internal/wasmmeter"
)

// cache keeps compiled modules in a directory, each in a directory of its own:
//
//	KEY/meta       what the others must be, as JSON, and its own checksum
//	KEY/module     the module, counted, without the code of its functions
//	KEY/code/...   the machine code, where and as the engine keeps it
//
// An entry is made under another name and renamed, and never changed: processes
// share the directory without a lock. One that is not what its meta says is
// removed and made again. Nobody else can write there: the checksums are to find
// damage, and are a tenth of the time that digests of megabytes would take.
type cache struct{ dir string }

// Bounds of a cache. The entries used least lately go first.
const (
	mostEntries = 64
	mostBytes   = 1 << 30
)

// newCache returns a cache, or nil for none.
func newCache(dir string) *cache {
	if dir == "" {
		return nil
	}
	return &cache{dir}
}

// meta says what an entry holds.
type meta struct {
	Elements uint64 `json:"elements"` // of the module's tables
	Module   string `json:"module"`   // checksum
	File     string `json:"file"`     // the engine's name for the code, below code
	Code     string `json:"code"`     // checksum
}

// entry is a compiled module.
type entry struct {
	meta
	dir  string // of the engine's cache
	stub []byte
	seen fs.FileInfo // the code, from before it was checked
}

// key names the entry of a module: all that its code depends on.
func key(digest string, form wasmmeter.Form) string {
	h := sha256.New()
	fmt.Fprintf(h, "bvisor wasm cache 2\n%s\nmeter %d, %s\nwazero %s\n%s/%s\n", digest, wasmmeter.Version, form, engineVersion, runtime.GOOS, runtime.GOARCH)
	// The engine asks for itself which instructions there are; this is as fine as
	// that or finer.
	fmt.Fprintf(h, "%+v %+v\n", cpu.X86, cpu.ARM64)
	return hex.EncodeToString(h.Sum(nil))
}

// engineVersion is the version of wazero in go.mod. Not every program knows
// what it was built from; a test compares the two.
const engineVersion = "v1.12.0"

// open judges the directory: what somebody else could write is not loaded.
func (c *cache) open() error {
	if err := durable.MkdirAll(c.dir); err != nil {
		return err
	}
	return private(c.dir)
}

func private(dir string) error {
	d, err := durable.OpenDir(dir)
	if err != nil {
		return err
	}
	return d.Close()
}

// get finds a compiled module. What is wrong with an entry removes it.
func (c *cache) get(key string) *entry {
	if c == nil || c.open() != nil {
		return nil
	}
	dir := filepath.Join(c.dir, key)
	if _, err := os.Lstat(dir); err != nil {
		return nil
	}
	e, err := readEntry(dir)
	if err != nil {
		c.drop(key)
		return nil
	}
	now := time.Now()
	_ = os.Chtimes(dir, now, now) // only the order in which entries go depends on it
	return e
}

func (c *cache) drop(key string) {
	if c != nil {
		_ = os.RemoveAll(filepath.Join(c.dir, key)) // another process may be doing the same
	}
}

func readEntry(dir string) (*entry, error) {
	for _, d := range []string{dir, filepath.Join(dir, "code")} {
		if err := private(d); err != nil {
			return nil, err
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "meta"))
	if err != nil {
		return nil, err
	}
	e := &entry{dir: filepath.Join(dir, "code")}
	own, sum, _ := bytes.Cut(text, []byte("\n"))
	if checksum(own) != string(sum) {
		return nil, errors.New("meta is not what was written")
	}
	if err := json.Unmarshal(own, &e.meta); err != nil {
		return nil, err
	}
	if !filepath.IsLocal(e.File) {
		return nil, errors.New("the code's name leads elsewhere")
	}
	if e.stub, err = readWhole(filepath.Join(dir, "module"), e.Module); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(e.dir, e.File))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if e.seen, err = f.Stat(); err != nil {
		return nil, err
	}
	h := crc32.New(castagnoli)
	if _, err := io.Copy(h, f); err != nil {
		return nil, err
	}
	return e, compare(f.Name(), sumText(h.Sum32()), e.Code)
}

// readWhole reads a file that must have a checksum.
func readWhole(name, sum string) ([]byte, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return data, compare(name, checksum(data), sum)
}

func compare(name, is, was string) error {
	if is != was {
		return fmt.Errorf("%s is not what was written", name)
	}
	return nil
}

// castagnoli's polynomial is the one that processors have an instruction for.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is CRC-32C, in hex.
func checksum(data []byte) string { return sumText(crc32.Checksum(data, castagnoli)) }

func sumText(sum uint32) string { return fmt.Sprintf("%08x", sum) }

// put makes the entry of a module out of its machine code.
func (c *cache) put(ctx context.Context, m *module, code []byte) error {
	if err := c.open(); err != nil {
		return err
	}
	stub, err := wasmmeter.Stub(m.metered)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(c.dir, "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) // nothing is left there when all went well
	file, err := nameOf(ctx, stub, filepath.Join(dir, "name"))
	if err != nil {
		return err
	}
	whole := filepath.Join(dir, "entry")
	text, err := json.Marshal(meta{Elements: m.elements, Module: checksum(stub), File: file, Code: checksum(code)})
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{"meta", append(append(text, '\n'), checksum(text)...)}, {"module", stub}, {filepath.Join("code", file), code}} {
		if err := writeNew(filepath.Join(whole, f.name), f.data); err != nil {
			return err
		}
	}
	if err := os.Rename(whole, filepath.Join(c.dir, key(m.digest, m.form))); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return c.prune()
}

func writeNew(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// nameOf is where the engine looks for the code of a module, below the
// directory of a cache: it is asked by having it compile the stub.
func nameOf(ctx context.Context, stub []byte, dir string) (string, error) {
	code, e, err := compileIn(ctx, stub, dir)
	if err != nil {
		return "", err
	}
	defer e.close(ctx)
	defer code.Close(ctx)
	return onlyFile(dir)
}

// onlyFile is the one file below a directory.
func onlyFile(dir string) (string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	if len(files) != 1 {
		return "", fmt.Errorf("the engine keeps %d files, expected 1", len(files))
	}
	return filepath.Rel(dir, files[0])
}

// compileIn compiles with an engine of its own, whose cache is dir.
func compileIn(ctx context.Context, metered []byte, dir string) (wazero.CompiledModule, *engine, error) {
	kept, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return nil, nil, err
	}
	e, err := newEngine(ctx, kept)
	if err != nil {
		return nil, nil, errors.Join(err, kept.Close(ctx))
	}
	e.cache = kept
	code, err := e.compile(ctx, metered)
	if err != nil {
		return nil, nil, errors.Join(err, e.close(ctx))
	}
	return code, e, nil
}

// errNotCached says that the engine did not take the code of an entry.
var errNotCached = errors.New("the engine did not take the code that was kept")

// load makes an entry ready to run. The engine must have taken the code that was
// checked: what it compiles of a stub only traps.
func (e *entry) load(ctx context.Context) (wazero.CompiledModule, *engine, error) {
	code, engine, err := compileIn(ctx, e.stub, e.dir)
	if err != nil {
		return nil, nil, err
	}
	file, only := onlyFile(e.dir)
	after, err := os.Stat(filepath.Join(e.dir, e.File))
	if only != nil || file != e.File || err != nil || !os.SameFile(e.seen, after) || !e.seen.ModTime().Equal(after.ModTime()) {
		return nil, nil, errors.Join(errNotCached, code.Close(ctx), engine.close(ctx))
	}
	return code, engine, nil
}

// prune removes what was used least lately, until the cache is within its
// bounds, and what a process that died left half made.
func (c *cache) prune() error {
	list, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	type old struct {
		name string
		used time.Time
		size int64
	}
	var entries []old
	for _, d := range list {
		info, err := d.Info()
		if err != nil {
			continue // another process removed it
		}
		if strings.HasPrefix(d.Name(), "new-") {
			if time.Since(info.ModTime()) > abandoned {
				os.RemoveAll(filepath.Join(c.dir, d.Name()))
			}
			continue
		}
		o := old{name: d.Name(), used: info.ModTime()}
		_ = filepath.WalkDir(filepath.Join(c.dir, d.Name()), func(_ string, f fs.DirEntry, err error) error {
			if err == nil && !f.IsDir() {
				if info, err := f.Info(); err == nil {
					o.size += info.Size()
				}
			}
			return nil
		})
		entries = append(entries, o)
	}
	slices.SortFunc(entries, func(a, b old) int { return b.used.Compare(a.used) })
	var bytes int64
	for i, o := range entries {
		if bytes += o.size; i >= mostEntries || bytes > mostBytes {
			os.RemoveAll(filepath.Join(c.dir, o.name))
		}
	}
	return nil
}

// abandoned is how old a half made entry is whose process must be gone.
const abandoned = time.Hour
