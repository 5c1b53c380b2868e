//go:build linux && (amd64 || arm64)

package linux_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/ledger"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

var _ = victim.Register(map[string]victim.Act{
	// Is a supervisor of many runs, one after the other, and tells what it
	// holds meanwhile: directory of programs, rounds.
	"supervise-row": victim.Two(func(dir, rounds string) error {
		n, err := strconv.Atoi(rounds)
		if err != nil {
			return err
		}
		r := &row{dir: dir}
		if err := r.all(n); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(r.told)
	}),
	// Is in a user namespace that may have few others below it and, there,
	// becomes an act with ids of choice.
	"have-few-namespaces": func(args []string) error {
		if len(args) < 3 {
			return victim.Expect(args, 3)
		}
		for _, kind := range []string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"} {
			if err := os.WriteFile("/proc/sys/user/max_"+kind+"_namespaces", []byte(strconv.Itoa(namespaceLimit)), 0); err != nil {
				return err
			}
		}
		uid, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		gid, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		cmd := exec.Command(os.Args[0], append([]string{victim.Word}, args[2:]...)...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: 0, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: 0, Size: 1}}}
		return cmd.Run()
	},
})

// namespaceLimit is how many namespaces of each kind there may be at a time
// where the row is run. One run has one of each, but the kernel takes a network
// namespace down some time after its last user is gone (cleanup_net).
const namespaceLimit = 100

// holdings is what a supervisor has of what a run could leave behind, at one
// moment between two runs.
type holdings struct {
	Run, Descriptors, Goroutines, Threads, Resident int
	Mounts                                          string
}

// told is what the row says at its end.
type told struct {
	Holdings []holdings
	Ends     map[string]int // how many runs ended how
}

type row struct {
	dir  string
	sup  *bvisor.Supervisor
	keys []report.PublicKey
	told told
}

func (r *row) all(n int) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	state, err := bvisor.OpenState(filepath.Join(r.dir, "state"))
	if err != nil {
		return err
	}
	defer state.Log.Close()
	r.sup, r.keys, r.told.Ends = state.Supervisor(linux.New()), []report.PublicKey{state.Key.Public()}, map[string]int{}
	const samples = 40
	for i := range n {
		end, err := r.one(i % kindsOfRuns)
		if err != nil {
			return fmt.Errorf("run %d: %v", i, err)
		}
		r.told.Ends[end]++
		if (i+1)%max(n/samples, 1) == 0 {
			h, err := r.holdings(i)
			if err != nil {
				return err
			}
			r.told.Holdings = append(r.told.Holdings, h)
		}
	}
	return nil
}

const kindsOfRuns = 8

// one makes a run of some kind and says how it ended.
func (r *row) one(kind int) (string, error) {
	in := func(name string) string { return filepath.Join(r.dir, name) }
	s := spec.Spec{
		Version:      spec.Version,
		Workload:     spec.Workload{Command: []string{in("bin/echo")}},
		Capabilities: spec.Capabilities{Filesystem: []spec.Grant{{Access: "rx", Paths: []string{in("bin")}, Origin: spec.FromSpec}}, Spawn: spec.SpawnNone},
		Controls:     spec.Controls{Capture: []spec.Capture{{Stream: "stdout"}}, Stdin: spec.Stdin{Mode: spec.StdinInherit}},
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var out bytes.Buffer
	req := bvisor.Request{Stdout: &out}
	want := string(report.Completed)
	switch kind {
	case 0: // nothing but a program
	case 1: // all that has to be cleared away again
		for _, change := range (mods{grant("rw", in("data")), grant("none", in("data/secret"), in("data/absent")), temp("rw", "/private"), expose("r", in("data"), "/shown"), budget(spec.Storage, 1<<20)}) {
			change(&s)
		}
	case 2:
		s.Workload.Command, want = []string{in("bin/fail")}, string(report.Failed)
	case 3:
		s.Workload.Command, want = []string{in("bin/garbage")}, string(report.SetupFailed)
	case 4:
		s.Capabilities.Network.Allow, want = []string{"example.com:443/tcp"}, string(report.Refused)
	case 5:
		grant("r", in("nowhere"))(&s)
		want = "spec error"
	case 6:
		budget(spec.Output, 8)(&s)
		want = string(report.BudgetExceeded)
	case 7:
		s.Workload.Command, want = []string{in("bin/stay")}, string(report.Killed)
		s.Controls.Kill.Grace = time.Nanosecond
		req.Stdout = writer(func(b []byte) (int, error) { cancel(); return out.Write(b) })
	}
	input, write, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer input.Close()
	text := fmt.Sprintf("%16d", os.Getpid())
	write.WriteString(text)
	write.Close()
	req.Spec, req.Stdin = s, input
	res, err := r.sup.Run(ctx, req)
	if _, ok := errors.AsType[*spec.Error](err); ok {
		return want, nil
	}
	if err != nil {
		return "", err
	}
	v, err := report.Verify(res.Envelope, r.keys)
	if err != nil {
		return "", err
	}
	if got := v.Report.Outcome; string(got.Status) != want {
		return "", fmt.Errorf("%+v, expected %s", got, want)
	}
	if want == string(report.Completed) && out.String() != text {
		return "", fmt.Errorf("it said %q, expected %q", out.String(), text)
	}
	return want, nil
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func (r *row) holdings(i int) (h holdings, err error) {
	r.sup.Wait()
	// As subreaper this process gets what its children leave behind.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Microsecond) {
		if _, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil); err == unix.ECHILD {
			break
		}
		if time.Now().After(deadline) {
			return h, fmt.Errorf("after run %d processes are left", i)
		}
	}
	runtime.GC() // once for finalizers to run, and then for what they let go
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return h, err
	}
	field := func(name string) int {
		_, rest, _ := strings.Cut(string(status), "\n"+name+":")
		n, _ := strconv.Atoi(strings.Fields(rest)[0])
		return n
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return h, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	return holdings{Run: i, Descriptors: len(fds), Goroutines: runtime.NumGoroutine(), Threads: field("Threads"), Resident: field("VmRSS"), Mounts: string(mounts)}, err
}

// Runs one after the other leave nothing: in the supervisor, on the host, or in
// the kernel, which refuses one namespace too many.
func TestManyInARow(t *testing.T) {
	need.MountNamespace(t)
	used.Store("supervise-row", true)
	used.Store("have-few-namespaces", true)
	runs := rounds(t, 400, 10_000)
	root := tree(t, "bin/", "tmp/", "data/secret", "data/file")
	fail, stay := newCalls(), newCalls()
	fail.quiet(unix.SYS_EXIT_GROUP, num(3))
	stay.quiet(unix.SYS_WRITE, num(1), stay.Str("here"), num(4))
	stay.quiet(unix.SYS_PPOLL, num(0), num(0), num(0), num(0), num(0))
	for name, path := range map[string]string{"echo": echo(t), "fail": fail.file(t), "stay": stay.file(t)} {
		must(t, os.Link(path, filepath.Join(root, "bin", name)))
	}
	must(t, os.WriteFile(filepath.Join(root, "bin/garbage"), []byte("garbage"), 0o755))
	before := snapshot(t, root)

	cmd := exec.CommandContext(t.Context(), place.exe, victim.Word, "have-few-namespaces", strconv.Itoa(os.Geteuid()), strconv.Itoa(os.Getegid()),
		"supervise-row", root, strconv.Itoa(runs))
	cmd.Env = []string{"TMPDIR=" + filepath.Join(root, "tmp")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	var got told
	must(t, json.Unmarshal(out.Bytes(), &got))
	t.Logf("ends: %v", got.Ends)
	if len(got.Ends) != kindsOfRuns-1 {
		t.Errorf("the runs ended in %d ways, expected %d: %v", len(got.Ends), kindsOfRuns-1, got.Ends)
	}

	// The first runs fill what is kept on purpose.
	list := got.Holdings
	early, late := list[len(list)/4:len(list)/2], list[3*len(list)/4:]
	for _, c := range []struct {
		what  string
		of    func(holdings) int
		slack func(early int) int
	}{
		{"descriptors", func(h holdings) int { return h.Descriptors }, func(int) int { return 0 }},
		{"goroutines", func(h holdings) int { return h.Goroutines }, func(int) int { return 0 }},
		{"threads", func(h holdings) int { return h.Threads }, func(int) int { return 8 }}, // the Go runtime keeps idle ones
		{"KiB of resident memory", func(h holdings) int { return h.Resident }, func(n int) int { return n/4 + 4096 }},
	} {
		from, to := median(early, c.of), median(late, c.of)
		t.Logf("%s: %d at first, %d at last, %d at most", c.what, from, to, c.of(slices.MaxFunc(list, func(a, b holdings) int { return c.of(a) - c.of(b) })))
		if to > from+c.slack(from) {
			t.Errorf("%s grew from %d to %d in %d runs", c.what, from, to, runs)
		}
	}
	for _, h := range list {
		if h.Mounts != list[0].Mounts {
			t.Errorf("after run %d the mounts are\n%s, expected\n%s", h.Run, h.Mounts, list[0].Mounts)
			break
		}
	}

	log, err := ledger.OpenDir(filepath.Join(root, "state/ledger"))
	must(t, err)
	defer log.Close()
	entries := map[ledger.Kind]int{}
	for e := range log.Walk(0) {
		entries[e.Kind]++
	}
	completed, refusals, errs := got.Ends["completed"], got.Ends["refused"], got.Ends["spec error"]
	launched := runs - refusals - errs
	if completed == 0 || entries[ledger.Intent] != launched || entries[ledger.Report] != launched || entries[ledger.Refusal] != refusals {
		t.Errorf("entries %v, expected %d intents and reports, %d refusals", entries, launched, refusals)
	}
	trusted, err := bvisor.CheckpointKeys(filepath.Join(root, "state"))
	must(t, err)
	_, err = log.Verify(ledger.VerifyOptions{Keys: trusted, Every: true})
	must(t, err) // among others: there is no file that is none of its own
	var kept []string
	names, err := os.ReadDir(filepath.Join(root, "state"))
	must(t, err)
	for _, e := range names {
		kept = append(kept, e.Name())
	}
	if len(kept) > 3 { // the ledger, the keys, a profile
		t.Errorf("the state directory holds %v", kept)
	}
	must(t, os.RemoveAll(filepath.Join(root, "state")))
	if after := snapshot(t, root); after != before {
		t.Errorf("the files were\n%s, now they are\n%s", before, after)
	}
}

func median(list []holdings, of func(holdings) int) int {
	var n []int
	for _, h := range list {
		n = append(n, of(h))
	}
	slices.Sort(n)
	return n[len(n)/2]
}
