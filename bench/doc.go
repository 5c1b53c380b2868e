// Command bench measures what a launch costs, in one run on one machine, and
// prints the table of docs/performance.md:
//
//	go run ./bench
//
// Everything that is compared is measured in turn: a round gives each subject
// one block of launches, and a ratio is made from the medians of two blocks of
// the same round. A machine that changes its speed between rounds then changes
// both sides of a ratio. Absolute times are of this machine and this hour;
// quote ratios.
//
// What cannot be measured here (a peer that is not installed, a compiler that
// is missing) is left out by name, with the reason.
package main
