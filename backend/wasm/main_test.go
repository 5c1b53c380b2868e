package wasm_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/backend/wasm"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// guestVariable names the directory with the guest's two builds, in the second
// pass of the suite.
const guestVariable = "BVISOR_WASM_GUEST"

// place is a directory that every user can read.
var place struct {
	dir    string
	exe    string // this binary: a worker, if it is told to be one
	guest  string // for wasip1
	native string // for this host
}

// The binary is its own worker.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if act := programs[os.Args[1]]; act != nil {
			os.Exit(act(os.Args[2:]))
		}
		if act := workers[os.Args[1]]; act != nil {
			os.Exit(act(os.NewFile(wasm.WorkerIn, "in"), os.NewFile(wasm.WorkerOut, "out")))
		}
	}
	flag.Parse()
	os.Exit(suite(m))
}

// workers are what the binary can be started as.
var workers = map[string]func(in, out *os.File) int{
	"worker": func(in, out *os.File) int {
		if err := wasm.Work(in, out); err != nil {
			return 1
		}
		return 0
	},
}

// programs are what else it can be started as.
var programs = map[string]func(args []string) int{}

func suite(m *testing.M) int {
	dir, err := os.MkdirTemp("", "bvisor-wasm-test-")
	if err == nil {
		err = errors.Join(os.Chmod(dir, 0o755), prepare(dir))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	code := m.Run()
	if code == 0 {
		code = again()
	}
	return code
}

func prepare(dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	place.dir, place.exe = dir, filepath.Join(dir, "suite")
	if err := os.WriteFile(place.exe, b, 0o755); err != nil {
		return err
	}
	if built := os.Getenv(guestVariable); built != "" {
		place.guest, place.native = filepath.Join(built, "guest.wasm"), filepath.Join(built, "guest")
		return nil
	}
	place.guest, place.native = filepath.Join(dir, "guest.wasm"), filepath.Join(dir, "guest")
	return errors.Join(build(place.guest, "./testdata/guest", "GOOS=wasip1", "GOARCH=wasm"),
		build(place.native, "./testdata/guest"))
}

func build(out, source string, env ...string) error {
	c := exec.Command("go", "build", "-trimpath", "-o", out, source)
	c.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false"), env...)
	if text, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", source, err, text)
	}
	return os.Chmod(out, 0o755)
}

// host is one supervisor of the wasm backend.
type host struct {
	t       testing.TB
	backend *wasm.Backend
	*bvisor.Supervisor
	cache string
}

func newHost(t testing.TB, o wasm.Options) *host {
	t.Helper()
	state, err := bvisor.OpenState(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	b := wasm.New(o)
	h := &host{t, b, state.Supervisor(b), o.Cache}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		h.Wait()
		state.Log.Close()
	})
	return h
}

// walls are the two modes.
var walls = []string{"in-process", "worker"}

// compiled is shared by all tests: each backend has a cache of its own in it
// otherwise, and compiles everything again.
func options(t testing.TB, wall string) wasm.Options {
	t.Helper()
	o := wasm.Options{Cache: filepath.Join(place.dir, "cache")}
	if wall == "worker" {
		if err := workersRun(); err != nil {
			need.Missing(t, "worker", err.Error())
		}
		o.Outer, o.Worker = outer, []string{place.exe, "worker", strconv.Itoa(os.Getpid())} // whose it is
	}
	return o
}

var outer backend.Backend = linux.New()

// workersRun says why there can be no worker here.
func workersRun() error {
	if runtime.GOOS != "linux" {
		return errors.New("the outer boundary is Linux's")
	}
	b := wasm.New(wasm.Options{Outer: outer, Worker: []string{place.exe, "worker"}})
	defer b.Close()
	p, err := b.Probe(context.Background())
	if err != nil {
		return err
	}
	for _, f := range p.Facts {
		if f.Name == "worker" && f.Value != "available" {
			return errors.New(f.Detail)
		}
	}
	return nil
}

func both(t *testing.T, test func(t *testing.T, h *host, wall string)) {
	for _, wall := range walls {
		t.Run(wall, func(t *testing.T) { test(t, newHost(t, options(t, wall)), wall) })
	}
}

// outcome is how a run ended.
type outcome struct {
	t      testing.TB
	result *bvisor.Result
	*report.Report
	stdout, stderr string
}

// request is a spec of the guest with changes.
func request(wall, module string, args []string, change ...func(*spec.Spec)) spec.Spec {
	s := spec.Spec{Version: spec.Version, Workload: spec.Workload{Wasm: module, Args: args},
		Controls: spec.Controls{Capture: []spec.Capture{{Stream: "stdout"}, {Stream: "stderr"}}},
		Evidence: []spec.Claim{spec.TerminalOutcome, spec.CapturedStreams, spec.DeniedAttempts}}
	if wall == "in-process" {
		s.Accept = []spec.Weakening{"in-process"}
	}
	for _, f := range change {
		f(&s)
	}
	return s
}

func budget(d spec.Dimension, limit int64) func(*spec.Spec) {
	return func(s *spec.Spec) {
		if s.Budgets == nil {
			s.Budgets = map[spec.Dimension]spec.Budget{}
		}
		s.Budgets[d] = spec.Budget{Limit: limit}
	}
}

func grant(access spec.Access, paths ...string) func(*spec.Spec) {
	return func(s *spec.Spec) {
		s.Capabilities.Filesystem = append(s.Capabilities.Filesystem, spec.Grant{Access: access, Paths: paths})
	}
}

func in(dir string) func(*spec.Spec) { return func(s *spec.Spec) { s.Workload.Dir = dir } }

func (h *host) try(ctx context.Context, req bvisor.Request) outcome {
	h.t.Helper()
	var stdout, stderr bytes.Buffer
	if req.Stdout == nil {
		req.Stdout, req.Stderr = &stdout, &stderr
	}
	res, err := h.Run(ctx, req)
	if err != nil {
		h.t.Fatalf("%v: %v", req.Spec.Workload, err)
	}
	return outcome{h.t, res, res.Report, stdout.String(), stderr.String()}
}

func (h *host) run(wall string, args []string, change ...func(*spec.Spec)) outcome {
	h.t.Helper()
	return h.try(context.Background(), bvisor.Request{Spec: request(wall, place.guest, args, change...)})
}

func (o outcome) ends(status report.Status, reason string) outcome {
	o.t.Helper()
	if o.Outcome.Status != status || o.Outcome.Reason != reason {
		o.t.Errorf("outcome %+v (exit %s), expected %s %s\n%s%s", o.Outcome, o.Exit, status, reason, o.stdout, o.stderr)
		if o.Refusal != nil {
			o.t.Error(o.Refusal)
		}
	}
	return o
}

func (o outcome) completes() outcome { o.t.Helper(); return o.ends(report.Completed, "") }

func (o outcome) used(d spec.Dimension) report.BudgetResult {
	o.t.Helper()
	i := slices.IndexFunc(o.Budgets, func(b report.BudgetResult) bool { return b.Dimension == d })
	if i < 0 {
		o.t.Fatalf("the report has no budget %s", d)
	}
	return o.Budgets[i]
}

// exceeds says that a budget was found exceeded, with how much was used.
func (o outcome) exceeds(d spec.Dimension) outcome {
	o.t.Helper()
	if d == spec.Wall {
		o.ends(report.Timeout, "wall")
	} else {
		o.ends(report.BudgetExceeded, string(d))
	}
	if b := o.used(d); b.Finding != report.Exceeded || b.Used == nil || *b.Used <= 0 {
		o.t.Errorf("budget %s: %+v", d, b)
	}
	return o
}

// fuel is what a run used, whether or not there was a budget.
func (o outcome) fuel() string {
	o.t.Helper()
	for _, f := range o.Facts {
		if f.Kind == report.FuelCounted {
			for _, p := range f.Fields {
				if p.Name == "units" {
					return p.Value
				}
			}
		}
	}
	o.t.Fatal("the report does not say how much fuel was used")
	return ""
}

// heldBy looks at what a plan says of a requirement.
func heldBy(p *plan.Plan, k plan.Kind) []string {
	var names []string
	for _, r := range p.Requirements {
		if r.Kind == k {
			for _, m := range r.Mechanisms {
				names = append(names, m.Name)
			}
		}
	}
	return names
}

// native runs the guest's act on the host, without a boundary: the control.
func native(t *testing.T, dir string, args ...string) string {
	t.Helper()
	c := exec.Command(place.native, args...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("control: %v failed without a boundary: %v: %s", args, err, out)
	}
	return string(out)
}
