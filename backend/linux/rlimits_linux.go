//go:build amd64 || arm64

package linux

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/plan"
)

// rlimit is one of setrlimit(2)'s, as a budget sets it.
type rlimit struct {
	name, text string
	resource   int
	value      int64 // what is set
	unit       int64 // of the budget, in one of the limit's
	ours       int64 // what of the value bvisor needs itself
}

// rlimits are those that are read back.
var rlimits = []rlimit{
	{name: "as", text: "RLIMIT_AS", resource: unix.RLIMIT_AS, unit: 1},
	{name: "core", text: "RLIMIT_CORE", resource: unix.RLIMIT_CORE, unit: 1},
	{name: "cpu", text: "RLIMIT_CPU", resource: unix.RLIMIT_CPU, unit: int64(time.Second)},
	{name: "nofile", text: "RLIMIT_NOFILE", resource: unix.RLIMIT_NOFILE, unit: 1},
	{name: "nproc", text: "RLIMIT_NPROC", resource: unix.RLIMIT_NPROC, unit: 1, ours: 2}, // launcher and init are in the user namespace, too
}

// rlimitNames are the mechanisms that are one.
var rlimitNames = map[string]string{mechanismAS: "as", mechanismSecs: "cpu", mechanismFiles: "nofile", mechanismNproc: "nproc"}

// rlimitOf is the limit that holds a budget, if it is one.
func rlimitOf(b plan.BudgetPlan) (rlimit, bool) {
	for _, l := range rlimits {
		for _, m := range b.Mechanisms {
			if rlimitNames[m.Name] == l.name {
				l.value = b.Limit/l.unit + l.ours
				return l, true
			}
		}
	}
	return rlimit{}, false
}

// capacity is the largest budget that a limit can hold: nobody gets more than
// the supervisor's own hard limit (setrlimit(2)). 0 is no bound.
func (l rlimit) capacity(hard uint64) int64 {
	const largest = 1 << 53 // of numbers in a plan
	if hard >= uint64(largest/l.unit) {
		return 0
	}
	return max((int64(hard)-l.ours)*l.unit, 1)
}

// capacityOf is that of a mechanism, on this host.
func capacityOf(mechanism string) int64 {
	l := rlimits[slices.IndexFunc(rlimits, func(l rlimit) bool { return l.name == rlimitNames[mechanism] })]
	var own unix.Rlimit
	_ = unix.Getrlimit(l.resource, &own) // fails for no resource of these
	return l.capacity(own.Max)
}
