//go:build amd64 || arm64

package hostmatrix

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// host is one on which the specs are tried.
type host struct {
	name   string
	what   string
	apart  bool    // in a user namespace of its own, for root, too
	clone  uintptr // namespaces beside that and the mounts'
	setup  func(dir string) error
	filter filter
	abi    int // of Landlock, if it is not the kernel's own
	cure   cure

	// What is mounted, of a host that is about cgroups. Only specs that are, too,
	// are tried there.
	hierarchies string
}

// cure is what makes the host one that holds everything again.
type cure struct {
	says  []string     // what remedies of the refusals must say
	how   string       // for people
	apply func() error // after setup; without it setup is left out, as the filter is with either
}

// The calls that container runtimes and AppArmor's profile for unprivileged user
// namespaces refuse.
var mountCalls = []uintptr{unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT,
	unix.SYS_MOUNT_SETATTR, unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_FSCONFIG}

var landlockCalls = []uintptr{unix.SYS_LANDLOCK_CREATE_RULESET, unix.SYS_LANDLOCK_ADD_RULE, unix.SYS_LANDLOCK_RESTRICT_SELF}

const namespaceBits = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// containerFilter is what engines' default filters do to who has no
// CAP_SYS_ADMIN in the engine's own user namespace.
var containerFilter = filter{
	{calls: []uintptr{unix.SYS_CLONE3}, errno: unix.ENOSYS},
	{calls: []uintptr{unix.SYS_CLONE, unix.SYS_UNSHARE}, errno: unix.EPERM, mask: namespaceBits},
	{calls: append([]uintptr{unix.SYS_SETNS}, mountCalls...), errno: unix.EPERM},
}

// none is a limit on namespaces, which the kernel counts for each user
// namespace (user_namespaces(7), "sysctl").
func none(name string) host {
	return host{apart: true, setup: func(string) error { return setting(name, "0") },
		cure: cure{says: []string{name}, how: "`" + name + "` is 1000", apply: func() error { return setting(name, "1000") }}}
}

func (h host) called(name, what string) host {
	h.name, h.what = name, what
	return h
}

// hosts are all of them, in the order of the table.
func hosts() []host {
	unfiltered := cure{says: []string{"system call filter"}, how: "the filter is gone"}
	return []host{
		{name: "as-it-is", what: "this host as it is"},
		{name: "landlock-not-built", what: "a kernel without Landlock: its calls give ENOSYS", filter: filter{{calls: landlockCalls, errno: unix.ENOSYS}},
			cure: cure{says: []string{"CONFIG_SECURITY_LANDLOCK"}, how: "the calls are there"}},
		{name: "landlock-off", what: "Landlock is not among the kernel's `lsm=`: EOPNOTSUPP", filter: filter{{calls: landlockCalls, errno: unix.EOPNOTSUPP}},
			cure: cure{says: []string{"lsm="}, how: "it is on"}},
		older(1), older(2), older(3), older(6),
		none("user.max_user_namespaces").called("user-namespaces-off", "sysctl `user.max_user_namespaces` is 0"),
		none("user.max_mnt_namespaces").called("mount-namespaces-off", "sysctl `user.max_mnt_namespaces` is 0"),
		none("user.max_pid_namespaces").called("pid-namespaces-off", "sysctl `user.max_pid_namespaces` is 0"),
		none("user.max_net_namespaces").called("network-namespaces-off", "sysctl `user.max_net_namespaces` is 0"),
		{name: "mounts-refused", what: "user namespaces may be made, but mounting in them gives EACCES, as under AppArmor's restriction",
			filter: filter{{calls: mountCalls, errno: unix.EACCES}}, cure: cure{says: []string{"kernel.apparmor_restrict_unprivileged_userns", "system call filter"}, how: "nothing refuses it"}},
		{name: "capabilities-refused", what: "user namespaces may be made and give no capability: other namespaces EPERM, mounting EACCES; most of what AppArmor does on Ubuntu since 24.04",
			filter: filter{{calls: []uintptr{unix.SYS_CLONE, unix.SYS_UNSHARE}, errno: unix.EPERM, mask: namespaceBits &^ unix.CLONE_NEWUSER}, {calls: mountCalls, errno: unix.EACCES}},
			cure:   cure{says: []string{"kernel.apparmor_restrict_unprivileged_userns", "system call filter"}, how: "nothing refuses it"}},
		{name: "maps-refused", what: "user namespaces may be made, and nobody mapped into them: the rest of what AppArmor does there (whose write gives EPERM), by a Landlock domain, which forbids mounting, too",
			setup: func(string) error { return closeProc() }, cure: cure{says: []string{"a security module such as AppArmor", "kernel.apparmor_restrict_unprivileged_userns"}, how: "nothing refuses it"}},
		{name: "container", what: "a container's system call filter: new namespaces and mounting give EPERM, clone3 ENOSYS", filter: containerFilter, cure: unfiltered},
		{name: "container-landlock-2", what: "likewise, on a kernel with Landlock ABI 2, which does not hold truncate(2)", filter: containerFilter, abi: 2,
			cure: cure{says: unfiltered.says, how: "the filter is gone, and the kernel newer"}},
		{name: "seccomp-absent", what: "a kernel without seccomp",
			filter: filter{
				{calls: []uintptr{unix.SYS_SECCOMP}, errno: unix.ENOSYS},
				{calls: []uintptr{unix.SYS_PRCTL}, errno: unix.EINVAL, values: []uint32{unix.PR_SET_SECCOMP, unix.PR_GET_SECCOMP}},
			}, cure: cure{says: []string{"CONFIG_SECCOMP_FILTER"}, how: "it is there"}},
		{name: "no-listener", what: "a kernel whose filters can have no listener (before Linux 5.0)",
			filter: filter{{calls: []uintptr{unix.SYS_SECCOMP}, errno: unix.EINVAL, arg: 1, mask: unix.SECCOMP_FILTER_FLAG_NEW_LISTENER}},
			cure:   cure{how: "they can"}},
		{name: "proc-masked", what: "parts of `/proc` are mounted over, as in a container", setup: maskProc,
			cure: cure{says: []string{"/proc"}, how: "nothing is mounted over it", apply: func() error { return overProc(func(path string) error { return unix.Unmount(path, 0) }) }}},
		{name: "in-chroot", what: "the supervisor is in a chroot", setup: func(dir string) error {
			root := filepath.Join(dir, "root")
			if err := os.Mkdir(root, 0o755); err != nil {
				return err
			}
			if err := unix.Mount("/", root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
				return err
			}
			if err := unix.Chroot(root); err != nil {
				return err
			}
			return os.Chdir("/")
		}, cure: cure{says: []string{"chroot"}, how: "it is in none"}},
		{name: "in-a-landlock-domain", what: "the supervisor is in a Landlock domain itself, which forbids mounting", setup: func(string) error { return enterDomain() },
			cure: cure{says: []string{"Landlock domain"}, how: "it is in none"}},
		{name: "memfd-not-executable", what: "sysctl `vm.memfd_noexec` is 2", clone: unix.CLONE_NEWPID,
			setup: func(string) error {
				if err := ownProc(); err != nil {
					return err
				}
				return setting("vm.memfd_noexec", "2")
			}, cure: cure{says: []string{"vm.memfd_noexec"}, how: "`vm.memfd_noexec` is 0", apply: func() error { return setting("vm.memfd_noexec", "0") }}},
		{name: "cgroup-none", what: "no cgroup hierarchy is mounted", hierarchies: "none", setup: onlyCgroups()},
		{name: "cgroup-v1", what: "hierarchies of cgroup v1 are mounted", hierarchies: "v1", setup: onlyCgroups("cgroup")},
		{name: "cgroup-hybrid", what: "hierarchies of cgroup v1 and v2 are mounted", hierarchies: "hybrid", setup: onlyCgroups("cgroup", "cgroup2")},
		{name: "cgroup-v2-container", what: "cgroup v2 alone is mounted, a group can be made, and a container's filter gives ENOSYS for clone3", hierarchies: "v2", setup: func(dir string) error {
			if err := onlyCgroups("cgroup2")(dir); err != nil {
				return err
			}
			if why := group(); why != "available" {
				return &unmade{"no group can be made here: " + why}
			}
			return nil
		}, filter: filter{{calls: []uintptr{unix.SYS_CLONE3}, errno: unix.ENOSYS}}, cure: unfiltered},
		{name: "cgroup-v2", what: "cgroup v2 alone is mounted, not delegated to the user", hierarchies: "v2", setup: delegated(false)},
		{name: "cgroup-v2-delegated", what: "cgroup v2 alone is mounted, and the user's own group is writable", hierarchies: "v2", setup: delegated(true)},
	}
}

// overProc does something to the places that container runtimes mount over.
func overProc(do func(path string) error) error {
	for _, name := range []string{"kcore", "keys", "timer_list"} {
		path := "/proc/" + name
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := do(path); err != nil {
			return err
		}
	}
	return nil
}

func maskProc(string) error {
	return overProc(func(path string) error { return unix.Mount("/dev/null", path, "", unix.MS_BIND, "") })
}

// delegated is a host with cgroup v2 alone where the user may write to the group
// it is in, or may not. Root always may, so that there is one such host for it.
func delegated(want bool) func(string) error {
	return func(dir string) error {
		if err := onlyCgroups("cgroup2")(dir); err != nil {
			return err
		}
		if got := os.Geteuid() != 0 && writable(ownGroup()); got != want {
			return &unmade{"the group that this process is in, " + ownGroup() + ", is not of that kind"}
		}
		return nil
	}
}

func hostNamed(name string) host {
	for _, h := range hosts() {
		if h.name == name {
			return h
		}
	}
	panic("bug: no host " + name)
}
