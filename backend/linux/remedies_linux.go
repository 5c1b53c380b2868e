//go:build amd64 || arm64

package linux

import (
	"cmp"
	"os"
	"strconv"
	"strings"

	"github.com/bvisor/bvisor/plan"
)

// Remedies by what is lacking; h.remedy is more exact where the kernel's answer
// says more.
const (
	namespaceRemedy = "allow namespaces for this user"
	domainRemedy    = "use a kernel with CONFIG_SECURITY_LANDLOCK and landlock in its lsm= list (Linux 5.13 or newer)"
)

// asRoot is the way around user namespaces: root makes the others without.
const asRoot = "run as root, with host-user-namespace accepted"

// switches are settings that distributions have against user namespaces, with
// the value that allows them to everybody, and what allows them to bvisor alone.
var switches = []struct{ name, allows, alone string }{
	{"kernel.unprivileged_userns_clone", "1", ""},
	{"kernel.apparmor_restrict_unprivileged_userns", "0", "give the bvisor binary an AppArmor profile that has userns (docs/operating.md)"},
}

// supervisor notes what may be in the way of this process itself. A switch that
// this kernel does not have is not noted.
func (h *host) supervisor() {
	if n := ownFilters(); n >= 0 {
		h.read("supervisor.filters", strconv.Itoa(n), "read: /proc/self/status", nil)
	}
	for _, s := range switches {
		path := "/proc/sys/" + strings.ReplaceAll(s.name, ".", "/")
		if text, err := os.ReadFile(path); err == nil {
			h.read("sysctl."+s.name, strings.TrimSpace(string(text)), "read: "+path, nil)
		}
	}
}

// filtered says whether the supervisor runs under system call filters itself.
func (h *host) filtered() bool {
	n, err := strconv.Atoi(h.fact("supervisor.filters").Value)
	return err == nil && n > 0
}

// remedy words what helps against the first of the facts that is not available;
// other is for what nothing more exact is known of.
func (h *host) remedy(other string, facts ...string) string {
	for _, name := range facts {
		f := h.fact(name)
		if f.Value == "available" {
			continue
		}
		return cmp.Or(h.against(f), other)
	}
	return other
}

func (h *host) against(f plan.Fact) string {
	kind, isNamespace := strings.CutPrefix(f.Name, "namespace.")
	kind, _, _ = strings.Cut(kind, ".")
	switch {
	case f.Name == "launcher":
		return "let programs be executed from memory: sysctl vm.memfd_noexec below 2, and no filter or security module that refuses memfd_create(2) or its execution"
	case isNamespace && kind != "user" && h.uid != 0 && !h.has("namespace.user"):
		return h.against(h.fact("namespace.user")) // which owns the others
	case isNamespace && f.Detail == "ENOSPC": // user_namespaces(7), pid_namespaces(7)
		raise := "raise sysctl user.max_" + kind + "_namespaces"
		if kind == "user" || kind == "pid" {
			raise += " (or, where it is high enough, nest fewer than 32 of them)"
		}
		return either(raise, h.rootInstead(kind))
	case isNamespace && (f.Detail == "EINVAL" || f.Detail == "ENOSYS"):
		return "use a kernel with namespaces of this kind: CONFIG_" + strings.ToUpper(kind) + "_NS"
	case isNamespace:
		return either(h.permit("new namespaces"), h.rootInstead(kind))
	case f.Name == "mount.proc":
		return "mount nothing over parts of /proc, as container runtimes do (docker run --security-opt systempaths=unconfined; procMount: Unmasked in Kubernetes)"
	case strings.HasPrefix(f.Name, "mount.") && f.Detail == "ENOSYS":
		return "use Linux 5.12 or newer: mount_setattr(2)"
	case strings.HasPrefix(f.Name, "mount."):
		return h.permit("mounting in a user namespace")
	case strings.HasPrefix(f.Name, "seccomp."):
		return "use a kernel with CONFIG_SECCOMP_FILTER"
	case f.Name == "terminal.name":
		return "run bvisor outside of a chroot"
	case strings.HasPrefix(f.Name, "landlock."):
		return h.againstLandlock()
	}
	return ""
}

func (h *host) againstLandlock() string {
	switch h.fact("landlock.abi").Detail {
	case "ENOSYS":
		return "use a kernel with CONFIG_SECURITY_LANDLOCK (Linux 5.13 or newer), and no system call filter that hides it"
	case "ENOTSUP": // EOPNOTSUPP, landlock_create_ruleset(2)
		return "boot with landlock in the kernel's lsm= list"
	}
	return ""
}

// permit names what is known to refuse something, or else what may.
func (h *host) permit(what string) string {
	var known []string
	if h.filtered() {
		known = append(known, "run bvisor without the system call filter it is under, a container's for example, or with one that allows "+what)
	}
	for _, s := range switches {
		if v := h.fact("sysctl." + s.name).Value; v != "unknown" && v != s.allows {
			set := "set sysctl " + s.name + "=" + s.allows
			if s.alone != "" {
				set = s.alone + ", or " + set
			}
			known = append(known, set)
		}
	}
	if len(known) == 0 {
		return "find what refuses " + what + ": a security module such as AppArmor, a chroot or a Landlock domain that bvisor itself is in"
	}
	return strings.Join(known, ", and ")
}

// rootInstead is what root can do where the user cannot.
func (h *host) rootInstead(kind string) string {
	if h.uid == 0 || kind != "user" || h.filtered() {
		return ""
	}
	return asRoot
}

func either(a, b string) string {
	if b == "" {
		return a
	}
	return a + "; or " + b
}
