package spec

// Weakening is a named part of the baseline that the user gives up. Every
// accepted name is repeated in the plan, the report and on the terminal.
type Weakening string

// Weakenings, each with what the run then lacks. The map is the closed list:
// a name that is not here is an error.
var Weakenings = map[Weakening]string{
	"host-user-namespace":   "the workload stays in the caller's user namespace",
	"host-pid-namespace":    "the workload sees and may signal the caller's own processes outside the boundary",
	"visible-host-paths":    "host paths stay visible and their metadata reachable; only Landlock decides over contents",
	"host-ipc-namespace":    "System V IPC and POSIX message queues are the host's",
	"host-uts-namespace":    "the host's name is visible",
	"host-cgroup-namespace": "the host's cgroup paths are visible",
	"host-network":          "the workload uses the host's network",
	"linux-capabilities":    "the workload keeps the Linux capabilities that execve(2) leaves it inside its user namespace: all for the superuser, the bounding set for others",
	"new-privileges":        "set-user-ID programs may gain privileges",
	"unfiltered-calls":      "every system call reaches the kernel",
	"no-landlock":           "only mounts decide over files",
	"unscoped-ipc":          "signals and abstract unix sockets are not scoped by Landlock",
	"shared-session":        "the workload stays in the caller's session and keeps its controlling terminal",
	"dumpable-launcher":     "the launcher's memory may be read by the same user",
	"outlives-supervisor":   "the workload may survive the death of the supervisor",
	"core-dumps":            "a crash may write or pipe a core dump on the host",
	"inherited-umask":       "the file mode creation mask is the caller's",
	"inherited-signals":     "ignored and blocked signals are the caller's",
	"host-devices":          "the host's /dev is used instead of a minimal one",
	"host-proc":             "the host's /proc is used instead of an own one",
	"host-sys":              "the host's /sys is visible",
	"in-process":            "the WebAssembly engine and the module run in bvisor's own process; only the engine stands between them and all that bvisor can do",
}
