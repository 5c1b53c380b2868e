//go:build amd64 || arm64

package bvisor_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/recovery"
	"github.com/bvisor/bvisor/ledger"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

// deciderVar turns the test binary into a process that decides over an attempt:
// state directory, attempt and action are the arguments.
const deciderVar = "BVISOR_TEST_DECIDES"

func decider() int {
	state, err := bvisor.OpenState(os.Args[1])
	if err == nil {
		fmt.Println("begins")
		_, err = state.Decide(os.Args[2], bvisor.Decision{Commit: os.Args[3] == bvisor.Commit})
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// leaves runs something whose writes below a directory are held back, and
// returns that directory and the attempt. It changes a, removes b and makes c.
func leaves(t *testing.T, state *bvisor.State) (dir, attempt string) {
	t.Helper()
	need.MountNamespace(t)
	need.File(t, "/bin/sh")
	dir = t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sp := spec.Default(dir, []string{"/bin/sh", "-c", "echo changed >a; rm b; echo new >c"})
	sp.Capabilities.Filesystem = []spec.Grant{{Access: "rwx", Paths: []string{dir}, Origin: spec.FromSpec}}
	sp.Controls.Artifacts = &spec.Artifacts{Paths: []string{dir}, Commit: "manual", Durability: "durable"}
	s := state.Supervisor(linux.New())
	defer s.Wait()
	res, err := s.Run(t.Context(), bvisor.Request{Spec: sp})
	if err != nil {
		t.Fatal(err)
	}
	if res.Report.Refusal != nil {
		for _, r := range res.Report.Refusal.Reasons {
			if r.Requirement == plan.CommitArtifact {
				need.Missing(t, "overlay", r.Fact)
			}
		}
	}
	if len(res.Report.Artifacts) != 1 || res.Report.Exit == nil || res.Report.Exit.Code != 0 {
		t.Fatalf("it ended as %+v: %s", res.Report.Outcome, res.Output["stderr"])
	}
	return dir, res.Report.Identity.Attempt
}

func open(t *testing.T) *bvisor.State {
	t.Helper()
	state, err := bvisor.OpenState(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { state.Log.Close() })
	return state
}

// has says what a directory holds.
func has(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e.Name()+"="+strings.TrimSpace(string(data)))
	}
	return strings.Join(all, " ")
}

const (
	asItWas  = "a=a b=b"
	asItLeft = "a=changed c=new"
)

// phases are those of the entries that an attempt's decisions have.
func phases(t *testing.T, state *bvisor.State, attempt string) string {
	t.Helper()
	entries, err := state.Log.All(ledger.Disposition, attempt)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, b := range entries {
		var d bvisor.Disposition
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatal(err)
		}
		list = append(list, d.Action+" "+d.Phase)
	}
	return strings.Join(list, ", ")
}

func TestDecisionsStandInTheLedger(t *testing.T) {
	state := open(t)
	dir, attempt := leaves(t, state)
	if got := has(t, dir); got != asItWas {
		t.Fatalf("the host has %s", got)
	}
	part := bvisor.Decision{Commit: true, Paths: []string{filepath.Join(dir, "c")}}
	if d, err := state.Decide(attempt, part); err != nil || d.Done != 1 || d.Phase != bvisor.Applied {
		t.Fatalf("got %+v, %v", d, err)
	}
	if _, err := state.Decide(attempt, bvisor.Decision{Paths: []string{filepath.Join(dir, "b")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Decide(attempt, bvisor.Decision{Commit: true, Paths: []string{"/etc/passwd"}}); err == nil {
		t.Error("a path outside was accepted")
	}
	if _, err := state.Decide(attempt, bvisor.Decision{Commit: true, Paths: []string{filepath.Join(dir, "b")}}); err == nil {
		t.Error("what was discarded was committed")
	}
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Decide(attempt, bvisor.Decision{Commit: true}); err == nil || has(t, dir) != "a=mine b=b c=new" {
		t.Errorf("over a change of the host's it said %v and left %s", err, has(t, dir))
	} else if c, ok := errors.AsType[*bvisor.Conflict](err); !ok || len(c.Result.Problems) != 1 || c.Result.Problems[0].Path != dir+"/a" {
		t.Errorf("the conflict is %v", err)
	}
	for range 2 {
		if d, err := state.Decide(attempt, bvisor.Decision{Commit: true, Force: true}); err != nil || d.Phase != bvisor.Applied {
			t.Fatalf("got %+v, %v", d, err)
		}
	}
	if got := has(t, dir); got != "a=changed b=b c=new" {
		t.Errorf("the host has %s", got)
	}
	if got := phases(t, state, attempt); got != "commit decided, commit applied, discard decided, discard applied, commit decided, commit applied" {
		t.Errorf("the ledger has %s", got)
	}
	if n, err := state.FinishDispositions(attempt); n != 0 || err != nil {
		t.Errorf("there was %d to finish, %v", n, err)
	}
}

// finishes are the ways to what was cut short: asked for, as part of a recovery,
// and beside the next run.
var finishes = []func(*testing.T, *bvisor.State, string) (int, error){
	func(_ *testing.T, s *bvisor.State, attempt string) (int, error) { return s.FinishDispositions(attempt) },
	func(t *testing.T, s *bvisor.State, attempt string) (int, error) {
		list, err := s.Recover(linux.New())
		return finished(t, list, attempt), err
	},
	func(t *testing.T, s *bvisor.State, attempt string) (n int, err error) {
		s.Told = func(list []bvisor.Recovered, e error) { n, err = finished(t, list, attempt), e }
		sup := s.Supervisor(linux.New())
		if _, err := sup.Run(t.Context(), bvisor.Request{Spec: spec.Default("/usr", []string{"/bin/true"})}); err != nil {
			return 0, err
		}
		sup.Wait()
		return n, err
	},
}

func finished(t *testing.T, list []bvisor.Recovered, attempt string) int {
	for _, r := range list {
		if r.Attempt != attempt || r.Outcome != recovery.Finished {
			t.Errorf("recovered %+v", r)
		}
	}
	return len(list)
}

// What a killed supervisor had held back and not sealed is taken away.
func TestRecoveryOfAQuarantine(t *testing.T) {
	state := open(t)
	dead := exec.Command("/bin/true")
	if err := dead.Start(); err != nil {
		t.Fatal(err)
	}
	self := recovery.Self()
	self.PID = dead.Process.Pid
	if err := dead.Wait(); err != nil {
		t.Fatal(err)
	}
	attempt := strings.Repeat("ab", 16)
	held := filepath.Join(state.Dir, "quarantine", attempt)
	intent, err := json.Marshal(map[string]any{"version": 1, "attempt": attempt, "plan": "", "profile": "", "started": "", "quarantine": held,
		"supervisor": map[string]any{"boot": self.Boot, "pid": self.PID, "pid_namespace": self.PIDNamespace, "start": self.Start}})
	if err == nil {
		_, err = state.Log.Append(ledger.Intent, attempt, intent)
	}
	if err == nil {
		err = os.MkdirAll(held, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(held, "0.data"), []byte("half"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	list, err := state.Recover(linux.New())
	if err != nil || len(list) != 1 || list[0].Outcome != recovery.RolledBack || len(list[0].Swept) != 1 || list[0].Swept[0].Kind != recovery.TraceQuarantine {
		t.Errorf("recovered %+v, %v", list, err)
	}
	if _, err := os.Stat(held); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if list, err := state.Recover(linux.New()); err != nil || len(list) != 0 {
		t.Errorf("once more: %+v, %v", list, err)
	}
}

// Whoever decides may be killed at any moment: what was decided is finished,
// once, and what was not leaves no trace.
func TestKilledDecisionIsFinished(t *testing.T) {
	var whole time.Duration
	cut := map[string]int{}
	for round := range need.Rounds(t, 30, 300) {
		state := open(t)
		dir, attempt := leaves(t, state)
		action, want := bvisor.Commit, asItLeft
		if round%2 == 1 {
			action, want = bvisor.Discard, asItWas
		}
		cmd := exec.Command(os.Args[0], state.Dir, attempt, action)
		cmd.Env = append(os.Environ(), deciderVar+"=1")
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if whole > 0 {
			time.Sleep(rand.N(whole)) // anywhere in it
			cmd.Process.Kill()
		}
		rest, _ := lines.ReadString('\n')
		if err := cmd.Wait(); whole == 0 {
			if err != nil {
				t.Fatalf("%v: %s", err, rest)
			}
			whole = time.Since(began)
		}
		before := phases(t, state, attempt)
		cut[before]++
		n, err := finishes[round%len(finishes)](t, state, attempt)
		if err != nil || n != strings.Count(before, "decided")-strings.Count(before, "applied") {
			t.Fatalf("after %q there was %d to finish, %v", before, n, err)
		}
		after := phases(t, state, attempt)
		if before == "" {
			if after != "" || has(t, dir) != asItWas {
				t.Fatalf("nothing was decided, and then there was %q and %s", after, has(t, dir))
			}
			continue
		}
		if after != action+" decided, "+action+" applied" {
			t.Fatalf("%q became %q", before, after)
		}
		if got := has(t, dir); got != want {
			t.Fatalf("after %q the host has %s", before, got)
		}
		if data, _ := filepath.Glob(filepath.Join(state.Dir, "quarantine", attempt, "*.data")); len(data) != 0 {
			t.Fatalf("contents are left: %q", data)
		}
	}
	t.Logf("entries at the kill: %v", cut)
}
