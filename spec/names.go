package spec

import (
	"maps"
	"slices"
	"strings"

	"github.com/bvisor/bvisor/internal/nearest"
)

// oneOf returns s as one of names, which are few and closed. others are named
// in the error only.
func oneOf[T ~string](what, s string, names []T, others ...string) (T, error) {
	if slices.Contains(names, T(s)) {
		return T(s), nil
	}
	return "", unknownName(what, s, names, others...)
}

// unknownName says what was meant, or what there is to choose from.
func unknownName[T ~string](what, s string, names []T, others ...string) *valueError {
	e := &valueError{code: CodeUnknownName, message: "no " + what + " is named " + quote(s)}
	if near := closest(s, names); near != "" {
		if strings.EqualFold(near, s) {
			e.code = CodeWrongCase
		}
		e.hint = "did you mean " + quote(near) + "?"
		return e
	}
	e.hint = expected(names, others...)
	return e
}

func expected[T ~string](names []T, others ...string) string {
	var list []string
	for _, n := range names {
		list = append(list, string(n))
	}
	list = append(list, others...)
	if len(list) == 1 {
		return "expected " + list[0]
	}
	return "expected one of " + strings.Join(list, ", ")
}

// closest is the name that s was meant to be, or empty when none is close.
func closest[T ~string](s string, names []T) string {
	if len(s) > 64 {
		return ""
	}
	list := make([]string, len(names))
	for i, n := range names {
		if list[i] = string(n); strings.EqualFold(s, list[i]) {
			return list[i]
		}
	}
	return nearest.Name(strings.ToLower(s), list, max(len(s)/3, 1))
}

// weakeningNames are the names of Weakenings, sorted.
func weakeningNames() []Weakening { return slices.Sorted(maps.Keys(Weakenings)) }

var (
	networks     = []string{NetworkNone, NetworkLoopback}
	spawns       = []Spawn{SpawnNone, SpawnThreads, SpawnProcesses}
	clocks       = []Clock{ClockFixed, ClockMonotonic, ClockReal} // each tells more than the one before
	randoms      = []Random{RandomSeeded, RandomReal}
	streams      = []string{"stdout", "stderr", StreamTTY}
	stdinModes   = []string{StdinNone, StdinInherit, StdinFile, StdinTTY}
	commits      = []string{"manual", "on-success", "never"}
	durabilities = []string{"atomic", "durable"}
	guarantees   = []string{"enforced", "mediated"}
	killTrees    = []string{"atomic"}
)

// ParseSpawn reads what the workload may start.
func ParseSpawn(s string) (Spawn, error) { return oneOf("spawn policy", s, spawns) }

// ParseClock reads what the workload can learn of the time.
func ParseClock(s string) (Clock, error) { return oneOf("clock", s, clocks) }

// ParseRandom reads where random numbers come from.
func ParseRandom(s string) (Random, error) { return oneOf("source of random numbers", s, randoms) }

// ParseClaim reads the name of an evidence claim.
func ParseClaim(s string) (Claim, error) { return oneOf("evidence claim", s, Claims) }

// ParseWeakening reads the name of a weakening.
func ParseWeakening(s string) (Weakening, error) { return oneOf("weakening", s, weakeningNames()) }

// ParseDimension reads the name of a budget's dimension.
func ParseDimension(s string) (Dimension, error) { return oneOf("budget", s, Dimensions) }

// ParseStream reads the name of a stream that can be captured.
func ParseStream(s string) (string, error) { return oneOf("stream", s, streams) }

// ParsePreset reads the name of a preset.
func ParsePreset(s string) (string, error) { return oneOf("preset", s, presetNames()) }
