//go:build amd64 || arm64

package linux

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/cgroup"
	"github.com/bvisor/bvisor/internal/launcher"
)

// leafFacts are what a group of the workload's own takes.
var leafFacts = []string{"launcher", "cgroup.parent", "cgroup.leaf", "cgroup.kill", "cgroup.birth"}

// cgroups finds out what a group of the workload's own can hold. It returns the
// place where a child can be born in one, nil where there is none; done removes
// the group.
func (b *Backend) cgroups(h *host) (birth *os.File, done func()) {
	done = func() {}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	kind, _ := cgroup.Hierarchy(mounts)
	h.read("cgroup", kind, "read: /proc/self/mountinfo", err)
	learned := "exercised: mkdir, cgroup.subtree_control"
	place, err := b.place()
	if lack, ok := errors.AsType[*cgroup.Lack](err); ok {
		h.unavailable("cgroup.parent", lack.Code, learned, lack.Detail)
		if len(lack.Withheld) > 0 {
			h.read("cgroup.withheld", strings.Join(lack.Withheld, " "), "read: cgroup.subtree_control", nil)
		}
		return nil, done
	}
	h.read("cgroup.parent", "available", learned, err)
	if err != nil {
		return nil, done
	}
	h.read("cgroup.group", place.Group(), learned, nil)
	h.read("cgroup.controllers", strings.Join(place.Controllers, " "), "read: cgroup.subtree_control", nil)
	id := make([]byte, 8)
	rand.Read(id)
	leaf, err := place.Leaf("probe-" + hex.EncodeToString(id))
	h.read("cgroup.leaf", "available", "exercised: mkdir, flock", err)
	if err != nil {
		return nil, done
	}
	done = func() {
		_ = leaf.Kill()
		_, _ = leaf.Empty(sweepPatience)
		_ = leaf.Remove() // one that stays is swept by the next supervisor
	}
	for _, t := range []struct{ file, value string }{{"pids.max", "64"}, {"memory.max", "67108864"}, {"memory.swap.max", "0"},
		{"memory.oom.group", "1"}, {"cpu.max", rateWords(500)}} {
		got, err := leaf.Set(t.file, t.value)
		if err == nil && got != t.value {
			err = fmt.Errorf("it says %q after %q was written", got, t.value)
		}
		h.read("cgroup."+t.file, "available", "exercised: write and read back", err)
	}
	_, err = leaf.Counters("cpu.stat")
	h.read("cgroup.cpu.stat", "available", "read: cpu.stat of a leaf", err)
	h.read("cgroup.kill", "available", "exercised: write to cgroup.kill", leaf.Kill())
	h.read("cgroup.huge-pages", "available", "exercised: hugetlb.*.max; read: nr_hugepages", hugePages(place, leaf))
	birth, err = leaf.Birthplace()
	if err != nil {
		h.read("cgroup.birth", "available", "open", err)
		return nil, done
	}
	return birth, done
}

// hugePages says why huge pages, which memory.max does not count, would be a
// way around it: the host has some and gives the leaf no controller for them.
func hugePages(place *cgroup.Place, leaf *cgroup.Leaf) error {
	for _, size := range place.HugePages {
		if _, err := leaf.Set("hugetlb."+size+".max", "0"); err != nil {
			return err
		}
	}
	if len(place.HugePages) > 0 {
		return nil
	}
	reserved, err := filepath.Glob("/sys/kernel/mm/hugepages/*/nr_*hugepages")
	if err != nil {
		return err
	}
	for _, file := range reserved {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if n := strings.TrimSpace(string(b)); n != "0" && !strings.HasSuffix(file, "_mempolicy") {
			return fmt.Errorf("%s is %s, and there is no hugetlb controller", file, n)
		}
	}
	return nil
}

// groupRemedy says how to get the first of the facts that is not available.
func (h *host) groupRemedy(facts ...string) string {
	i := slices.IndexFunc(facts, func(name string) bool { return !h.has(name) })
	if i < 0 {
		return ""
	}
	switch f := h.fact(facts[i]); f.Name {
	case "cgroup.parent":
		return h.parentRemedy(f.Value)
	case "cgroup.birth":
		return h.birthRemedy(f.Detail)
	case "cgroup.leaf": // cgroup-v2.rst: the two limits on groups themselves
		return "raise cgroup.max.descendants and cgroup.max.depth of " + h.fact("cgroup.group").Value + " and of the groups above"
	case "cgroup.huge-pages":
		return "give the huge pages back (sysctl vm.nr_hugepages=0), or hand on the hugetlb controller"
	case "cgroup.memory.swap.max":
		return "use a kernel that accounts for swap, booted without swapaccount=0"
	case "cgroup.kill":
		return "use Linux 5.14 or newer"
	default:
		return cmp.Or(h.against(f), "hand on the memory and pids controllers")
	}
}

// Commands that start bvisor in a group that systemd has delegated to it.
const (
	scopeOfUser = "systemd-run --user --scope -p Delegate=yes -- bvisor ..."
	scopeOfRoot = "systemd-run --scope -p Delegate=yes -- bvisor ..."
)

func (h *host) parentRemedy(lacks string) string {
	scope := scopeOfUser
	if h.uid == 0 {
		scope = scopeOfRoot
	}
	delegate := "run bvisor in a group that is delegated to it: " + scope
	switch lacks {
	case cgroup.NoHierarchy:
		if h.fact("cgroup").Value == cgroup.KindNone {
			return "mount cgroup v2, as root: mount -t cgroup2 none /sys/fs/cgroup"
		}
		return "boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line, or mount cgroup2 alone"
	case cgroup.NoControllers:
		withheld := h.fact("cgroup.withheld")
		if withheld.Value == "unknown" {
			return "use a kernel with CONFIG_MEMCG and CONFIG_CGROUP_PIDS, booted without cgroup_disable=memory; in a container, have the host hand the controllers memory and pids on to it"
		}
		var commands []string
		for group := range strings.FieldsSeq(withheld.Value) {
			commands = append(commands, "echo '+memory +pids' > "+group+"/cgroup.subtree_control")
		}
		return "hand the controllers on, as root: " + strings.Join(commands, "; ")
	case cgroup.ReadOnly:
		return "mount the cgroup2 file system for writing (in a container: a cgroup namespace of its own and a writable /sys/fs/cgroup)"
	case cgroup.Occupied:
		return "move the processes of that group into one below it (in a unit: DelegateSubgroup=supervisor, systemd 254), or " + delegate
	case cgroup.NotAGroup:
		return "name a directory of the cgroup2 file system with --cgroup-parent"
	}
	return delegate
}

// birthRemedy is for a host where groups can be made and nobody can be born in
// them.
func (h *host) birthRemedy(detail string) string {
	switch {
	case detail == "EACCES":
		// "Delegation Containment" in cgroup-v2.rst.
		return "start bvisor in the group that --cgroup-parent names, or below it: who is born there must come from a group with which it has one in common whose cgroup.procs this user may write to. " +
			"Without --cgroup-parent: " + scopeOfUser
	case h.filtered():
		return "run bvisor without the system call filter it is under, a container's for example, or with one that allows clone3(2)"
	}
	return "use Linux 5.7 or newer: clone3(2) with CLONE_INTO_CGROUP"
}

// tryBirth has a child born in the leaf, as the workload is.
func tryBirth(p *launcher.Program, fd int, try tryFunc) {
	born, on := p.NewLabel(), p.NewLabel()
	zero := launcher.Int(0)
	args := []launcher.Arg{launcher.Flag(unix.CLONE_INTO_CGROUP, "CLONE_INTO_CGROUP")}
	for len(args) < 10 {
		args = append(args, zero)
	}
	args = append(args, launcher.Int(fd))
	try("cgroup.birth", "clone3(CLONE_INTO_CGROUP)", p.Call("clone3", unix.SYS_CLONE3, p.Words("{CLONE_INTO_CGROUP, leaf}", args...), launcher.Int(8*len(args)))).
		If(zero, born)
	reapTrial(p)
	p.Call("getpid", unix.SYS_GETPID).OnError(on).Jump(on)
	p.Mark(born)
	p.Call("exit_group", unix.SYS_EXIT_GROUP, zero)
	p.Mark(on)
}

// reapTrial waits for the one child there may be.
func reapTrial(p *launcher.Program) {
	p.Call("wait4", unix.SYS_WAIT4, launcher.Int(-1), launcher.Int(0), launcher.Flag(unix.WALL, "__WALL"), launcher.Int(0)).Ignore()
}

// tryProcessLimit finds out whether RLIMIT_NPROC counts for the user namespace
// alone (ucounts, Linux 5.14): the trial's process is the only one in it. So a
// limit of one must refuse a child, whoever else the user has elsewhere, and a
// limit of two must allow one. The superuser is never refused.
func tryProcessLimit(p *launcher.Program, try tryFunc, expect func(int64)) {
	var own unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NPROC, &own) != nil {
		return
	}
	limit := func(n uint64) launcher.Op {
		words := p.Words("{"+strconv.FormatUint(n, 10)+", hard}", launcher.Flag(n, ""), launcher.Flag(own.Max, ""))
		return p.Call("prlimit64", unix.SYS_PRLIMIT64, launcher.Int(0), launcher.Flag(unix.RLIMIT_NPROC, "RLIMIT_NPROC"), words, launcher.Int(0)).Ignore()
	}
	fork := func(fact, text string) {
		child, on := p.NewLabel(), p.NewLabel()
		zero := launcher.Int(0)
		try(fact, text, p.Call("clone", unix.SYS_CLONE, launcher.Flag(int(unix.SIGCHLD), "SIGCHLD"), zero, zero, zero, zero)).If(zero, child)
		reapTrial(p)
		p.Call("getpid", unix.SYS_GETPID).OnError(on).Jump(on)
		p.Mark(child)
		p.Call("exit_group", unix.SYS_EXIT_GROUP, zero)
		p.Mark(on)
	}
	limit(1)
	fork("rlimit.nproc.refuses", "clone() with RLIMIT_NPROC of 1 in a user namespace of its own")
	expect(-int64(unix.EAGAIN))
	limit(2)
	fork("rlimit.nproc.per-namespace", "clone() with RLIMIT_NPROC of 2 in a user namespace of its own")
	limit(own.Cur)
}
