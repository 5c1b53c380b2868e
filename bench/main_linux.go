//go:build amd64 || arm64

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/backend/wasm"
)

// sections in the order in which they are measured and printed.
var sections = []struct {
	name    string
	measure func(*bench) (*table, error)
}{
	{"launch", (*bench).launch},
	{"heap", (*bench).heap},
	{"steps", (*bench).steps},
	{"rate", (*bench).rate},
	{"steady", (*bench).steady},
	{"mechanisms", (*bench).mechanisms},
	{"ledger", (*bench).ledger},
	{"artifacts", (*bench).artifacts},
	{"wasm", (*bench).wasm},
}

// bench is what all sections share.
type bench struct {
	rounds   int
	patience time.Duration // how long a round waits for the machine to be idle
	module   string        // the source tree
	dir      string        // on disk, ours
	memory   string        // on a memory file system, ours; empty with why
	noShm    error
	filter   string
	size     int // instructions in the filter
	backend  *linux.Backend

	floor   *floor
	noFloor error
	peer    func(argv ...string) *exec.Cmd
	noPeer  error
	version string // of the peer
}

func main() {
	var err error
	if args := os.Args[1:]; len(args) > 0 && args[0] == worker {
		err = work(args[1:])
	} else if len(args) == 1 && args[0] == moduleWorker {
		err = wasm.Work(os.NewFile(wasm.WorkerIn, "jobs"), os.NewFile(wasm.WorkerOut, "results"))
	} else {
		err = run(args, os.Stdout)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	rounds := flags.Int("n", 30, "rounds; each gives every subject one block of 10 launches")
	patience := flags.Duration("wait", 20*time.Second, "how long a round waits at most until nothing else keeps the machine busy")
	only := flags.String("only", strings.Join(names, ","), "sections to measure, separated by commas")
	if err := flags.Parse(args); err != nil {
		return err
	}
	wanted := strings.Split(*only, ",")
	for _, w := range wanted {
		if !slices.Contains(names, w) {
			return fmt.Errorf("section %q is not known; expected some of %s", w, strings.Join(names, ", "))
		}
	}
	if *rounds < 1 || flags.NArg() > 0 {
		return errors.New("usage: bench [-n ROUNDS] [-wait DURATION] [-only SECTION,...], with at least one round")
	}
	b, err := prepare(*rounds, *patience)
	if err != nil {
		return err
	}
	defer b.clean()
	fmt.Fprintln(out, b.machine())
	fmt.Fprintln(out)
	for _, s := range sections {
		if !slices.Contains(wanted, s.name) {
			continue
		}
		t, err := s.measure(b)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := t.print(out); err != nil {
			return err
		}
	}
	return nil
}

func prepare(rounds int, patience time.Duration) (*bench, error) {
	goMod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOMOD: %w", err)
	}
	b := &bench{rounds: rounds, patience: patience, module: filepath.Dir(strings.TrimSpace(string(goMod))), backend: linux.New()}
	// Not below /tmp: the boundary's private one would hide it, and it is
	// memory on many hosts.
	if b.dir, err = os.MkdirTemp("/var/tmp", "bvisor-bench-"); err != nil {
		return nil, err
	}
	if err := os.Mkdir(b.work(), 0o755); err != nil {
		return nil, err
	}
	b.memory, b.noShm = memoryDir()
	b.filter = filepath.Join(b.dir, "filter")
	if b.size, err = exportFilter(b.filter); err != nil {
		return nil, err
	}
	b.floor, b.noFloor = buildFloor(filepath.Join(b.module, "bench", "floor"), b.dir, b.filter)
	b.peer, b.version, b.noPeer = bubblewrap(b.filter)
	if _, err := b.backend.Probe(context.Background()); err != nil {
		return nil, err
	}
	return b, nil
}

// work is the working directory of confined runs.
func (b *bench) work() string { return filepath.Join(b.dir, "work") }

func (b *bench) clean() {
	for _, dir := range []string{b.dir, b.memory} {
		if dir != "" {
			os.RemoveAll(dir)
		}
	}
}

// confined opens a supervisor in this process; state is below dir.
func (b *bench) confined(dir, state string) (*confined, error) {
	return openConfined(b.backend, filepath.Join(dir, state), b.work())
}

// machine is one line about where the figures come from.
func (b *bench) machine() string {
	version, _ := exec.Command("go", "env", "GOVERSION").Output()
	peer := b.version
	if b.noPeer != nil {
		peer = "no bubblewrap"
	}
	return fmt.Sprintf("%s, %s processors (%s), %s of memory; Linux %s; records on %s; %s; %s; filter of %d instructions",
		field("/proc/cpuinfo", "model name", "processor of unknown model"), count("/proc/cpuinfo", "processor"), uid(),
		memory(), first("/proc/sys/kernel/osrelease"), fileSystem(b.dir), strings.TrimSpace(string(version)), peer, b.size)
}

func uid() string {
	if os.Geteuid() == 0 {
		return "as root"
	}
	return "as an ordinary user"
}

func memory() string {
	kib, err := strconv.ParseInt(strings.TrimSuffix(field("/proc/meminfo", "MemTotal", ""), " kB"), 10, 64)
	if err != nil {
		return "unknown size"
	}
	return fmt.Sprintf("%.0f GiB", float64(kib)/(1<<20))
}

// field returns what stands behind "key:" in a file of /proc.
func field(name, key, otherwise string) string {
	data, _ := os.ReadFile(name)
	for line := range strings.Lines(string(data)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return otherwise
}

func count(name, key string) string {
	data, _ := os.ReadFile(name)
	n := 0
	for line := range strings.Lines(string(data)) {
		if k, _, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			n++
		}
	}
	return strconv.Itoa(n)
}

func first(name string) string {
	data, _ := os.ReadFile(name)
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}

// fileSystem names the type of the file system that holds dir: of the mounts
// above it, the longest one.
func fileSystem(dir string) string {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	best, kind := "", "an unknown file system"
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		i := slices.Index(f, "-")
		if i < 5 || i+1 >= len(f) {
			continue
		}
		if at := f[4]; len(at) >= len(best) && (at == "/" || dir == at || strings.HasPrefix(dir, at+"/")) {
			best, kind = at, f[i+1]
		}
	}
	return kind
}
