package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mathrand "math/rand/v2"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/ledger"
	"github.com/bvisor/bvisor/report"
)

func needsConfine(t *testing.T) {
	t.Helper()
	if err := canConfine(); err != nil {
		need.Missing(t, "confine", err.Error())
	}
}

// home is a working directory with a writable one, and a state directory beside it.
type home struct {
	t          *testing.T
	dir, state string
	keys       []report.PublicKey
}

func newHome(t *testing.T) *home {
	t.Helper()
	top := t.TempDir()
	h := &home{t: t, dir: filepath.Join(top, "work"), state: filepath.Join(top, "state")}
	if err := os.MkdirAll(filepath.Join(h.dir, "out"), 0o755); err != nil {
		t.Fatal(err)
	}
	// The first run makes the key and the profile.
	if out, err := h.command("run", "--", "/bin/sh", "-c", ":").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	key := report.KeyIn(filepath.Join(h.state, "keys"))
	if err := key.Ready(); err != nil {
		t.Fatal(err)
	}
	h.keys = []report.PublicKey{key.Public()}
	return h
}

func (h *home) command(args ...string) *exec.Cmd {
	cmd := exec.Command("bvisor", append([]string{"--state-dir", h.state}, args...)...)
	cmd.Dir = h.dir
	return cmd
}

var inState = regexp.MustCompile(`^(keys/key\.pem|profile-linux-\d+\.json|ledger/(origin|lock|segments/\d{9}|index/.*|public/.*|torn/\d{9}-\d+-[0-9a-f]{16}))$`)

// attempts are the entries of the ledger. Every report must verify, belong to
// an intent, and be alone there: no half of a file, no file of another name.
func (h *home) attempts() (intents map[string]bool, reports map[string]*report.Report) {
	t := h.t
	t.Helper()
	err := filepath.WalkDir(h.state, func(path string, d fs.DirEntry, err error) error {
		if name, _ := filepath.Rel(h.state, path); err == nil && !d.IsDir() && !inState.MatchString(name) {
			t.Errorf("in the state directory there is %s", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	log, err := ledger.OpenDir(filepath.Join(h.state, "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	trusted, err := bvisor.CheckpointKeys(h.state)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Verify(ledger.VerifyOptions{Keys: trusted, Every: true}); err != nil {
		t.Errorf("the ledger: %v", err)
	}
	entries, _, err := log.List(-1, math.MaxInt, nil)
	if err != nil {
		t.Fatal(err)
	}
	intents, reports = map[string]bool{}, map[string]*report.Report{}
	for _, e := range entries {
		if e.Kind == ledger.Intent {
			intents[e.Attempt] = true
		}
	}
	for _, e := range entries {
		if e.Kind != ledger.Report {
			continue
		}
		_, data, err := log.ReadAt(e.Index)
		if err != nil {
			t.Fatal(err)
		}
		v, err := report.Verify(data, h.keys)
		if err != nil {
			t.Errorf("%s does not verify: %v", e.Attempt, err)
			continue
		}
		if !intents[e.Attempt] || v.Report.Identity.Attempt != e.Attempt {
			t.Errorf("%s: intent %v, attempt %s", e.Attempt, intents[e.Attempt], v.Report.Identity.Attempt)
		}
		reports[e.Attempt] = v.Report
	}
	return intents, reports
}

// Commands beside each other, each with a mark of its own, and for every other
// one a file that they all keep their workloads from: each gives back its own
// mark, and there is a report for each. A carve-out is watched with inotify(7),
// of which the kernel gives a user 128 by default.
func TestManyCommandsAtOnce(t *testing.T) {
	needsConfine(t)
	h := newHome(t)
	intents, _ := h.attempts()
	before := len(intents)
	const commands = 200
	const spec = `version: 1
workload: {command: [sh], dir: out}
presets: [system]
capabilities: {filesystem: [{access: rw, paths: [out]}], environment: {PATH: "/usr/bin:/bin"}, spawn: processes}
controls: {capture: [stdout, stderr], stdin: inherit}
`
	if err := os.WriteFile(filepath.Join(h.dir, "many.yaml"), []byte(spec), 0o644); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range commands {
		wg.Go(func() {
			mark := fmt.Sprintf("mark %d", i)
			var out, said bytes.Buffer
			args := []string{"run", "--spec", "many.yaml"}
			if i%2 == 0 {
				args = append(args, "--deny", "out/absent")
			}
			cmd := h.command(append(args, "--", "/bin/sh", "-c", `read line; echo "$line and $2"; echo "$2" > "$1/$3"; exit 7`, "sh", filepath.Join(h.dir, "out"), mark, fmt.Sprint(i))...)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("read "+mark+"\n"), &out, &said
			err := cmd.Run()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 7 {
				t.Errorf("%s: %v\n%s", mark, err, said.String())
			}
			if want := "read " + mark + " and " + mark + "\n"; out.String() != want || said.Len() > 0 {
				t.Errorf("it said %q and %q, expected %q", out.String(), said.String(), want)
			}
			if got, err := os.ReadFile(filepath.Join(h.dir, "out", fmt.Sprint(i))); err != nil || string(got) != mark+"\n" {
				t.Errorf("%s: it wrote %q, %v", mark, got, err)
			}
		})
	}
	wg.Wait()
	intents, reports := h.attempts()
	if len(intents) != before+commands || len(reports) != before+commands {
		t.Errorf("%d intents and %d reports, expected %d", len(intents), len(reports), before+commands)
	}
	if _, err := os.Lstat(filepath.Join(h.dir, "out/absent")); err == nil {
		t.Error("the placeholder is left")
	}
}

// alone waits until this process has no child: it is the subreaper of all that
// it starts, so then nothing of that is left.
func alone(t *testing.T, what string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		if _, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil); err == unix.ECHILD {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: processes are left", what)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// running lists the processes whose command line holds a token.
func running(token string) (pids []string) {
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		if b, err := os.ReadFile(name); err == nil && bytes.Contains(b, []byte(token)) {
			pids = append(pids, strings.Split(name, "/")[2])
		}
	}
	return pids
}

// A signal at any moment of a run ends all of it: no process, mount or
// placeholder is left, and the attempt has a report, or an intent that says
// that it has none.
func TestSignalsAtAnyMoment(t *testing.T) {
	needsConfine(t)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	h := newHome(t)
	there, absent := filepath.Join(h.dir, "out/there"), filepath.Join(h.dir, "out/absent")
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	signals := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGKILL}
	// Tests may run with some of them ignored (nohup(1)), which a command would
	// inherit until it handles them itself; what is handled here is not ignored
	// there (execve(2)).
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(caught)
	ends := map[string]int{}
	for round := range need.Rounds(t, 40, 300) {
		b := make([]byte, 8)
		rand.Read(b)
		token, sig := hex.EncodeToString(b), signals[round%len(signals)]
		os.Remove(there)
		cmd := h.command("run", "--write", "out", "--deny", "out/absent", "--", "/bin/sh", "-c", ": > out/there; sleep 1000 & sleep 1000; :", token)
		var said bytes.Buffer
		cmd.Stderr = &said
		intentsBefore, _ := h.attempts()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for round%8 >= len(signals) { // every other time it runs by then
			if _, err := os.Lstat(there); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(mathrand.IntN(30_000)) * time.Microsecond) // the moment
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // the state tells
		what := fmt.Sprintf("round %d, %v", round, sig)
		alone(t, what)
		if left := running(token); len(left) > 0 {
			t.Errorf("%s: processes %v are left", what, left)
		}
		if now, err := os.ReadFile("/proc/self/mountinfo"); err != nil || !bytes.Equal(now, mounts) {
			t.Errorf("%s: the mounts are\n%s, expected\n%s, %v", what, now, mounts, err)
		}
		state := cmd.ProcessState.Sys().(syscall.WaitStatus)
		handled := state.Exited()
		if handled && (sig == syscall.SIGKILL || state.ExitStatus() != exitSignal+int(sig)) || !handled && state.Signal() != sig {
			t.Errorf("%s: it ended with %#x\n%s", what, state, said.String())
		}
		_, err := os.Lstat(there)
		ran := err == nil
		intents, reports := h.attempts()
		end := "nothing"
		for id := range intents {
			if intentsBefore[id] {
				continue
			}
			end = "an open intent"
			if r := reports[id]; r != nil {
				end = string(r.Outcome.Status)
				if r.Outcome.Status != report.Killed {
					t.Errorf("%s: %+v", what, r.Outcome)
				}
			}
		}
		if len(intents) > len(intentsBefore)+1 || ran && end == "nothing" {
			t.Errorf("%s: %d new intents, it ran: %v", what, len(intents)-len(intentsBefore), ran)
		}
		if handled && end == "an open intent" {
			t.Errorf("%s: it ended by itself and left the intent open\n%s", what, said.String())
		}
		if _, err := os.Lstat(absent); err == nil && handled {
			t.Errorf("%s: the placeholder is left", what)
		}
		ends[fmt.Sprintf("%v: %s, ran %v", sig, end, ran)]++
	}
	for what, n := range ends {
		t.Logf("%s: %d times", what, n)
	}
	// Who is killed cannot clear away; the next run that keeps the same path does.
	if out, err := h.command("run", "--write", "out", "--deny", "out/absent", "--", "/bin/sh", "-c", ":").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Lstat(absent); err == nil {
		t.Error("the placeholder is left after another run")
	}
	// That run closed what the killed ones left open.
	out, err := h.command("report", "list").CombinedOutput()
	if err != nil || strings.Contains(string(out), "without an end") {
		t.Errorf("something is open: %v\n%s", err, out)
	}
}
