// Package seccomp makes the system call filter of a boundary: an allowlist of
// what an ordinary program calls, compiled to classic BPF.
//
// The policy is the table in policy.go. A call it does not name does not exist
// inside the boundary (ENOSYS), which is what libraries probe for and fall back
// from; a call that exists but is not granted says so (EPERM, or EACCES for a
// socket family). Anything that arrives through another architecture's entry
// kills the process.
//
// The package only makes bytes. It loads nothing, reads nothing from the host
// and builds on every system.
//
// # What a filter cannot hold
//
// A filter sees numbers and register values, never memory. Paths, socket
// addresses and the flags inside openat2(2)'s or clone3(2)'s structures are out
// of its sight: namespaces, mounts and Landlock decide about those.
package seccomp

//go:generate sh -c "go run ./gen > calls.tmp && mv calls.tmp calls_generated.go"
//go:generate sh -c "go run ./genfilters > filters.tmp && mv filters.tmp filters_generated.go"
