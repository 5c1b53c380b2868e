package wasm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// victim is a program in C that was built before, with wasi-libc.
func victim(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "c", name+".wasm"))
	must(t, err)
	return moduleFile(t, b)
}

// stage is what attack.c acts on: in may be written, ro read, and out is not
// granted at all.
func stage(t *testing.T) string {
	t.Helper()
	base, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	for _, dir := range []string{"in/sub", "ro", "out"} {
		must(t, os.MkdirAll(filepath.Join(base, dir), 0o755))
	}
	for name, text := range map[string]string{"in/file": "in", "ro/file": "ro", "out/secret": "secret", "out/victim": "victim"} {
		must(t, os.WriteFile(filepath.Join(base, name), []byte(text), 0o644))
	}
	for name, target := range map[string]string{"in/planted": "../out/secret", "in/planteddir": "../out"} {
		must(t, os.Symlink(target, filepath.Join(base, name)))
	}
	must(t, unix.Mkfifo(filepath.Join(base, "in/fifo"), 0o644))
	if err := unix.Mknod(filepath.Join(base, "in/device"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 3))); err != nil { // null(4)
		t.Logf("no device is among the attacks: mknod: %v", err)
	}
	return base
}

func hasDevice(base string) bool {
	_, err := os.Lstat(filepath.Join(base, "in/device"))
	return err == nil
}

// left is what is below the directories that nothing may be changed in.
func left(t *testing.T, base string) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range []string{"ro", "out"} {
		must(t, filepath.WalkDir(filepath.Join(base, dir), func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			fmt.Fprintf(&all, "%s %v", strings.TrimPrefix(name, base), info.Mode())
			if d.Type().IsRegular() {
				b, err := os.ReadFile(name)
				fmt.Fprintf(&all, " %q %v %v", b, info.ModTime(), err)
			}
			all.WriteByte('\n')
			return nil
		}))
	}
	return all.String()
}

// unbounded runs a module as the control: by the same engine, with functions of
// its own, and all of the stage as one directory.
func unbounded(t *testing.T, module string) func(base, act string) error {
	t.Helper()
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	t.Cleanup(func() { r.Close(ctx) })
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	binary, err := os.ReadFile(module)
	must(t, err)
	compiled, err := r.CompileModule(ctx, binary)
	must(t, err)
	return func(base, act string) error {
		_, err := r.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("").WithArgs("attack", act, base+"/in", base+"/ro", base+"/out").
			WithFSConfig(wazero.NewFSConfig().WithDirMount(base, base)))
		if exit, ok := errors.AsType[*sys.ExitError](err); ok && exit.ExitCode() == 0 {
			return nil
		}
		return err
	}
}

// Programs in C, with Debian's wasi-libc, get at nothing that is not granted. The
// disk is the judge, and the report has each attempt.
func TestAttacksInC(t *testing.T) {
	const above, readOnly, special = "above the directory that it was asked of", "granted for reading only", "neither a file nor a directory"
	module := victim(t, "attack")
	control := unbounded(t, module)
	attacks := []struct{ act, says, denied string }{
		{"read-by-path", "open: No such file or directory", `path_open "/out/secret": outside every grant`},
		{"read-by-dotdot", "open: Operation not permitted", `path_open "/out/secret": ` + above},
		{"read-by-chdir", "open: Operation not permitted", `path_open "/out/secret": ` + above},
		{"read-by-planted-link", "open: Operation not permitted", `path_open "/in/planted": ` + above},
		{"write-by-planted-link", "open: Operation not permitted", `path_open "/in/planted": ` + above},
		{"list-by-planted-link", "opendir: Operation not permitted", `path_open "/in/planteddir": ` + above},
		{"remove-by-planted-link", "unlink: Operation not permitted", `path_unlink_file "/in/planteddir/victim": ` + above},
		{"make-by-planted-link", "mkdir: Operation not permitted", `path_create_directory "/in/planteddir/new": ` + above},
		{"stat-by-planted-link", "stat: Operation not permitted", `path_filestat_get "/in/planted": ` + above},
		{"write-by-own-link", "open: Operation not permitted", `path_open "/in/own": ` + above},
		{"create-by-own-link", "open: Operation not permitted", `path_open "/in/owndir/made": ` + above},
		{"rename-out", "rename: Operation not permitted", `path_rename "/out/moved": ` + above},
		{"rename-in", "rename: Operation not permitted", `path_rename "/out/victim": ` + above},
		{"link-in", "link: Operation not permitted", `path_link "/out/secret": ` + above},
		{"write", "open: Read-only file system", `path_open "/ro/file": ` + readOnly},
		{"append", "open: Read-only file system", `path_open "/ro/file": ` + readOnly},
		{"truncate", "truncate: Read-only file system", `path_open "/ro/file": ` + readOnly},
		{"open-truncate", "open: Read-only file system", `path_open "/ro/file": ` + readOnly},
		{"create", "open: Read-only file system", `path_open "/ro/new": ` + readOnly},
		{"times", "utimensat: Read-only file system", `path_filestat_set_times "/ro/file": ` + readOnly},
		{"times-of-open", "futimens: Read-only file system", `fd_filestat_set_times "/ro/file": ` + readOnly},
		{"unlink", "unlink: Read-only file system", `path_unlink_file "/ro/file": ` + readOnly},
		{"rename-from", "rename: Read-only file system", `path_rename "/ro/file": ` + readOnly},
		{"rename-to", "rename: Read-only file system", `path_rename "/ro/new": ` + readOnly},
		{"link-from", "link: Cross-device link", ""}, // as between mounts: nothing that could be granted
		{"link-to", "link: Read-only file system", `path_link "/ro/new": ` + readOnly},
		{"symlink", "symlink: Read-only file system", `path_symlink "/ro/new": ` + readOnly},
		{"renumber", "open: Read-only file system", `path_open "/ro/new": ` + readOnly},
		{"fifo", "open: Permission denied", `path_open "/in/fifo": ` + special},
		{"device", "open: Permission denied", `path_open "/in/device": ` + special},
	}
	for _, c := range attacks {
		base := stage(t)
		act := c.act
		if act == "renumber" {
			act = "no-renumber" // wazero's own function refuses to
		}
		if act == "device" && !hasDevice(base) {
			continue
		}
		if err := control(base, act); err != nil {
			t.Errorf("control: %s fails without a boundary: %v", act, err)
		}
	}
	both(t, func(t *testing.T, h *host, wall string) {
		base := stage(t)
		run := func(act string) outcome {
			return h.try(t.Context(), bvisor.Request{Spec: request(wall, module, []string{act, base + "/in", base + "/ro", base + "/out"},
				grant("rw", base+"/in"), grant("r", base+"/ro"))})
		}
		run("no-renumber").completes()
		before := left(t, base)
		for _, c := range attacks {
			if c.act == "device" && !hasDevice(base) {
				continue
			}
			o := run(c.act).ends(report.Failed, "exit status 1")
			if o.stdout != c.says+"\n" {
				t.Errorf("%s: it said %q, expected %q", c.act, o.stdout, c.says)
			}
			var denied []string
			for _, d := range o.Denied {
				denied = append(denied, strings.ReplaceAll(d.Act, base, ""))
			}
			if got := strings.Join(denied, "; "); got != c.denied {
				t.Errorf("%s: denied %q, expected %q", c.act, got, c.denied)
			}
			if after := left(t, base); after != before {
				t.Fatalf("%s: there was\n%sand is\n%s", c.act, before, after)
			}
		}
		must(t, os.Remove(base+"/in/new"))
		for _, name := range []string{"stolen", "linked", "moved", "made"} {
			if _, err := os.Lstat(filepath.Join(base, "in", name)); err == nil {
				t.Errorf("in/%s was made", name)
			}
		}
	})
}

// A loop of calls that each do nearly nothing ends with the deadline as every
// other does.
func TestDeadlineInALoopOfCalls(t *testing.T) {
	module := victim(t, "attack")
	both(t, func(t *testing.T, h *host, wall string) {
		base := stage(t)
		o := h.try(t.Context(), bvisor.Request{Spec: request(wall, module, []string{"tiny-readdir", base + "/in", base + "/ro", base + "/out"},
			grant("r", base), budget(spec.Wall, deadline))})
		if o.exceeds(spec.Wall).stdout != "looping\n" {
			t.Errorf("it said %q", o.stdout)
		}
	})
}

// watcher sees every call of a module that counts nothing itself, by way of the
// engine.
type watcher struct{ now, most int64 }

func (w *watcher) NewFunctionListener(f api.FunctionDefinition) experimental.FunctionListener {
	if f.GoFunction() != nil {
		return nil // the host's own
	}
	return w
}

func (w *watcher) Before(context.Context, api.Module, api.FunctionDefinition, []uint64, experimental.StackIterator) {
	w.now++
	w.most = max(w.most, w.now)
}

func (w *watcher) After(context.Context, api.Module, api.FunctionDefinition, []uint64) { w.now-- }

func (w *watcher) Abort(context.Context, api.Module, api.FunctionDefinition, error) { w.now-- }

// watched runs a program as it is, and says what it wrote and how deep it went.
func watched(t *testing.T, module string, args ...string) (string, int64) {
	t.Helper()
	w := &watcher{}
	ctx := experimental.WithFunctionListenerFactory(context.Background(), w)
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	defer r.Close(ctx)
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	binary, err := os.ReadFile(module)
	must(t, err)
	var out bytes.Buffer
	_, err = r.InstantiateWithConfig(ctx, binary, wazero.NewModuleConfig().WithStdout(&out).WithArgs(append([]string{module}, args...)...))
	if exit, ok := errors.AsType[*sys.ExitError](err); err != nil && (!ok || exit.ExitCode() != 0) {
		t.Fatalf("control: %v", err)
	}
	return out.String(), w.most
}

// Calls of a program in C, by name and by way of tables, are counted to the one,
// as somebody else sees them. What it computes does not change.
func TestCallDepthInC(t *testing.T) {
	module := victim(t, "deep")
	both(t, func(t *testing.T, h *host, wall string) {
		for _, n := range []string{"0", "101", "7777"} {
			said, depth := watched(t, module, n)
			run := func(change ...func(*spec.Spec)) outcome {
				return h.try(t.Context(), bvisor.Request{Spec: request(wall, module, []string{n}, change...)})
			}
			plain, counted := run().completes(), run(budget(spec.CallDepth, depth)).completes()
			if used := *counted.used(spec.CallDepth).Used; plain.stdout != said || counted.stdout != said || plain.fuel() != counted.fuel() || used != depth {
				t.Errorf("%s: %q with %s units, counted %q with %s and %d deep, expected %q and %d", n, plain.stdout, plain.fuel(),
					counted.stdout, counted.fuel(), used, said, depth)
			}
			run(budget(spec.CallDepth, depth-1)).exceeds(spec.CallDepth)
		}
	})
}

// The modules are those of their sources, by the compiler that made them.
func TestVictimsInCAreTheirSources(t *testing.T) {
	clang, dir := need.Program(t, "clang-14"), t.TempDir()
	version, err := exec.Command(clang, "--version").Output()
	must(t, err)
	if !strings.HasPrefix(string(version), "Debian clang version 14.0.6\n") {
		need.Missing(t, "clang=14.0.6", "another version makes another module")
	}
	need.Program(t, "wasm-ld-14")
	need.File(t, "/usr/lib/wasm32-wasi/libc.a")
	if out, err := exec.Command("testdata/c/build.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"attack.wasm", "deep.wasm"} {
		made, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		kept, err := os.ReadFile(filepath.Join("testdata/c", name))
		must(t, err)
		if !bytes.Equal(made, kept) {
			t.Errorf("%s is not what build.sh makes", name)
		}
	}
}
