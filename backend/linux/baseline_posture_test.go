//go:build linux && (amd64 || arm64)

package linux_test

import (
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// sight is what the host sees of a running workload, item by item. Nothing
// that reads it is shared with bvisor.
type sight map[string]string

func look(t testing.TB, pid int) sight {
	t.Helper()
	s := sight{}
	dir := fmt.Sprintf("/proc/%d", pid)
	for _, kind := range []string{"user", "pid", "mnt", "ipc", "uts", "cgroup", "net"} {
		s["ns."+kind] = "own"
		if namespace(t, pid, kind) == namespace(t, os.Getpid(), kind) {
			s["ns."+kind] = "host"
		}
	}
	all := everyStatus(t, pid)[0]
	for _, name := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Umask", "SigIgn", "SigBlk", "Uid", "Gid"} {
		s[name] = all[name]
	}
	stat := strings.Fields(readText(t, dir+"/stat"))
	s["session"] = "host's"
	if stat[5] == strconv.Itoa(pid) {
		s["session"] = "own"
	}
	s["group"] = "other"
	if stat[4] == strconv.Itoa(pid) {
		s["group"] = "own"
	}
	s["terminal"] = stat[6]
	for line := range strings.Lines(readText(t, dir+"/limits")) {
		for _, name := range []string{"Max core file size", "Max open files"} {
			if rest, ok := strings.CutPrefix(line, name); ok {
				s[name] = strings.Join(strings.Fields(rest)[:2], " ")
			}
		}
	}
	s["descriptors"] = strings.Join(descriptors(t, pid), " ")
	s["dev"] = strings.Join(names(dir+"/root/dev"), " ")
	s["proc"] = "own"
	if _, err := os.Stat(dir + "/root/proc/" + strconv.Itoa(os.Getpid())); err == nil && sameFile(dir+"/root/proc/self/..", "/proc") {
		s["proc"] = "host's"
	}
	s["sys"] = "none"
	if len(names(dir+"/root/sys")) > 0 {
		s["sys"] = "host's"
	}
	s["root"] = "own"
	if sameFile(dir+"/root/", "/") {
		s["root"] = "host's"
	}
	return s
}

func readText(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	must(t, err)
	return string(b)
}

func names(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	y, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// descriptors are the numbers of a process's open descriptors.
func descriptors(t testing.TB, pid int) []string {
	t.Helper()
	list := names(fmt.Sprintf("/proc/%d/fd", pid))
	slices.SortFunc(list, func(a, b string) int {
		x, _ := strconv.Atoi(a)
		y, _ := strconv.Atoi(b)
		return x - y
	})
	return list
}

// untidy gives this process what must not be inherited: an ignored signal, a
// mask, core dumps.
func untidy(t *testing.T) {
	signal.Ignore(unix.SIGUSR2)
	mask := unix.Umask(0o077)
	var core unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_CORE, &core))
	must(t, unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: core.Max, Max: core.Max}))
	t.Cleanup(func() {
		// Reset alone leaves the signal ignored; a handler ends with execve(2).
		handled := make(chan os.Signal, 1)
		signal.Notify(handled, unix.SIGUSR2)
		signal.Stop(handled)
		unix.Umask(mask)
		must(t, unix.Setrlimit(unix.RLIMIT_CORE, &core))
	})
}

// ignored is the mask of what this process ignores: SIGUSR2, and what it was
// started with, for example by nohup(1).
func ignored(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	must(t, err)
	_, rest, _ := strings.Cut(string(text), "SigIgn:")
	mask, _, _ := strings.Cut(rest, "\n")
	mask = strings.TrimSpace(mask)
	if n, err := strconv.ParseUint(mask, 16, 64); err != nil || n&(1<<(unix.SIGUSR2-1)) == 0 {
		t.Fatalf("this process ignores %q, %v; expected at least SIGUSR2", mask, err)
	}
	return mask
}

// hold runs the holding victim and returns what the host sees of it.
func hold(t *testing.T, change ...func(*spec.Spec)) (sight, outcome) {
	t.Helper()
	l := startBare(t, change...)
	s := look(t, l.pid)
	return s, l.release()
}

func tight() sight {
	const none = "0000000000000000"
	uid, gid := strconv.Itoa(os.Geteuid()), strconv.Itoa(os.Getegid())
	return sight{
		"ns.user": "own", "ns.pid": "own", "ns.mnt": "own", "ns.ipc": "own", "ns.uts": "own", "ns.cgroup": "own", "ns.net": "own",
		"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2", "Umask": "0022",
		"SigIgn": none, "SigBlk": none, "Uid": strings.TrimSpace(strings.Repeat(uid+" ", 4)), "Gid": strings.TrimSpace(strings.Repeat(gid+" ", 4)),
		"session": "own", "group": "own", "terminal": "0", "Max core file size": "1 1", "descriptors": "0 1 2",
		"dev": "fd full null random shm stderr stdin stdout urandom zero", "proc": "own", "sys": "none", "root": "own",
	}
}

// differences are the items in which two sights differ.
func differences(a, b sight) []string {
	var list []string
	for _, k := range sortedKeys(a) {
		if a[k] != b[k] {
			list = append(list, k)
		}
	}
	return list
}

// The running workload is what the baseline says, and the report says what
// another reader of /proc sees.
func TestBaselinePosture(t *testing.T) {
	untidy(t)
	l := startBare(t, budget(spec.Handles, 77))
	got := look(t, l.pid)
	ids := map[string]string{}
	for _, kind := range []string{"user", "pid", "mnt", "ipc", "uts", "cgroup", "net"} {
		ids[kind] = strings.Trim(strings.TrimPrefix(namespace(t, l.pid, kind), kind+":"), "[]")
	}
	filters := everyStatus(t, l.pid)[0]["Seccomp_filters"]
	pid := strings.Fields(everyStatus(t, l.pid)[0]["NSpid"])
	o := l.release()

	want := tight()
	want["Max open files"] = "77 77"
	for _, item := range differences(want, got) {
		t.Errorf("%s is %q, expected %q", item, got[item], want[item])
	}
	if len(pid) != 2 || pid[1] != "2" {
		t.Errorf("its numbers in the pid namespaces are %q, expected two and 2 inside", pid)
	}
	p := o.Report.Posture
	if p == nil {
		t.Fatal("no posture in the report")
	}
	reported := sight{
		"CapInh": p.Capabilities.Inheritable, "CapPrm": p.Capabilities.Permitted, "CapEff": p.Capabilities.Effective,
		"CapBnd": p.Capabilities.Bounding, "CapAmb": p.Capabilities.Ambient, "NoNewPrivs": strconv.Itoa(p.NoNewPrivs), "Seccomp": strconv.Itoa(p.Seccomp),
		"Umask": p.Umask, "SigIgn": p.SignalsIgnored, "SigBlk": p.SignalsBlocked,
		"Uid": strings.TrimSpace(strings.Repeat(strconv.Itoa(p.UID)+" ", 4)), "Gid": strings.TrimSpace(strings.Repeat(strconv.Itoa(p.GID)+" ", 4)),
	}
	for _, item := range differences(reported, got) {
		t.Errorf("the report says that %s is %q, the host sees %q", item, reported[item], got[item])
	}
	if !p.Session || strconv.Itoa(p.SeccompFilters) != filters {
		t.Errorf("the report says session %v, %d filters; the host sees %s", p.Session, p.SeccompFilters, filters)
	}
	for _, n := range p.Namespaces {
		if n.ID != ids[n.Name] || !n.Own {
			t.Errorf("the report says namespace %+v, the host sees %s", n, ids[n.Name])
		}
		delete(ids, n.Name)
	}
	if len(ids) > 0 {
		t.Errorf("the report lacks the namespaces %v", ids)
	}
	for _, limit := range p.Limits {
		if strings.Contains(limit.Name, "core") && (limit.Soft != 1 || limit.Hard != 1) || strings.Contains(limit.Name, "file") && !strings.Contains(limit.Name, "core") && limit.Hard != 77 {
			t.Errorf("the report says limit %+v", limit)
		}
	}
	var survive []int
	for _, d := range p.Descriptors {
		if d.Survive {
			survive = append(survive, d.FD)
		}
	}
	if !slices.Equal(survive, []int{0, 1, 2}) {
		t.Errorf("the report says that descriptors %v survive", survive)
	}
	for _, b := range plan.Baseline {
		o.heldBy(t, b.Kind)
	}
	if len(o.Report.Accepted) > 0 || len(o.Report.Plan.Accepted) > 0 {
		t.Errorf("accepted %v", o.Report.Accepted)
	}
}

// A filter, a mask or a set that one thread has, every thread has.
func TestBaselineOfEveryThread(t *testing.T) {
	l := start(t, t.Context(), nil, "hold")
	threads := everyStatus(t, l.pid)
	if len(threads) < 2 {
		t.Errorf("the victim has %d threads, expected several", len(threads))
	}
	want := tight()
	for _, st := range threads {
		for _, item := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Uid", "Gid", "Umask"} {
			if st[item] != want[item] {
				t.Errorf("thread %s: %s is %q, expected %q", st["Pid"], item, st[item], want[item])
			}
		}
	}
	l.release()
}

// weak says what a host sees otherwise when a part of the baseline is given
// up; "*" is any other value.
type weak struct {
	name spec.Weakening
	with []func(*spec.Spec) // what else must be given up, or asked for, so that it can be
	also []spec.Weakening
	see  sight
}

var weakenings = []weak{
	{name: "host-ipc-namespace", see: sight{"ns.ipc": "host"}},
	{name: "host-uts-namespace", see: sight{"ns.uts": "host"}},
	{name: "host-cgroup-namespace", see: sight{"ns.cgroup": "host"}},
	{name: "host-network", also: unscoped(), see: sight{"ns.net": "host"}},
	{name: "linux-capabilities", see: sight{"CapPrm": "*", "CapEff": "*", "CapBnd": "*"}},
	{name: "no-landlock"},
	{name: "unscoped-ipc"},
	{name: "shared-session", see: sight{"session": "host's", "group": "other"}},
	{name: "dumpable-launcher"},
	{name: "outlives-supervisor"},
	{name: "core-dumps", see: sight{"Max core file size": "*"}},
	{name: "inherited-umask", see: sight{"Umask": "0077"}},
	{name: "inherited-signals"}, // see: what this process ignores
	{name: "host-devices", see: sight{"dev": "*"}},
	{name: "host-proc", see: sight{"proc": "host's"}},
	{name: "host-sys", see: sight{"sys": "host's"}},
	{name: "visible-host-paths", also: []spec.Weakening{"host-devices", "host-proc", "host-sys"}, see: sight{"ns.mnt": "host", "root": "host's"}},
	{name: "host-pid-namespace", also: unscoped("host-proc"), see: sight{"ns.pid": "host"}},
	{name: "unfiltered-calls", also: unscoped("host-network"), with: mods{spawn(spec.SpawnProcesses)}, see: sight{"Seccomp": "0"}},
	{name: "new-privileges", also: []spec.Weakening{"unfiltered-calls", "host-network", "no-landlock", "unscoped-ipc"}, with: mods{spawn(spec.SpawnProcesses)}, see: sight{"NoNewPrivs": "0"}},
}

// Each weakening gives up its own item and nothing else, and its name stands
// in the plan and the report.
func TestBaselineWeakenings(t *testing.T) {
	untidy(t)
	byName := map[spec.Weakening]weak{}
	for _, w := range weakenings {
		if w.name == "inherited-signals" {
			w.see = sight{"SigIgn": ignored(t)}
		}
		if w.name == "linux-capabilities" && os.Geteuid() != 0 {
			// execve(2) takes them from all but root in its user namespace; what
			// is left is a bounding set to gain them from (capabilities(7)).
			w.see = sight{"CapBnd": "*"}
		}
		byName[w.name] = w
	}
	for _, w := range weakenings {
		t.Run(string(w.name), func(t *testing.T) {
			all := append([]spec.Weakening{w.name}, w.also...)
			if w.name == "visible-host-paths" && needsMounts(t, append(slices.Clone(w.with), accept(all...))) {
				return
			}
			base, _ := hold(t, w.with...)
			got, o := hold(t, append(slices.Clone(w.with), accept(all...))...)
			want := maps.Clone(base)
			for _, name := range all {
				maps.Copy(want, byName[name].see)
			}
			for _, item := range differences(want, got) {
				if want[item] != "*" || got[item] == base[item] {
					t.Errorf("%s is %q, expected %q", item, got[item], want[item])
				}
			}
			slices.Sort(all)
			if !slices.Equal(o.Report.Accepted, all) || !slices.Equal(o.Report.Plan.Accepted, all) {
				t.Errorf("accepted %v in the report, %v in the plan; expected %v", o.Report.Accepted, o.Report.Plan.Accepted, all)
			}
			for _, b := range plan.Baseline {
				held := slices.ContainsFunc(o.Report.Plan.Requirements, func(r plan.Requirement) bool { return r.Kind == b.Kind })
				if waived := slices.Contains(all, b.Weakening); held == waived {
					t.Errorf("%s: in the plan %v, given up %v", b.Kind, held, waived)
				}
			}
			if o.Report.Outcome.Status != report.Completed {
				t.Errorf("outcome %+v", o.Report.Outcome)
			}
		})
	}
}

// A weakening that something else builds on is a conflict, named with what it
// takes away; the workload's own user namespace is what an ordinary user's
// boundary is made of.
func TestBaselineConflicts(t *testing.T) {
	conflicts := []spec.Weakening{"visible-host-paths", "host-pid-namespace", "unfiltered-calls", "new-privileges"}
	if os.Geteuid() != 0 {
		conflicts = append(conflicts, "host-user-namespace")
	}
	for _, name := range conflicts {
		marked := token()
		o, err := attempt(t, request(mods{accept(name)}, "hold", marked))
		must(t, err)
		if got := reasons(t, o); !slices.Equal(got, []string{"weakening.conflict"}) {
			t.Errorf("%s: refused for %q", name, got)
		}
		if len(withToken(marked)) > 0 {
			t.Errorf("%s: something was launched", name)
		}
	}
}

// layers counts, with a program that stacks domains until the kernel has
// enough, how many it was already in: the kernel takes sixteen
// (LANDLOCK_MAX_NUM_LAYERS).
func layers(t *testing.T, change ...func(*spec.Spec)) (control, confined int) {
	t.Helper()
	need.Landlock(t, 1)
	c := newCalls()
	c.quiet(unix.SYS_PRCTL, num(unix.PR_SET_NO_NEW_PRIVS), num(1), num(0), num(0), num(0))
	fd := c.try("ruleset", unix.SYS_LANDLOCK_CREATE_RULESET, c.Words("attr", num(unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK)), num(8), num(0))
	for i := range 17 {
		c.try(fmt.Sprint("restrict ", i), unix.SYS_LANDLOCK_RESTRICT_SELF, fd, num(0))
	}
	without, within, _ := c.both(t, false, change...)
	count := func(a answers) int {
		n := 17
		for name, r := range a {
			if strings.HasPrefix(name, "restrict") && r == 0 {
				n--
			}
		}
		return n - 1
	}
	return count(without), count(within)
}

func TestBaselineLandlockDomain(t *testing.T) {
	if control, confined := layers(t); control != 0 || confined != 1 {
		t.Errorf("%d domains around the control and %d around the workload, expected 0 and 1", control, confined)
	}
	if _, confined := layers(t, accept("no-landlock")); confined != 0 {
		t.Errorf("without Landlock the workload is in %d domains", confined)
	}
}

// On the host's network an abstract socket of the host can be reached only
// when the scopes are given up, too.
func TestBaselineLandlockScopes(t *testing.T) {
	need.Landlock(t, 6)
	abstract := "\x00bvisor-" + token()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + abstract[1:]}))
	must(t, unix.Listen(fd, 10))
	try := func(names ...spec.Weakening) int64 {
		c := newCalls()
		s := c.try("socket", unix.SYS_SOCKET, num(unix.AF_UNIX), num(unix.SOCK_STREAM), num(0))
		address := unixAddress(abstract)
		c.try("connect", unix.SYS_CONNECT, s, c.Bytes(address, "address"), num(len(address)))
		without, within, _ := c.both(t, false, accept(names...))
		if without["connect"] != 0 {
			t.Errorf("control: connect gave %v", unix.Errno(-without["connect"]))
		}
		return within["connect"]
	}
	if got := try("host-network"); got != -int64(unix.EPERM) {
		t.Errorf("with scopes: connect gave %d, expected EPERM", got)
	}
	if got := try("host-network", "unscoped-ipc"); got != 0 {
		t.Errorf("without scopes: connect gave %d, expected success", got)
	}
}

// What waits beside the workload gives away nothing of its memory: a process
// that is not dumpable belongs to root in /proc (proc_pid(5)).
func TestBaselineLauncherIsNotDumpable(t *testing.T) {
	need.OrdinaryUser(t)
	owners := func(change ...func(*spec.Spec)) (list []uint32) {
		l := start(t, t.Context(), change, "hold")
		init := parent(t, l.pid)
		for _, pid := range []int{init, parent(t, init)} {
			var st unix.Stat_t
			must(t, unix.Stat(fmt.Sprintf("/proc/%d/mem", pid), &st))
			list = append(list, st.Uid)
		}
		l.release()
		return list
	}
	if got := owners(); !slices.Equal(got, []uint32{0, 0}) {
		t.Errorf("init and launcher belong to %v, expected root", got)
	}
	if got := owners(accept("dumpable-launcher")); slices.Contains(got, 0) {
		t.Errorf("control: with a dumpable launcher they belong to %v", got)
	}
}

func parent(t testing.TB, pid int) int {
	t.Helper()
	n, err := strconv.Atoi(status(t, fmt.Sprintf("/proc/%d", pid))["PPid"])
	must(t, err)
	return n
}

// The launcher and init wait without capabilities, streams or files, and run
// what nobody can write to.
func TestBaselineLauncherIsBare(t *testing.T) {
	need.Root(t) // to read what is closed to others
	l := start(t, t.Context(), nil, "hold")
	init := parent(t, l.pid)
	wait := parent(t, init)
	if up := parent(t, wait); up != os.Getpid() {
		t.Errorf("the launcher's parent is %d, expected the supervisor %d", up, os.Getpid())
	}
	for name, pid := range map[string]int{"init": init, "launcher": wait} {
		st := status(t, fmt.Sprintf("/proc/%d", pid))
		for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
			if strings.Trim(st[set], "0") != "" {
				t.Errorf("%s: %s is %s", name, set, st[set])
			}
		}
		for _, fd := range descriptors(t, pid) {
			link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd))
			must(t, err)
			if !strings.HasPrefix(link, "pipe:") && !strings.HasPrefix(link, "socket:") && (name != "launcher" || !strings.HasPrefix(link, "anon_inode:")) {
				t.Errorf("%s: descriptor %s is %s", name, fd, link)
			}
			if n, _ := strconv.Atoi(fd); n < 3 && (name != "launcher" || link != "anon_inode:[pidfd]") {
				t.Errorf("%s: descriptor %s is %s", name, fd, link)
			}
		}
		if link, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); !strings.HasPrefix(link, "/memfd:") {
			t.Errorf("%s runs %s, expected a memfd", name, link)
		}
		if f, err := os.OpenFile(fmt.Sprintf("/proc/%d/exe", pid), os.O_WRONLY, 0); err == nil {
			if _, err := f.WriteAt([]byte{0}, 0); err == nil {
				t.Errorf("%s: its program can be overwritten", name)
			}
			f.Close()
		}
		if strings.Contains(readText(t, fmt.Sprintf("/proc/%d/environ", pid)), "=") {
			t.Errorf("%s has an environment", name)
		}
		if threads := names(fmt.Sprintf("/proc/%d/task", pid)); len(threads) != 1 {
			t.Errorf("%s has %d threads", name, len(threads))
		}
	}
	l.release()
}

// A boundary that makes no namespace at all is Landlock and the filter alone: its
// account has every phase, and its report verifies.
func TestBaselineWithoutNamespaces(t *testing.T) {
	need.Landlock(t, 6) // what older ones do not hold, namespaces must
	all := []spec.Weakening{"host-user-namespace", "host-pid-namespace", "visible-host-paths", "host-ipc-namespace", "host-uts-namespace",
		"host-cgroup-namespace", "host-network", "host-devices", "host-proc", "host-sys"}
	if os.Geteuid() != 0 {
		// The bounding set cannot be emptied without CAP_SETPCAP (prctl(2)).
		o, err := attempt(t, request(mods{accept(all...)}, "exit", "0"))
		must(t, err)
		if got := reasons(t, o); !slices.Equal(got, []string{"weakening.conflict"}) {
			t.Errorf("refused for %q", got)
		}
		all = append(all, "linux-capabilities")
	}
	root := tree(t, "file")
	run(t, mods{accept(all...)}, "exit", "0").succeeds(t)
	run(t, mods{accept(all...), grant("r", root)}, "read", root+"/file").succeeds(t)
	run(t, mods{accept(all...)}, "read", root+"/file").denied(t, plan.Filesystem, unix.EACCES)
	control(t, "read", root+"/file").succeeds(t)
}
