package plan

import (
	"os"
	"testing"

	"github.com/bvisor/bvisor/spec"
)

func TestUsualSpecIsAdmitted(t *testing.T) {
	p, refusal := Make(usual(), capable())
	if refusal != nil {
		refusal.Explain(os.Stdout)
		t.Fatal(refusal)
	}
	for _, r := range p.Requirements {
		if r.Verdict.Enforcement != spec.Enforced || len(r.Mechanisms) == 0 {
			t.Errorf("%s stands in the plan with %v by %d mechanisms", r.Kind, r.Verdict.Enforcement, len(r.Mechanisms))
		}
	}

}

func BenchmarkMake(b *testing.B) {
	r := usual()
	p, err := capable().Seal()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		plan, refusal := Make(r, p)
		if refusal != nil || plan.ID() == "" {
			b.Fatal(refusal)
		}
	}
}
