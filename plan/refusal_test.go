package plan

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/bvisor/bvisor/spec"
)

// demanding wants every kind that can be wanted together.
func demanding() spec.Resolved {
	r := usual()
	r.Roots = append(r.Roots,
		spec.Root{Path: "/home/u/src/.git", Dest: "/home/u/src/.git", Access: spec.AccessNone, Kind: spec.KindDirectory, Role: spec.RoleCarveOut, Origin: spec.FromSpec},
		spec.Root{Path: "/data", Dest: "/in", Access: "r", Kind: spec.KindDirectory, Role: spec.RoleExpose, Origin: spec.FromSpec})
	r.Spec.Controls.Artifacts = &spec.Artifacts{Paths: []string{"/home/u/src/out"}, Commit: "manual", Durability: "atomic"}
	r.Spec.Budgets = map[spec.Dimension]spec.Budget{}
	for _, d := range spec.Dimensions {
		r.Spec.Budgets[d] = spec.Budget{Limit: 100 << 20, Guarantee: spec.Enforced, Origin: spec.FromSpec}
	}
	for d, limit := range map[spec.Dimension]int64{spec.Processes: 64, spec.Handles: 256} {
		r.Spec.Budgets[d] = spec.Budget{Limit: limit, Guarantee: spec.Enforced, Origin: spec.FromSpec}
	}
	return r
}

// requests wants, taken together, every kind there is.
func requests() []spec.Resolved {
	other, third := demanding(), demanding()
	other.Spec.Capabilities.Network.Allow = []string{"example.com:443"}
	other.Spec.Capabilities.Spawn = spec.SpawnThreads
	other.Spec.Capabilities.FDs = []int{3}
	third.Spec.Capabilities.Spawn = spec.SpawnNone
	third.Spec.Capabilities.Network.Loopback = true
	third.Spec.Controls.Stdin.Mode = spec.StdinTTY
	third.Spec.Controls.Capture = []spec.Capture{{Stream: spec.StreamTTY, Limit: 1}}
	module := demanding()
	module.Spec.Workload = spec.Workload{Wasm: "/m.wasm"}
	module.Spec.Capabilities.Clock, module.Spec.Capabilities.Random = spec.ClockFixed, spec.RandomSeeded
	return []spec.Resolved{demanding(), other, third, module}
}

// A kind that the profile does not offer is a refusal with a code of its own,
// whatever the kind, and with no other code.
func TestEveryKindIsRefusedWithoutItsOffer(t *testing.T) {
	doc := documentation(t)
	for _, o := range capable().Offers {
		wanted := false
		for _, r := range requests() {
			if !slices.ContainsFunc(wants(&r, nil), func(w want) bool { return w.kind == o.Kind }) {
				continue
			}
			wanted = true
			p := capable()
			if r.Spec.Workload.Wasm != "" {
				p.Backend = "wasm"
			}
			if _, refusal := Make(r, p); refusal != nil {
				t.Fatalf("control: the capable host refuses: %v", refusal)
			}
			p.remove(o.Kind)
			_, refusal := Make(r, p)
			if refusal == nil {
				t.Fatalf("%s: admitted on a host that does not offer it", o.Kind)
			}
			code := "unsupported." + string(o.Kind)
			if strings.HasPrefix(string(o.Kind), "budget.") {
				code = string(o.Kind) + ".unsupported"
			}
			for _, reason := range refusal.Reasons {
				if reason.Code != code && reason.Requirement != forEvidence {
					t.Errorf("%s: code %s, want %s", o.Kind, reason.Code, code)
				}
			}
			if refusal.Reasons[0].Code != code {
				t.Errorf("%s: first code %s, want %s", o.Kind, refusal.Reasons[0].Code, code)
			}
			if !strings.Contains(doc, "`"+code+"`") {
				t.Errorf("%s does not stand in docs/refusals.md", code)
			}
		}
		if !wanted {
			t.Errorf("no request wants %s", o.Kind)
		}
	}
}

// The remedy of a baseline item names the token that admits the run without it,
// and accepting it does admit.
func TestBaselineRemedyWorks(t *testing.T) {
	for _, b := range Waivable {
		p := capable()
		p.remove(b.Kind)
		r := small()
		if b.Kind == OwnProcess {
			p.Backend, r.Spec.Workload = "wasm", spec.Workload{Wasm: "/m.wasm"}
		}
		_, refusal := Make(r, p)
		if refusal == nil || len(refusal.Reasons) != 1 {
			t.Fatalf("%s: %v", b.Kind, refusal)
		}
		if !strings.Contains(refusal.Reasons[0].Remedy, strconv.Quote(string(b.Weakening))) {
			t.Errorf("%s: the remedy does not name %s: %s", b.Kind, b.Weakening, refusal.Reasons[0].Remedy)
		}
		if _, known := spec.Weakenings[b.Weakening]; !known {
			t.Errorf("%s is waived by %s, which is no weakening", b.Kind, b.Weakening)
		}
		// On a host where nothing builds on the item, accepting is enough.
		for i := range p.Offers {
			for j := range p.Offers[i].Ways {
				p.Offers[i].Ways[j].Requires = nil
			}
		}
		r.Spec.Accept = []spec.Weakening{b.Weakening}
		plan, refusal := Make(r, p)
		if refusal != nil {
			t.Fatalf("%s accepted: %v", b.Weakening, refusal)
		}
		if !slices.Equal(plan.Accepted, r.Spec.Accept) {
			t.Errorf("%s accepted, the plan says %v", b.Weakening, plan.Accepted)
		}
		if slices.ContainsFunc(plan.Requirements, func(q Requirement) bool { return q.Kind == b.Kind }) {
			t.Errorf("%s stands in the plan although it was given up", b.Kind)
		}
	}
	if len(Waivable) != len(spec.Weakenings) {
		t.Errorf("%d kinds can be waived, %d weakenings", len(Waivable), len(spec.Weakenings))
	}
}

func TestMinimums(t *testing.T) {
	for _, c := range []struct {
		d       spec.Dimension
		minimum int64
		change  func(*spec.Spec)
	}{
		{spec.Wall, 1e6, nil},
		{spec.CPU, 1e6, nil},
		{spec.Memory, 64 << 10, nil},
		{spec.Processes, 1, nil},
		{spec.Processes, 2, func(s *spec.Spec) { s.Capabilities.Spawn = spec.SpawnProcesses }},
		{spec.Handles, 4, nil},
		{spec.Handles, 6, func(s *spec.Spec) { s.Controls.Capture = usual().Spec.Controls.Capture }},
		{spec.Handles, 5, func(s *spec.Spec) { s.Capabilities.FDs = []int{9} }},
		{spec.Storage, 1, nil},
		{spec.Storage, 64 << 10, func(s *spec.Spec) { s.Controls.Temp = []spec.Temp{{Path: "/tmp", Access: "rw"}} }},
		{spec.Network_, 1, nil},
		{spec.Output, 1, nil},
	} {
		r := small()
		if c.change != nil {
			c.change(&r.Spec)
		}
		set := func(n int64) {
			r.Spec.Budgets = map[spec.Dimension]spec.Budget{c.d: {Limit: n, Guarantee: spec.Enforced, Origin: spec.FromSpec}}
		}
		set(c.minimum)
		if _, refusal := Make(r, capable()); refusal != nil {
			t.Errorf("%s of %d: %v", c.d, c.minimum, refusal)
		}
		set(c.minimum - 1)
		_, refusal := Make(r, capable())
		code := "budget." + string(c.d) + ".minimum"
		if refusal == nil || refusal.Reasons[len(refusal.Reasons)-1].Code != code {
			t.Errorf("%s of %d: %v, want %s", c.d, c.minimum-1, refusal, code)
		}
		doc := documentation(t)
		for _, suffix := range []string{".unsupported", ".capacity", ".guarantee", ".evidence", ".minimum"} {
			if code := "budget." + string(c.d) + suffix; !strings.Contains(doc, "`"+code+"`") {
				t.Errorf("%s does not stand in docs/refusals.md", code)
			}
		}
	}
}

func TestEveryClaimIsRefusedWithoutItsSource(t *testing.T) {
	p := capable()
	p.Evidence = nil
	for i := range p.Offers {
		for j := range p.Offers[i].Ways {
			for k := range p.Offers[i].Ways[j].Mechanisms {
				p.Offers[i].Ways[j].Mechanisms[k].Evidence = nil
			}
		}
	}
	doc := documentation(t)
	for _, claim := range spec.Claims {
		r := small()
		r.Spec.Evidence = []spec.Claim{claim}
		code := "evidence." + string(claim)
		if _, refusal := Make(r, p); refusal == nil || len(refusal.Reasons) != 1 || refusal.Reasons[0].Code != code {
			t.Errorf("%s: %v", claim, refusal)
		}
		if !strings.Contains(doc, "`"+code+"`") {
			t.Errorf("%s does not stand in docs/refusals.md", code)
		}
		q := p
		q.Evidence = []EvidenceSource{{Claim: claim, By: "a source"}}
		if _, refusal := Make(r, q); refusal != nil {
			t.Errorf("control: %s with a source: %v", claim, refusal)
		}
	}
}

// A source of evidence that needs something the plan does not hold shows nothing.
func TestEvidenceNeedsWhatIsHeld(t *testing.T) {
	r := small()
	r.Spec.Controls.Capture = []spec.Capture{{Stream: "stdout", Limit: 1}}
	r.Spec.Evidence = []spec.Claim{spec.CapturedStreams}
	if _, refusal := Make(r, capable()); refusal != nil {
		t.Fatalf("control: %v", refusal)
	}
	p := capable()
	p.remove(CaptureStreams)
	_, refusal := Make(r, p)
	var codes []string
	for _, reason := range refusal.Reasons {
		codes = append(codes, reason.Code)
	}
	if !slices.Equal(codes, []string{"unsupported.capture-streams", "evidence.captured-streams"}) {
		t.Errorf("codes %v", codes)
	}
}

// The zero request is closed, and says so: nothing in it is left open because
// nobody mentioned it.
func TestSilenceAsksForDenial(t *testing.T) {
	p, refusal := Make(small(), capable())
	if refusal != nil {
		t.Fatal(refusal)
	}
	var kinds []Kind
	for _, q := range p.Requirements {
		kinds = append(kinds, q.Kind)
	}
	want := []Kind{Filesystem, NetworkDenyAll, SpawnNone, Environment, FDsNone, Launch, StdinControl, KillTree}
	for _, b := range Baseline {
		want = append(want, b.Kind)
	}
	if !slices.Equal(kinds, want) {
		t.Errorf("requirements %v, want %v", kinds, want)
	}
}

// What Make does not know it refuses: a name that is skipped is not held.
func TestUnknownNamesAreRefused(t *testing.T) {
	for name, change := range map[string]func(*spec.Resolved){
		"version":    func(r *spec.Resolved) { r.Spec.Version = 2 },
		"no program": func(r *spec.Resolved) { r.Spec.Workload.Command = nil },
		"two":        func(r *spec.Resolved) { r.Spec.Workload.Wasm = "/m.wasm" },
		"weakening":  func(r *spec.Resolved) { r.Spec.Accept = []spec.Weakening{"everything"} },
		"claim":      func(r *spec.Resolved) { r.Spec.Evidence = []spec.Claim{"telepathy"} },
		"dimension":  func(r *spec.Resolved) { r.Spec.Budgets = map[spec.Dimension]spec.Budget{"luck": {Limit: 1}} },
		"no limit":   func(r *spec.Resolved) { r.Spec.Budgets = map[spec.Dimension]spec.Budget{spec.Output: {}} },
		"big limit": func(r *spec.Resolved) {
			r.Spec.Budgets = map[spec.Dimension]spec.Budget{spec.Output: {Limit: 1 << 53}}
		},
		"guarantee": func(r *spec.Resolved) {
			r.Spec.Budgets = map[spec.Dimension]spec.Budget{spec.Output: {Limit: 1, Guarantee: -1}}
		},
		"budget claim": func(r *spec.Resolved) {
			r.Spec.Budgets = map[spec.Dimension]spec.Budget{spec.Output: {Limit: 1, Evidence: []spec.Claim{"x"}}}
		},
		"spawn":      func(r *spec.Resolved) { r.Spec.Capabilities.Spawn = "anything" },
		"descriptor": func(r *spec.Resolved) { r.Spec.Capabilities.FDs = []int{2} },
		"stream":     func(r *spec.Resolved) { r.Spec.Controls.Capture = []spec.Capture{{Stream: "stdlog", Limit: 1}} },
		"no capture": func(r *spec.Resolved) { r.Spec.Controls.Capture = []spec.Capture{{Stream: "stdout"}} },
		"stdin":      func(r *spec.Resolved) { r.Spec.Controls.Stdin.Mode = "pty" },
		"no terminal": func(r *spec.Resolved) {
			r.Spec.Controls.Capture = []spec.Capture{{Stream: spec.StreamTTY, Limit: 1}}
		},
		"unseen terminal": func(r *spec.Resolved) { r.Spec.Controls.Stdin.Mode = spec.StdinTTY },
		"stdout of a terminal": func(r *spec.Resolved) {
			r.Spec.Controls.Stdin.Mode = spec.StdinTTY
			r.Spec.Controls.Capture = []spec.Capture{{Stream: "stdout", Limit: 1}}
		},
		"stdin file": func(r *spec.Resolved) { r.Spec.Controls.Stdin.Mode = spec.StdinFile },
		"commit":     func(r *spec.Resolved) { r.Spec.Controls.Artifacts = &spec.Artifacts{Commit: "x", Durability: "atomic"} },
		"durability": func(r *spec.Resolved) { r.Spec.Controls.Artifacts = &spec.Artifacts{Commit: "never"} },
		"kill":       func(r *spec.Resolved) { r.Spec.Controls.Kill.Tree = "polite" },
		"grace":      func(r *spec.Resolved) { r.Spec.Controls.Kill.Grace = -1 },
		"role":       func(r *spec.Resolved) { r.Roots = []spec.Root{{Path: "/a", Dest: "/a", Access: "r"}} },
		"no access":  func(r *spec.Resolved) { r.Roots = []spec.Root{{Path: "/a", Dest: "/a", Role: spec.RoleGrant}} },
		"carve": func(r *spec.Resolved) {
			r.Roots = []spec.Root{{Path: "/a", Dest: "/a", Access: "r", Role: spec.RoleCarveOut}}
		},
	} {
		r := small()
		change(&r)
		_, refusal := Make(r, capable())
		if refusal == nil || refusal.Reasons[0].Code != codeSpecInvalid {
			t.Errorf("%s: %v, want %s", name, refusal, codeSpecInvalid)
		}
	}
}

// What spec.Expand gives is what Make reads.
func TestExpandedSpecsAreUnderstood(t *testing.T) {
	example, err := spec.Parse("example", spec.Example())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []spec.Spec{example, spec.Default("/home/u", []string{"true"})} {
		plan, refusal := Make(spec.Resolved{Spec: spec.Expand(s), Unresolved: true}, capable())
		if refusal != nil {
			var b strings.Builder
			refusal.Explain(&b)
			t.Fatal(b.String())
		}
		if !slices.ContainsFunc(plan.Requirements, func(q Requirement) bool {
			return q.Kind == Filesystem && slices.Contains(q.Params, Param{"resolved", "false"})
		}) {
			t.Error("the plan does not say that its paths were not looked up")
		}
	}
}

// Names may come from a program that nobody trusts.
func TestExplainIsPrintable(t *testing.T) {
	r := small()
	r.Roots = []spec.Root{{Path: "/a\x1b[2J\n", Dest: "/a\x1b[2J\n", Access: "r", Kind: spec.KindFile, Role: spec.RoleGrant, Origin: spec.FromSpec}}
	p := capable()
	for range 2 {
		var b strings.Builder
		plan, refusal := Make(r, p)
		if refusal != nil {
			refusal.Explain(&b)
		} else {
			plan.Explain(&b)
		}
		if strings.ContainsFunc(b.String(), func(c rune) bool { return c != '\n' && !strconv.IsPrint(c) }) || strings.Contains(b.String(), "\n\n\n") {
			t.Errorf("control characters reach the terminal: %q", b.String())
		}
		p.remove(Filesystem)
	}
}

// The planner is pure: it cannot read a file, a clock, the environment or a
// random number, because it imports nothing that could.
func TestPlannerIsPure(t *testing.T) {
	allowed := []string{"bytes", "cmp", "crypto/sha256", "encoding/hex", "errors", "fmt", "io", "math/bits", "slices",
		"strconv", "strings", "unicode/utf8", "github.com/bvisor/bvisor/spec", "github.com/bvisor/bvisor/internal/canonical"}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			if path, _ := strconv.Unquote(i.Path.Value); !slices.Contains(allowed, path) {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
}
