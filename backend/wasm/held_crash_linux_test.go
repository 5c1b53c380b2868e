package wasm_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/backend/wasm"
	"github.com/bvisor/bvisor/internal/recovery"
	"github.com/bvisor/bvisor/ledger"
	"github.com/bvisor/bvisor/spec"
)

func init() { programs["supervisor"] = supervisor }

// supervisor runs the guest, whose writes are held back, and is killed while
// the guest runs, or kills itself before it records the report. Its arguments:
// which of both, state directory, worker, module, cache, held directory.
func supervisor(args []string) int {
	state, err := bvisor.OpenState(args[1])
	if err != nil {
		fmt.Println(err)
		return 1
	}
	s := state.Supervisor(wasm.New(wasm.Options{Outer: linux.New(), Worker: []string{args[2], "worker"}, Cache: args[4]}))
	act := "linger"
	if args[0] == "before-report" {
		act, s.Log = "write", dyingLog{state.Log}
	}
	sp := request("worker", args[3], []string{act, filepath.Join(args[5], "file"), "lost"}, held(args[5]), grant(spec.AccessNone, filepath.Join(args[5], "absent/deeper")))
	_, err = s.Run(context.Background(), bvisor.Request{Spec: sp, Stdout: os.Stdout})
	fmt.Println("it lived:", err)
	return 1
}

type dyingLog struct{ *ledger.Dir }

func (l dyingLog) Append(kind ledger.Kind, attempt string, entry []byte) (ledger.Receipt, error) {
	if kind == ledger.Report {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return l.Dir.Append(kind, attempt, entry)
}

// killed is a state directory after its supervisor was killed, and the directory
// whose writes it held back.
func killed(t *testing.T, seam string) (state *bvisor.State, dir string) {
	t.Helper()
	dir = tree(t, "file")
	at := filepath.Join(t.TempDir(), "state")
	cmd := exec.Command(place.exe, "supervisor", seam, at, place.exe, place.guest, filepath.Join(place.dir, "cache"), dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	said := make([]byte, 100)
	n, _ := out.Read(said) // of a supervisor that kills itself, the end of the file
	if seam == "running" {
		must(t, cmd.Process.Kill())
	}
	_ = cmd.Wait()
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
		t.Fatalf("it ended by %v and said %s", cmd.ProcessState, said[:n])
	}
	state, err = bvisor.OpenState(at)
	must(t, err)
	t.Cleanup(func() { state.Log.Close() })
	return state, dir
}

// A run whose supervisor was killed is closed by whoever recovers, and by the
// next run of a module; nothing of it gets to the host or stays.
func TestKilledSupervisorOfAModule(t *testing.T) {
	h := holding(t)
	for _, seam := range []string{"running", "before-report"} {
		for _, by := range []string{"recover", "the next run"} {
			t.Run(seam+", "+by, func(t *testing.T) {
				state, dir := killed(t, seam)
				kept := func() int {
					names, err := filepath.Glob(filepath.Join(state.Dir, "quarantine/*"))
					must(t, err)
					return len(names)
				}
				placeholder := filepath.Join(dir, "absent")
				if _, err := os.Lstat(placeholder); (err == nil) != (seam == "running") {
					t.Errorf("the placeholder after the crash: %v", err)
				}
				if got := kept(); (got == 1) != (seam == "before-report") {
					t.Errorf("%d quarantines are left by the crash", got)
				}
				var found []bvisor.Recovered
				if by == "recover" {
					var err error
					found, err = state.Recover(linux.New())
					must(t, err)
				} else {
					state.Told = func(list []bvisor.Recovered, err error) { must(t, err); found = list }
					s := state.Supervisor(h.backend)
					_, err := s.Run(t.Context(), bvisor.Request{Spec: request("worker", place.guest, []string{"nothing"})})
					must(t, err)
					s.Wait()
				}
				found = slices.DeleteFunc(found, func(r bvisor.Recovered) bool { return r.Outcome == recovery.Running })
				if len(found) != 1 || found[0].Outcome != recovery.RolledBack && (seam == "before-report" || found[0].Outcome != recovery.Absent) {
					t.Errorf("found %+v", found)
				}
				says(t, filepath.Join(dir, "file"), "file")
				if kept() != 0 {
					t.Error("a quarantine is left")
				}
				if _, err := os.Lstat(placeholder); err == nil {
					t.Error("the placeholder is left")
				}
				again, err := state.Recover(linux.New())
				if err != nil || len(again) != 0 {
					t.Errorf("recovered once more: %+v, %v", again, err)
				}
			})
		}
	}
}
