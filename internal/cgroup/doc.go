// Package cgroup makes groups of the second version (cgroups(7)) below one that
// is delegated to the caller, and reads what the kernel counts in them.
package cgroup
