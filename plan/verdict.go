package plan

import (
	"math/bits"

	"github.com/bvisor/bvisor/spec"
)

// Verdicts form a lattice: the product of the enforcement order and the sets
// of claims. Meet is what a conjunction gives, Holds is the order.

// Best is the greatest verdict, the identity of Meet. A conjunction of no
// mechanism is not Best: it holds nothing, see verdictOf.
func Best() Verdict {
	return Verdict{Enforcement: spec.Enforced, Evidence: allClaims.list()}
}

// Meet is the verdict of v and w together: the weaker enforcement, and only
// the claims both can show.
func (v Verdict) Meet(w Verdict) Verdict {
	return Verdict{
		Enforcement: min(v.Enforcement, w.Enforcement),
		Evidence:    (claimsOf(v.Evidence) & claimsOf(w.Evidence)).list(),
	}
}

// Holds says whether v is at least need, in enforcement and in evidence.
func (v Verdict) Holds(need Verdict) bool {
	return v.Enforcement >= need.Enforcement && claimsOf(v.Evidence).contains(claimsOf(need.Evidence))
}

// verdictOf is the meet over the mechanisms of one way. Nothing holds nothing:
// without a mechanism the verdict is the zero one, unsupported.
func verdictOf(mechanisms []Mechanism) (spec.Enforcement, claimSet) {
	if len(mechanisms) == 0 {
		return spec.Unsupported, 0
	}
	enforcement, shown := spec.Enforced, allClaims
	for i := range mechanisms {
		enforcement = min(enforcement, mechanisms[i].Enforcement)
		shown &= claimsOf(mechanisms[i].Evidence)
	}
	return max(enforcement, spec.Unsupported), shown
}

// claimSet has bit i for spec.Claims[i].
type claimSet uint16

var allClaims = claimSet(1)<<len(spec.Claims) - 1

// claimBit is the empty set for a claim that does not exist: it can be shown by
// nothing.
func claimBit(c spec.Claim) claimSet {
	for i, known := range spec.Claims {
		if c == known {
			return 1 << i
		}
	}
	return 0
}

func claimsOf(list []spec.Claim) claimSet {
	var s claimSet
	for _, c := range list {
		s |= claimBit(c)
	}
	return s
}

func (s claimSet) contains(t claimSet) bool { return s&t == t }

// list gives the claims in the order of spec.Claims, nil for none.
func (s claimSet) list() []spec.Claim {
	if s == 0 {
		return nil
	}
	list := make([]spec.Claim, 0, bits.OnesCount16(uint16(s)))
	for i, c := range spec.Claims {
		if s&(1<<i) != 0 {
			list = append(list, c)
		}
	}
	return list
}
