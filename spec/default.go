package spec

import (
	"cmp"
	"slices"
)

// DefaultWasm is what a WebAssembly module gets without a spec: the working
// directory to read and start in, no network, both streams captured, and of the
// environment only env. Where cwd is the root directory it is not granted.
func DefaultWasm(cwd, module string, args []string, env ...EnvEntry) Spec {
	s := Default(cwd, nil, env...)
	s.Workload = Workload{Wasm: module, Args: slices.Clone(args), Dir: s.Workload.Dir}
	s.Presets = nil
	for i := range s.Capabilities.Filesystem {
		s.Capabilities.Filesystem[i].Access = "r"
	}
	s.Capabilities.Environment = slices.Clone(env)
	s.Capabilities.Spawn = SpawnNone
	s.Controls.Temp = nil
	return s
}

// Default is what a run without a spec gets: the programs of the system, the
// working directory to read and run from, a private /tmp, no network, both
// streams captured. env is added to its environment and wins over it; TERM is
// the usual one.
//
// Where cwd is the root directory it is not granted: that would show the whole
// host. The program starts in the boundary's own root then. Where it is /tmp itself, the private directory moves to /var/tmp.
func Default(cwd string, command []string, env ...EnvEntry) Spec {
	temp := "/tmp"
	if cwd == temp {
		temp = "/var/tmp"
	}
	entries := slices.Clone(env)
	for _, e := range []EnvEntry{
		{Name: "HOME", Value: temp},
		{Name: "LANG", Value: "C.UTF-8"},
		{Name: "PATH", Value: "/usr/local/bin:/usr/bin:/bin"},
		{Name: "TMPDIR", Value: temp},
	} {
		if !slices.ContainsFunc(env, func(o EnvEntry) bool { return o.Name == e.Name }) {
			entries = append(entries, e)
		}
	}
	slices.SortStableFunc(entries, func(a, b EnvEntry) int { return cmp.Compare(a.Name, b.Name) })
	var grants []Grant
	dir := ""
	if cwd != "/" {
		dir = cwd
		grants = []Grant{{Access: "rx", Paths: []string{cwd}, Origin: FromDefault}}
	}
	return Spec{
		Version:  Version,
		Workload: Workload{Command: slices.Clone(command), Dir: dir},
		Presets:  []string{"system"},
		Capabilities: Capabilities{
			Filesystem:  grants,
			Environment: entries,
			Spawn:       SpawnProcesses,
		},
		Controls: Controls{
			Capture: []Capture{{Stream: "stdout", Limit: DefaultCapture}, {Stream: "stderr", Limit: DefaultCapture}},
			Stdin:   Stdin{Mode: StdinInherit},
			Temp:    []Temp{{Path: temp, Access: "rw"}},
			Kill:    Kill{Tree: killTrees[0], Grace: DefaultGrace},
		},
		Evidence: []Claim{TerminalOutcome, CapturedStreams},
	}
}
