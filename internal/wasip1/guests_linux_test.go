package wasip1

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/sys"

	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/wasmfs"
)

// Guests that compilers made, with the libraries that come with them: Go's is
// built here, and the others are wazero's own test programs, as they are in its
// module.
var compiled = map[string]string{
	"c":      "imports/wasi_snapshot_preview1/testdata/zig-cc/wasi.wasm",
	"rust":   "imports/wasi_snapshot_preview1/testdata/cargo-wasi/wasi.wasm",
	"zig":    "imports/wasi_snapshot_preview1/testdata/zig/wasi.wasm",
	"tinygo": "imports/wasi_snapshot_preview1/testdata/tinygo/wasi.wasm",
	"c-cat":  "imports/wasi_snapshot_preview1/example/testdata/zig-cc/cat.wasm",
	"r-cat":  "imports/wasi_snapshot_preview1/example/testdata/cargo-wasi/cat.wasm",
}

// guestsVariable tells the ordinary user's pass where root's left the guests.
const guestsVariable = "BVISOR_TEST_GUESTS"

// module returns a guest's code.
func module(t testing.TB, name string) []byte {
	t.Helper()
	dir := os.Getenv(guestsVariable)
	if dir == "" {
		t.Fatal("nobody said where the guests are")
	}
	file := filepath.Join(dir, name+".wasm")
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		b, err = makeModule(t, name, file)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func makeModule(t testing.TB, name, file string) ([]byte, error) {
	t.Helper()
	program := need.Program(t, "go")
	if name == "go" {
		cmd := exec.Command(program, "build", "-o", file, "./testdata/guest")
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return os.ReadFile(file)
	}
	out, err := exec.Command(program, "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSpace(string(out))
	if dir == "" {
		need.Missing(t, "module=wazero", "its files are not where this user can read them")
	}
	b, err := os.ReadFile(filepath.Join(dir, compiled[name]))
	if err == nil {
		err = os.WriteFile(file, b, 0o644)
	}
	return b, err
}

// start runs a guest to its end.
func start(t testing.TB, code []byte, c Config) (exit uint32, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	c.Stdout, c.Stderr = &out, &errs
	began := time.Now()
	c.Realtime = func() uint64 { return uint64(time.Now().UnixNano()) }
	c.Monotonic = func() uint64 { return uint64(time.Since(began)) + 1 }
	c.Random = rand.Reader
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer r.Close(ctx)
	if _, err := Instantiate(ctx, r); err != nil {
		t.Fatal(err)
	}
	_, err = r.InstantiateWithConfig(p.Context(ctx), code, wazero.NewModuleConfig())
	if ended, ok := errors.AsType[*sys.ExitError](err); ok {
		return ended.ExitCode(), out.String(), errs.String()
	}
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out.String(), errs.String())
	}
	return 0, out.String(), errs.String()
}

// view grants base/rw at /tree, which is the working directory, base/ro at /ro
// and base/hosts at /etc/hosts.
func view(t testing.TB, base string) (*wasmfs.FS, *[]wasmfs.Denial) {
	t.Helper()
	for _, dir := range []string{"rw", "ro"} {
		if err := os.MkdirAll(filepath.Join(base, dir, "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{"secret": "secret", "ro/file": "ro", "rw/file": "rw", "hosts": "hosts"} {
		if err := os.WriteFile(filepath.Join(base, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	denied := new([]wasmfs.Denial)
	files, err := wasmfs.New(wasmfs.Config{Dir: "/tree", Denied: func(d wasmfs.Denial) { *denied = append(*denied, d) }, Roots: []wasmfs.Root{
		{Path: "/tree", File: opened(t, base+"/rw"), Read: true, Write: true},
		{Path: "/ro", File: opened(t, base+"/ro"), Read: true},
		{Path: "/etc/hosts", File: opened(t, base+"/hosts"), Read: true}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(files.Close)
	return files, denied
}

func TestGoGuest(t *testing.T) {
	code := module(t, "go")
	base := t.TempDir()
	os.MkdirAll(base+"/rw", 0o755)
	os.Symlink("../secret", base+"/rw/planted")
	files, denied := view(t, base)
	script := []struct{ word, want string }{
		{"cwd", "ok /tree"}, {"env", "ok A=1 B=two words"}, {"sleep", "ok "},
		{"read=file", "ok rw"}, {"read=/tree/file", "ok rw"}, {"read=./sub/../file", "ok rw"}, {"read=/etc/hosts", "ok hosts"}, {"read=/ro/file", "ok ro"},
		{"write=new", "ok "}, {"append=new", "ok "}, {"update=new", "ok UEST+m"}, {"read=new", "ok GUEST+m"},
		{"times=new", "ok "}, {"stat=new", "ok ---------- 7"},
		{"mkdirs=a/b/c", "ok "}, {"write=a/b/c/f", "ok "}, {"rename=a/b", "ok "}, {"link=a/b2/c/f", "ok "}, {"symlink=b2/c->a/l", "ok "},
		{"readlink=a/l", "ok b2/c"}, {"read=a/l/f", "ok guest"}, {"list=a", "ok b2 d---------, l L---------"},
		{"walk=a", "ok a a/b2 a/b2/c a/b2/c/f a/b2/c/f3 a/l"}, {"remove=a", "ok "}, {"stat=a", "does not exist"},
		{"list=/", "ok etc d---------, ro d---------, tree d---------"},
		{"symlink=../secret->up", "ok "},
		{"read=up", "permission"}, {"write=up", "permission"}, {"read=planted", "permission"}, {"write=planted", "permission"},
		{"read=/tree/../secret", "does not exist"}, {"read=/etc/passwd", "does not exist"}, {"write=/etc/passwd", "does not exist"},
		{"write=/ro/file", "open /ro/file: Read-only file system"}, {"append=/ro/file", "open /ro/file: Read-only file system"},
		{"write=/ro/new", "open /ro/new: Read-only file system"}, {"mkdirs=/ro/new", "mkdir /ro/new: Read-only file system"},
		{"remove=/ro/file", "unlinkat /ro/file: Read-only file system"}, {"write=/etc/hosts", "open /etc/hosts: Read-only file system"},
		{"stdin", "ok one|two"},
	}
	var words, want []string
	for _, s := range script {
		words = append(words, s.word)
		want = append(want, s.word+": "+s.want)
	}
	exit, stdout, stderr := start(t, code, Config{Args: append([]string{"guest"}, words...), Env: []string{"A=1", "B=two words"},
		FS: files, Stdin: strings.NewReader("one\ntwo\n")})
	got := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Errorf("line %d: %q, want %q", i, at(got, i), at(want, i))
		}
	}
	if exit != 7 || stderr != "" {
		t.Errorf("exit %d, %s", exit, stderr)
	}
	for name, want := range map[string]string{"secret": "secret", "ro/file": "ro", "rw/file": "rw", "rw/new": "GUEST+m", "hosts": "hosts"} {
		if b, err := os.ReadFile(filepath.Join(base, name)); string(b) != want {
			t.Errorf("%s holds %q, %v", name, b, err)
		}
	}
	if info, _ := os.Stat(base + "/rw/new"); info.ModTime().UnixNano() != 1_000_000_000_123_456_789 {
		t.Errorf("times: %v", info.ModTime())
	}
	paths := map[string]int{}
	for _, d := range *denied {
		paths[d.Path+" "+string(d.Reason)]++
	}
	for _, must := range []string{"/tree/up " + string(wasmfs.Above), "/tree/planted " + string(wasmfs.Above),
		"/secret " + string(wasmfs.Outside), "/etc/passwd " + string(wasmfs.Outside),
		"/ro/file " + string(wasmfs.NotWritable), "/ro/new " + string(wasmfs.NotWritable), "/etc/hosts " + string(wasmfs.NotWritable)} {
		if paths[must] == 0 {
			t.Errorf("not recorded: %s", must)
		}
		delete(paths, must)
	}
	if len(paths) != 0 {
		t.Errorf("recorded besides: %v", paths)
	}
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "nothing"
}

// A Go program waits for a timer and for input at once, which takes nonblocking
// input and poll_oneoff.
func TestGoGuestWaitsForTwoThings(t *testing.T) {
	_, stdout, _ := start(t, module(t, "go"), Config{Args: []string{"guest", "both"}, Stdin: strings.NewReader("a line\n")})
	if stdout != "both: ok a line\n" {
		t.Errorf("%q", stdout)
	}
}

// wasi-libc, Rust's library, Zig's and TinyGo's.
func TestOtherGuests(t *testing.T) {
	base := t.TempDir()
	files, _ := view(t, base)
	for _, g := range []struct {
		guest, args, stdin string
		want               []string
	}{
		{"c", "ls .", "", []string{"./.", "./..", "./file", "./sub"}},
		{"c", "ls /ro", "", []string{"./.", "./..", "./file", "./sub"}},
		{"c", "ls sub repeat", "", []string{"./.", "./..", "./.", "./.."}},
		{"c", "ls file", "", []string{"ENOTDIR"}},
		{"c", "ls nowhere", "", []string{"No such file or directory"}},
		{"c", "stat", "", []string{"stdin isatty: false", "stdout isatty: false", "stderr isatty: false", "/ isatty: false"}},
		{"c", "open-rdonly", "", []string{"OK"}},
		{"c", "open-wronly", "", []string{"OK"}},
		{"c", "sleepmillis 1", "", []string{"OK"}},
		{"c", "poll 60000 1", "text", []string{"STDIN"}},
		{"c-cat", "/tree/file", "", []string{"rw"}},
		{"c-cat", "file", "", []string{"rw"}},
		{"r-cat", "/etc/hosts", "", []string{"hosts"}},
		{"r-cat", "file", "", []string{"rw"}},
		{"rust", "ls .", "", []string{"./file", "./sub"}},
		{"rust", "ls /ro", "", []string{"/ro/file", "/ro/sub"}},
		{"rust", "ls file", "", []string{"ENOTDIR"}},
		{"rust", "stat", "", []string{"stdin isatty: false", "stdout isatty: false", "stderr isatty: false", "/ isatty: false"}},
		{"tinygo", "ls /ro", "", []string{"./file", "./sub"}},
		{"tinygo", "stat", "", []string{"stdin isatty: false", "stdout isatty: false", "stderr isatty: false", "/ isatty: false"}},
		{"zig", "stat", "", []string{"stdin isatty: false", "stdout isatty: false", "stderr isatty: false", "/ isatty: false"}},
	} {
		exit, stdout, stderr := start(t, module(t, g.guest), Config{Args: append([]string{"guest"}, strings.Fields(g.args)...),
			FS: files, Stdin: strings.NewReader(g.stdin)})
		if got := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n"); exit != 0 || !slices.Equal(got, g.want) {
			t.Errorf("%s %s: exit %d, %q %q, want %q", g.guest, g.args, exit, got, stderr, g.want)
		}
	}
	for _, name := range []string{"rw/zig-cc.rdonly.test", "rw/zig-cc.wronly.test"} {
		if _, err := os.Stat(filepath.Join(base, name)); err == nil {
			t.Errorf("%s was left", name)
		}
	}
	exit, _, stderr := start(t, module(t, "r-cat"), Config{Args: []string{"cat", "/etc/passwd"}, FS: files})
	if exit != 1 {
		t.Errorf("exit %d, %q", exit, stderr)
	}
}
