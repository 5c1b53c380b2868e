package main

import (
	"cmp"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bvisor/bvisor/backend/wasm"
	"github.com/bvisor/bvisor/spec"
)

// request is a spec as the command line asks for it: that of a file or the
// default one, and what the flags add to it.
//
// A flag adds to a list, and its entry replaces the file's with the same name:
// variable, private directory, exposed destination. It sets a single value in
// place of the file's. Rights add up: --write P where the file, or another
// flag, grants P for reading makes it readable and writable. --deny P never
// gives way to them: a place both granted and denied is an error.
type request struct {
	file                               string
	read, exec, write, deny            []string
	net, env, lease, fds, temp, expose []string
	evidence, accept                   []string
	quarantine, artifacts              []string
	dir, spawn, stdin, commit          string
	clock, random                      string
	tty                                bool
	budgets                            [len(budgetFlags)]string
	cpuRate                            string
	backend                            string
	problems                           []spec.Problem
}

// budgetFlags name the budgets. The network's is not called --network, which
// would be taken for a grant.
var budgetFlags = [...]struct {
	dimension   spec.Dimension
	name, usage string
}{
	{spec.Wall, "wall", "wall clock time, as in 30s"},
	{spec.CPU, "cpu", "CPU time of the whole tree, as in 10s"},
	{spec.Memory, "memory", "memory of the whole tree, as in 256MiB"},
	{spec.Processes, "processes", "processes and threads at one time"},
	{spec.Handles, "handles", "open descriptors of each process"},
	{spec.Storage, "storage", "bytes in private directories, as in 64MiB"},
	{spec.Network_, "network-bytes", "bytes over the network, both ways"},
	{spec.Output, "output", "bytes written to captured streams"},
	{spec.Fuel, "fuel", "instructions of a WebAssembly module"},
	{spec.CallDepth, "call-depth", "functions of a WebAssembly module that are under way at one time"},
}

func (q *request) add(f *pflag.FlagSet) {
	list := func(p *[]string, name, usage string) { f.StringArrayVar(p, name, nil, usage) }
	f.StringVar(&q.file, "spec", "", "read the boundary from `FILE`, or from standard input for -; flags add to it")
	list(&q.read, "read", "let `PATH` be read")
	list(&q.exec, "exec", "let `PATH` be read and executed")
	list(&q.write, "write", "let `PATH` be read and written")
	list(&q.deny, "deny", "take `PATH` out of what is granted; holds before it exists, too")
	list(&q.net, "net", "let `HOST:PORT` be reached; loopback is a 127.0.0.1 and ::1 of the boundary's own, and nothing else")
	list(&q.env, "env", "set the variable `NAME=VALUE`; nothing is inherited")
	list(&q.lease, "lease", "set the variable `NAME=SCHEME:REST` to a secret, which is never written down")
	list(&q.fds, "fd", "hand over the open descriptor `N`")
	list(&q.temp, "temp", "make a private directory in memory at `PATH[:rwx]`")
	list(&q.expose, "expose", "show a path at another place: `SOURCE:DEST:ACCESS`")
	list(&q.quarantine, "quarantine", "let `PATH` be read and written, and hold what is written back; --write and --artifact")
	list(&q.artifacts, "artifact", "hold writes below `PATH` back until they are committed")
	f.StringVar(&q.commit, "commit", "", "what becomes of artifacts: `WHEN` is manual, on-success or never")
	f.StringVar(&q.dir, "dir", "", "start in `PATH`, which must be granted")
	f.StringVar(&q.spawn, "spawn", "", "what the program may start: `WHAT` is none, threads or processes")
	f.StringVar(&q.clock, "clock", "", "what a WebAssembly module learns of the time: `CLOCK` is real, monotonic-only or fixed")
	f.StringVar(&q.random, "random", "", "a WebAssembly module's random numbers: `SOURCE` is real or seeded")
	f.StringVar(&q.stdin, "stdin", "", "standard input: `FROM` is none, inherit or a file")
	f.BoolVarP(&q.tty, "tty", "t", false, "give the program a terminal of its own as standard input, output and error")
	for i, b := range budgetFlags {
		f.StringVar(&q.budgets[i], b.name, "", "bound: `LIMIT` is "+b.usage)
	}
	f.StringVar(&q.cpuRate, "cpu-rate", "", "with --cpu, use at most that much of a processor at a time: `PERCENT` is as in 50%")
	list(&q.evidence, "evidence", "require that the report can show `CLAIM`")
	list(&q.accept, "accept", "give up the part `NAME` of the baseline; said aloud everywhere")
	f.StringVar(&q.backend, "backend", auto, "what holds the boundary: `NAME` is auto, linux, wasm or inert")
}

// maxSpec is the largest spec that spec.Parse takes; it says so itself.
const maxSpec = 1 << 20

// spec puts the request together.
func (q *request) spec(c *cli, args []string) (spec.Spec, error) {
	cwd, err := os.Getwd()
	if err != nil {
		return spec.Spec{}, usage("working directory: %w", err).hinted("change to a directory that exists")
	}
	var s spec.Spec
	switch {
	case q.file != "":
		if s, err = c.parseSpec(q.file, cwd); err != nil {
			return spec.Spec{}, err
		}
		if len(args) > 0 {
			s.Workload = spec.Workload{Command: args, Dir: s.Workload.Dir}
			if q.isModule(args[0]) {
				s.Workload = spec.Workload{Wasm: absolute(cwd, args[0]), Args: args[1:], Dir: s.Workload.Dir}
			}
		}
	case len(args) == 0:
		return spec.Spec{}, usage("no command").hinted("write it after --, or name a spec with --spec FILE")
	case q.isModule(args[0]):
		s = spec.DefaultWasm(cwd, absolute(cwd, args[0]), args[1:])
		c.hideState(&s, cwd)
	default:
		var term []spec.EnvEntry
		if t := os.Getenv("TERM"); t != "" {
			term = append(term, spec.EnvEntry{Name: "TERM", Value: t})
		}
		s = spec.Default(cwd, args, term...)
		c.hideState(&s, cwd)
	}
	q.merge(&s, cwd)
	if len(q.problems) > 0 {
		return spec.Spec{}, &spec.Error{Problems: q.problems}
	}
	return s, nil
}

// isModule says whether an argument names a WebAssembly module, by how the file
// begins. A module that is granted to nobody is looked at by bvisor alone.
func (q *request) isModule(name string) bool {
	if q.backend != auto && q.backend != wasm.Name {
		return false
	}
	if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [4]byte
	_, err = io.ReadFull(f, magic[:])
	return err == nil && string(magic[:]) == "\x00asm"
}

func absolute(cwd, p string) string {
	if filepath.IsAbs(p) || p == "" {
		return p
	}
	return filepath.Join(cwd, p)
}

// hideState takes the state directory out of the default spec's grant of a
// working directory around it, such as a home directory. Without it no run
// would be admitted there.
func (c *cli) hideState(s *spec.Spec, cwd string) {
	dir, err := c.state()
	if err != nil {
		return // said when it is opened
	}
	if below, err := filepath.Rel(cwd, dir); err == nil && cwd != "/" && filepath.IsLocal(below) && below != "." {
		s.Capabilities.Filesystem = append(s.Capabilities.Filesystem, spec.Grant{Access: spec.AccessNone, Paths: []string{dir}, Origin: spec.FromDefault})
	}
}

// parseSpec reads a spec whose relative paths start at its file.
func (c *cli) parseSpec(name, cwd string) (spec.Spec, error) {
	s, err := c.readSpec(name)
	if err != nil {
		return spec.Spec{}, err
	}
	return s.Rebase(specDir(name, cwd)), nil
}

// specDir is where the relative paths of a spec start.
func specDir(name, cwd string) string {
	if abs, err := filepath.Abs(name); err == nil && name != "-" {
		return filepath.Dir(abs)
	}
	return cwd
}

// readSpec reads a spec with its paths as they are written.
func (c *cli) readSpec(name string) (spec.Spec, error) {
	data, err := c.readAll(name, maxSpec)
	if err != nil {
		return spec.Spec{}, err
	}
	return spec.Parse(specName(name), data)
}

// specName is what a spec is called in messages.
func specName(name string) string {
	if name == "-" {
		return "standard input"
	}
	return name
}

// bad notes a value that a flag does not take.
func (q *request) bad(flag string, err error) {
	message, hint, _ := strings.Cut(err.Error(), "; ")
	q.problems = append(q.problems, spec.Problem{Field: "--" + flag, Code: spec.CodeValue, Message: message, Hint: hint})
}

// each reads every value of a flag.
func each[T any](q *request, flag string, values []string, parse func(string) (T, error), take func(T)) {
	for _, text := range values {
		v, err := parse(text)
		if err != nil {
			q.bad(flag, err)
			continue
		}
		take(v)
	}
}

// one reads the value of a flag that was given.
func one[T any](q *request, flag, value string, parse func(string) (T, error), take func(T)) {
	if value != "" {
		each(q, flag, []string{value}, parse, take)
	}
}

func (q *request) merge(s *spec.Spec, cwd string) {
	abs := func(p string) string { return absolute(cwd, p) }
	q.grants(s, abs)
	caps, controls := &s.Capabilities, &s.Controls
	each(q, "net", q.net, parseNet, func(rule string) {
		if rule == spec.NetworkLoopback {
			caps.Network.Loopback = true
		} else {
			caps.Network.Allow = with(caps.Network.Allow, rule)
		}
	})
	q.environment(s)
	each(q, "fd", q.fds, parseFD, func(n int) {
		caps.FDs = with(caps.FDs, n)
		slices.Sort(caps.FDs)
	})
	one(q, "spawn", q.spawn, spec.ParseSpawn, func(v spec.Spawn) { caps.Spawn = v })
	one(q, "clock", q.clock, spec.ParseClock, func(v spec.Clock) { caps.Clock = v })
	one(q, "random", q.random, spec.ParseRandom, func(v spec.Random) { caps.Random = v })
	if q.dir != "" {
		s.Workload.Dir = abs(q.dir)
	}
	switch q.stdin {
	case "":
	case spec.StdinNone, spec.StdinInherit:
		controls.Stdin = spec.Stdin{Mode: q.stdin}
	default:
		controls.Stdin = spec.Stdin{Mode: spec.StdinFile, File: abs(q.stdin)}
	}
	if q.tty {
		q.terminal(controls)
	}
	each(q, "temp", q.temp, spec.ParseTemp, func(t spec.Temp) {
		controls.Temp = replace(controls.Temp, t, func(o spec.Temp) bool { return o.Path == t.Path })
	})
	each(q, "expose", q.expose, spec.ParseExpose, func(e spec.Expose) {
		e.Source = abs(e.Source)
		controls.Expose = replace(controls.Expose, e, func(o spec.Expose) bool { return o.Dest == e.Dest })
	})
	if held := slices.Concat(q.quarantine, q.artifacts); len(held) > 0 || q.commit != "" {
		a := spec.Artifacts{}
		if controls.Artifacts != nil {
			a = *controls.Artifacts
		}
		for _, p := range held {
			a.Paths = with(slices.Clone(a.Paths), abs(p))
		}
		a.Commit = cmp.Or(q.commit, a.Commit, "manual")
		a.Durability = cmp.Or(a.Durability, "atomic")
		controls.Artifacts = &a
	}
	for i, b := range budgetFlags {
		parse := func(text string) (int64, error) { return spec.ParseLimit(b.dimension, text) }
		one(q, b.name, q.budgets[i], parse, func(n int64) {
			if s.Budgets == nil {
				s.Budgets = map[spec.Dimension]spec.Budget{}
			}
			old := s.Budgets[b.dimension]
			old.Limit, old.Origin = n, spec.FromSpec
			if old.Guarantee == spec.Unsupported {
				old.Guarantee = spec.Enforced
			}
			s.Budgets[b.dimension] = old
		})
	}
	one(q, "cpu-rate", q.cpuRate, spec.ParseRate, func(n int64) {
		b, ok := s.Budgets[spec.CPU]
		if !ok {
			q.problems = append(q.problems, spec.Problem{Field: "--cpu-rate", Message: "there is no budget of processor time that it could belong to", Hint: "say how much there may be in all with --cpu"})
			return
		}
		b.Rate = n
		s.Budgets[spec.CPU] = b
	})
	each(q, "evidence", q.evidence, spec.ParseClaim, func(v spec.Claim) { s.Evidence = with(s.Evidence, v) })
	each(q, "accept", q.accept, spec.ParseWeakening, func(v spec.Weakening) { s.Accept = with(s.Accept, v) })
}

// parseNet reads a rule, or the policy that has a name. A rule has a port, so
// they cannot be mistaken for each other.
func parseNet(text string) (string, error) {
	if text == spec.NetworkLoopback {
		return text, nil
	}
	return spec.ParseNetworkRule(text)
}

// terminal puts a terminal in place of the standard streams. As much of it is
// kept as of the larger of those.
func (q *request) terminal(c *spec.Controls) {
	if q.stdin != "" {
		q.bad("tty", errors.New("--stdin names another standard input; leave one of them out"))
		return
	}
	c.Stdin = spec.Stdin{Mode: spec.StdinTTY}
	tty := spec.Capture{Stream: spec.StreamTTY}
	for _, s := range c.Capture {
		tty.Limit = max(tty.Limit, s.Limit)
	}
	c.Capture = []spec.Capture{tty}
}

func parseFD(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, usage("%q is not a descriptor's number", text)
	}
	return spec.ParseFD(n)
}

// grants adds the rights of the flags, path by path.
func (q *request) grants(s *spec.Spec, abs func(string) string) {
	grants := &s.Capabilities.Filesystem
	for _, flag := range []struct {
		paths  []string
		access spec.Access
	}{{q.read, "r"}, {q.exec, "rx"}, {q.write, "rw"}, {q.quarantine, "rw"}} {
		for _, p := range flag.paths {
			p = abs(p)
			var have spec.Access
			*grants, have = without(*grants, p)
			have = union(have, preset(s.Presets, p))
			*grants = append(*grants, spec.Grant{Access: union(have, flag.access), Paths: []string{p}, Origin: spec.FromSpec})
		}
	}
	for _, p := range q.deny {
		p = abs(p)
		// The default grant of the working directory is nobody's request.
		if i := slices.IndexFunc(*grants, func(g spec.Grant) bool {
			return g.Origin == spec.FromDefault && len(g.Paths) == 1 && filepath.Clean(g.Paths[0]) == filepath.Clean(p)
		}); i >= 0 {
			*grants = slices.Delete(slices.Clone(*grants), i, i+1)
			if preset(s.Presets, p) == "" {
				continue
			}
		}
		*grants = append(*grants, spec.Grant{Access: spec.AccessNone, Paths: []string{p}, Origin: spec.FromSpec})
	}
}

// without takes a path out of the grants, and returns the rights it had. A
// carve-out stays: a flag does not lift it.
func without(grants []spec.Grant, path string) ([]spec.Grant, spec.Access) {
	var have spec.Access
	var rest []spec.Grant
	for _, g := range grants {
		if g.Access != spec.AccessNone {
			others := slices.DeleteFunc(slices.Clone(g.Paths), func(p string) bool { return filepath.Clean(p) == filepath.Clean(path) })
			if len(others) < len(g.Paths) {
				have = union(have, g.Access)
			}
			if g.Paths = others; len(others) == 0 {
				continue
			}
		}
		rest = append(rest, g)
	}
	return rest, have
}

// preset returns the rights that presets give to a path. Theirs would give way
// to the flag's.
func preset(names []string, path string) spec.Access {
	var have spec.Access
	for _, p := range spec.Presets() {
		if slices.Contains(names, p.Name) {
			_, rights := without(p.Grants, path)
			have = union(have, rights)
		}
	}
	return have
}

func union(a, b spec.Access) spec.Access {
	var u spec.Access
	for _, right := range []spec.Access{"r", "w", "x"} {
		if strings.Contains(string(a+b), string(right)) {
			u += right
		}
	}
	return u
}

// environment sets the variables of the flags in place of those with the same
// name. Two flags for one variable stay both, which is an error.
func (q *request) environment(s *spec.Spec) {
	var set []spec.EnvEntry
	take := func(e spec.EnvEntry) { set = append(set, e) }
	each(q, "env", q.env, spec.ParseEnv, take)
	each(q, "lease", q.lease, spec.ParseLease, take)
	if len(set) == 0 {
		return
	}
	env := slices.DeleteFunc(slices.Clone(s.Capabilities.Environment), func(o spec.EnvEntry) bool {
		return slices.ContainsFunc(set, func(e spec.EnvEntry) bool { return e.Name == o.Name })
	})
	env = append(env, set...)
	slices.SortStableFunc(env, func(a, b spec.EnvEntry) int { return cmp.Compare(a.Name, b.Name) })
	s.Capabilities.Environment = env
}

// with is list with v in it.
func with[T comparable](list []T, v T) []T {
	if slices.Contains(list, v) {
		return list
	}
	return append(slices.Clip(list), v)
}

// replace is list with v in place of what is like it.
func replace[T any](list []T, v T, like func(T) bool) []T {
	return append(slices.DeleteFunc(slices.Clone(list), like), v)
}

// completing says whether a shell asks, which costs every other start nothing.
func completing() bool {
	return len(os.Args) > 1 && strings.HasPrefix(os.Args[1], cobra.ShellCompRequestCmd)
}

// complete offers the values of flags that take one of a few.
func complete(cmd *cobra.Command) {
	var weakenings []string
	for w := range spec.Weakenings {
		weakenings = append(weakenings, string(w))
	}
	slices.Sort(weakenings)
	for flag, values := range map[string][]string{
		"accept":   weakenings,
		"evidence": strings.Split(words(spec.Claims), ", "),
		"spawn":    {string(spec.SpawnNone), string(spec.SpawnThreads), string(spec.SpawnProcesses)},
		"net":      {spec.NetworkLoopback},
		"commit":   {"manual", "on-success", "never"},
		"clock":    {string(spec.ClockReal), string(spec.ClockMonotonic), string(spec.ClockFixed)},
		"random":   {string(spec.RandomReal), string(spec.RandomSeeded)},
		"backend":  {auto, "linux", wasm.Name, "inert"},
	} {
		// It fails for a flag that does not exist, which a script would notice.
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
}
