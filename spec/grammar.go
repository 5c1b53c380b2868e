package spec

import (
	"time"

	"github.com/bvisor/bvisor/internal/strictyaml"
)

// This file is the YAML form of a spec, as tables. The decoder and the JSON
// Schema are both made of them.

func specShape() shape[Spec] {
	return object("a spec",
		required(key("version", "version of this format", integer(Version, Version, checkVersion),
			func(s *Spec, v int64) { s.Version = int(v) })),
		required(key("workload", "the program", workloadShape(), func(s *Spec, v Workload) { s.Workload = v })),
		key("presets", "named sets of grants", list(choice("preset", presetNames()), 0),
			func(s *Spec, v []string) { s.Presets = v }),
		key("capabilities", "what the workload may use; what is not named is denied", capabilitiesShape(),
			func(s *Spec, v Capabilities) { s.Capabilities = v }),
		key("controls", "what happens around the workload", controlsShape(), func(s *Spec, v Controls) { s.Controls = v }),
		key("budgets", "bounds; a dimension that is not named is not bounded", budgetsShape(),
			func(s *Spec, v map[Dimension]Budget) { s.Budgets = v }),
		key("evidence", "what the report must show", list(choice("evidence claim", Claims), 0),
			func(s *Spec, v []Claim) { s.Evidence = v }),
		key("accept", "named parts of the baseline that are given up", list(choice("weakening", weakeningNames()), 0),
			func(s *Spec, v []Weakening) { s.Accept = v }),
	)
}

func checkVersion(v int64) error {
	if v != Version {
		return badValue("", "version %d is not known, expected %d", v, Version)
	}
	return nil
}

func anyText() shape[string] {
	return text(func(s string) (string, error) { return s, nil }, schema{})
}

func hostPath() shape[string]    { return text(checked(checkHostPath), schema{MinLength: 1}) }
func destination() shape[string] { return text(checked(checkDestination), schema{Pattern: "^/"}) }

// access is what check lets through of the accesses there are.
func access(pattern string, check func(Access) error) shape[Access] {
	return text(func(s string) (Access, error) {
		a, err := ParseAccess(s)
		if err != nil {
			return "", err
		}
		return a, check(a)
	}, schema{Pattern: pattern})
}

func workloadShape() shape[Workload] {
	return object("a workload",
		key("command", "argv; argv[0] is looked up in the boundary's own PATH", list(anyText(), 1),
			func(w *Workload, v []string) { w.Command = v }),
		key("dir", "working directory; must lie in a granted tree", hostPath(), func(w *Workload, v string) { w.Dir = v }),
		key("wasm", "path of a WebAssembly module, instead of a command", hostPath(), func(w *Workload, v string) { w.Wasm = v }),
		key("args", "arguments of the WebAssembly module", list(anyText(), 0), func(w *Workload, v []string) { w.Args = v }),
	)
}

func capabilitiesShape() shape[Capabilities] {
	return object("capabilities",
		key("filesystem", "grants and carve-outs", list(grantShape(), 0), func(c *Capabilities, v []Grant) { c.Filesystem = v }),
		key("network", "none, the boundary's own loopback, or what may be reached", networkShape(), func(c *Capabilities, v Network) { c.Network = v }),
		key("environment", "the whole environment of the workload", environmentShape(),
			func(c *Capabilities, v []EnvEntry) { c.Environment = v }),
		key("spawn", "what the workload may start", choice("spawn policy", spawns), func(c *Capabilities, v Spawn) { c.Spawn = v }),
		key("fds", "host descriptors the workload keeps", list(descriptorShape(), 0), func(c *Capabilities, v []int) { c.FDs = v }),
		key("clock", "what a WebAssembly module can learn of the time", choice("clock", clocks), func(c *Capabilities, v Clock) { c.Clock = v }),
		key("random", "where a WebAssembly module's random numbers come from", choice("source of random numbers", randoms),
			func(c *Capabilities, v Random) { c.Random = v }),
	)
}

func grantShape() shape[Grant] {
	grant := object("a grant",
		required(key("access", "r, w and x in any combination, or none for a carve-out",
			access(`^([rwx]{1,3}|none)$`, func(Access) error { return nil }), func(g *Grant, v Access) { g.Access = v })),
		required(key("paths", "files or directories", list(hostPath(), 1), func(g *Grant, v []string) { g.Paths = v })),
		key("recursive", "whether a directory's grant covers the tree below it; true unless set", boolean(),
			func(g *Grant, v bool) { g.NonRecursive = !v }),
		key("optional", "whether a path that does not exist is left out", boolean(), func(g *Grant, v bool) { g.Optional = v }),
	)
	return mapped(grant, func(g Grant) Grant { g.Origin = FromSpec; return g })
}

func networkShape() shape[Network] {
	named := mapped(choice("network policy", networks, `{allow: ["host:port"]}`), func(v string) Network { return Network{Loopback: v == NetworkLoopback} })
	allow := object("a network policy",
		required(key("allow", `"host:port", "*.domain:port", "address/bits:port", "[v6 address]:port"; "/tcp" behind it for plain TCP`,
			list(text(ParseNetworkRule, schema{Pattern: `:[0-9]{1,5}(/tcp)?$`}), 0), func(n *Network, v []string) { n.Allow = v })),
	)
	return either("none, loopback or {allow: [...]}", &named, nil, &allow)
}

func environmentShape() shape[[]EnvEntry] {
	literal := mapped(anyText(), func(v string) EnvEntry { return EnvEntry{Value: v} })
	lease := object("a lease",
		required(key("lease", "reference to a secret, resolved just before the launch", text(checked(checkLease), schema{Pattern: leasePattern}),
			func(e *EnvEntry, v string) { e.Lease = v })),
	)
	value := either("a string or {lease: reference}", &literal, nil, &lease)
	return shape[[]EnvEntry]{func(d *decoder, n *strictyaml.Node) ([]EnvEntry, bool) {
		if n.Kind != strictyaml.Map {
			d.add(n.Expected("a map of names and values"))
			return nil, false
		}
		var out []EnvEntry
		before := len(d.problems)
		for i, k := range n.Keys {
			if d.full() {
				return nil, false
			}
			name, p := k.Text()
			if p != nil {
				d.add(*p)
				continue
			}
			if err := checkEnvName(name); err != nil {
				d.refuse(k, err)
				continue
			}
			if e, ok := value.decode(d, n.Items[i]); ok {
				e.Name = name
				out = append(out, e)
			}
		}
		return out, len(d.problems) == before
	}, &schema{Type: "object", PropertyNames: &schema{Pattern: "^[^=]+$"}, MaxProperties: MaxEnvEntries, AdditionalProperties: value.schema}}
}

func descriptorShape() shape[int] {
	check := func(n int64) error { _, err := ParseFD(int(min(max(n, -1), MaxDescriptor+1))); return err }
	return mapped(integer(MinDescriptor, MaxDescriptor, check), func(n int64) int { return int(n) })
}

func controlsShape() shape[Controls] {
	return object("controls",
		key("capture", "streams that are relayed, hashed and kept", captureShape(), func(c *Controls, v []Capture) { c.Capture = v }),
		key("stdin", "where standard input comes from", stdinShape(), func(c *Controls, v Stdin) { c.Stdin = v }),
		key("temp", "private directories in memory", list(tempShape(), 0), func(c *Controls, v []Temp) { c.Temp = v }),
		key("expose", "host paths shown at another place", list(exposeShape(), 0), func(c *Controls, v []Expose) { c.Expose = v }),
		key("artifacts", "writes that are held back until somebody decides over them", artifactsShape(),
			func(c *Controls, v Artifacts) { c.Artifacts = &v }),
		key("kill", "how the workload ends", killShape(), func(c *Controls, v Kill) { c.Kill = v }),
	)
}

func sizeShape() shape[int64] {
	number := integer(1, MaxLimit, checkLimit)
	withUnit := text(func(s string) (int64, error) {
		n, err := ParseSize(s)
		if err != nil {
			return 0, err
		}
		return n, checkLimit(n)
	}, schema{Pattern: sizePattern})
	return numberOr("a size", number, withUnit)
}

func durationShape() shape[int64] {
	return text(func(s string) (int64, error) {
		d, err := ParseDuration(s)
		if err != nil {
			return 0, err
		}
		return int64(d), checkLimit(int64(d))
	}, schema{Pattern: durationPattern})
}

func captureShape() shape[[]Capture] {
	names := mapped(list(choice("stream", streams), 0), func(names []string) []Capture {
		var out []Capture
		for _, s := range names {
			out = append(out, Capture{Stream: s, Limit: DefaultCapture})
		}
		return out
	})
	var fields []field[[]Capture]
	for _, s := range streams {
		fields = append(fields, key(s, "how much of it is kept", sizeShape(), func(c *[]Capture, n int64) {
			*c = append(*c, Capture{Stream: s, Limit: n})
		}))
	}
	limits := object("streams", fields...)
	return either("a list of streams or a map of streams and sizes", nil, &names, &limits)
}

func stdinShape() shape[Stdin] {
	mode := mapped(choice("source of standard input", []string{StdinNone, StdinInherit, StdinTTY}, "{file: path}"), func(m string) Stdin { return Stdin{Mode: m} })
	file := object("a source of standard input",
		required(key("file", "file that is read", hostPath(), func(s *Stdin, v string) { s.Mode, s.File = StdinFile, v })),
	)
	return either("none, inherit, tty or {file: path}", &mode, nil, &file)
}

func tempShape() shape[Temp] {
	place := mapped(destination(), func(p string) Temp { return Temp{Path: p, Access: "rw"} })
	full := mapped(object("a private directory",
		required(key("path", "where it appears", destination(), func(t *Temp, v string) { t.Path = v })),
		key("access", "rw, or rwx to run programs from it", access(`^([rwx]{2,3})$`, checkTempAccess), func(t *Temp, v Access) { t.Access = v }),
	), func(t Temp) Temp {
		if t.Access == "" {
			t.Access = "rw"
		}
		return t
	})
	return either("a path or {path: ..., access: ...}", &place, nil, &full)
}

func exposeShape() shape[Expose] {
	return object("an expose",
		required(key("source", "path on the host", hostPath(), func(e *Expose, v string) { e.Source = v })),
		required(key("dest", "where it appears", destination(), func(e *Expose, v string) { e.Dest = v })),
		required(key("access", "r, w and x in any combination", access(`^[rwx]{1,3}$`, checkExposeAccess),
			func(e *Expose, v Access) { e.Access = v })),
	)
}

func artifactsShape() shape[Artifacts] {
	return mapped(object("artifacts",
		required(key("paths", "writes below these paths are held back", list(hostPath(), 1), func(a *Artifacts, v []string) { a.Paths = v })),
		key("commit", "who decides; manual unless set", choice("way to commit", commits), func(a *Artifacts, v string) { a.Commit = v }),
		key("durability", "what a commit survives; atomic unless set", choice("durability", durabilities),
			func(a *Artifacts, v string) { a.Durability = v }),
	), Artifacts.withDefaults)
}

func (a Artifacts) withDefaults() Artifacts {
	if a.Commit == "" {
		a.Commit = commits[0]
	}
	if a.Durability == "" {
		a.Durability = durabilities[0]
	}
	return a
}

func killShape() shape[Kill] {
	return object("kill",
		key("tree", "the whole tree ends at once", choice("way to kill", killTrees), func(k *Kill, v string) { k.Tree = v }),
		key("grace", "time between SIGTERM and the kill; 500ms unless set", durationShape(),
			func(k *Kill, v int64) { k.Grace = time.Duration(v) }),
	)
}

func budgetsShape() shape[map[Dimension]Budget] {
	var fields []field[map[Dimension]Budget]
	for _, d := range Dimensions {
		fields = append(fields, key(string(d), limitDoc(d), budgetShape(d, limitShape(d)), func(m *map[Dimension]Budget, b Budget) {
			if *m == nil {
				*m = map[Dimension]Budget{}
			}
			(*m)[d] = b
		}))
	}
	return object("budgets", fields...)
}

func limitDoc(d Dimension) string {
	switch d {
	case Wall, CPU:
		return `a duration such as "30s"`
	case Processes, Handles, Fuel, CallDepth:
		return "a count"
	}
	return `a number of bytes such as "64MiB"`
}

func limitShape(d Dimension) shape[int64] {
	switch d {
	case Wall, CPU:
		return durationShape()
	case Processes, Handles, Fuel, CallDepth:
		return integer(1, MaxLimit, checkLimit)
	}
	return sizeShape()
}

func budgetShape(d Dimension, limit shape[int64]) shape[Budget] {
	bare := mapped(limit, func(n int64) Budget { return Budget{Limit: n} })
	fields := []field[Budget]{
		required(key("limit", "the bound", limit, func(b *Budget, v int64) { b.Limit = v })),
		key("guarantee", "how strongly it must be held; enforced unless set",
			mapped(choice("guarantee", guarantees), guaranteeNamed), func(b *Budget, v Enforcement) { b.Guarantee = v }),
		key("evidence", "what the report must show of it", list(choice("evidence claim", Claims), 0),
			func(b *Budget, v []Claim) { b.Evidence = v }),
	}
	if d == CPU {
		fields = append(fields, key("rate", `how much of one processor may be used at a time, as in "50%"; above 100% is more than one`,
			text(ParseRate, schema{Pattern: ratePattern}), func(b *Budget, v int64) { b.Rate = v }))
	}
	full := object("a budget", fields...)
	return mapped(either("a limit or {limit: ..., guarantee: ..., evidence: [...]}", &bare, nil, &full), Budget.withDefaults)
}

func guaranteeNamed(s string) Enforcement {
	if s == guarantees[0] {
		return Enforced
	}
	return Mediated
}

func (b Budget) withDefaults() Budget {
	if b.Guarantee == Unsupported {
		b.Guarantee = Enforced
	}
	if b.Origin == "" {
		b.Origin = FromSpec
	}
	return b
}
