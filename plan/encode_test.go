package plan

import (
	"bytes"
	"strings"
	"testing"

	"github.com/bvisor/bvisor/internal/canonical"
	"github.com/bvisor/bvisor/spec"
)

func mustMake(t testing.TB, r spec.Resolved, p Profile) Plan {
	t.Helper()
	plan, refusal := Make(r, p)
	if refusal != nil {
		t.Fatal(refusal)
	}
	return plan
}

// One value, one encoding: whatever Parse accepts, a fresh encoding gives back
// byte for byte. Without this two different files could claim one identity.
func FuzzPlanHasOneEncoding(f *testing.F) {
	// A few of everything: the fuzzer gets nowhere with long seeds.
	p := mustMake(f, demanding(), capable())
	p.Requirements, p.Budgets = p.Requirements[19:23], p.Budgets[:2]
	p.Resolved = small()
	p.Accepted = []spec.Weakening{"host-sys"}
	seed, err := canonical.Marshal((*barePlan)(&p))
	if err != nil {
		f.Fatal(err)
	}
	if _, err := Parse(seed); err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse(data)
		if err != nil {
			return
		}
		out, err := canonical.Marshal((*barePlan)(&p))
		if err != nil || !bytes.Equal(data, out) {
			t.Errorf("accepted %q but writes %q (%v)", data, out, err)
		}
		if p.ID() != digestOf(data) {
			t.Error("the identity is not the digest of what was read")
		}
	})
}

func FuzzProfileHasOneEncoding(f *testing.F) {
	p := capable()
	p.Offers = p.Offers[:4]
	sealed, err := p.Seal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed.enc)
	f.Add([]byte(`{"backend":"inert","evidence":[],"facts":[],"host":{"arch":"","os":"","uid":0},"offers":[],"version":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParseProfile(data)
		if err != nil {
			return
		}
		out, err := canonical.Marshal((*bareProfile)(&p))
		if err != nil || !bytes.Equal(data, out) {
			t.Errorf("accepted %q but writes %q (%v)", data, out, err)
		}
		Make(small(), p)
	})
}

func TestPlanRoundTrip(t *testing.T) {
	for _, r := range []spec.Resolved{small(), usual(), demanding()} {
		p := mustMake(t, r, capable())
		again, err := Parse(p.enc)
		if err != nil {
			t.Fatal(err)
		}
		if again.ID() != p.ID() {
			t.Errorf("identity %s, read back %s", p.ID(), again.ID())
		}
		// A plan that reached us inside another document has no kept encoding.
		var bare Plan
		if err := canonical.Unmarshal(p.enc, &bare); err != nil {
			t.Fatal(err)
		}
		if bare.ID() != p.ID() {
			t.Errorf("identity %s, without the kept encoding %s", p.ID(), bare.ID())
		}
		inside, err := canonical.Marshal(&struct {
			Plan *Plan `json:"plan"`
		}{&p})
		if err != nil || string(inside) != `{"plan":`+string(p.enc)+`}` {
			t.Errorf("inside another document: %v", err)
		}
	}
}

func TestProfileRoundTrip(t *testing.T) {
	p := capable()
	sealed, err := p.Seal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseProfile(sealed.enc)
	if err != nil {
		t.Fatal(err)
	}
	if p.Digest() != sealed.Digest() || again.Digest() != p.Digest() || len(p.Digest()) != 64 {
		t.Errorf("digests %q, sealed %q, read back %q", p.Digest(), sealed.Digest(), again.Digest())
	}
	p.Facts[0].Value = "8"
	if p.Digest() == sealed.Digest() {
		t.Error("another fact, the same digest")
	}
	if mustMake(t, usual(), again).ID() != mustMake(t, usual(), capable()).ID() {
		t.Error("a profile that was read back gives another plan")
	}
}

// A plan says only what its mechanisms add up to, also when somebody else wrote it.
func TestParseRefusesWhatMakeWouldNotMake(t *testing.T) {
	for name, change := range map[string]func(*Plan){
		"version":             func(p *Plan) { p.Version = 2 },
		"nothing holds it":    func(p *Plan) { p.Requirements[0].Mechanisms = nil },
		"weaker":              func(p *Plan) { p.Requirements[0].Verdict.Enforcement = spec.Mediated },
		"mechanism weaker":    func(p *Plan) { p.Requirements[0].Mechanisms = []Mechanism{{Name: "x", Enforcement: spec.Mediated}} },
		"claims too much":     func(p *Plan) { p.Requirements[0].Verdict.Evidence = spec.Claims },
		"budget below":        func(p *Plan) { p.Budgets[0].Mechanisms[0].Enforcement = spec.Mediated },
		"unknown dimension":   func(p *Plan) { p.Budgets[0].Dimension = "luck" },
		"budgets in disarray": func(p *Plan) { p.Budgets[0], p.Budgets[1] = p.Budgets[1], p.Budgets[0] },
		"unknown weakening":   func(p *Plan) { p.Accepted = []spec.Weakening{"everything"} },
		"claim by nothing":    func(p *Plan) { p.Evidence[0].By = nil },
		"claims in disarray":  func(p *Plan) { p.Evidence[0], p.Evidence[1] = p.Evidence[1], p.Evidence[0] },
	} {
		p := mustMake(t, usual(), capable())
		change(&p)
		data, err := canonical.Marshal((*barePlan)(&p))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(data); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestParseProfileWantsOrder(t *testing.T) {
	for name, change := range map[string]func(*Profile){
		"version":  func(p *Profile) { p.Version = 2 },
		"facts":    func(p *Profile) { p.Facts[0], p.Facts[1] = p.Facts[1], p.Facts[0] },
		"offers":   func(p *Profile) { p.Offers[1] = p.Offers[0] },
		"evidence": func(p *Profile) { p.Evidence[0], p.Evidence[1] = p.Evidence[1], p.Evidence[0] },
	} {
		p := capable()
		change(&p)
		data, err := canonical.Marshal((*bareProfile)(&p))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseProfile(data); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestParseIsBounded(t *testing.T) {
	big := []byte(strings.Repeat(" ", MaxEncoding+1))
	if _, err := Parse(big); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("plan: %v", err)
	}
	if _, err := ParseProfile(big); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("profile: %v", err)
	}
}

// A record that was changed, and made consistent with itself again, is not what
// the planner makes.
func TestReplayFindsAnotherPlan(t *testing.T) {
	p := mustMake(t, usual(), capable())
	if _, refusal, err := Replay(p, capable()); refusal != nil || err != nil {
		t.Fatal(refusal, err)
	}
	p.Requirements = p.Requirements[1:]
	p.enc = nil
	if _, refusal, err := Replay(p, capable()); refusal != nil || err == nil {
		t.Errorf("refusal %v, error %v", refusal, err)
	}
}
