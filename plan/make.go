package plan

import (
	"slices"

	"github.com/bvisor/bvisor/spec"
)

// Version of the encoding of plans and refusals.
const Version = 1

// Make returns a plan that holds all of r on the host that p describes, or a
// refusal with every reason why there is none. r.Spec is expanded already (see
// spec.Expand). Make reads no files, no clock and no environment, and it does
// not change its arguments: equal arguments give byte-equal results.
//
// Everything but a budget must be enforced. A budget is held at the guarantee
// it asks for, or better.
func Make(r spec.Resolved, p Profile) (Plan, *Refusal) {
	digest := p.Digest()
	m := maker{profile: &p, accepted: acceptedBy(&r.Spec)}
	m.reasons = invalid(&r, &p, digest)
	m.wants = wants(&r, m.accepted)

	plan := Plan{
		Version:      Version,
		Backend:      p.Backend,
		Profile:      digest,
		Resolved:     r,
		Requirements: make([]Requirement, 0, len(m.wants)),
		Accepted:     m.accepted,
	}
	for i := range m.wants {
		w := &m.wants[i]
		way, verdict := m.hold(w)
		switch {
		case way == nil:
			m.unheld = append(m.unheld, w.kind)
		case w.dimension != "":
			plan.Budgets = append(plan.Budgets, BudgetPlan{w.dimension, w.limit, r.Spec.Budgets[w.dimension].Rate, w.enforcement, verdict, way.Mechanisms, w.origin})
		default:
			plan.Requirements = append(plan.Requirements, Requirement{w.kind, w.origin, w.params, verdict, way.Mechanisms})
		}
	}
	required := claimsOf(r.Spec.Evidence).list()
	plan.Evidence = m.evidence(&plan, required)

	if len(m.reasons) == 0 {
		err := plan.encode()
		if err == nil {
			return plan, nil
		}
		// What cannot be written down cannot stand in the refusal either.
		m.reasons = []Reason{notEncodable(err)}
		r = spec.Resolved{}
	}
	return Plan{}, &Refusal{
		Version:  Version,
		Backend:  p.Backend,
		Profile:  digest,
		Resolved: r,
		Total:    len(m.wants) + len(required),
		Reasons:  m.reasons,
	}
}

// maker is what Make knows while it goes through the wants.
type maker struct {
	profile  *Profile
	accepted []spec.Weakening // sorted
	wants    []want
	unheld   []Kind // of the wants that nothing holds
	reasons  []Reason
	recent   *Offer // wants of one kind stand together
}

// hold picks the first way without a fault. When there is none, it notes what
// is wrong with the way that has the fewest faults, the first among equals:
// that is the shortest road to a plan.
func (m *maker) hold(w *want) (*Way, Verdict) {
	var chosen *Way
	var verdict Verdict
	var faults []Reason
	offer := m.offer(w.kind)
	for i := range offer.Ways {
		way := &offer.Ways[i]
		enforcement, shown := verdictOf(way.Mechanisms)
		if enforcement == spec.Unsupported {
			continue
		}
		f := m.faults(w, offer, way, enforcement, shown)
		if chosen == nil || len(f) < len(faults) {
			chosen, faults = way, f
			verdict.Enforcement = enforcement
			verdict.Evidence = nil
			if len(f) == 0 {
				verdict.Evidence = shown.list()
				break
			}
		}
	}
	if chosen == nil {
		faults = []Reason{noWay(w, offer)}
	}
	if w.limit < w.minimum {
		faults = append(faults, belowMinimum(w))
	}
	if len(faults) > 0 {
		m.reasons = append(m.reasons, faults...)
		return nil, Verdict{}
	}
	return chosen, verdict
}

// faults says why a way does not hold a want; nil is that it does.
func (m *maker) faults(w *want, offer *Offer, way *Way, enforcement spec.Enforcement, shown claimSet) []Reason {
	var f []Reason
	if w.dimension != "" && way.Capacity != 0 && w.limit > way.Capacity {
		f = append(f, beyondCapacity(w, offer, way))
	}
	if enforcement < w.enforcement {
		f = append(f, tooWeak(w, offer, way, enforcement))
	}
	if !shown.contains(w.evidence) {
		for _, c := range (w.evidence &^ shown).list() {
			f = append(f, notShown(w, way, c))
		}
	}
	for _, feature := range w.features {
		if slices.Contains(way.Lacks, feature) {
			f = append(f, lacking(w, offer, way, feature))
		}
	}
	if len(m.accepted) > 0 {
		for _, b := range Waivable {
			if slices.Contains(way.Requires, b.Kind) && slices.Contains(m.accepted, b.Weakening) {
				f = append(f, conflict(w, way, b.Kind, b.Weakening))
			}
		}
	}
	return f
}

// offer finds what the profile has for a kind. A kind that is absent has an
// offer without ways: it is unsupported.
func (m *maker) offer(kind Kind) *Offer {
	if m.recent != nil && m.recent.Kind == kind {
		return m.recent
	}
	for i := range m.profile.Offers {
		if o := &m.profile.Offers[i]; o.Kind == kind {
			m.recent = o
			return o
		}
	}
	return &Offer{Kind: kind}
}

// holds says whether a kind is wanted, and every want of it held.
func (m *maker) holds(kind Kind) bool {
	return slices.ContainsFunc(m.wants, func(w want) bool { return w.kind == kind }) &&
		!slices.Contains(m.unheld, kind)
}

// evidence finds, for every required claim, what will show it: the mechanisms
// of the plan first, then the backend's own sources.
func (m *maker) evidence(plan *Plan, required []spec.Claim) []EvidencePlan {
	var found []EvidencePlan
	for _, claim := range required {
		var by []string
		add := func(mechanisms []Mechanism) {
			for i := range mechanisms {
				if mech := &mechanisms[i]; slices.Contains(mech.Evidence, claim) && !slices.Contains(by, mech.Name) {
					by = append(by, mech.Name)
				}
			}
		}
		for i := range plan.Requirements {
			add(plan.Requirements[i].Mechanisms)
		}
		for i := range plan.Budgets {
			add(plan.Budgets[i].Mechanisms)
		}
		var missing *EvidenceSource
		for i := range m.profile.Evidence {
			source := &m.profile.Evidence[i]
			if source.Claim != claim {
				continue
			}
			if !m.holdsAll(source.Needs) {
				missing = source
			} else if !slices.Contains(by, source.By) {
				by = append(by, source.By)
			}
		}
		if len(by) == 0 {
			m.reasons = append(m.reasons, m.noEvidence(claim, missing))
			continue
		}
		found = append(found, EvidencePlan{claim, by})
	}
	return found
}

func (m *maker) holdsAll(kinds []Kind) bool {
	return !slices.ContainsFunc(kinds, func(k Kind) bool { return !m.holds(k) })
}

// acceptedBy gives the accepted weakenings that exist, sorted, each once.
func acceptedBy(s *spec.Spec) []spec.Weakening {
	var accepted []spec.Weakening
	for _, name := range s.Accept {
		if knownWeakening(name) {
			accepted = append(accepted, name)
		}
	}
	slices.Sort(accepted)
	return slices.Compact(accepted)
}
