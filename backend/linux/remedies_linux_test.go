//go:build amd64 || arm64

package linux

import (
	"strings"
	"testing"

	"github.com/bvisor/bvisor/plan"
)

// A remedy is about what is in the way, and not about what else might be. That
// they work is tested on such hosts in internal/hostmatrix.
func TestRemedies(t *testing.T) {
	gone := func(name, detail string) plan.Fact {
		return plan.Fact{Name: name, Value: "unavailable", Detail: detail}
	}
	known := func(name, value string) plan.Fact { return plan.Fact{Name: name, Value: value} }
	for _, tt := range []struct {
		name  string
		uid   int
		about []string // names of facts, as an offer has them
		facts []plan.Fact
		want  string
		not   string
	}{
		{"limit", 0, []string{"namespace.net"}, []plan.Fact{gone("namespace.net", "ENOSPC")}, "user.max_net_namespaces", "user.max_user"},
		{"limit of users", 1000, []string{"namespace.user"}, []plan.Fact{gone("namespace.user", "ENOSPC")}, "user.max_user_namespaces", "AppArmor"},
		{"what owns it", 1000, []string{"namespace.pid"}, []plan.Fact{gone("namespace.user", "ENOSPC"), gone("namespace.pid", "EPERM")}, "user.max_user_namespaces", "user.max_pid"},
		{"root owns it", 0, []string{"namespace.pid"}, []plan.Fact{gone("namespace.user", "ENOSPC"), gone("namespace.pid", "ENOSPC")}, "user.max_pid_namespaces", "user.max_user"},
		{"not built", 0, []string{"namespace.user"}, []plan.Fact{gone("namespace.user", "EINVAL")}, "CONFIG_USER_NS", "sysctl"},
		{"Debian 10", 1000, []string{"namespace.user"}, []plan.Fact{gone("namespace.user", "EPERM"), known("sysctl.kernel.unprivileged_userns_clone", "0")},
			"kernel.unprivileged_userns_clone=1", "filter"},
		{"allowed by the switch", 1000, []string{"namespace.user"}, []plan.Fact{gone("namespace.user", "EPERM"), known("sysctl.kernel.unprivileged_userns_clone", "1")},
			"chroot", "unprivileged_userns_clone"},
		{"Ubuntu 24.04", 1000, []string{"namespace.user", "namespace.user.uid_map"},
			[]plan.Fact{known("namespace.user", "available"), gone("namespace.user.uid_map", "EPERM"), known("sysctl.kernel.apparmor_restrict_unprivileged_userns", "1")},
			"AppArmor profile that has userns (docs/operating.md), or set sysctl kernel.apparmor_restrict_unprivileged_userns=0", "filter"},
		{"no capability in it", 1000, []string{"namespace.pid"}, []plan.Fact{known("namespace.user", "available"), gone("namespace.pid", "EPERM"), known("sysctl.kernel.apparmor_restrict_unprivileged_userns", "1")},
			"kernel.apparmor_restrict_unprivileged_userns=0", "run as root"},
		{"container", 0, []string{"namespace.user"}, []plan.Fact{gone("namespace.user", "EPERM"), known("supervisor.filters", "1")}, "system call filter", "run as root"},
		{"mount in a container", 0, []string{"mount.private"}, []plan.Fact{gone("mount.private", "EPERM"), known("supervisor.filters", "1")}, "system call filter", "/proc"},
		{"old kernel", 0, []string{"mount.bind.mount_setattr"}, []plan.Fact{gone("mount.bind.mount_setattr", "ENOSYS")}, "Linux 5.12", "filter"},
		{"masked", 0, []string{"mount.proc"}, []plan.Fact{gone("mount.proc", "EPERM"), known("supervisor.filters", "1")}, "over parts of /proc", "filter"},
		{"no landlock", 0, []string{"landlock.restrict"}, []plan.Fact{gone("landlock.restrict", "ENOSYS"), gone("landlock.abi", "ENOSYS")}, "CONFIG_SECURITY_LANDLOCK", "lsm="},
		{"landlock off", 0, []string{"landlock.restrict"}, []plan.Fact{gone("landlock.restrict", "ENOTSUP"), gone("landlock.abi", "ENOTSUP")}, "lsm=", "CONFIG"},
		{"nothing known", 0, []string{"x"}, nil, "another host", "sysctl"},
	} {
		h := host{uid: tt.uid, facts: tt.facts}
		if got := h.remedy("another host", tt.about...); !strings.Contains(got, tt.want) || strings.Contains(got, tt.not) {
			t.Errorf("%s: the remedy is %q; expected %q in it, and not %q", tt.name, got, tt.want, tt.not)
		}
	}
}

// Where only the filter is there, one process can be ended, and its descendants
// are what is lacking.
func TestKillWithoutAPIDNamespace(t *testing.T) {
	for _, tt := range []struct {
		there []string
		want  int
		lacks int
	}{
		{[]string{"launcher", "namespace.pid", "namespace.pid.init", "seccomp.filter", "seccomp.effect"}, 2, 0},
		{[]string{"launcher", "namespace.pid", "namespace.pid.init"}, 1, 0},
		{[]string{"launcher", "seccomp.filter", "seccomp.effect"}, 1, 1},
		{[]string{"launcher"}, 0, 0},
	} {
		h := host{}
		for _, name := range tt.there {
			h.add(plan.Fact{Name: name, Value: "available"})
		}
		for _, o := range h.offers() {
			if o.Kind != plan.KillTree {
				continue
			}
			if len(o.Ways) != tt.want || tt.want > 0 && len(o.Ways[0].Lacks) != tt.lacks {
				t.Errorf("with %q: %+v, expected %d ways, the first lacking %d", tt.there, o.Ways, tt.want, tt.lacks)
			}
		}
	}
}

// What is told of a group is about what lacks of it.
func TestRemediesOfGroups(t *testing.T) {
	there := []string{"launcher", "cgroup.parent", "cgroup.leaf", "cgroup.kill", "cgroup.birth", "cgroup.memory.max", "cgroup.huge-pages"}
	for _, tt := range []struct {
		name  string
		uid   int
		facts []plan.Fact
		want  string
		not   string
	}{
		{"no hierarchy", 1000, []plan.Fact{{Name: "cgroup.parent", Value: "no-hierarchy"}, {Name: "cgroup", Value: "none"}}, "mount -t cgroup2", "unified"},
		{"hybrid", 1000, []plan.Fact{{Name: "cgroup.parent", Value: "no-hierarchy"}, {Name: "cgroup", Value: "hybrid"}}, "systemd.unified_cgroup_hierarchy=1", "-t cgroup2"},
		{"a user", 1000, []plan.Fact{{Name: "cgroup.parent", Value: "not-delegated"}}, scopeOfUser, "--cgroup-parent"},
		{"withheld", 1000, []plan.Fact{{Name: "cgroup.parent", Value: "no-controllers"}, {Name: "cgroup.withheld", Value: "/g /g/h"}},
			"as root: echo '+memory +pids' > /g/cgroup.subtree_control; echo '+memory +pids' > /g/h/cgroup.subtree_control", "CONFIG"},
		{"not built", 0, []plan.Fact{{Name: "cgroup.parent", Value: "no-controllers"}}, "CONFIG_MEMCG", "echo"},
		{"in the way", 0, []plan.Fact{{Name: "cgroup.parent", Value: "occupied"}}, scopeOfRoot, "--user"},
		{"too many", 0, []plan.Fact{{Name: "cgroup.leaf", Value: "unavailable", Detail: "mkdir x: resource temporarily unavailable"}}, "cgroup.max.descendants", "Linux"},
		{"old kernel", 0, []plan.Fact{{Name: "cgroup.kill", Value: "unavailable"}}, "Linux 5.14", "filter"},
		{"elsewhere", 1000, []plan.Fact{{Name: "cgroup.birth", Value: "unavailable", Detail: "EACCES"}}, "in the group that --cgroup-parent names", "Linux"},
		{"container", 0, []plan.Fact{{Name: "cgroup.birth", Value: "unavailable", Detail: "ENOSYS"}, {Name: "supervisor.filters", Value: "1"}}, "clone3(2)", "Linux"},
		{"older kernel", 0, []plan.Fact{{Name: "cgroup.birth", Value: "unavailable", Detail: "E2BIG"}}, "Linux 5.7", "filter"},
		{"huge pages", 0, []plan.Fact{{Name: "cgroup.huge-pages", Value: "unavailable"}}, "vm.nr_hugepages=0", "Linux"},
		{"no launcher", 0, []plan.Fact{{Name: "launcher", Value: "unavailable"}}, "vm.memfd_noexec", "cgroup"},
	} {
		h := host{uid: tt.uid, facts: tt.facts}
		for _, name := range there {
			if h.fact(name).Value == "unknown" {
				h.add(plan.Fact{Name: name, Value: "available"})
			}
		}
		if got := h.groupRemedy(there...); !strings.Contains(got, tt.want) || strings.Contains(got, tt.not) {
			t.Errorf("%s: the remedy is %q; expected %q in it, and not %q", tt.name, got, tt.want, tt.not)
		}
	}
}
