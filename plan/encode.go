package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/bvisor/bvisor/internal/canonical"
	"github.com/bvisor/bvisor/spec"
)

// MaxEncoding bounds what Parse and ParseProfile read.
const MaxEncoding = 1 << 20

// The encodings of a plan and of a profile are kept beside the values. The bare
// types have the same fields without the method that returns what is kept.
type (
	barePlan    Plan
	bareProfile Profile
)

// encode makes the encoding and the identity, once.
func (p *Plan) encode() error {
	enc, err := canonical.Marshal((*barePlan)(p))
	if err != nil {
		return err
	}
	if len(enc) > MaxEncoding {
		return fmt.Errorf("the plan has %d bytes, at most %d are read back", len(enc), MaxEncoding)
	}
	p.enc, p.id = enc, digestOf(enc)
	return nil
}

// MarshalCanonical returns the plan's one encoding. For a plan from Make or
// Parse it is kept from there: the caller must not change it, nor the plan.
func (p Plan) MarshalCanonical() ([]byte, error) {
	if p.enc == nil {
		if err := p.encode(); err != nil {
			return nil, err
		}
	}
	return p.enc, nil
}

// ID is the plan's identity: the SHA-256, in hex, of its canonical encoding. It
// is empty for a plan that has no encoding; no such plan comes from Make or Parse.
func (p Plan) ID() string {
	if p.enc == nil && p.encode() != nil {
		return ""
	}
	return p.id
}

// Seal returns the profile with its encoding and digest kept in it, so that
// Digest costs nothing. A sealed profile must not be changed.
func (p Profile) Seal() (Profile, error) {
	enc, err := canonical.Marshal((*bareProfile)(&p))
	if err != nil {
		return Profile{}, err
	}
	if len(enc) > MaxEncoding {
		return Profile{}, fmt.Errorf("the profile has %d bytes, at most %d are read back", len(enc), MaxEncoding)
	}
	p.enc, p.digest = enc, digestOf(enc)
	return p, nil
}

// MarshalCanonical returns the profile's one encoding.
func (p Profile) MarshalCanonical() ([]byte, error) {
	if p.enc != nil {
		return p.enc, nil
	}
	sealed, err := p.Seal()
	return sealed.enc, err
}

// Digest is the SHA-256, in hex, of the profile's canonical encoding, and empty
// when there is none: Make refuses such a profile.
func (p Profile) Digest() string {
	if p.enc == nil {
		p, _ = p.Seal()
	}
	return p.digest
}

// Parse reads a plan. It accepts only the canonical encoding, and only a plan
// that Make could have made: everything in it is held by mechanisms that add
// up to the verdict it states.
func Parse(data []byte) (Plan, error) {
	if len(data) > MaxEncoding {
		return Plan{}, fmt.Errorf("plan: %d bytes, at most %d are read", len(data), MaxEncoding)
	}
	var bare barePlan
	if err := canonical.Unmarshal(data, &bare); err != nil {
		return Plan{}, fmt.Errorf("plan: %w", err)
	}
	p := Plan(bare)
	if err := p.check(); err != nil {
		return Plan{}, fmt.Errorf("plan: %w", err)
	}
	p.enc, p.id = append([]byte(nil), data...), digestOf(data)
	return p, nil
}

// ParseProfile reads a profile. It accepts only the canonical encoding, with
// facts, offers and evidence in order. The result is sealed.
func ParseProfile(data []byte) (Profile, error) {
	if len(data) > MaxEncoding {
		return Profile{}, fmt.Errorf("profile: %d bytes, at most %d are read", len(data), MaxEncoding)
	}
	var bare bareProfile
	if err := canonical.Unmarshal(data, &bare); err != nil {
		return Profile{}, fmt.Errorf("profile: %w", err)
	}
	p := Profile(bare)
	if err := p.check(); err != nil {
		return Profile{}, fmt.Errorf("profile: %w", err)
	}
	p.enc, p.digest = append([]byte(nil), data...), digestOf(data)
	return p, nil
}

func (p *Plan) check() error {
	if p.Version != Version {
		return fmt.Errorf("version is %d, %d was expected", p.Version, Version)
	}
	for i := range p.Requirements {
		r := &p.Requirements[i]
		if err := r.Verdict.check(r.Mechanisms, spec.Enforced); err != nil {
			return fmt.Errorf("requirements[%d] (%q): %w", i, r.Kind, err)
		}
	}
	last := -1
	for i := range p.Budgets {
		b := &p.Budgets[i]
		at := slices.Index(spec.Dimensions, b.Dimension)
		if at <= last {
			return fmt.Errorf("budgets[%d]: %q is unknown, twice or out of order", i, b.Dimension)
		}
		last = at
		if err := b.Verdict.check(b.Mechanisms, max(b.Guarantee, spec.Mediated)); err != nil {
			return fmt.Errorf("budgets[%d] (%q): %w", i, b.Dimension, err)
		}
	}
	last = -1
	for i, e := range p.Evidence {
		at := slices.Index(spec.Claims, e.Claim)
		if at <= last || len(e.By) == 0 {
			return fmt.Errorf("evidence[%d]: %q is unknown, twice, out of order or shown by nothing", i, e.Claim)
		}
		last = at
	}
	for i, a := range p.Accepted {
		if !knownWeakening(a) || (i > 0 && p.Accepted[i-1] >= a) {
			return fmt.Errorf("accepted[%d]: %q is unknown, twice or out of order", i, a)
		}
	}
	return nil
}

// check compares a stated verdict with what the mechanisms add up to.
func (v *Verdict) check(mechanisms []Mechanism, least spec.Enforcement) error {
	enforcement, shown := verdictOf(mechanisms)
	if v.Enforcement != enforcement || !slices.Equal(v.Evidence, shown.list()) {
		return errors.New("the verdict is not what its mechanisms add up to")
	}
	if enforcement < least {
		return fmt.Errorf("it is %s, and %s is needed", strength(enforcement), strength(least))
	}
	return nil
}

func (p *Profile) check() error {
	if p.Version != ProfileVersion {
		return fmt.Errorf("version is %d, %d was expected", p.Version, ProfileVersion)
	}
	for i := 1; i < len(p.Facts); i++ {
		if p.Facts[i-1].Name >= p.Facts[i].Name {
			return fmt.Errorf("facts[%d]: %q is twice or out of order", i, p.Facts[i].Name)
		}
	}
	for i := 1; i < len(p.Offers); i++ {
		if p.Offers[i-1].Kind >= p.Offers[i].Kind {
			return fmt.Errorf("offers[%d]: %q is twice or out of order", i, p.Offers[i].Kind)
		}
	}
	for i := 1; i < len(p.Evidence); i++ {
		if p.Evidence[i-1].Claim > p.Evidence[i].Claim {
			return fmt.Errorf("evidence[%d]: %q is out of order", i, p.Evidence[i].Claim)
		}
	}
	return nil
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
