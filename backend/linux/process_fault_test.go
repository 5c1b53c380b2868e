//go:build linux && (amd64 || arm64)

package linux

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// noSuchCall is a number that no kernel knows: the call gives ENOSYS.
const noSuchCall = 999

// sabotage makes operation i of a program fail, and says whether the program
// takes that as a failure: some calls may fail.
func sabotage(p *launcher.Program, i int) bool {
	op := reflect.ValueOf(p).Elem().FieldByName("ops").Index(i)
	mode := op.FieldByName("mode").Uint()
	const ignored, jumps = 1 << 7, 1 << 8 // also in machine_*.s
	if mode&(ignored|jumps) != 0 {
		return false
	}
	nr := op.FieldByName("nr")
	if nr.Int() == -2 {
		return false // a copy is a load and a store
	}
	at := unsafe.Pointer(nr.UnsafeAddr())
	switch nr.Kind() {
	case reflect.Int32:
		*(*int32)(at) = noSuchCall
	case reflect.Int64:
		*(*int64)(at) = noSuchCall
	default:
		panic("bug: an operation's number is a " + nr.Kind().String())
	}
	return true
}

// Every call of a launch is made to fail in turn: the workload never runs, the
// outcome names the step, and nothing is left.
func TestEveryStepFails(t *testing.T) {
	need.MountNamespace(t)
	dir := t.TempDir()
	for p := dir; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		os.Chmod(p, 0o777)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	made := filepath.Join(dir, "made")
	absent := filepath.Join(dir, "absent")
	s := spec.Spec{
		Version: spec.Version, Presets: []string{"system"},
		Workload: spec.Workload{Command: []string{exe, "victim", "create", made}, Dir: dir},
		Capabilities: spec.Capabilities{Spawn: spec.SpawnThreads, Filesystem: []spec.Grant{
			{Access: "rx", Paths: []string{exe}, Origin: spec.FromSpec}, {Access: "rw", Paths: []string{dir}, Origin: spec.FromSpec},
			{Access: spec.AccessNone, Paths: []string{absent}, Origin: spec.FromSpec}}},
		Controls: spec.Controls{Temp: []spec.Temp{{Path: "/tmp", Access: "rw"}}, Stdin: spec.Stdin{Mode: spec.StdinTTY}},
		Budgets: map[spec.Dimension]spec.Budget{spec.Handles: {Limit: 64, Guarantee: spec.Enforced, Origin: spec.FromSpec},
			spec.Storage: {Limit: 1 << 20, Guarantee: spec.Enforced, Origin: spec.FromSpec}},
	}
	b := New()
	profile, err := b.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	launch := func(i int) (o report.Observation, fails bool, op launcher.Step) {
		r, err := b.Resolve(t.Context(), spec.Expand(s), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		p, refusal := plan.Make(r.Resolved(), profile)
		if refusal != nil {
			t.Fatal(refusal)
		}
		res := r.(*resolution)
		program, err := lower(p, res, nil, newSlots(nil))
		if err != nil {
			t.Fatal(err)
		}
		if i >= program.Len() {
			return o, false, op
		}
		if i >= 0 {
			if op, fails = program.Op(i), sabotage(program, i); !fails {
				return o, false, op
			}
		}
		first, err := program.Image().Seal()
		if err != nil {
			t.Fatal(err)
		}
		defer first.Close()
		b.boots.known = map[boot]*os.File{bootOf(p): first}
		body, err := program.SealBody()
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		var files []fileID
		for _, pin := range res.pins {
			if pin != nil {
				files = append(files, fileID{uint64(pin.stat.Dev), pin.stat.Ino})
			}
		}
		files = append(files, fileID{uint64(res.exe.stat.Dev), res.exe.stat.Ino})
		b.images.known = []knownImage{{p.ID(), files, &image{program: program, body: body, digest: sync.OnceValue(program.Digest)}}}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		o, settle, err := b.Launch(ctx, backend.Launch{Attempt: fmt.Sprint(i), Plan: p, Resolution: r, Commit: func() error { return nil }})
		settle()
		if err != nil {
			t.Errorf("step %d, %s: %v", i, op, err)
		}
		if ctx.Err() != nil {
			t.Errorf("step %d, %s: it hung", i, op)
		}
		return o, fails, op
	}
	// The control: as it is, the workload runs.
	if o, _, _ := launch(-1); o.Outcome.Status != report.Completed {
		t.Fatalf("control: %+v", o.Outcome)
	}
	if os.Remove(made) != nil {
		t.Fatal("control: the workload made nothing")
	}
	children := len(childrenOf(os.Getpid()))
	tried := 0
	for i := 0; ; i++ {
		o, fails, op := launch(i)
		if op.Name == "" {
			break
		}
		if !fails {
			continue
		}
		tried++
		// What init and the launcher do beside or after the workload cannot keep
		// it from running; it must not hide what happened either.
		beside := op.Phase == "reap" || op.Phase == "watch" || op.Name == "exit_group"
		_, err := os.Lstat(made)
		if ran := err == nil; ran {
			os.Remove(made)
			if !beside {
				t.Errorf("step %d, %s: the workload ran", i, op)
			}
		}
		if !beside {
			want := fmt.Sprintf("%s: step %d, %s: ENOSYS", op.Phase, i, op)
			if o.Outcome.Status != report.SetupFailed || o.Outcome.Reason != want {
				t.Errorf("step %d: %+v, expected %s", i, o.Outcome, want)
			}
			if o.Exit != nil {
				t.Errorf("step %d, %s: exit %+v", i, op, o.Exit)
			}
		}
		if _, err := os.Lstat(absent); err == nil {
			t.Errorf("step %d, %s: the placeholder is left", i, op)
			os.Remove(absent)
		}
		if left := childrenOf(os.Getpid()); len(left) != children {
			t.Fatalf("step %d, %s: processes %v are left", i, op, left)
		}
	}
	if tried < 100 {
		t.Errorf("%d steps were made to fail, expected more", tried)
	}
}

// childrenOf lists the processes whose parent is pid, zombies included.
func childrenOf(pid int) []string {
	var list []string
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		f := strings.Fields(string(b)[strings.LastIndexByte(string(b), ')')+1:])
		if f[1] == fmt.Sprint(pid) {
			list = append(list, strings.Split(name, "/")[2]+" "+f[0])
		}
	}
	return list
}
