package plan

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/bvisor/bvisor/spec"
)

// The reference planner: written from docs/refusals.md and the design, slow and
// obvious, sharing no code with Make. It gives the lines of a plan or the lines
// of a refusal.

type ask struct {
	kind, origin, subject string
	uses                  []string // features
	budget                *spec.Budget
	minimum               int64
}

func reference(r spec.Resolved, p Profile) (plan, refusal []string) {
	waivers := map[string]string{} // baseline kind to the weakening that waives it
	for _, b := range Waivable {
		waivers[string(b.Kind)] = string(b.Weakening)
	}
	accepted := map[string]bool{}
	for _, a := range r.Spec.Accept {
		accepted[string(a)] = true
	}

	if r.Spec.Workload.Wasm != "" && p.Backend != "wasm" {
		refusal = append(refusal, "unsupported.wasm|launch|")
	}
	if r.Spec.Workload.Wasm == "" && p.Backend == "wasm" {
		refusal = append(refusal, "unsupported.command|launch|")
	}

	for _, u := range r.Executable.Unfit {
		refusal = append(refusal, "wasm."+u.Code+"|launch|"+u.Subject)
	}

	// 1. What must be held.
	var asks []ask
	capability := func(kind, origin string) { asks = append(asks, ask{kind: kind, origin: origin}) }
	fromRoots := func(kind string, role spec.Role) {
		for _, root := range r.Roots {
			if root.Role != role {
				continue
			}
			a := ask{kind: kind, origin: string(root.Origin), subject: root.Dest}
			has := func(right string) bool {
				return root.Access != "none" && strings.Contains(string(root.Access), right)
			}
			if has("x") && !has("r") {
				a.uses = append(a.uses, "execute-without-read")
			}
			if has("w") && !has("r") {
				a.uses = append(a.uses, "write-without-read")
			}
			if root.Kind == "file" || root.Kind == "device" {
				a.uses = append(a.uses, "file-root")
			}
			if root.Kind == "other" {
				a.uses = append(a.uses, "fifo-or-socket-root")
			}
			if root.Kind == "directory" && root.NonRecursive {
				a.uses = append(a.uses, "non-recursive")
			}
			asks = append(asks, a)
		}
	}
	fromRoots("filesystem", "grant")
	if len(asks) == 0 {
		capability("filesystem", "default")
	}
	fromRoots("filesystem-carve-out", "carve-out")
	if r.Spec.Capabilities.Network.Loopback {
		capability("network-loopback", "spec")
	} else if len(r.Spec.Capabilities.Network.Allow) != 0 {
		capability("network-allow-list", "spec")
	} else if !accepted["host-network"] {
		capability("network-deny-all", "default")
	}
	switch r.Spec.Capabilities.Spawn {
	case "processes":
		capability("spawn-processes", "spec")
	case "threads":
		capability("spawn-threads", "spec")
	case "none", "":
		capability("spawn-none", "default")
	}
	if len(r.Spec.Capabilities.Environment) == 0 {
		capability("environment", "default")
	} else {
		capability("environment", "spec")
	}
	if c := r.Spec.Capabilities.Clock; c == "fixed" || c == "monotonic-only" {
		capability("clock", "spec")
	}
	if r.Spec.Capabilities.Random == "seeded" {
		capability("random", "spec")
	}
	if len(r.Spec.Capabilities.FDs) == 0 {
		capability("fds-none", "default")
	} else {
		capability("fds-only", "spec")
	}
	capability("launch", "spec")
	if len(r.Spec.Controls.Capture) != 0 {
		capability("capture-streams", "spec")
	}
	if m := r.Spec.Controls.Stdin.Mode; m == "" || m == "none" {
		capability("stdin", "default")
	} else {
		capability("stdin", "spec")
		if m == "tty" {
			capability("terminal", "spec")
		}
	}
	for _, temp := range r.Spec.Controls.Temp {
		asks = append(asks, ask{kind: "temp-root", origin: "spec", subject: temp.Path})
	}
	fromRoots("expose-path", "expose")
	if r.Spec.Controls.Artifacts != nil {
		capability("commit-artifact", "spec")
		capability("discard-artifact", "spec")
		capability("list-outputs", "spec")
	}
	capability("kill", "default")
	if r.Spec.Capabilities.Spawn == "processes" {
		asks[len(asks)-1].uses = []string{"descendants"}
		if !accepted["outlives-supervisor"] {
			asks[len(asks)-1].uses = []string{"descendants", "with-the-supervisor"}
		}
	}
	for _, b := range Baseline {
		if !accepted[string(b.Weakening)] {
			capability(string(b.Kind), "baseline")
		}
	}
	if r.Spec.Workload.Wasm != "" && !accepted["in-process"] {
		capability("own-process", "baseline")
	}
	for _, d := range []string{"wall", "cpu", "memory", "processes", "handles", "storage", "network", "output", "fuel", "call-depth"} {
		b, ok := r.Spec.Budgets[spec.Dimension(d)]
		if !ok {
			continue
		}
		minimum := int64(1)
		var uses []string
		if d == "cpu" && b.Rate > 0 {
			uses = append(uses, "rate")
		}
		if d == "cpu" && b.Limit != b.Limit/1e9*1e9 {
			uses = append(uses, "sub-second")
		}
		switch d {
		case "wall", "cpu":
			minimum = 1e6
		case "memory":
			minimum = 65536
		case "processes":
			if r.Spec.Capabilities.Spawn == "processes" {
				minimum = 2
			}
		case "handles":
			minimum = int64(4 + len(r.Spec.Controls.Capture) + len(r.Spec.Capabilities.FDs))
		case "storage":
			if len(r.Spec.Controls.Temp) > 0 {
				minimum = 65536
			}
		}
		asks = append(asks, ask{kind: "budget." + d, origin: string(b.Origin), subject: d, budget: &b, minimum: minimum, uses: uses})
	}

	// 2. to 4. What holds it.
	offers := map[string]Offer{}
	for _, o := range p.Offers {
		offers[string(o.Kind)] = o
	}
	inPlan, broken := map[string]bool{}, map[string]bool{}
	var chosen []Mechanism
	for _, a := range asks {
		inPlan[a.kind] = true
		var wrong [][]string // per way that holds anything at all: what is wrong with it
		var ways []Way
		for _, way := range offers[a.kind].Ways {
			weakest := 2
			for _, m := range way.Mechanisms {
				weakest = min(weakest, int(m.Enforcement))
			}
			if len(way.Mechanisms) == 0 || weakest == 0 {
				continue
			}
			var w []string
			if a.budget != nil {
				if way.Capacity != 0 && a.budget.Limit > way.Capacity {
					w = append(w, a.kind+".capacity")
				}
				if a.budget.Guarantee != spec.Mediated && weakest < 2 {
					w = append(w, a.kind+".guarantee")
				}
				for _, c := range referenceClaims {
					if slices.Contains(a.budget.Evidence, c) && !everyOne(way.Mechanisms, c) {
						w = append(w, a.kind+".evidence")
					}
				}
			} else if weakest < 2 {
				w = append(w, "unsupported."+a.kind)
			}
			for _, feature := range a.uses {
				if slices.Contains(way.Lacks, feature) {
					w = append(w, "feature."+feature)
				}
			}
			for _, k := range Waivable {
				if accepted[waivers[string(k.Kind)]] && slices.Contains(way.Requires, k.Kind) {
					w = append(w, "weakening.conflict~"+waivers[string(k.Kind)])
				}
			}
			wrong, ways = append(wrong, w), append(ways, way)
		}
		best := -1
		for i := range wrong {
			if best < 0 || len(wrong[i]) < len(wrong[best]) {
				best = i
			}
		}
		var codes []string
		switch {
		case best >= 0:
			codes = wrong[best]
		case a.budget != nil:
			codes = []string{a.kind + ".unsupported"}
		default:
			codes = []string{"unsupported." + a.kind}
		}
		if a.budget != nil && a.budget.Limit < a.minimum {
			codes = append(slices.Clone(codes), a.kind+".minimum")
		}
		for _, code := range codes {
			code, name, _ := strings.Cut(code, "~")
			subject := a.subject
			if subject == "" {
				subject = name
			}
			refusal = append(refusal, code+"|"+a.kind+"|"+subject)
		}
		if len(codes) > 0 {
			broken[a.kind] = true
			continue
		}
		var names, claims []string
		weakest := spec.Enforced
		for _, m := range ways[best].Mechanisms {
			names = append(names, m.Name)
			weakest = min(weakest, m.Enforcement)
			chosen = append(chosen, m)
		}
		for _, c := range referenceClaims {
			if everyOne(ways[best].Mechanisms, c) {
				claims = append(claims, string(c))
			}
		}
		plan = append(plan, fmt.Sprintf("%s|%s|%s|%s|%v|%v", a.kind, a.origin, a.subject, weakest, names, claims))
	}

	// 5. What shows it.
	for _, c := range referenceClaims {
		if !slices.Contains(r.Spec.Evidence, c) {
			continue
		}
		shown := map[string]bool{}
		for _, m := range chosen {
			if slices.Contains(m.Evidence, c) {
				shown[m.Name] = true
			}
		}
		for _, s := range p.Evidence {
			ok := s.Claim == c
			for _, k := range s.Needs {
				ok = ok && inPlan[string(k)] && !broken[string(k)]
			}
			if ok {
				shown[s.By] = true
			}
		}
		if len(shown) == 0 {
			refusal = append(refusal, "evidence."+string(c)+"|evidence|"+string(c))
			continue
		}
		plan = append(plan, fmt.Sprintf("evidence|%s|%v", c, sorted(shown)))
	}
	plan = append(plan, fmt.Sprintf("accepted|%v", sorted(accepted)))
	if len(refusal) > 0 {
		return nil, refusal
	}
	return plan, nil
}

var referenceClaims = []spec.Claim{"terminal-outcome", "captured-streams", "resource-usage", "allowed-actions",
	"denied-attempts", "filesystem-delta", "process-tree", "network-activity", "artifact-lineage", "mechanism-attestation"}

func everyOne(mechanisms []Mechanism, c spec.Claim) bool {
	for _, m := range mechanisms {
		if !slices.Contains(m.Evidence, c) {
			return false
		}
	}
	return true
}

func sorted(set map[string]bool) []string {
	var names []string
	for n := range set {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// linesOf puts a real plan into the reference's form.
func linesOf(p Plan) []string {
	var lines []string
	line := func(kind, origin, subject string, v Verdict, mechanisms []Mechanism) {
		var names []string
		for _, m := range mechanisms {
			names = append(names, m.Name)
		}
		lines = append(lines, fmt.Sprintf("%s|%s|%s|%s|%v|%v", kind, origin, subject, v.Enforcement, names, v.Evidence))
	}
	for _, r := range p.Requirements {
		subject := ""
		for _, q := range r.Params {
			if q.Name == "dest" || (q.Name == "path" && r.Kind == TempRoot) {
				subject = q.Value
			}
		}
		line(string(r.Kind), string(r.Origin), subject, r.Verdict, r.Mechanisms)
	}
	for _, b := range p.Budgets {
		line("budget."+string(b.Dimension), string(b.Origin), string(b.Dimension), b.Verdict, b.Mechanisms)
	}
	for _, e := range p.Evidence {
		names := slices.Clone(e.By)
		sort.Strings(names)
		lines = append(lines, fmt.Sprintf("evidence|%s|%v", e.Claim, names))
	}
	return append(lines, fmt.Sprintf("accepted|%v", p.Accepted))
}

func agree(t *testing.T, data []byte) (admitted bool) {
	t.Helper()
	r, p := generate(data)
	plan, refusal := Make(r, p)
	wantPlan, wantRefusal := reference(r, p)
	var got, want []string
	if refusal != nil {
		for _, reason := range refusal.Reasons {
			got = append(got, reason.Code+"|"+string(reason.Requirement)+"|"+reason.Subject)
			if reason.Need == "" || reason.Fact == "" || reason.Remedy == "" {
				t.Errorf("%s leaves need, fact or remedy empty", reason.Code)
			}
		}
		want = wantRefusal
	} else {
		got, want = linesOf(plan), wantPlan
	}
	if !slices.Equal(got, want) {
		t.Fatalf("Make and the reference differ\nMake:\n  %s\nreference:\n  %s\n  refusing: %s",
			strings.Join(got, "\n  "), strings.Join(wantPlan, "\n  "), strings.Join(wantRefusal, "\n  "))
	}
	if refusal != nil {
		return false
	}
	again, _ := Make(r, p)
	if again.ID() != plan.ID() {
		t.Fatal("equal arguments gave two plans")
	}
	if _, err := Parse(plan.enc); err != nil {
		t.Fatalf("Parse refuses what Make made: %v", err)
	}
	if _, refusal, err := Replay(plan, p); refusal != nil || err != nil {
		t.Fatalf("replay: %v %v", refusal, err)
	}
	return true
}

func TestMakeAgreesWithReference(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	admitted := 0
	const runs = 3000
	for range runs {
		if agree(t, randomBytes(random)) {
			admitted++
		}
	}
	if admitted < runs/20 || admitted > runs*19/20 {
		t.Errorf("%d of %d were admitted: the generator covers only one side", admitted, runs)
	}
}

func FuzzMakeAgainstReference(f *testing.F) {
	random := rand.New(rand.NewPCG(3, 4))
	f.Add([]byte{})
	for range 8 {
		f.Add(randomBytes(random))
	}
	f.Fuzz(func(t *testing.T, data []byte) { agree(t, data) })
}

// randomBytes are mostly zero, which leaves things as they are, so that specs
// are admitted often enough. One stretch is dense, so that a few offers change
// a lot.
func randomBytes(random *rand.Rand) []byte {
	data := make([]byte, 400)
	rare := random.IntN(60) + 2
	for i := range data {
		if random.IntN(rare) == 0 {
			data[i] = byte(random.Uint32())
		}
	}
	from := random.IntN(2 * len(data))
	for i := from; i < len(data) && i < from+60; i++ {
		data[i] = byte(random.Uint32())
	}
	return data
}
