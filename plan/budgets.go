package plan

import (
	"strconv"

	"github.com/bvisor/bvisor/spec"
)

// Limits below which a launch cannot succeed.
const (
	minDuration = 1_000_000 // wall and cpu: deadlines are watched in milliseconds
	minMemory   = 64 << 10  // one page of WebAssembly memory, sixteen of most processors
	minTemp     = 64 << 10  // a tmpfs with a few files in it
)

const second = 1_000_000_000 // limits of time are in nanoseconds

// maxLimit is the largest limit a plan can write down (RFC 7493 section 2.2).
const maxLimit = 1<<53 - 1

// wantBudgets goes through the dimensions in their fixed order. A dimension
// that is not named is not bounded, and nothing is wanted of it.
func wantBudgets(w []want, r *spec.Resolved) []want {
	if len(r.Spec.Budgets) == 0 {
		return w
	}
	for _, d := range spec.Dimensions {
		b, asked := r.Spec.Budgets[d]
		if !asked {
			continue
		}
		guarantee := b.Guarantee
		if guarantee == spec.Unsupported {
			guarantee = spec.Enforced
		}
		minimum, because := minimumOf(d, &r.Spec)
		w = append(w, want{kind: BudgetKind(d), origin: b.Origin, subject: string(d), features: budgetFeatures(d, b),
			enforcement: guarantee, evidence: claimsOf(b.Evidence),
			dimension: d, limit: b.Limit, minimum: minimum, because: because})
	}
	return w
}

func budgetFeatures(d spec.Dimension, b spec.Budget) (f []string) {
	if d != spec.CPU {
		return nil
	}
	if b.Rate != 0 {
		f = append(f, FeatureRate)
	}
	if b.Limit%second != 0 {
		f = append(f, FeatureSubSecond)
	}
	return f
}

// minimumOf derives the smallest limit that lets the rest of the spec work.
func minimumOf(d spec.Dimension, s *spec.Spec) (minimum int64, because string) {
	switch d {
	case spec.Wall, spec.CPU:
		return minDuration, "deadlines are watched in milliseconds"
	case spec.Memory:
		return minMemory, "a program needs its first pages"
	case spec.Processes:
		if s.Capabilities.Spawn == spec.SpawnProcesses {
			return 2, "spawn: processes needs a second one"
		}
		return 1, "the program is one"
	case spec.Handles:
		streams, fds := len(s.Controls.Capture), len(s.Capabilities.FDs)
		return int64(3 + streams + fds + 1), "3 standard descriptors, the executable, captured streams (" + strconv.Itoa(streams) +
			") and passed descriptors (" + strconv.Itoa(fds) + ")"
	case spec.Storage:
		if len(s.Controls.Temp) > 0 {
			return minTemp, "controls.temp needs room"
		}
	}
	return 1, "a limit of nothing lets nothing run"
}
