//go:build amd64 || arm64

package hostmatrix

import (
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ownGroup is the directory of the group of cgroup v2 that this process is in
// (cgroups(7), proc_pid_cgroup(5)), or "".
func ownGroup() string {
	mounts, err := mountPoints()
	i := slices.IndexFunc(mounts, func(m mountPoint) bool { return m.kind == "cgroup2" })
	if err != nil || i < 0 {
		return ""
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(mounts[i].path+strings.TrimSpace(path), "/")
		}
	}
	return ""
}

// hierarchies says which are mounted.
func hierarchies() string {
	mounts, err := mountPoints()
	of := func(kind string) bool {
		return err == nil && slices.ContainsFunc(mounts, func(m mountPoint) bool { return m.kind == kind })
	}
	switch v1, v2 := of("cgroup"), of("cgroup2"); {
	case v1 && v2:
		return "hybrid"
	case v1:
		return "v1"
	case v2:
		return "v2"
	}
	return "none"
}

// groupFact is the one that says where groups for workloads can be.
const groupFact = "cgroup.parent"

// group finds out what is in the way of a group of a workload's own: the word
// that the fact has for it, or "available".
func group() string {
	if hierarchies() != "v2" {
		return "no-hierarchy"
	}
	if os.Geteuid() != 0 && !writable(ownGroup()) {
		return "not-delegated"
	}
	there, err := os.ReadFile(ownGroup() + "/cgroup.controllers")
	if list := strings.Fields(string(there)); err != nil || !slices.Contains(list, "memory") || !slices.Contains(list, "pids") {
		return "no-controllers"
	}
	return "available"
}

func writable(path string) bool {
	return path != "" && unix.Faccessat(unix.AT_FDCWD, path+"/cgroup.procs", unix.W_OK, unix.AT_EACCESS) == nil
}
