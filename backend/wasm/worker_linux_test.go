package wasm_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend/wasm"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// Workers that were taken over by their module, as far as they can be made up:
// they do what a module could that breaks out of the engine.
func init() {
	workers["hostile"] = hostile
	workers["worker-warm"] = workers["worker"]
	workers["deaf"] = func(in, out *os.File) int {
		frame(out, 'H', nil)
		frame(out, 'R', nil)
		_, _ = io.Copy(io.Discard, in) // whatever it is told
		return 0
	}
	workers["liar"] = func(in, out *os.File) int {
		frame(out, 'H', nil)
		frame(out, 'R', nil)
		frame(out, 'X', []byte(`{"exited": "yes"`))
		_, _ = io.Copy(io.Discard, in)
		return 0
	}
	workers["forger"] = func(in, out *os.File) int {
		frame(out, 'H', nil)
		frame(out, 'R', nil)
		frame(out, 'X', []byte(`{"exceeded": "luck", "fuel": -5}`))
		_, _ = io.Copy(io.Discard, in)
		return 0
	}
	workers["scribbler"] = func(in, out *os.File) int {
		signal.Ignore(syscall.SIGTERM)
		frame(out, 'H', nil)
		go func() { _, _ = io.Copy(io.Discard, in) }()
		frame(out, 'R', nil)
		names, _ := filepath.Glob("/tmp/*/*/kept")
		for _, name := range names {
			_ = os.WriteFile(name, []byte("scribbled"), 0o644)
			_ = os.WriteFile(filepath.Join(filepath.Dir(name), "new"), nil, 0o644)
		}
		frame(out, 'X', []byte(`{"exited": true, "cpu": -1}`))
		stay()
		return 0
	}
	workers["asked"] = func(in, out *os.File) int { // says what it is asked to do
		frame(out, 'H', nil)
		var head [5]byte
		_, _ = io.ReadFull(in, head[:])
		text := make([]byte, binary.BigEndian.Uint32(head[1:]))
		_, _ = io.ReadFull(in, text)
		answer := "it is to compile"
		if strings.Contains(string(text), `"file"`) {
			answer = "it is handed code"
		}
		go func() { _, _ = io.Copy(io.Discard, in) }()
		frame(out, 'F', []byte(answer))
		stay()
		return 0
	}
	// One that does what it is told, once, and stays.
	workers["clinger"] = func(in, out *os.File) int {
		signal.Ignore(syscall.SIGTERM)
		_ = wasm.Work(in, out)
		stay()
		return 0
	}
	// One that is asked for more standard input than there is room for on the way.
	workers["glutton"] = func(in, out *os.File) int {
		frame(out, 'H', nil)
		takes(in, 2)
		frame(out, 'R', nil)
		for {
			frame(out, 'W', []byte{0, 1, 0, 0})
		}
	}
	// One that does not take its job, which is longer than a pipe is wide.
	workers["stuffed"] = func(in, out *os.File) int {
		frame(out, 'H', nil)
		takes(in, 2)
		frame(out, 'R', nil)
		stay()
		return 0
	}
	workers["mumbler"] = func(in, out *os.File) int {
		frame(out, 'H', nil)
		frame(out, 'F', []byte("\xff\xfe\x1b[31m"+strings.Repeat("long", 10_000)))
		_, _ = io.Copy(io.Discard, in)
		return 0
	}
	for name, result := range map[string]string{"shirker": `{}`, "accuser": `{"exceeded": "output"}`, "garbler": `{"exceeded": "fuel", "code": "x"}`,
		"adviser": `{"exited": true, "denied": [{"act": "path_open", "mechanism": "wasi", "allow": "--write /", "path": "/in", "times": 1}]}`} {
		workers[name] = func(in, out *os.File) int {
			frame(out, 'H', nil)
			frame(out, 'R', nil)
			frame(out, 'X', []byte(result))
			_, _ = io.Copy(io.Discard, in)
			return 0
		}
	}
	workers["late"] = func(in, out *os.File) int { // machine code, when the module runs already
		frame(out, 'H', nil)
		frame(out, 'R', nil)
		_, _ = out.Write([]byte{'C', 0x40, 0, 0, 0}) // a gigabyte
		_, _ = io.Copy(io.Discard, in)
		return 0
	}
	workers["boaster"] = func(in, out *os.File) int {
		frame(out, 'H', nil)
		frame(out, 'R', nil)
		_, _ = out.Write([]byte{'O', 0xff, 0xff, 0xff, 0xff}) // four gigabytes
		_, _ = io.Copy(io.Discard, in)
		return 0
	}
}

// takes reads some frames: setup and module, where no code was kept.
func takes(in io.Reader, n int) {
	for range n {
		var head [5]byte
		_, _ = io.ReadFull(in, head[:])
		_, _ = io.CopyN(io.Discard, in, int64(binary.BigEndian.Uint32(head[1:])))
	}
}

// stay does nothing more, also with nobody left who could want something.
func stay() {
	for {
		time.Sleep(time.Hour)
	}
}

func frame(out io.Writer, kind byte, contents []byte) {
	_, _ = out.Write(append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(contents))), contents...))
}

// attacks are what a hostile worker tries. The file scene, below the directory
// that is granted for reading, names what there is outside.
func attacks(dir string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "scene"))
	if err != nil {
		return nil, err
	}
	scene := strings.Split(string(text), "\n")
	secret, address, socket := scene[0], scene[1], scene[2]
	var done []string
	try := func(name string, act func() error) {
		if act() == nil {
			done = append(done, name)
		}
	}
	try("read what is granted", func() error { _, err := os.ReadFile(filepath.Join(dir, "scene")); return err })
	try("read a file outside", func() error { _, err := os.ReadFile(secret); return err })
	try("read its own program's neighbours", func() error { _, err := os.ReadFile(scene[3]); return err })
	try("write where reading is granted", func() error { return os.WriteFile(filepath.Join(dir, "new"), nil, 0o600) })
	try("cut a file that is granted for reading", func() error { return os.Truncate(filepath.Join(dir, "scene"), 0) })
	try("reach a server of the host", func() error { _, err := net.DialTimeout("tcp", address, time.Second); return err })
	try("reach a socket of the host", func() error { _, err := net.Dial("unix", socket); return err })
	try("see its supervisor", func() error { _, err := os.ReadFile("/proc/" + scene[4] + "/cmdline"); return err })
	try("execute a program", func() error { return syscall.Exec("/bin/true", []string{"true"}, nil) })
	try("write bvisor's cache", func() error {
		return os.WriteFile(filepath.Join(filepath.Dir(secret), "cache"), nil, 0o600)
	})
	return done, nil
}

const boundaryProgram = "/~/bvisor"

func hostile(in, out *os.File) int {
	frame(out, 'H', nil)
	dir := ""
	if entries, err := filepath.Glob("/*/*/*/scene"); err == nil && len(entries) > 0 {
		dir = filepath.Dir(entries[0])
	}
	done, err := attacks(dir)
	frame(out, 'F', fmt.Appendf(nil, "done: %q (%v)", done, err))
	_, _ = io.Copy(io.Discard, in)
	return 0
}

// The second wall: a worker that was taken over reaches what the plan grants to
// its module, and nothing else. The control is the same acts in this process.
func TestTakenOverWorkerStaysInside(t *testing.T) {
	o := options(t, "worker")
	o.Worker[1] = "hostile"
	top, err := os.MkdirTemp("/tmp", "bvisor-scene-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(top) })
	dir := filepath.Join(top, "granted")
	must(t, os.Mkdir(dir, 0o755))
	secret := filepath.Join(top, "secret")
	must(t, os.WriteFile(secret, []byte("secret"), 0o644))
	server, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer server.Close()
	socket, err := net.Listen("unix", filepath.Join(top, "socket"))
	must(t, err)
	defer socket.Close()
	scene := func() {
		must(t, os.WriteFile(filepath.Join(dir, "scene"), []byte(secret+"\n"+server.Addr().String()+"\n"+socket.Addr().String()+"\n"+place.native+"\n"+strconv.Itoa(os.Getpid())), 0o644))
	}
	scene()

	s := request("worker", place.guest, []string{"nothing"}, grant("r", dir))
	got := newTakenOver(t, o).try(t.Context(), bvisor.Request{Spec: s})
	got.ends(report.SetupFailed, `compile: done: ["read what is granted"] (<nil>)`)

	// The control leaves out what would end this process or succeed anywhere.
	for name, act := range map[string]func() error{
		"secret": func() error { _, err := os.ReadFile(secret); return err },
		"native": func() error { _, err := os.ReadFile(place.native); return err },
		"proc":   func() error { _, err := os.ReadFile("/proc/" + strconv.Itoa(os.Getpid()) + "/cmdline"); return err },
		"write":  func() error { return os.WriteFile(filepath.Join(dir, "new"), nil, 0o600) },
		"cut":    func() error { return os.Truncate(filepath.Join(dir, "scene"), 0) },
		"server": func() error { _, err := net.Dial("tcp", server.Addr().String()); return err },
		"socket": func() error { _, err := net.Dial("unix", socket.Addr().String()); return err },
	} {
		if err := act(); err != nil {
			t.Errorf("control: %s: %v", name, err)
		}
	}
}

// newTakenOver is a host whose profile was taken with workers that work.
func newTakenOver(t *testing.T, o wasm.Options) *host {
	t.Helper()
	p, err := wasm.New(options(t, "worker")).Probe(t.Context())
	must(t, err)
	h := newHost(t, o)
	h.backend.Assume(p)
	return h
}

// A worker that does not answer is killed at the deadline, one that talks
// nonsense at once, and nothing is left of either.
func TestWorkerThatDoesNotAnswer(t *testing.T) {
	input := filepath.Join(t.TempDir(), "input")
	must(t, os.WriteFile(input, make([]byte, 1<<20), 0o644))
	for act, want := range map[string]report.Status{"deaf": report.Timeout, "glutton": report.Timeout, "stuffed": report.Timeout, "liar": report.SupervisorFault,
		"forger": report.SupervisorFault, "boaster": report.SupervisorFault, "late": report.SupervisorFault, "shirker": report.SupervisorFault,
		"accuser": report.SupervisorFault, "garbler": report.SupervisorFault, "adviser": report.SupervisorFault, "mumbler": report.SetupFailed} {
		o := options(t, "worker")
		o.Cache = filepath.Join(t.TempDir(), "cache")
		o.Worker[1] = act
		h := newTakenOver(t, o)
		wall := deadline
		if want != report.Timeout {
			wall = int64(time.Minute)
		}
		s := request("worker", place.guest, []string{"nothing"}, budget(spec.Wall, wall), budget(spec.Output, 1000), func(s *spec.Spec) {
			s.Controls.Stdin = spec.Stdin{Mode: spec.StdinFile, File: input}
			s.Capabilities.Environment = []spec.EnvEntry{{Name: "LONG", Value: strings.Repeat("a", 100_000)}}
		})
		s.Controls.Kill.Grace = time.Millisecond
		got := h.try(t.Context(), bvisor.Request{Spec: s})
		if got.Outcome.Status != want || len(got.Outcome.Reason) > 5000 {
			t.Errorf("%s: outcome %.200q, expected %s", act, got.Outcome, want)
		}
		if got.Completeness.Level != report.LevelPartial && want != report.SetupFailed { // where nothing ran, none was denied
			t.Errorf("%s: the list of denied attempts is %s", act, got.Completeness.Level)
		}
		h.Wait()
		if left := processes(t, act); len(left) != 0 {
			t.Errorf("%s: %v are left", act, left)
		}
	}
}

// processes are those of this suite's workers, by what they were started as.
func processes(t *testing.T, act string) []string {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	var pids []string
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err == nil && string(b) == boundaryProgram+"\x00"+act+"\x00"+strconv.Itoa(os.Getpid())+"\x00" {
			pids = append(pids, strings.Split(name, "/")[2])
		}
	}
	return pids
}

// What one worker has compiled the next one of the same backend is handed.
func TestCodeForTheNextWorker(t *testing.T) {
	o := options(t, "worker")
	o.Cache = filepath.Join(t.TempDir(), "cache")
	h := newTakenOver(t, o)
	s := request("worker", answers(t), nil)
	s.Controls.Temp = []spec.Temp{{Path: "/t", Access: "rw"}} // so that it has a worker of its own
	h.try(t.Context(), bvisor.Request{Spec: s}).ends(report.Failed, "exit status 42")
	o.Worker[1] = "asked"
	h.try(t.Context(), bvisor.Request{Spec: s}).ends(report.SetupFailed, "compile: it is handed code")
	must(t, os.RemoveAll(o.Cache))
	h.try(t.Context(), bvisor.Request{Spec: s}).ends(report.SetupFailed, "compile: it is to compile")
}

// A worker that does not end when nobody needs it any more is ended: with the
// backend, and with the run whose alone it was.
func TestWorkerThatStays(t *testing.T) {
	o := options(t, "worker")
	o.Worker[1] = "clinger"
	h := newTakenOver(t, o)
	h.run("worker", []string{"nothing"}, func(s *spec.Spec) { s.Controls.Temp = []spec.Temp{{Path: "/t", Access: "rw"}} }).completes()
	if left := processes(t, "clinger"); len(left) != 0 {
		t.Errorf("%v are left of a run", left)
	}
	h.run("worker", []string{"nothing"}).completes()
	if left := processes(t, "clinger"); len(left) != 1 {
		t.Errorf("%v are kept, expected 1", left)
	}
	must(t, h.backend.Close())
	if left := processes(t, "clinger"); len(left) != 0 {
		t.Errorf("%v are left of the backend", left)
	}
}

// A worker is kept for the next run of the same module under the same policy,
// given to no other, and gone when the backend is closed.
func TestWarmWorkers(t *testing.T) {

	o := options(t, "worker")
	o.Worker[1] = "worker-warm"
	h := newTakenOver(t, o)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	h.run("worker", []string{"nothing"}).completes()
	first := processes(t, "worker-warm")
	if len(first) != 1 {
		t.Fatalf("%d workers after the first run, expected 1", len(first))
	}
	h.run("worker", []string{"say", "something else"}).completes()
	if again := processes(t, "worker-warm"); !slices.Equal(again, first) {
		t.Errorf("workers %v after the second run, %v after the first", again, first)
	}
	h.run("worker", []string{"nothing"}, grant("r", dir)).completes()
	other := processes(t, "worker-warm")
	if len(other) != 2 || !slices.Contains(other, first[0]) {
		t.Errorf("workers %v after a run with another grant, %v before", other, first)
	}
	// Another module, and another form of the same: of each a worker of its own.
	h.try(t.Context(), bvisor.Request{Spec: request("worker", answers(t), nil)}).ends(report.Failed, "exit status 42")
	h.run("worker", []string{"nothing"}, budget(spec.CallDepth, 1<<20)).completes()
	if all := processes(t, "worker-warm"); len(all) != 4 {
		t.Errorf("workers %v after runs of another module and another form, %v before", all, other)
	}
	// The same name is another directory now: the worker's boundary has the old one.
	must(t, os.Rename(dir, dir+"-old"))
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "in"), []byte("new"), 0o644))
	if got := h.run("worker", []string{"read", filepath.Join(dir, "in")}, grant("r", dir)).completes(); got.stdout != "new" {
		t.Errorf("read %q", got.stdout)
	}
	must(t, h.backend.Close())
	if left := processes(t, "worker-warm"); len(left) != 0 {
		t.Errorf("%v are left", left)
	}
}

// A granted directory may hold the worker's own program.
func TestWorkerInAGrant(t *testing.T) {
	h := newHost(t, options(t, "worker"))
	for _, access := range []spec.Access{"r", "rw"} {
		h.run("worker", []string{"nothing"}, grant(access, filepath.Dir(place.exe)), in(filepath.Dir(place.exe))).completes()
	}
}

// A place that is granted and exposed has, under each of its names, the rights
// that this name gives, and its worker does not hold back what the spec grants.
func TestGrantedAndExposed(t *testing.T) {
	h := newHost(t, options(t, "worker"))
	dir := tree(t, "in/file")
	exposed := func(access spec.Access, source string) func(*spec.Spec) {
		return func(s *spec.Spec) {
			s.Controls.Expose = []spec.Expose{{Source: source, Dest: "/shown", Access: access}}
		}
	}
	for name, c := range map[string]struct {
		change   []func(*spec.Spec)
		may, not string
	}{
		"granted for writing, exposed for reading": {[]func(*spec.Spec){grant("rw", dir), exposed("r", dir)}, dir + "/in/new", "/shown/in/new"},
		"a directory inside, exposed for reading":  {[]func(*spec.Spec){grant("rw", dir), exposed("r", dir+"/in")}, dir + "/in/new", "/shown/new"},
		"granted for reading, exposed for writing": {[]func(*spec.Spec){grant("r", dir), exposed("rw", dir)}, "/shown/in/new", dir + "/in/new"},
		"a directory around it, for writing":       {[]func(*spec.Spec){grant("r", dir+"/in"), exposed("rw", dir)}, "/shown/in/new", dir + "/in/new"},
	} {
		if o := h.run("worker", []string{"write", c.not, "x"}, c.change...); o.Exit == nil || o.Exit.Code != 1 || len(o.Denied) == 0 {
			t.Errorf("%s: writing %s: %+v", name, c.not, o.Outcome)
		}
		if _, err := os.Stat(dir + "/in/new"); err == nil {
			t.Errorf("%s: %s was written", name, c.not)
		}
		h.run("worker", []string{"write", c.may, "x"}, c.change...).completes()
		must(t, os.Remove(dir+"/in/new"))
	}
}

// Where a carve-out does not exist something holds its place, until the last of
// the runs that need it has ended; no worker keeps it beyond that.
func TestPlaceholdersOfManyRuns(t *testing.T) {
	h := newHost(t, options(t, "worker"))
	dir := tree(t, "file")
	carved := []func(*spec.Spec){grant("rw", dir), grant(spec.AccessNone, dir+"/absent")}
	there := func() bool { _, err := os.Lstat(dir + "/absent"); return err == nil }
	out, said := io.Pipe()
	ctx, end := context.WithCancel(t.Context())
	first := make(chan outcome)
	go func() {
		first <- h.try(ctx, bvisor.Request{Spec: request("worker", place.guest, []string{"linger", dir + "/file", "x"}, carved...), Stdout: said, Stderr: io.Discard})
	}()
	_, err := out.Read(make([]byte, 8))
	must(t, err)
	if !there() {
		t.Error("nothing stands in the place of the carve-out")
	}
	h.run("worker", []string{"nothing"}, carved...).completes()
	if !there() {
		t.Error("the second run took the place of the first away")
	}
	end()
	if o := <-first; o.Outcome.Status != report.Killed {
		t.Errorf("the first run ended as %+v", o.Outcome)
	}
	h.Wait()
	if there() {
		t.Error("the placeholder is left")
	}
}

// What the worker's boundary cannot have is said of the spec, not of the launch.
func TestWhatTheBoundaryCannotHave(t *testing.T) {
	h := newHost(t, options(t, "worker"))
	dir := tree(t)
	_, _, err := h.Plan(t.Context(), request("worker", place.guest, []string{"nothing"}, grant("r", dir), func(s *spec.Spec) {
		s.Controls.Temp = []spec.Temp{{Path: dir + "/none", Access: "rw"}}
	}))
	if e, ok := errors.AsType[*spec.Error](err); !ok || e.Problems[0].Code != "spec.temp" {
		t.Errorf("the answer is %v", err)
	}
}
