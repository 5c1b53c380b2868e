package spec

import (
	"fmt"
	"slices"
)

var enforcements = []string{Unsupported: "unsupported", Mediated: "mediated", Enforced: "enforced"}

// String is the name of e.
func (e Enforcement) String() string {
	if e < 0 || int(e) >= len(enforcements) {
		return fmt.Sprintf("enforcement(%d)", int(e))
	}
	return enforcements[e]
}

// MarshalText writes the name of e.
func (e Enforcement) MarshalText() ([]byte, error) {
	if e < 0 || int(e) >= len(enforcements) {
		return nil, fmt.Errorf("bug: no enforcement has the number %d", int(e))
	}
	return []byte(enforcements[e]), nil
}

// UnmarshalText reads exactly the three names.
func (e *Enforcement) UnmarshalText(text []byte) error {
	i := slices.Index(enforcements, string(text))
	if i < 0 {
		return unknownName("enforcement", string(text), enforcements)
	}
	*e = Enforcement(i)
	return nil
}
