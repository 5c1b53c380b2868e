//go:build linux && (amd64 || arm64)

package linux_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/internal/cgroup"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/sys"
	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// asVariable is set in the second pass, as an ordinary user, to its uid.
const asVariable = "BVISOR_AS"

// The binary is its own victim (see package victim). Whoever starts the tests
// as root gets them a second time as an ordinary user.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == victim.Word {
		os.Exit(victim.Main(os.Args[2:]))
	}
	flag.Parse()
	os.Exit(suite(m))
}

func suite(m *testing.M) int {
	unix.Umask(0o022)
	dir, err := os.MkdirTemp("", "bvisor-linux-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := prepare(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if states.log != nil {
		states.log.Close()
	}
	if code == 0 {
		code = again()
	}
	if code == 0 && wholeSuite() && !need.Skipped() && os.Getenv(asVariable) == "" {
		code = idleVictims()
	}
	return code
}

// rounds is need.Rounds with fewer of the long ones in the second pass.
func rounds(t testing.TB, usual, long int) int {
	t.Helper()
	if os.Getenv(asVariable) != "" {
		long /= 5
	}
	return need.Rounds(t, usual, max(usual, long))
}

func testFlag(name string) string {
	if f := flag.Lookup("test." + name); f != nil {
		return f.Value.String()
	}
	return ""
}

// wholeSuite says that nothing was left out by a flag.
func wholeSuite() bool {
	return testFlag("run") == "" && testFlag("skip") == "" && testFlag("list") == "" && testFlag("short") != "true"
}

// place is where the victim's binary is: a directory that everybody can read.
var place struct {
	dir, exe string
	tool     string // the same once more, in another inode: Landlock's rules go by inode
	dynamic  bool   // it needs the system's loader and libraries
}

// prepare copies the test binary to where every user, and every boundary that
// is granted it, can execute it: go test's own directory is closed to others.
func prepare(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	place.dir, place.exe, place.tool = dir, filepath.Join(dir, "victim"), filepath.Join(dir, "tool")
	for _, name := range []string{place.exe, place.tool} {
		if err := os.WriteFile(name, self, 0o755); err != nil {
			return err
		}
	}
	image, err := elf.NewFile(bytes.NewReader(self))
	if err != nil {
		return err
	}
	place.dynamic = slices.ContainsFunc(image.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
	return nil
}

// again is the second pass, in a group of its own if there is one to be had.
func again() int {
	remove := func() {}
	defer func() { remove() }()
	return need.Again(place.exe, func(c *exec.Cmd) (err error) {
		c.Env = append(c.Env, asVariable+"="+strconv.Itoa(need.Nobody))
		remove, err = delegate(c.SysProcAttr)
		return err
	})
}

// delegate has the second pass start in a group of its own, which belongs to the
// ordinary user as far as delegation goes (cgroup-v2.rst), if there is one to be
// had. done removes it.
func delegate(attr *syscall.SysProcAttr) (done func(), err error) {
	done = func() {}
	place, err := cgroup.Find("")
	if err != nil {
		return done, nil
	}
	top := filepath.Join(filepath.Dir(place.Path), "bvisor-test-"+strconv.Itoa(os.Getpid()))
	inner := filepath.Join(top, "suite")
	for _, dir := range []string{top, inner} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return done, err
		}
		for _, name := range []string{"", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} {
			if err := os.Chown(filepath.Join(dir, name), need.Nobody, need.Nobody); err != nil {
				return done, err
			}
		}
	}
	into, err := os.Open(inner)
	if err != nil {
		return done, err
	}
	attr.UseCgroupFD, attr.CgroupFD = true, int(into.Fd())
	return func() {
		into.Close()
		for _, dir := range []string{filepath.Join(top, "bvisor"), inner, top} {
			if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
				fmt.Fprintln(os.Stderr, "what the second pass left:", err)
			}
		}
	}, nil
}

var used sync.Map // names of acts that ran

// idleVictims fails a suite with acts that no test ran: what is not attempted
// is not held.
func idleVictims() int {
	code := 0
	for _, name := range victim.Names() {
		if _, ok := used.Load(name); !ok {
			fmt.Fprintf(os.Stderr, "victim %q: no test uses it; write one or drop it\n", name)
			code = 1
		}
	}
	return code
}

// states is the state directory of the whole process.
var states struct {
	once sync.Once
	log  interface{ Close() error }
	dir  string
	sup  *bvisor.Supervisor
	keys []report.PublicKey
	err  error
}

func supervisor(t testing.TB) *bvisor.Supervisor {
	t.Helper()
	states.once.Do(func() {
		states.dir = filepath.Join(place.dir, "state")
		var s *bvisor.State
		if s, states.err = bvisor.OpenState(states.dir); states.err != nil {
			return
		}
		states.log, states.sup, states.keys = s.Log, s.Supervisor(linux.New()), []report.PublicKey{s.Key.Public()}
	})
	if states.err != nil {
		t.Fatal(states.err)
	}
	return states.sup
}

// another is a supervisor of the same state, to be changed.
func another(t testing.TB) *bvisor.Supervisor {
	s := supervisor(t)
	return &bvisor.Supervisor{Backend: s.Backend, Log: s.Log, Key: s.Key, Secrets: s.Secrets, Held: s.Held, Decide: s.Decide, Protected: s.Protected}
}

// mods change the spec of a run. Without any the victim may execute its own
// binary, have threads (a Go program cannot start without) and write to both
// captured streams.
type mods []func(*spec.Spec)

func baseSpec(act string, args ...string) spec.Spec {
	s := spec.Spec{
		Version:  spec.Version,
		Workload: spec.Workload{Command: append([]string{place.exe, victim.Word, act}, args...)},
		Capabilities: spec.Capabilities{
			Filesystem: []spec.Grant{{Access: "rx", Paths: []string{place.exe}, Origin: spec.FromSpec}},
			Spawn:      spec.SpawnThreads,
		},
		Controls: spec.Controls{Capture: []spec.Capture{{Stream: "stdout"}, {Stream: "stderr"}}},
		Evidence: []spec.Claim{spec.TerminalOutcome, spec.CapturedStreams, spec.MechanismAttestation},
	}
	if place.dynamic {
		s.Presets = []string{"system"}
	}
	return s
}

// grant gives access to paths; access "none" carves them out.
func grant(access spec.Access, paths ...string) func(*spec.Spec) {
	return func(s *spec.Spec) {
		s.Capabilities.Filesystem = append(s.Capabilities.Filesystem, spec.Grant{Access: access, Paths: paths, Origin: spec.FromSpec})
	}
}

// shallow is grant with recursive: false.
func shallow(access spec.Access, paths ...string) func(*spec.Spec) {
	return func(s *spec.Spec) {
		s.Capabilities.Filesystem = append(s.Capabilities.Filesystem, spec.Grant{Access: access, Paths: paths, NonRecursive: true, Origin: spec.FromSpec})
	}
}

func preset(names ...string) func(*spec.Spec) { return func(s *spec.Spec) { s.Presets = names } }

func temp(access spec.Access, paths ...string) func(*spec.Spec) {
	return func(s *spec.Spec) {
		for _, p := range paths {
			s.Controls.Temp = append(s.Controls.Temp, spec.Temp{Path: p, Access: access})
		}
	}
}

func expose(access spec.Access, source, dest string) func(*spec.Spec) {
	return func(s *spec.Spec) {
		s.Controls.Expose = append(s.Controls.Expose, spec.Expose{Source: source, Dest: dest, Access: access})
	}
}

func spawn(v spec.Spawn) func(*spec.Spec) {
	return func(s *spec.Spec) { s.Capabilities.Spawn = v }
}

func accept(names ...spec.Weakening) func(*spec.Spec) {
	return func(s *spec.Spec) { s.Accept = append(s.Accept, names...) }
}

// unscoped adds what must be given up with a namespace that holds Landlock's
// scopes where Landlock itself does not: before ABI 6, Linux 6.12.
func unscoped(names ...spec.Weakening) []spec.Weakening {
	if landlockABI() < 6 {
		return append(names, "unscoped-ipc")
	}
	return names
}

// landlockABI is 0 where there is no Landlock.
func landlockABI() int {
	abi, _ := sys.LandlockABI()
	return abi
}

// needsMounts says whether a boundary without mounts of its own cannot be had
// here, and fails the test if one is not refused then: Landlock alone lets
// files be truncated before ABI 3, Linux 6.2.
func needsMounts(t testing.TB, change mods) bool {
	t.Helper()
	if landlockABI() >= 3 {
		return false
	}
	o, err := attempt(t, request(change, "exit", "0"))
	must(t, err)
	if got := reasons(t, o); !slices.Equal(got, []string{"weakening.conflict"}) {
		t.Errorf("refused for %q, expected a conflict", got)
	}
	return true
}

func budget(d spec.Dimension, limit int64) func(*spec.Spec) {
	return func(s *spec.Spec) {
		if s.Budgets == nil {
			s.Budgets = map[spec.Dimension]spec.Budget{}
		}
		s.Budgets[d] = spec.Budget{Limit: limit, Guarantee: spec.Enforced, Origin: spec.FromSpec}
	}
}

func dir(path string) func(*spec.Spec) { return func(s *spec.Spec) { s.Workload.Dir = path } }

// command replaces the victim by another program.
func command(argv ...string) func(*spec.Spec) {
	return func(s *spec.Spec) { s.Workload.Command = argv }
}

func env(name, value string) func(*spec.Spec) {
	return func(s *spec.Spec) {
		s.Capabilities.Environment = append(s.Capabilities.Environment, spec.EnvEntry{Name: name, Value: value})
	}
}

// outcome is how one victim ended, confined or not. Code is that of the
// victim: 0 or an error number. It is -1 when a signal ended it or it never ran.
type outcome struct {
	Act            string
	Code           int
	Stdout, Stderr string
	Report         *report.Report // nil for a control run
}

// attempt is run for whom errors of the spec or the command are results. A
// report that was made is always verified.
func attempt(t testing.TB, req bvisor.Request) (outcome, error) {
	t.Helper()
	return attemptWith(t, supervisor(t), t.Context(), req)
}

func attemptWith(t testing.TB, sup *bvisor.Supervisor, ctx context.Context, req bvisor.Request) (outcome, error) {
	t.Helper()
	res, err := sup.Run(ctx, req)
	if res == nil {
		return outcome{Code: -1}, err
	}
	verified, e := report.Verify(res.Envelope, states.keys)
	if e != nil {
		t.Fatalf("the report does not verify: %v", e)
	}
	if verified.Report.Outcome != res.Report.Outcome {
		t.Fatalf("the sealed outcome is %+v, the returned one %+v", verified.Report.Outcome, res.Report.Outcome)
	}
	o := outcome{Code: -1, Report: verified.Report, Stdout: string(res.Output["stdout"]) + string(res.Output["tty"]), Stderr: string(res.Output["stderr"])}
	if x := o.Report.Exit; x != nil && x.Signal == 0 {
		o.Code = x.Code
	}
	return o, err
}

// request is what run asks for.
func request(change mods, act string, args ...string) bvisor.Request {
	used.Store(act, true)
	s := baseSpec(act, args...)
	for _, f := range change {
		f(&s)
	}
	return bvisor.Request{Spec: s}
}

// run runs an act confined. It must get as far as running: a refusal, a failed
// setup or a crash of the victim fails the test.
func run(t testing.TB, change mods, act string, args ...string) outcome {
	t.Helper()
	need.MountNamespace(t)
	o := ran(t, request(change, act, args...))
	o.Act = act
	o.mustBeVictim(t, args)
	return o
}

// program is run for an ordinary program instead of a victim.
func program(t testing.TB, change mods, argv ...string) outcome {
	t.Helper()
	need.MountNamespace(t)
	req := request(change, "")
	req.Spec.Workload.Command = argv
	o := ran(t, req)
	o.Act = argv[0]
	return o
}

func ran(t testing.TB, req bvisor.Request) outcome {
	t.Helper()
	argv := req.Spec.Workload.Command
	o, err := attempt(t, req)
	if err != nil {
		t.Fatalf("%q: %v", argv, err)
	}
	if o.Report.Exit == nil {
		why := ""
		if o.Report.Refusal != nil {
			why = fmt.Sprintf("%+v", o.Report.Refusal.Reasons)
		}
		t.Fatalf("%q did not run: %+v %s", argv, o.Report.Outcome, why)
	}
	return o
}

// mustBeVictim tells an act's own failure from a crash with the same status.
func (o outcome) mustBeVictim(t testing.TB, args []string) {
	t.Helper()
	if o.Act != "exit" && o.Code > 0 && !strings.Contains(o.Stderr, victim.Prefix(o.Act)) || o.Code == victim.ExitUsage {
		t.Fatalf("%s %q ended with %d, which is not its own account:\n%s", o.Act, args, o.Code, o.Stderr)
	}
}

// control runs the same act without a boundary.
func control(t testing.TB, act string, args ...string) outcome {
	t.Helper()
	return controlWith(t, nil, act, args...)
}

// controlApart is control in user, mount, pid, network, ipc and uts namespaces of its
// own, with every Linux capability in them: for acts that must not be tried on
// the machine itself.
func controlApart(t testing.TB, act string, args ...string) outcome {
	t.Helper()
	need.UserNamespace(t)
	// The kernel has no other way to keep what is mounted there from the host
	// than the user namespace: all mounts in it are slaves of the host's.
	return controlWith(t, &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}, act, args...)
}

func controlWith(t testing.TB, attr *syscall.SysProcAttr, act string, args ...string) outcome {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), place.exe, append([]string{victim.Word, act}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr, cmd.Env = &stdout, &stderr, attr, []string{}
	cmd.Dir = "/"
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatalf("control: %v", err)
	}
	used.Store(act, true)
	o := outcome{Act: act, Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
	o.mustBeVictim(t, args)
	return o
}

// succeeds fails the test unless the act did.
func (o outcome) succeeds(t testing.TB) outcome {
	t.Helper()
	who := "confined"
	if o.Report == nil {
		who = "control"
	}
	if o.Code != 0 {
		t.Errorf("%s: %s ended with %d (%s), expected success\n%s", who, o.Act, o.Code, unix.ErrnoName(unix.Errno(max(o.Code, 0))), o.Stderr)
	} else if o.Report != nil && o.Report.Outcome.Status != report.Completed {
		t.Errorf("%s: the report says %+v, expected completed", o.Act, o.Report.Outcome)
	}
	return o
}

// denied fails the test unless the act failed with one of the errors, and the
// report says so and names every mechanism that holds kind.
func (o outcome) denied(t testing.TB, kind plan.Kind, want ...unix.Errno) outcome {
	t.Helper()
	if !slices.Contains(want, unix.Errno(max(o.Code, 0))) {
		t.Errorf("confined: %s ended with %d (%s), expected one of %v\nstdout: %.400s\nstderr: %.400s", o.Act, o.Code, unix.ErrnoName(unix.Errno(max(o.Code, 0))), want, o.Stdout, o.Stderr)
		return o
	}
	o.reports(t, report.Failed, "exit status "+strconv.Itoa(o.Code))
	o.heldBy(t, kind)
	return o
}

// reports checks the outcome, and that every phase is accounted for.
func (o outcome) reports(t testing.TB, status report.Status, reason string) {
	t.Helper()
	if got := o.Report.Outcome; got.Status != status || got.Reason != reason {
		t.Errorf("%s: the report says %+v, expected %s, %q", o.Act, got, status, reason)
	}
	for _, p := range o.Report.Transcript {
		if p.Status != "done" && p.Status != "not-required" {
			t.Errorf("%s: phase %s is %s in the transcript", o.Act, p.Name, p.Status)
		}
	}
}

// phases are those of the kernel's facilities.
var phases = map[string]string{"mount-namespace": "mounts", "landlock": "landlock", "seccomp": "seccomp", "user-namespace": "identity",
	"pid-namespace": "namespaces", "network-namespace": "namespaces", "ipc-namespace": "namespaces", "uts-namespace": "namespaces", "cgroup-namespace": "namespaces"}

// heldBy checks that the plan names what holds a kind, and that the transcript
// says each of them was installed.
func (o outcome) heldBy(t testing.TB, kind plan.Kind) {
	t.Helper()
	found := false
	held := func(v plan.Verdict, mechanisms []plan.Mechanism) {
		found = true
		if v.Enforcement != spec.Enforced || len(mechanisms) == 0 {
			t.Errorf("%s: %s is held by %+v, expected something enforced", o.Act, kind, mechanisms)
		}
		for _, m := range mechanisms {
			phase := phases[m.Name]
			if phase != "" && !slices.ContainsFunc(o.Report.Transcript, func(p report.Phase) bool { return p.Name == phase && p.Status == "done" }) {
				t.Errorf("%s: %s is held by %s, whose phase %s is not done: %+v", o.Act, kind, m.Name, phase, o.Report.Transcript)
			}
		}
	}
	for _, r := range o.Report.Plan.Requirements {
		if r.Kind == kind {
			held(r.Verdict, r.Mechanisms)
		}
	}
	for _, b := range o.Report.Plan.Budgets {
		if plan.BudgetKind(b.Dimension) == kind {
			held(b.Verdict, b.Mechanisms)
		}
	}
	if !found {
		t.Errorf("%s: no requirement %s in the plan", o.Act, kind)
	}
}

// refused runs an act whose spec or command must be an error, and returns it.
func refused(t testing.TB, change mods, act string, args ...string) error {
	t.Helper()
	o, err := attempt(t, request(change, act, args...))
	if err == nil {
		t.Fatalf("%s %q: got %+v, expected an error", act, args, o.Report.Outcome)
	}
	return err
}

// problems are the codes of a spec's error, sorted.
func problems(t testing.TB, err error) []string {
	t.Helper()
	e, ok := errors.AsType[*spec.Error](err)
	if !ok {
		t.Fatalf("got %T %v, expected a *spec.Error", err, err)
	}
	codes := map[string]bool{}
	for _, p := range e.Problems {
		codes[p.Code] = true
	}
	return slices.Sorted(maps.Keys(codes))
}

// reasons are the codes of a refusal, sorted.
func reasons(t testing.TB, o outcome) []string {
	t.Helper()
	if o.Report == nil || o.Report.Refusal == nil || o.Report.Outcome.Status != report.Refused {
		t.Fatalf("got %+v, expected a refusal", o)
	}
	codes := map[string]bool{}
	for _, r := range o.Report.Refusal.Reasons {
		codes[r.Code] = true
	}
	return slices.Sorted(maps.Keys(codes))
}

// tree makes files below a fresh directory: a name that ends in "/" is a
// directory, any other a file that holds its name.
func tree(t testing.TB, names ...string) string {
	t.Helper()
	root := t.TempDir()
	for p := root; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		os.Chmod(p, 0o755) // go test's directories are closed to others
	}
	for _, name := range names {
		path := filepath.Join(root, name)
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(path, 0o755))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(name), 0o644))
	}
	return root
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// holds checks what stands on disk; an empty want is a file that must not exist.
func holds(t testing.TB, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	switch {
	case want == "" && (errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR)):
	case want == "":
		t.Errorf("%s exists (%v), expected nothing there", path, err)
	case err != nil:
		t.Error(err)
	case string(got) != want:
		t.Errorf("%s holds %.80q, expected %.80q", path, got, want)
	}
}

// sum is the hex SHA-256 of a file.
func sum(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}
