// Command vmtest runs tests of this module under another kernel:
//
//	go run ./internal/vm/cmd/vmtest -kernel 6.12 ./backend/linux -run TestX -v
//
// Flags before the packages are its own, what follows them goes to the tests.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/bvisor/bvisor/internal/vm"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	failed, err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vmtest:", err)
		os.Exit(2)
	}
	if failed {
		os.Exit(1)
	}
}

const usage = `usage: go run ./internal/vm/cmd/vmtest [flags] packages [flags of go test]

for example: go run ./internal/vm/cmd/vmtest -kernel 6.12 ./backend/linux -run 'TestX' -v

flags:
`

func run(ctx context.Context, args []string) (failed bool, err error) {
	flags := flag.NewFlagSet("vmtest", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage); flags.PrintDefaults() }
	var (
		kernel  = flags.String("kernel", "6.12", "version of the kernel: 6.1 or 6.12")
		arch    = flags.String("arch", "amd64", "its architecture: amd64 or arm64")
		user    = flags.Bool("user", false, "run the suites as uid 65534 only, in a cgroup delegated to it (else as root, which repeats some as that user)")
		cpus    = flags.Int("cpus", 2, "processors of the machine")
		memory  = flags.Int("memory", 2048, "its memory, in MiB")
		timeout = flags.Duration("timeout", 20*time.Minute, "how long the machine may take")
		console = flags.String("console", "", "file for what the kernel says")
		list    envList
	)
	flags.Var(&list, "env", "NAME=value for the suites; may be repeated")
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	packages, rest := split(flags.Args())
	if len(packages) == 0 {
		flags.Usage()
		return false, errors.New("no packages")
	}
	k, err := vm.Find(*kernel, *arch)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, *timeout, fmt.Errorf("not done after %s", *timeout))
	defer cancel()
	cache, err := vm.CacheDir()
	if err != nil {
		return false, err
	}
	module, err := vm.FindModule(ctx, ".")
	if err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp("", "vmtest-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	binaries, err := module.Build(ctx, ".", *arch, dir, packages...)
	if err != nil {
		return false, err
	}
	uid := 0
	if *user {
		uid = vm.Nobody
	}
	var suites []vm.Suite
	for _, b := range binaries {
		suites = append(suites, b.Suite(uid, testFlags(rest), append(k.Env(uid), list...)))
	}
	m := vm.Machine{Kernel: k, Cache: cache, Module: module, CPUs: *cpus, Memory: *memory, Console: *console}
	results, err := m.Run(ctx, suites, binaries, func(_ vm.Suite, output []byte) { os.Stdout.Write(output) })
	for _, r := range results {
		word := "ok  "
		switch {
		case r.Ended == nil:
			word, failed = "none", true
		case r.Ended.Code != 0:
			word, failed = "FAIL", true
		}
		fmt.Fprintf(os.Stdout, "%s\t%s\tLinux %s %s\t%s\n", word, r.Suite.Name, k.Name, k.Arch, r.Ended)
	}
	return failed, err
}

// split finds where the packages end and the tests' flags begin.
func split(args []string) (packages, rest []string) {
	for i, a := range args {
		if strings.HasPrefix(a, "-") {
			return args[:i], args[i:]
		}
	}
	return args, nil
}

// testFlags turns flags of "go test" into those of a test binary.
func testFlags(args []string) []string {
	var list []string
	for _, a := range args {
		if name, ok := strings.CutPrefix(a, "-"); ok && !strings.HasPrefix(name, "test.") {
			a = "-test." + strings.TrimPrefix(name, "-")
		}
		list = append(list, a)
	}
	return list
}

type envList []string

func (l *envList) String() string { return strings.Join(*l, " ") }

func (l *envList) Set(v string) error {
	if !strings.Contains(v, "=") {
		return fmt.Errorf("%q is not NAME=value", v)
	}
	*l = append(*l, v)
	return nil
}
