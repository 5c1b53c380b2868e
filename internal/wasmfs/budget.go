package wasmfs

import "sync/atomic"

// EntryCost is what a new name costs: a block of most file systems. Without it
// a million empty files would cost nothing.
const EntryCost = 4096

// Budget bounds what a guest adds to the disk under its grants, in bytes. A
// write costs its length, or what it adds to the file's size if that is more;
// making a file longer costs the difference, holes included; a new file,
// directory or link costs EntryCost; a file or link that a layer copies because
// it is changed costs EntryCost and its size. Nothing is given back for what is removed
// or overwritten, so the disk never holds more of the guest's than was counted.
type Budget struct {
	limit    int64
	used     atomic.Int64
	exceeded atomic.Bool
}

// NewBudget returns a budget of limit bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Used is what was counted so far. It never exceeds the limit.
func (b *Budget) Used() int64 { return b.used.Load() }

// Exceeded says whether something was refused for lack of budget.
func (b *Budget) Exceeded() bool { return b.exceeded.Load() }

var errBudget = refusal{errno: NoSpace, reason: OverBudget, access: "w"}

// take counts n bytes, or none of them.
func (b *Budget) take(n int64) error {
	if b == nil || n <= 0 {
		return nil
	}
	for {
		used := b.used.Load()
		if n > b.limit-used {
			b.exceeded.Store(true)
			return errBudget
		}
		if b.used.CompareAndSwap(used, used+n) {
			return nil
		}
	}
}

// takeUpTo counts as many of n bytes as there are left.
func (b *Budget) takeUpTo(n int64) int64 {
	if b == nil || n <= 0 {
		return n
	}
	for {
		used := b.used.Load()
		got := min(n, b.limit-used)
		if got < n {
			b.exceeded.Store(true)
		}
		if b.used.CompareAndSwap(used, used+got) {
			return got
		}
	}
}

// giveBack undoes take for what did not come to be.
func (b *Budget) giveBack(n int64) {
	if b != nil && n > 0 {
		b.used.Add(-n)
	}
}
