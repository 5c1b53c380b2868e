package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/backend/inert"
	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/backend/wasm"
	"github.com/bvisor/bvisor/internal/canonical"
	"github.com/bvisor/bvisor/internal/nearest"
	"github.com/bvisor/bvisor/internal/terminal"
	"github.com/bvisor/bvisor/spec"
)

// cli is what one invocation has in common: its streams and its settings.
type cli struct {
	stdin    *os.File
	stdout   io.Writer
	stderr   io.Writer
	stateDir string
	// cgroupParent is where the linux backend makes groups; empty is found.
	cgroupParent string
	json         bool // errors are JSON lines, too
	quiet        bool // no hints, nothing that is only good to know
}

// say writes one message for people. It is made safe for a terminal: a part of
// it may be a name that a workload chose.
func (c *cli) say(format string, args ...any) {
	for i, line := range strings.Split(strings.TrimRight(fmt.Sprintf(format, args...), "\n"), "\n") {
		switch {
		case line == "":
		case i == 0:
			fmt.Fprintln(c.stderr, "bvisor: "+fit(line))
		default:
			fmt.Fprintln(c.stderr, "  "+fit(line))
		}
	}
}

func (c *cli) hint(format string, args ...any) {
	if !c.quiet {
		c.say("hint: "+format, args...)
	}
}

// fit escapes a line that a terminal would not show as it is.
func fit(line string) string {
	if utf8.ValidString(line) && !strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return line
	}
	return terminal.SanitizeMax(line, 4096)
}

// colors says whether w is a terminal that wants colours (no-color.org).
func colors(w io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(w)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// group is the action of a command that only has subcommands.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		cmd.SetOut(cmd.ErrOrStderr())
		if err := cmd.Help(); err != nil {
			return err
		}
		return &failure{code: exitUsage}
	}
	f := usage("unknown command %q", cmd.CommandPath()+" "+args[0])
	cmd.SuggestionsMinimumDistance = 2 // letters
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return f.hinted("did you mean %q?", cmd.CommandPath()+" "+near[0])
	}
	return f.hinted("%q lists the commands", cmd.CommandPath()+" --help")
}

// noEmptyValue refuses --wall "" and the like: a variable that was not set must
// not become a bound that is not there.
func noEmptyValue(flags *pflag.FlagSet) error {
	var err error
	flags.Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "string" && f.Value.String() == "" && err == nil {
			err = usage("--%s: the value is empty", f.Name).hinted("leave the flag out, or give it a value")
		}
	})
	return err
}

func badFlag(cmd *cobra.Command, err error) error {
	f := usage("%s", err)
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		var names []string
		cmd.Flags().VisitAll(func(flag *pflag.Flag) { names = append(names, flag.Name) })
		if near := nearest.Name(unknown.GetSpecifiedName(), names, 2); near != "" {
			return f.hinted("did you mean --%s?", near)
		}
	}
	return f.hinted("%q lists the flags", cmd.CommandPath()+" --help")
}

// arguments checks the number of arguments; names stand in the message.
func arguments(least, most int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usage("%s: %s is missing", cmd.CommandPath(), names).hinted("%q", cmd.UseLine())
		case len(args) > most:
			return usage("%s: unexpected argument %q", cmd.CommandPath(), args[most]).hinted("%q", cmd.UseLine())
		}
		return nil
	}
}

// state is the path of the state directory.
func (c *cli) state() (string, error) {
	if c.stateDir != "" {
		return filepath.Abs(c.stateDir)
	}
	dir, err := bvisor.DefaultStateDir()
	if err != nil {
		return "", fault("%w", err)
	}
	return dir, nil
}

func (c *cli) openState() (*bvisor.State, error) {
	dir, err := c.state()
	if err != nil {
		return nil, err
	}
	state, err := bvisor.OpenState(dir)
	if err != nil {
		return nil, fault("%w; nothing was started", err).hinted("choose another state directory with --state-dir or BVISOR_STATE_DIR")
	}
	return state, nil
}

const auto = "auto"

// backend returns the backend of that name. The linux one is also what answers
// on other systems: by refusing, with the system as the reason.
// Without a name the workload decides.
func (c *cli) backend(name string, sp spec.Spec) (backend.Backend, error) {
	below := c.cgroupParent
	if below != "" {
		var err error
		if below, err = filepath.Abs(below); err != nil {
			return nil, usage("--cgroup-parent: %w", err)
		}
	}
	switch {
	case name == auto && sp.Workload.Wasm != "" || name == wasm.Name:
		return c.wasm(linux.Below(below))
	case name == auto || name == "linux":
		return linux.Below(below), nil
	}
	var all backend.Registry
	for _, b := range []backend.Backend{linux.Below(below), wasm.New(wasm.Options{}), inert.New()} {
		if err := all.Register(b); err != nil {
			return nil, err
		}
	}
	b, err := all.Get(name)
	if err != nil {
		return nil, usage("--backend: %w", err)
	}
	return b, nil
}

// wasm returns the backend for WebAssembly. Its workers are this program.
func (c *cli) wasm(outer backend.Backend) (backend.Backend, error) {
	dir, err := c.state()
	if err != nil {
		return nil, err
	}
	o := wasm.Options{Outer: outer, Cache: filepath.Join(dir, "wasm")}
	if self, err := os.Executable(); err == nil { // without it there are no workers, which the probe says
		o.Worker = []string{self, workerWord}
	}
	return wasm.New(o), nil
}

// closeBackend ends what a backend keeps for runs to come.
func closeBackend(b backend.Backend) {
	if closer, ok := b.(io.Closer); ok {
		closer.Close() // a worker that had nothing to do any more: its report would be nobody's
	}
}

// writeJSON answers a command with v in its canonical encoding and a newline.
func (c *cli) writeJSON(v any) error {
	data, err := canonical.Marshal(v)
	if err != nil {
		return fault("bug: %w", err)
	}
	return c.write(append(onTerminal(c.stdout, data), '\n'))
}

// onTerminal is a text in JSON as it may be shown: somebody else chose the names
// in it.
func onTerminal(w io.Writer, data []byte) []byte {
	if isTerminal(w) {
		return terminal.JSON(data)
	}
	return data
}

// write answers a command.
func (c *cli) write(data []byte) error {
	if _, err := c.stdout.Write(data); err != nil {
		return fault("standard output: %w", err)
	}
	return nil
}

// readAll reads a file, or standard input for "-", of at most limit bytes; one
// more is returned so that whoever reads the contents can say what is too much.
func (c *cli) readAll(name string, limit int64) ([]byte, error) {
	in := c.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, usage("%w", err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, usage("%w", err)
	}
	return data, nil
}
