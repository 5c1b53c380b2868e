package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mathrand "math/rand/v2"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/ledger"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// dies is a supervisor that kills itself at a seam: state directory, working
// directory, seam, mark of its workload.
func dies() {
	state, err := bvisor.OpenState(os.Args[1])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	dir, seam := os.Args[2], os.Args[3]
	sp := spec.Default(dir, []string{"/bin/sh", "-c", ": > out/there; echo here; sleep 1000 & if [ \"$1\" = run ]; then sleep 1000; fi; :", os.Args[4], map[bool]string{true: "run", false: "end"}[seam == "running"]})
	sp.Capabilities.Filesystem = append(sp.Capabilities.Filesystem,
		spec.Grant{Access: "rwx", Paths: []string{filepath.Join(dir, "out")}}, spec.Grant{Access: "none", Paths: []string{filepath.Join(dir, "out/absent")}})
	b := &dyingBackend{linux.New(), seam}
	s := state.Supervisor(b)
	s.Log = &dyingLog{state.Log, seam}
	endAt(seam, "before probe")
	_, err = s.Run(context.Background(), bvisor.Request{Spec: sp, Stdout: dyingWriter(seam)})
	s.Wait()
	fmt.Println("it lived:", err)
	os.Exit(1)
}

func endAt(seam, here string) {
	if seam == here {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
}

type dyingLog struct {
	*ledger.Dir
	seam string
}

func (l *dyingLog) Append(kind ledger.Kind, attempt string, entry []byte) (ledger.Receipt, error) {
	endAt(l.seam, "before "+string(kind))
	r, err := l.Dir.Append(kind, attempt, entry)
	endAt(l.seam, "after "+string(kind))
	return r, err
}

type dyingWriter string

func (w dyingWriter) Write(b []byte) (int, error) {
	endAt(string(w), "running")
	return len(b), nil
}

type dyingBackend struct {
	*linux.Backend
	seam string
}

func (b *dyingBackend) Resolve(ctx context.Context, s spec.Spec, p []backend.Protected) (backend.Resolution, error) {
	endAt(b.seam, "before resolve")
	return b.Backend.Resolve(ctx, s, p)
}

func (b *dyingBackend) Launch(ctx context.Context, l backend.Launch) (report.Observation, func(), error) {
	commit := l.Commit
	l.Commit = func() error {
		err := commit()
		endAt(b.seam, "committed")
		return err
	}
	endAt(b.seam, "before launch")
	o, settle, err := b.Backend.Launch(ctx, l)
	endAt(b.seam, "exited")
	return o, func() { endAt(b.seam, "before settling"); settle(); endAt(b.seam, "settled") }, err
}

// closed wants every attempt of the ledger but those still running to have one
// end, and nothing of the others to be left.
func (h *home) closed(what string, tokens []string, running ...string) {
	t := h.t
	t.Helper()
	for _, token := range tokens {
		eventuallyGone(t, what, token)
	}
	if _, err := os.Lstat(filepath.Join(h.dir, "out/absent")); err == nil {
		t.Errorf("%s: the placeholder is left", what)
	}
	h.attempts() // verifies
	log, err := ledger.OpenDir(filepath.Join(h.state, "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	ends := map[string]int{}
	for e := range log.Walk(0) {
		if e.Kind == ledger.Intent {
			ends[e.Attempt] += 0
		}
		if e.Kind.Ends() {
			ends[e.Attempt]++
		}
	}
	for attempt, n := range ends {
		want := 1
		for _, r := range running {
			if attempt == r {
				want = 0
			}
		}
		if n != want {
			t.Errorf("%s: attempt %s has %d ends, expected %d", what, attempt, n, want)
		}
	}
}

// eventuallyGone waits until no process has a token in its command line. The
// kernel takes a pid namespace down some time after its init was killed.
func eventuallyGone(t *testing.T, what, token string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		left := running(token)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: processes %v are left", what, left)
		}
	}
}

func (h *home) recover(what string) string {
	h.t.Helper()
	out, err := h.command("recover").CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s: recover: %v\n%s", what, err, out)
	}
	return string(out)
}

// A supervisor that dies at a seam leaves what recovery closes, as it should.
func TestDyingAtEverySeam(t *testing.T) {
	needsConfine(t)
	h := newHome(t)
	none := ""
	for seam, want := range map[string]string{
		"before probe": none, "before resolve": none, "before launch": none, "before intent": none,
		// What it had begun is ending by itself meanwhile, or is not.
		"after intent": "absent or rolled-back", "committed": "absent or rolled-back", "running": "absent or rolled-back",
		"exited": "absent or rolled-back", "before report": "absent or rolled-back",
		"before settling": "absent or rolled-back or completed", "settled": "absent or rolled-back or completed", "after report": none,
	} {
		token := fmt.Sprintf("token%d", mathrand.Uint64())
		cmd := exec.Command("bvisor-dies", h.state, h.dir, seam, token)
		out, err := cmd.CombinedOutput()
		if state, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !state.Signaled() || state.Signal() != syscall.SIGKILL {
			t.Fatalf("%s: %v: %s", seam, err, out)
		}
		said := h.recover(seam)
		first, _, _ := strings.Cut(strings.TrimPrefix(said[min(len(said), 32):], "  "), ":")
		first = strings.TrimSpace(first)
		if first == none && !strings.Contains(want, "completed") && want != none || first != none && !strings.Contains(want, first) {
			t.Errorf("%s: recover says %q, expected %q", seam, said, want)
		}
		h.closed(seam, []string{token})
		if again := h.recover(seam); again != "" {
			t.Errorf("%s: a second recovery says %q", seam, again)
		}
	}
}

// launchersOf are a supervisor's children that are launchers, with their command
// lines: who ends before the next look has none any more (proc_pid_cmdline(5)).
func launchersOf(pid int) map[int]string {
	list := map[int]string{}
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, name := range names {
		b, _ := os.ReadFile(name)
		for _, f := range strings.Fields(string(b)) {
			child, _ := strconv.Atoi(f)
			if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child)); err == nil && bytes.HasPrefix(line, []byte("bvisor-launcher")) {
				list[child] = strings.Trim(string(line), "\x00")
			}
		}
	}
	return list
}

// A supervisor that is killed at any moment, with its launcher stopped so that
// it does not notice or without, leaves nothing behind after recovery, however
// many recover at once; and a run of another process is not touched.
func TestKilledAtAnyMoment(t *testing.T) {
	needsConfine(t)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	h := newHome(t)

	// One that lives all the while, and keeps the same place.
	ready, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	live := h.command("run", "--write", "out", "--deny", "out/kept", "--", "/bin/sh", "-c", "echo ready; exec sleep 1000")
	live.Stdout = w
	if err := live.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if n, err := ready.Read(make([]byte, 5)); n == 0 {
		t.Fatal(err)
	}
	attempt := func() string {
		for line := range strings.Lines(h.recover("the live one")) {
			if id, what, _ := strings.Cut(strings.TrimSpace(line), "  "); what == "running" {
				return id
			}
		}
		t.Fatal("the live run is not found to be running")
		return ""
	}()

	ends := map[string]int{}
	there := filepath.Join(h.dir, "out/there")
	rounds := need.Rounds(t, 30, 1000)
	for round := range rounds {
		token := fmt.Sprintf("token%d", mathrand.Uint64())
		os.Remove(there)
		args := []string{"run", "--write", "out", "--deny", "out/absent", "--", "/bin/sh", "-c", ": > out/there; sleep 1000 & sleep 0.00$2; :", token, strconv.Itoa(mathrand.IntN(10))}
		if round%3 == 0 {
			args[8] = ": > out/there; sleep 1000 & sleep 1000; :"
		}
		cmd := h.command(args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for round%3 == 0 { // it runs by then
			if _, err := os.Lstat(there); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(mathrand.IntN(25_000)) * time.Microsecond) // the moment
		var stopped map[int]string
		if round%4 == 0 {
			stopped = launchersOf(cmd.Process.Pid)
			for pid := range stopped {
				_ = unix.Kill(pid, unix.SIGSTOP)
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		what := fmt.Sprintf("round %d, launchers stopped: %v", round, stopped)
		// Several recover at once, a run among them.
		var wg sync.WaitGroup
		said := make([]string, 3)
		for i, args := range [][]string{{"recover"}, {"recover"}, {"run", "--", "/bin/sh", "-c", ":"}} {
			wg.Go(func() {
				out, err := h.command(args...).CombinedOutput()
				if err != nil {
					t.Errorf("%s: %v: %v\n%s", what, args, err, out)
				}
				said[i] = string(out)
			})
		}
		wg.Wait()
		text := strings.Join(said, "\n")
		end := "nothing to do"
		for _, o := range []string{"absent", "rolled-back"} {
			if strings.Contains(text, "  "+o) {
				end = o
			}
		}
		if n := strings.Count(text, "  absent") + strings.Count(text, "  rolled-back"); n > 1 {
			t.Errorf("%s: closed %d times:\n%s", what, n, text)
		}
		// The run among them may still be seen as running, then it is closed by itself.
		if len(stopped) > 0 {
			end += ", launcher stopped"
			for pid, line := range stopped {
				reap(pid)
				// Without an intent nothing of the workload is there yet, and the
				// launcher goes as soon as it can.
				_ = unix.Kill(pid, unix.SIGCONT)
				eventuallyGone(t, what, line)
			}
		}
		ends[end]++
		eventuallyGone(t, what, token)
		if round%50 == 49 || round == rounds-1 {
			h.closed(what, []string{token}, attempt)
		}
		if t.Failed() {
			break
		}
	}
	for what, n := range ends {
		t.Logf("%s: %d times", what, n)
	}
	if err := unix.Kill(live.Process.Pid, 0); err != nil {
		t.Errorf("the live run: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(h.dir, "out/kept")); err != nil {
		t.Errorf("the live run's placeholder: %v", err)
	}
	if err := live.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = live.Wait()
	h.closed("at last", nil)
	if _, err := os.Lstat(filepath.Join(h.dir, "out/kept")); err == nil {
		t.Error("its placeholder is left")
	}
}

// reap takes an orphan's status, if it is ours to take, so that its number is
// not found any more.
func reap(pid int) { _, _ = unix.Wait4(pid, nil, unix.WALL|unix.WNOHANG, nil) }
