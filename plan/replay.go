package plan

import "fmt"

// Replay makes a recorded plan again, from its own request and a profile. The
// result has the same identity, or there is a refusal or an error:
// profile.drift when the profile is not the one the plan names, the reasons of
// Make when that profile does not hold the request, and an error when it does
// but the plan comes out different, which means that the record was not made
// by this planner or was changed.
func Replay(p Plan, profile Profile) (Plan, *Refusal, error) {
	if now := profile.Digest(); now != p.Profile || now == "" {
		return Plan{}, &Refusal{
			Version:  Version,
			Backend:  profile.Backend,
			Profile:  now,
			Resolved: p.Resolved,
			Total:    len(p.Requirements) + len(p.Budgets) + len(p.Evidence),
			Reasons:  []Reason{drifted(p.Profile, now)},
		}, nil
	}
	again, refusal := Make(p.Resolved, profile)
	if refusal != nil {
		return Plan{}, refusal, nil
	}
	if again.ID() != p.ID() {
		return Plan{}, nil, fmt.Errorf("replay: the plan comes out as %s, recorded was %s", again.ID(), p.ID())
	}
	return again, nil, nil
}
