//go:build amd64 || arm64

package vm

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bvisor/bvisor/internal/need"
)

// part is what of a package is run under a kernel. The suites of backend/linux
// and internal/selftest repeat themselves as an ordinary user.
type part struct {
	pkg   string
	run   []string // tests, by name; nil is all
	skip  []string // tests that only repeat something, or keep this machine's processors busy
	archs []string // nil is all
	on    []string // kernels, nil is all
}

// core is what every run of the tests includes: the launcher's machine, each
// facility, every attack, and what differs most between kernels.
var core = []part{
	{pkg: "./internal/launcher"},
	{pkg: "./internal/notify"},
	{pkg: "./internal/procfs"},
	{pkg: "./internal/seccomp", run: []string{"TestKernelDenies", "TestCoreLimitStays", "TestThreadsWithoutProcesses"}},
	{pkg: "./internal/selftest", run: []string{"TestTheDefaultBoundaryStopsEveryAttack"}, archs: []string{"amd64"}},
	{pkg: "./backend/linux", run: coreOfLaunches},
	{pkg: "./backend/linux", run: []string{"TestProcessesBudget", "TestGroupFromInside", "TestGroupFromOutside", "TestGroupEndsTheTree"}, archs: []string{"amd64"}},
}

var coreOfLaunches = []string{
	"TestBaselineWeakenings", "TestBaselineLandlockDomain", "TestBaselineLandlockScopes", "TestMountsAndLandlockHoldAlone",
	"TestFilesWithoutAPathCannotBeExecuted", "TestNetworkHasOnlyADeadLoopback", "TestLoopbackServesItself", "TestDeniedCalls",
	"TestSetUserIDGainsNothing", "TestExitStatuses", "TestSupervisorKilled", "TestCapture",
}

// whole is every kernel suite, as both users, without what only repeats and
// loads, and what is about ordinary programs and not about the kernel.
var whole = []part{
	{pkg: "./internal/launcher"},
	{pkg: "./internal/notify"},
	{pkg: "./internal/procfs"},
	{pkg: "./internal/seccomp", skip: []string{"TestArgumentRulesAgainstReference"}},
	{pkg: "./internal/selftest", run: []string{"TestTheDefaultBoundaryStopsEveryAttack"}, archs: []string{"amd64"}},
	{pkg: ".", archs: []string{"amd64"}},
	{pkg: "./backend/linux", archs: []string{"amd64"}, on: []string{"6.1"}, skip: append([]string{"TestManyGroupsAtOnce", "TestManySupervisorsMakeGroups", "TestManyRunsShareAPlaceholder", "TestLitterIsCleared"}, heavy...)},
	{pkg: "./backend/linux", archs: []string{"amd64"}, on: []string{"6.12"}, skip: append([]string{
		// Of files, and its Landlock holds those as the newest does: long in an
		// emulated machine, and whoever runs the tests has a newer kernel.
		"TestCarveOut.*", "TestMountsCannotBeChanged", "TestSkeletonCannotBeWritten", "TestProcCannotBeWritten", "TestNotRecursive",
		"TestTheWholeViewOfAnEmptySpec", "TestNestedGrants", "TestMetadataOutside", "TestSymlink.*", "TestExpose", "TestLitterIsCleared",
	}, heavy...)},
	{pkg: "./backend/linux", archs: []string{"arm64"}, run: append([]string{
		"TestBaseline.*", "TestReadOutsideTheGrants", "TestFileGrants", "TestDenied.*", "TestFileCapabilitiesGainNothing",
		"TestGrace", "TestStdin", "TestTempIsBounded",
	}, coreOfLaunches...)},
}

// heavy is what only repeats, keeps this machine's processors busy, is about
// ordinary programs, or about time.
var heavy = []string{
	"TestFlood.*", "TestManyInARow", "TestManyAtOnce", "TestEveryCombinationOfRights", "TestEveryStepFails", "TestSwapsWhileLaunching",
	"TestPostureOfManySpecs", "TestCopiesCannotBeExecuted", "TestOutputBudgetOfAProgramThatIsGone", "TestPrograms.*",
	"TestLimitsOfEachProcess", // RLIMIT_CPU counts in ticks, and an emulated machine loses some
	"TestWallBudget",          // of a second, in which an emulated program may not get as far as running
}

// TestKernels runs suites under other kernels: the core of them, and with
// BVISOR_LONG=1 the whole.
func TestKernels(t *testing.T) {
	if testing.Short() {
		t.Skip("starts virtual machines, which -short leaves out")
	}
	parts := core
	if os.Getenv(need.LongVariable) == "1" {
		parts = whole
	}
	for _, k := range Kernels {
		t.Run(k.Name+"-"+k.Arch, func(t *testing.T) {
			t.Parallel()
			kernel(t, k, parts)
		})
	}
}

func kernel(t *testing.T, k Kernel, parts []part) {
	m := machine(t, k)
	ctx := deadline(t)
	dir := t.TempDir()
	var suites []Suite
	var binaries []Binary
	var chosen []part
	for _, p := range parts {
		if p.archs != nil && !slices.Contains(p.archs, k.Arch) || p.on != nil && !slices.Contains(p.on, k.Name) {
			continue
		}
		b, err := m.Module.Build(ctx, m.Module.Dir, k.Arch, dir, p.pkg)
		if err != nil {
			t.Fatal(err)
		}
		args := []string{"-test.v", "-test.short", "-test.timeout=20m"}
		if p.run != nil {
			args = append(args, "-test.run=^("+strings.Join(p.run, "|")+")$")
		}
		if p.skip != nil {
			args = append(args, "-test.skip=^("+strings.Join(p.skip, "|")+")$")
		}
		suites = append(suites, b[0].Suite(0, args, k.Env(0)))
		binaries, chosen = append(binaries, b[0]), append(chosen, p)
	}
	results, err := m.Run(ctx, suites, binaries, func(Suite, []byte) {})
	if err != nil {
		t.Error(err)
		last.add(fmt.Sprintf("%s: %v", t.Name(), err))
	}
	for i, r := range results {
		t.Run(r.Suite.Name, func(t *testing.T) { judge(t, r, chosen[i]) })
	}
}

// machine is one with that kernel, if this host can have it.
func machine(t *testing.T, k Kernel) Machine {
	t.Helper()
	for _, program := range []string{"go", k.Emulator(), "dpkg-deb"} {
		need.Program(t, program)
	}
	need.File(t, mkfs)
	cache, err := CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Fetch(t.Context(), cache, k); err != nil {
		name := "kernel=" + k.Name + "-" + k.Arch
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s cannot be fetched: %v", name, err)
		}
		need.Missing(t, name, err.Error())
	}
	module, err := FindModule(t.Context(), ".")
	if err != nil {
		t.Fatal(err)
	}
	// Emulated processors that wait for each other want processors to themselves;
	// two of these machines run at a time.
	return Machine{Kernel: k, Cache: cache, Module: module, CPUs: max(1, min(2, runtime.NumCPU()/2)), Memory: 2048}
}

// deadline ends a machine before the test's own time is over, so that what it
// said until then is seen.
func deadline(t *testing.T) context.Context {
	end, ok := t.Deadline()
	if !ok {
		return t.Context()
	}
	const spare = 20 * time.Second
	ctx, cancel := context.WithDeadlineCause(t.Context(), end.Add(-spare), fmt.Errorf("not done %s before the test's own deadline", spare))
	t.Cleanup(cancel)
	return ctx
}

var (
	passed  = regexp.MustCompile(`(?m)^ *--- PASS: (\S+) `)
	decided = regexp.MustCompile(`(?m)^ *--- (?:PASS|SKIP): (\S+) `)
	lacking = regexp.MustCompile(`(?m)^ +\S+_test\.go:\d+: needs (\S+): .*$`)
)

// last is what this suite says last.
var last words

type words struct {
	mu   sync.Mutex
	list []string
}

func (w *words) add(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, text)
}

// TestMain says what failed under a kernel once more, at the very end: of an
// output as long as that of all suites, often only the end is kept.
func TestMain(m *testing.M) {
	code := m.Run()
	for _, w := range last.list {
		fmt.Println(w)
	}
	os.Exit(code)
}

// failures are what the failed tests of a suite said, which -test.v has between
// the lines that name them; or, where none says that it failed, the suite's end.
func failures(output string) string {
	var failed []string
	said := map[string][]string{}
	lines := strings.Split(strings.TrimSpace(output), "\n")
	name := ""
	for _, line := range lines {
		if m := named.FindStringSubmatch(line); m != nil {
			if name = m[2]; m[1] == "RUN" {
				said[name] = nil
			}
		} else if m := failing.FindStringSubmatch(line); m != nil {
			failed = append(failed, line)
			failed = append(failed, said[m[1]]...)
		} else if name != "" {
			said[name] = append(said[name], line)
		}
	}
	const most = 40
	if failed == nil {
		failed = lines[max(len(lines)-most, 0):]
	}
	return strings.Join(failed[:min(len(failed), most)], "\n")
}

var (
	named   = regexp.MustCompile(`^=== (RUN|NAME|CONT|PAUSE) +(\S+)$`)
	failing = regexp.MustCompile(`^ *--- FAIL: (\S+) `)
)

// judge is what "go test" would have said of the suite.
func judge(t *testing.T, r Result, p part) {
	output, wrong := string(r.Output), ""
	switch {
	case r.Ended == nil:
		wrong = "it did not end"
	case r.Ended.Code != 0:
		wrong = r.Ended.String()
	case !passed.MatchString(output):
		wrong = "no test passed"
	}
	for _, name := range p.run {
		one := regexp.MustCompile("^(" + name + ")$")
		if wrong == "" && !slices.ContainsFunc(decided.FindAllStringSubmatch(output, -1), func(m []string) bool { return one.MatchString(m[1]) }) {
			wrong = "no test " + name + " ran"
		}
	}
	if wrong != "" {
		t.Errorf("%s:\n%s", wrong, output)
		last.add(fmt.Sprintf("%s: %s\n%s", t.Name(), wrong, failures(output)))
		return
	}
	var lacks []string
	for _, m := range lacking.FindAllStringSubmatch(output, -1) {
		lacks = append(lacks, m[1])
	}
	slices.Sort(lacks)
	t.Logf("%d passed, %s; skipped for %q", len(passed.FindAllString(output, -1)), r.Ended, slices.Compact(lacks))
}
