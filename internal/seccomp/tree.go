package seccomp

import "math"

// tree finds the cheapest comparisons that tell a list of spans apart.
//
// There are two ways to treat spans i to j. A split compares once and leaves
// two shorter lists. A chain works when all of them that are wider than one
// value lead to the same place: each exception is one equality, where a split
// would need two comparisons to cut it out. All choices are tried, shortest
// lists first.
type tree struct {
	spans []span
	best  [][]step
}

// step is the cheapest treatment of one list of spans.
type step struct {
	cost  int
	chain bool
	split int // chain: a span that leads to the common place; otherwise the first span of the upper half
}

// What a launch pays, in units of one emulated comparison. The kernel checks
// and translates each instruction, about 110 ns, and then emulates the filter
// once for every call number to fill its cache of constant answers
// (seccomp_cache_prepare in kernel/seccomp.c), about 3.3 ns a comparison
// (measured on Linux 6.18).
const (
	costInstruction = 33
	emulatedNumbers = 512 // at least NR_syscalls of both architectures
)

// newTree takes, besides the spans, how many values from 0 on are emulated:
// none for a word that is not the call's number.
func newTree(spans []span, emulated uint32) *tree {
	n := len(spans)
	t := &tree{spans: spans, best: make([][]step, n)}
	weight := make([]int, n+1) // weight[j]-weight[i]: emulated numbers in spans i to j-1
	for i := range spans {
		t.best[i] = make([]step, n)
		weight[i+1] = int(emulated)
		if i+1 < n {
			weight[i+1] = int(min(spans[i+1].low, emulated))
		}
	}
	for i := n - 1; i >= 0; i-- {
		common := i // the first span wider than one value, or i when there is none yet
		mixed := false
		for j := i; j < n; j++ {
			if t.wide(j) {
				if !t.wide(common) {
					common = j
				}
				mixed = mixed || spans[j].to != spans[common].to
			}
			compare := costInstruction + weight[j+1] - weight[i]
			best := step{cost: math.MaxInt}
			if !mixed {
				exceptions := 0
				for _, s := range spans[i : j+1] {
					if s.to != spans[common].to {
						exceptions++
					}
				}
				best = step{cost: exceptions * compare, chain: true, split: common}
			}
			for k := i + 1; k <= j; k++ {
				if cost := compare + t.best[i][k-1].cost + t.best[k][j].cost; cost < best.cost {
					best = step{cost: cost, split: k}
				}
			}
			t.best[i][j] = best
		}
	}
	return t
}

// wide says whether span i holds more than one value.
func (t *tree) wide(i int) bool {
	if i+1 == len(t.spans) {
		return t.spans[i].low != wholeWord
	}
	return t.spans[i+1].low-t.spans[i].low > 1
}
