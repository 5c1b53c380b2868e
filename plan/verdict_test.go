package plan

import (
	"reflect"
	"testing"

	"github.com/bvisor/bvisor/spec"
)

// verdicts over the first four claims: 3 enforcements times 16 sets. Meet and
// Holds treat every claim alike, which TestClaimsAreIndependent checks for ten.
func verdicts() []Verdict {
	var all []Verdict
	for e := spec.Unsupported; e <= spec.Enforced; e++ {
		for s := claimSet(0); s < 16; s++ {
			all = append(all, Verdict{e, s.list()})
		}
	}
	return all
}

func TestMeetLaws(t *testing.T) {
	all := verdicts()
	same := func(law string, got, want Verdict) {
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: %v, want %v", law, got, want)
		}
	}
	for _, a := range all {
		same("idempotent", a.Meet(a), a)
		same("identity", a.Meet(Best()), a)
		same("identity", Best().Meet(a), a)
		for _, b := range all {
			ab := a.Meet(b)
			same("commutative", ab, b.Meet(a))
			if !a.Holds(ab) || !b.Holds(ab) {
				t.Fatalf("%v meets %v to more than one of them: %v", a, b, ab)
			}
			if a.Holds(b) && b.Holds(a) && !reflect.DeepEqual(a, b) {
				t.Fatalf("%v and %v hold each other and differ", a, b)
			}
			if a.Holds(b) != reflect.DeepEqual(ab, b) {
				t.Fatalf("order and meet disagree about %v and %v", a, b)
			}
			for _, c := range all {
				same("associative", ab.Meet(c), a.Meet(b.Meet(c)))
				if a.Holds(b) && b.Holds(c) && !a.Holds(c) {
					t.Fatalf("order is not transitive: %v, %v, %v", a, b, c)
				}
				if a.Holds(b) && !a.Meet(c).Holds(b.Meet(c)) {
					t.Fatalf("meet is not monotone: %v, %v, %v", a, b, c)
				}
				if a.Holds(c) && b.Holds(c) && !ab.Holds(c) {
					t.Fatalf("%v is not the greatest below %v and %v", ab, a, b)
				}
			}
		}
	}
}

func TestClaimsAreIndependent(t *testing.T) {
	for a := claimSet(0); a <= allClaims; a++ {
		if got := claimsOf(a.list()); got != a {
			t.Fatalf("set %b lists as %v, which is %b", a, a.list(), got)
		}
		for b := claimSet(0); b <= allClaims; b += 37 {
			got := Verdict{spec.Enforced, a.list()}.Meet(Verdict{spec.Enforced, b.list()})
			for i, claim := range spec.Claims {
				want := a>>i&1 == 1 && b>>i&1 == 1
				if has := claimsOf(got.Evidence).contains(claimBit(claim)); has != want {
					t.Fatalf("%b meets %b: %s is %v", a, b, claim, has)
				}
			}
		}
	}
}

// Without a mechanism nothing is held. The identity of Meet would say that
// everything is.
func TestEmptyConjunctionHoldsNothing(t *testing.T) {
	if e, shown := verdictOf(nil); e != spec.Unsupported || shown != 0 {
		t.Fatalf("no mechanism: %v with %v", e, shown.list())
	}
	p := capable()
	p.replace(Offer{Kind: Launch, Ways: []Way{{}}})
	if _, refusal := Make(small(), p); refusal == nil {
		t.Fatal("a way without mechanisms holds the launch")
	}
}

func TestUnknownClaimIsNotShown(t *testing.T) {
	v := Verdict{spec.Enforced, []spec.Claim{"telepathy"}}
	if got := v.Meet(v); got.Evidence != nil {
		t.Fatalf("an unknown claim came through: %v", got)
	}
}
