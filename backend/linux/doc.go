// Package linux holds boundaries with what the Linux kernel has: namespaces,
// mounts, Landlock, seccomp, resource limits.
//
// The files follow a run: lookup and resolve find what the spec names, probe
// and offers say what this host can hold, lower and mounts turn a plan into a
// program, launch starts it, posture reads back what the kernel says of it,
// streams relays its output, and outcome names how it ended.
package linux
