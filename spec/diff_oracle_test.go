package spec

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

// answers says of one spec, slowly and without any of Diff's shortcuts, what
// it allows: by group of fields, the questions that are answered with yes. A
// question is a sentence; questions that nobody asks need no answer.
type answers map[string]map[string]bool

func (a answers) yes(group, format string, args ...any) {
	if a[group] == nil {
		a[group] = map[string]bool{}
	}
	a[group][fmt.Sprintf(format, args...)] = true
}

// unnamed is a name that stands in no spec.
const unnamed = "\x01"

// ask answers for s, which is expanded; other adds questions.
func ask(s, other Spec) answers {
	a := answers{}
	a.files(s, universe(s, other))
	a.network(s, other)
	for _, e := range s.Capabilities.Environment {
		a.yes("capabilities.environment", "is %s set to %q, %q?", e.Name, e.Value, e.Lease)
	}
	switch s.Capabilities.Spawn {
	case SpawnProcesses:
		a.yes("capabilities.spawn", "start a process?")
		fallthrough
	case SpawnThreads:
		a.yes("capabilities.spawn", "start a thread?")
	}
	switch s.Capabilities.Clock {
	case "", ClockReal:
		a.yes("capabilities.clock", "learn the date?")
		fallthrough
	case ClockMonotonic:
		a.yes("capabilities.clock", "measure time?")
	}
	if s.Capabilities.Random != RandomSeeded {
		a.yes("capabilities.random", "draw numbers that nobody knows?")
	}
	for _, fd := range s.Capabilities.FDs {
		a.yes("capabilities.fds", "use descriptor %d?", fd)
	}
	a.controls(s, other)
	for _, d := range Dimensions {
		a.budget(d, s, other)
	}
	for _, c := range Claims {
		if !slices.Contains(s.Evidence, c) {
			a.yes("evidence", "go without %s?", c)
		}
	}
	for _, w := range s.Accept {
		a.yes("accept", "go without what %s gives up?", w)
	}
	return a
}

func (a answers) controls(s, other Spec) {
	for _, c := range s.Controls.Capture {
		for _, o := range slices.Concat(s.Controls.Capture, other.Controls.Capture) {
			if o.Limit <= c.Limit {
				a.yes("controls.capture", "keep %d bytes of %s?", o.Limit, c.Stream)
			}
		}
	}
	if in := s.Controls.Stdin; in.Mode != StdinNone {
		a.yes("controls.stdin", "read from %s %s?", in.Mode, in.File)
	}
	for _, grace := range []time.Duration{s.Controls.Kill.Grace, other.Controls.Kill.Grace} {
		if grace <= s.Controls.Kill.Grace {
			a.yes("controls.kill", "go on for %s?", grace)
		}
	}
	held := func(p string) bool {
		return s.Controls.Artifacts != nil && slices.ContainsFunc(s.Controls.Artifacts.Paths, func(root string) bool {
			return p == root || strings.HasPrefix(p, strings.TrimSuffix(root, "/")+"/")
		})
	}
	for _, one := range []Spec{s, other} {
		if one.Controls.Artifacts == nil {
			continue
		}
		for _, p := range one.Controls.Artifacts.Paths {
			if !held(p) {
				a.yes("controls.artifacts", "write below %s at once?", p)
			}
		}
	}
	if s.Controls.Artifacts != nil && other.Controls.Artifacts != nil {
		switch s.Controls.Artifacts.Commit {
		case "on-success":
			a.yes("controls.artifacts", "commit unasked?")
			fallthrough
		case "manual":
			a.yes("controls.artifacts", "commit?")
		}
		if s.Controls.Artifacts.Durability == "atomic" {
			a.yes("controls.artifacts", "lose a commit with the power?")
		}
	}
}

func (a answers) budget(d Dimension, s, other Spec) {
	b, bounded := s.Budgets[d]
	o, asked := other.Budgets[d]
	for _, use := range []int64{b.Limit, o.Limit, MaxLimit + 1} {
		if !bounded || use <= b.Limit {
			a.yes("budgets", "use %d of %s?", use, d)
		}
	}
	if bounded && asked && b.Guarantee < Enforced {
		a.yes("budgets", "is %s held by less than the kernel?", d)
	}
	for _, c := range Claims {
		if !slices.Contains(b.Evidence, c) {
			a.yes("budgets", "go without %s of %s?", c, d)
		}
	}
}

// universe is every path worth a question: those the specs name, all above
// them, and below each of these some that nobody names.
func universe(specs ...Spec) []string {
	named := map[string]bool{"/": true, "/proc": true, "/dev": true, "/sys": true}
	for _, s := range specs {
		var list []string
		for _, g := range s.Capabilities.Filesystem {
			list = append(list, g.Paths...)
		}
		for _, t := range s.Controls.Temp {
			list = append(list, t.Path)
		}
		for _, e := range s.Controls.Expose {
			list = append(list, e.Dest)
		}
		for _, p := range list {
			for p = path.Clean(p); !named[p]; p = path.Dir(p) {
				named[p] = true
			}
		}
	}
	var out []string
	for p := range named {
		out = append(out, p, path.Join(p, unnamed), path.Join(p, unnamed, unnamed), path.Join(p, unnamed, unnamed, unnamed))
	}
	return out
}

// files paints every path with what is said of it, trees before those inside
// them, so that what is said nearest stays.
func (a answers) files(s Spec, paths []string) {
	type paint struct {
		root, source string
		access       Access
		flat         bool
	}
	var paints []paint
	for _, own := range []string{"/proc", "/dev", "/sys"} {
		paints = append(paints, paint{root: own, access: AccessNone})
	}
	for _, g := range s.Capabilities.Filesystem {
		for _, p := range g.Paths {
			paints = append(paints, paint{path.Clean(p), path.Clean(p), g.Access, g.NonRecursive})
		}
	}
	for _, t := range s.Controls.Temp {
		paints = append(paints, paint{path.Clean(t.Path), "memory", t.Access, false})
	}
	for _, e := range s.Controls.Expose {
		paints = append(paints, paint{path.Clean(e.Dest), path.Clean(e.Source), e.Access, false})
	}
	length := func(p string) int { return len(strings.FieldsFunc(p, func(r rune) bool { return r == '/' })) }
	slices.SortStableFunc(paints, func(x, y paint) int { return length(x.root) - length(y.root) })
	type colour struct {
		file   string
		access Access
	}
	painted := map[string]colour{}
	for _, one := range paints {
		for _, p := range paths {
			if p != one.root && !strings.HasPrefix(p, strings.TrimSuffix(one.root, "/")+"/") {
				continue
			}
			file := "memory"
			if one.source != "memory" {
				file = path.Join(one.source, strings.TrimPrefix(p, one.root))
			}
			painted[p] = colour{file, one.access}
			if one.flat && length(p) > length(one.root)+1 {
				delete(painted, p)
			}
		}
	}
	for p, c := range painted {
		for _, right := range []string{"r", "w", "x"} {
			if c.access != AccessNone && strings.Contains(string(c.access), right) {
				a.yes("files", "%s %q as %q?", right, p, c.file)
			}
		}
	}
}

// network asks for every host that a rule names, a host of every domain, and
// the addresses at both ends of every prefix and beside them.
func (a answers) network(s, other Spec) {
	if s.Capabilities.Network.Loopback {
		a.yes("capabilities.network", "reach a loopback?")
	}
	type host struct{ host, port string }
	var hosts []host
	split := func(rule string) (string, string) {
		i := strings.LastIndexByte(rule, ':')
		return strings.Trim(rule[:i], "[]"), rule[i:]
	}
	for _, rule := range slices.Concat(s.Capabilities.Network.Allow, other.Capabilities.Network.Allow) {
		h, port := split(rule)
		prefix, err := netip.ParsePrefix(h)
		if err != nil {
			hosts = append(hosts, host{strings.Replace(h, "*", unnamed, 1), port})
			continue
		}
		first := prefix.Addr()
		last := first.AsSlice()
		for bit := prefix.Bits(); bit < first.BitLen(); bit++ {
			last[bit/8] |= 0x80 >> (bit % 8)
		}
		end, _ := netip.AddrFromSlice(last)
		for _, addr := range []netip.Addr{first, first.Prev(), end, end.Next()} {
			if addr.IsValid() {
				hosts = append(hosts, host{addr.String(), port})
			}
		}
	}
	for _, h := range hosts {
		for _, rule := range s.Capabilities.Network.Allow {
			pattern, port := split(rule)
			addr, err := netip.ParseAddr(h.host)
			prefix, err2 := netip.ParsePrefix(pattern)
			_, domain, _ := strings.Cut(h.host, ".")
			if port == h.port && (pattern == h.host || pattern == "*."+domain || err == nil && err2 == nil && prefix.Contains(addr)) {
				a.yes("capabilities.network", "reach %q%s?", h.host, h.port)
			}
		}
	}
}

// group is the group of questions that a difference answers.
func (d Difference) group() string {
	if slices.Contains([]string{"capabilities.filesystem", "controls.temp", "controls.expose"}, d.Field) {
		return "files"
	}
	for _, group := range []string{"capabilities.network", "controls.artifacts", "controls.kill", "budgets"} {
		if d.Field == group || strings.HasPrefix(d.Field, group+".") {
			return group
		}
	}
	return d.Field
}

// checkDiff checks everything that must hold of Diff for two valid specs with
// absolute paths.
func checkDiff(t *testing.T, a, b Spec) {
	t.Helper()
	if same := Diff(a, a, "/"); len(same) > 0 {
		t.Fatalf("a spec differs from itself:\n%s", lines(same))
	}
	there, back := Diff(a, b, "/"), Diff(b, a, "/")
	inverse := map[Effect]Effect{Widens: Narrows, Narrows: Widens, Changes: Changes}
	keys := func(list []Difference, effect func(Effect) Effect) []string {
		var out []string
		for _, d := range list {
			out = append(out, fmt.Sprint(effect(d.Effect), " ", d.Field, " ", d.Subject))
		}
		slices.Sort(out)
		return out
	}
	if x, y := keys(there, func(e Effect) Effect { return e }), keys(back, func(e Effect) Effect { return inverse[e] }); !slices.Equal(x, y) {
		t.Fatalf("one way\n%sand back\n%s", lines(there), lines(back))
	}
	x, y := Expand(a), Expand(b)
	before, after := ask(x, y), ask(y, x)
	reported := map[string]bool{}
	for _, d := range there {
		if d.Effect == Widens && d.Text != "may be absent" {
			reported[d.group()] = true
		}
	}
	groups := map[string]bool{}
	for _, of := range []answers{before, after} {
		for group := range of {
			groups[group] = true
		}
	}
	for group := range reported {
		if !groups[group] {
			t.Fatalf("no question is asked about %s", group)
		}
	}
	for group := range groups {
		var gained []string
		for question := range after[group] {
			if !before[group][question] {
				gained = append(gained, question)
			}
		}
		slices.Sort(gained)
		if reported[group] != (len(gained) > 0) {
			t.Fatalf("%s: now allowed are %q, reported is\n%s\nfrom %+v\nto %+v", group, gained, lines(there), x, y)
		}
		if group == "files" {
			checkSubjects(t, there, gained)
		}
	}
}

// checkSubjects: whatever is gained lies in a tree that some line names.
func checkSubjects(t *testing.T, list []Difference, gained []string) {
	t.Helper()
	for _, question := range gained {
		var right, p, file string
		if _, err := fmt.Sscanf(question, "%1s %q as %q?", &right, &p, &file); err != nil {
			t.Fatal(question, err)
		}
		verb := map[string]string{"r": "read", "w": "written", "x": "executed"}[right]
		if !slices.ContainsFunc(list, func(d Difference) bool {
			return d.Effect == Widens && within(d.Subject, p) && strings.Contains(d.Text, verb)
		}) {
			t.Fatalf("%s, but no line says so:\n%s", question, lines(list))
		}
	}
}

// draw makes a spec of few names, so that two of them have much in common.
func draw(r *rand.Rand) Spec {
	some := func(n int) int { return r.IntN(n + 1) }
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	place := func() string {
		p := ""
		for range 1 + some(2) {
			p += pick("/a", "/b")
		}
		return pick(p, p, p, p, "/usr", "/usr/a", "/", "/dev/a")
	}
	s := Spec{Version: 1, Workload: Workload{Command: []string{pick("a", "b")}}}
	if some(3) == 0 {
		s.Presets = []string{"system"}
	}
	for range some(4) {
		g := Grant{Access: Access(pick("r", "rw", "rx", "rwx", "none", "none")), Paths: []string{place()}}
		if g.Access != AccessNone {
			g.NonRecursive, g.Optional = some(3) == 0, some(3) == 0
		}
		s.Capabilities.Filesystem = append(s.Capabilities.Filesystem, g)
	}
	for range some(1) {
		s.Controls.Temp = append(s.Controls.Temp, Temp{Path: place(), Access: Access(pick("rw", "rwx"))})
	}
	for range some(1) {
		s.Controls.Expose = append(s.Controls.Expose, Expose{Source: place(), Dest: place(), Access: Access(pick("r", "rw"))})
	}
	for range some(4) {
		s.Capabilities.Network.Allow = append(s.Capabilities.Network.Allow, pick("10.0.0.0/30", "10.0.0.0/31", "10.0.0.2/31", "10.0.0.1",
			"10.0.0.0/32", "10.0.0.0", "[::/127]", "[::]", "[::1]", "a.d", "b.d", "*.d", "a.a.d", "*.a.d", "d")+pick(":1", ":2"))
	}
	s.Capabilities.Network.Loopback = len(s.Capabilities.Network.Allow) == 0 && some(1) == 1
	for _, name := range []string{"A", "B"}[some(2):] {
		s.Capabilities.Environment = append(s.Capabilities.Environment, EnvEntry{Name: name, Value: pick("", "1")})
	}
	if some(2) == 0 {
		s.Capabilities.Environment = append(s.Capabilities.Environment, EnvEntry{Name: "L", Lease: pick("env:A", "env:B")})
	}
	s.Capabilities.Spawn = Spawn(pick("", "none", "threads", "processes"))
	s.Capabilities.Clock = Clock(pick("", "real", "monotonic-only", "fixed"))
	s.Capabilities.Random = Random(pick("", "real", "seeded"))
	s.Capabilities.FDs = []int{3, 4}[some(2):]
	for _, stream := range []string{"stdout", "stderr"}[some(2):] {
		s.Controls.Capture = append(s.Controls.Capture, Capture{stream, int64(some(2))})
	}
	s.Controls.Stdin.Mode = pick(stdinModes...)
	if s.Controls.Stdin.Mode == StdinFile {
		s.Controls.Stdin.File = pick("/a", "/b")
	}
	if some(1) == 0 {
		s.Controls.Artifacts = &Artifacts{[]string{place()}, pick(commits...), pick(durabilities...)}
	}
	s.Controls.Kill.Grace = time.Duration(some(2))
	s.Budgets = map[Dimension]Budget{}
	for range some(3) {
		b := Budget{Limit: int64(1 + some(2)), Guarantee: Enforcement(some(2))}
		if some(1) == 0 {
			b.Evidence = []Claim{ResourceUsage}
		}
		s.Budgets[Dimension(pick("wall", "memory", "storage"))] = b
	}
	s.Evidence = []Claim{TerminalOutcome, ProcessTree}[some(2):]
	if some(2) == 0 {
		s.Accept = []Weakening{Weakening(pick("host-sys", "visible-host-paths"))}
	}
	return s
}

func TestDiffAgainstOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var last Spec
	tried := 0
	for tried < 1000 {
		s := draw(r)
		if Validate(s) != nil {
			continue
		}
		if tried++; tried > 1 {
			checkDiff(t, last, s)
			// One field alone, so that a line cannot stand in for another.
			near := last
			switch r.IntN(3) {
			case 0:
				near.Capabilities.Filesystem = s.Capabilities.Filesystem
			case 1:
				near.Controls = s.Controls
			case 2:
				near.Budgets, near.Accept, near.Capabilities.Network = s.Budgets, s.Accept, s.Capabilities.Network
			}
			if Validate(near) == nil {
				checkDiff(t, last, near)
			}
		}
		last = s
	}
}

func FuzzDiff(f *testing.F) {
	for _, tt := range differing {
		f.Add([]byte(least+tt.a), []byte(least+tt.b))
	}
	for _, tt := range accepted {
		f.Add([]byte(tt.in), Example())
	}
	f.Add(Example(), Example())
	f.Fuzz(func(t *testing.T, one, two []byte) {
		a, err := Parse("a", one)
		if err != nil {
			return
		}
		b, err := Parse("b", two)
		if err != nil {
			return
		}
		a, b = a.Rebase("/base/dir"), b.Rebase("/base/dir")
		if Validate(a) != nil || Validate(b) != nil || len(universe(a, b)) > 1000 {
			return
		}
		checkDiff(t, a, b)
	})
}
