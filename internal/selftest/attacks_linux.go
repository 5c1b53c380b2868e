package selftest

import "slices"

// Attacks are all there are, in the order of the threat model: files,
// processes, network, kernel, lifecycle, budgets.
func Attacks() []Attack {
	return slices.Concat(files(), heldBack(), processes(), network(), kernel(), lifecycle(), budgets())
}
