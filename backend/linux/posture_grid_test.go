//go:build linux && (amd64 || arm64)

package linux_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// axis is one thing of a spec that can be one way or another; the first way is
// the tightest.
type axis struct {
	name string
	ways []way
}

type way struct {
	name   string
	change mods
}

// gridAxes are all of them. Their paths are in root, see gridTree.
func gridAxes(root string) []axis {
	in := func(name string) string { return root + "/" + name }
	passed := func(fds ...int) func(*spec.Spec) {
		return func(s *spec.Spec) { s.Capabilities.FDs = fds }
	}
	stdinFile := func(s *spec.Spec) { s.Controls.Stdin = spec.Stdin{Mode: spec.StdinFile, File: in("input")} }
	axes := []axis{
		{"spawn", []way{{"none", mods{spawn(spec.SpawnNone)}}, {"threads", mods{spawn(spec.SpawnThreads)}}, {"processes", mods{spawn(spec.SpawnProcesses)}}}},
		{"files", []way{
			{"none", nil},
			{"r", mods{grant("r", in("a"))}},
			{"rw", mods{grant("rw", in("a"))}},
			{"rx", mods{grant("rx", in("a"))}},
			{"rwx", mods{grant("rwx", in("a"))}},
			{"file r", mods{grant("r", in("a/file"))}},
			{"file rwx", mods{grant("rwx", in("a/file"))}},
			{"two", mods{grant("r", in("a")), grant("rw", in("b"))}},
			{"fewer rights below", mods{grant("rw", in("a")), grant("r", in("a/deep/er"))}},
			{"more rights below", mods{grant("r", in("a")), grant("rwx", in("a/deep"))}},
			{"flat", mods{shallow("r", in("a"))}},
			{"file taken out", mods{grant("rw", in("a")), grant("none", in("a/file"))}},
			{"directory taken out", mods{grant("r", in("a")), grant("none", in("a/deep"))}},
			{"deep and absent taken out", mods{grant("rwx", in("a")), grant("none", in("a/deep/er/file"), in("a/absent"))}},
		}},
		{"temp", []way{{"none", nil}, {"rw", mods{temp("rw", "/private")}}, {"rwx", mods{temp("rwx", "/private", "/var/tmp")}}}},
		{"expose", []way{{"none", nil}, {"r", mods{expose("r", in("b"), "/shown")}}, {"rw", mods{expose("rw", in("b"), "/shown")}}, {"file", mods{expose("r", in("b/file"), "/one/file")}}}},
		{"stdin", []way{{"none", mods{stdin(spec.StdinNone)}}, {"inherit", mods{stdin(spec.StdinInherit)}}, {"file", mods{stdinFile}}}},
		{"fds", []way{{"none", nil}, {"3", mods{passed(3)}}, {"3, 7, 11", mods{passed(3, 7, 11)}}}},
		{"capture", []way{{"none", mods{capture("stdout", 0), capture("stderr", 0)}}, {"stdout", mods{capture("stderr", 0)}}, {"stderr", mods{capture("stdout", 0)}}, {"both", nil}}},
		{"budgets", []way{{"none", nil}, {"handles", mods{budget(spec.Handles, 77)}}, {"storage", mods{budget(spec.Storage, 1<<20)}},
			{"both", mods{budget(spec.Handles, 20), budget(spec.Storage, 4<<20)}}}},
		{"network", []way{{"none", nil}, {"loopback", mods{func(s *spec.Spec) { s.Capabilities.Network.Loopback = true }}}}},
		{"environment", []way{{"none", nil}, {"two", mods{env("FIRST", "1"), env("SECOND", "of two")}}}},
		{"directory", []way{{"root", nil}, {"granted", mods{grant("r", in("work")), dir(in("work"))}}}},
	}
	weak := []way{{"none", nil}}
	for _, w := range weakenings {
		if w.name == "visible-host-paths" && landlockABI() < 3 {
			continue // see needsMounts
		}
		// What must be given up together is given up together.
		weak = append(weak, way{string(w.name), append(slices.Clone(w.with), accept(append([]spec.Weakening{w.name}, w.also...)...))})
	}
	if os.Geteuid() == 0 { // an ordinary user's boundary is made of it
		weak = append(weak, way{"host-user-namespace", mods{accept("host-user-namespace")}},
			way{"host-user-namespace and linux-capabilities", mods{accept("host-user-namespace", "linux-capabilities")}})
	}
	return append(axes, axis{"weakening", weak})
}

func gridTree(t *testing.T) string {
	return tree(t, "bin/", "a/file", "a/deep/er/file", "b/file", "input", "passed", "work/")
}

// crowd is a program of several threads, and of two processes where the spec
// lets it: whatever it is given, all of them wait.
func crowd(t *testing.T, name string, s spec.Spawn) {
	c := newCalls()
	wait := c.NewLabel()
	if s != spec.SpawnNone {
		for range 3 {
			c.Call("clone", unix.SYS_CLONE, num(threadFlags), num(0), num(0), num(0), num(0)).If(num(0), wait)
		}
	}
	if s == spec.SpawnProcesses {
		c.Call("clone", unix.SYS_CLONE, num(int(unix.SIGCHLD)), num(0), num(0), num(0), num(0)).If(num(0), wait)
	}
	c.Mark(wait)
	c.quiet(unix.SYS_PPOLL, num(0), num(0), num(0), num(0), num(0))
	must(t, os.Link(c.file(t), name))
}

// gridCase is one spec and what is handed over with it.
type gridCase struct {
	t    *testing.T
	root string
	name string
	spec spec.Spec
	fds  map[int]*os.File
	in   *os.File
}

func newGridCase(t *testing.T, root string, axes []axis, choice []int) *gridCase {
	g := &gridCase{t: t, root: root, spec: baseSpec("")}
	g.spec.Presets, g.spec.Evidence = nil, nil
	g.spec.Capabilities.Filesystem = []spec.Grant{{Access: "rx", Paths: []string{root + "/bin"}, Origin: spec.FromSpec}}
	var parts []string
	for i, a := range axes {
		for _, f := range a.ways[choice[i]].change {
			f(&g.spec)
		}
		if choice[i] != 0 {
			parts = append(parts, a.name+" "+a.ways[choice[i]].name)
		}
	}
	g.name = strings.Join(parts, "; ")
	return g
}

// open makes what the case hands over.
func (g *gridCase) open() {
	t := g.t
	read, write, err := os.Pipe()
	must(t, err)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	file, err := os.Open(g.root + "/passed")
	must(t, err)
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	var input *os.File
	g.in, input, err = os.Pipe()
	must(t, err)
	all := map[int]*os.File{3: read, 7: file, 11: theirs}
	g.fds = map[int]*os.File{}
	for _, fd := range g.spec.Capabilities.FDs {
		g.fds[fd] = all[fd]
	}
	t.Cleanup(func() {
		for _, f := range []*os.File{read, write, file, ours, theirs, input, g.in} {
			f.Close()
		}
	})
}

func (g *gridCase) accepted(w spec.Weakening) bool { return slices.Contains(g.spec.Accept, w) }

// confined runs the case and looks at it; a refusal is an answer, too.
func (g *gridCase) confined(control int) (held bool) {
	t := g.t
	g.open()
	marked := token()
	g.spec.Workload.Command = []string{g.root + "/bin/" + string(g.spec.Capabilities.Spawn), marked}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	var o outcome
	var err error
	go func() {
		defer close(ended)
		o, err = attemptWith(t, supervisor(t), ctx, bvisor.Request{Spec: g.spec, Stdin: g.in, FDs: g.fds})
	}()
	defer func() { cancel(); <-ended }()
	processes, threads := 1, 1
	switch g.spec.Capabilities.Spawn {
	case spec.SpawnThreads:
		threads = 4
	case spec.SpawnProcesses:
		processes, threads = 2, 4
	}
	var pids []int
	eventually(t, "the workload or its end", func() bool {
		select {
		case <-ended:
			return true
		default:
		}
		pids = withToken(marked)
		return len(pids) == processes && len(threadsOf(t, pids[0])) == threads
	})
	if len(pids) == 0 {
		if err != nil || o.Report.Refusal == nil {
			t.Fatalf("it did not run: %v %s", err, o.why())
		}
		for _, r := range o.Report.Refusal.Reasons {
			if !strings.HasPrefix(r.Code, "weakening.") && !strings.HasPrefix(r.Code, "feature.") {
				t.Errorf("refused for %+v", r)
			}
		}
		return false
	}
	main := pids[0]
	looked := &looked{gridCase: g, main: main, control: control}
	looked.namespaces()
	for i, pid := range pids {
		looked.process(pid, i == 0)
	}
	looked.mounts()
	looked.parents()
	status, descriptors, limits := everyStatus(t, main)[0], descriptorsOf(t, fmt.Sprintf("/proc/%d", main)), limitsOf(t, main)
	kill(t, main, unix.SIGKILL)
	<-ended
	must(t, err)
	o.ended(t, report.Failed, "signal SIGKILL", unix.SIGKILL)
	gone(t, marked, "")
	looked.reported(o.Report, status, descriptors, limits)
	return true
}

// looked compares what /proc shows with what the spec asks for.
type looked struct {
	*gridCase
	main    int
	control int // a process with the same program and no boundary
	ns      map[string]string
}

var namespaceWeakenings = map[string]spec.Weakening{
	"user": "host-user-namespace", "pid": "host-pid-namespace", "mnt": "visible-host-paths", "ipc": "host-ipc-namespace",
	"uts": "host-uts-namespace", "cgroup": "host-cgroup-namespace", "net": "host-network",
}

func (l *looked) namespaces() {
	l.ns = map[string]string{}
	for kind, w := range namespaceWeakenings {
		l.ns[kind] = namespace(l.t, l.main, kind)
		if shared := l.ns[kind] == namespace(l.t, os.Getpid(), kind); shared != l.accepted(w) {
			l.t.Errorf("the %s namespace is shared: %v, expected %v", kind, shared, l.accepted(w))
		}
	}
	// Nothing is claimed about time.
	if namespace(l.t, l.main, "time") != namespace(l.t, os.Getpid(), "time") {
		l.t.Error("the time namespace is its own")
	}
}

// process looks at one process of the workload and each of its threads.
func (l *looked) process(pid int, first bool) {
	t, dir := l.t, fmt.Sprintf("/proc/%d", pid)
	for _, thread := range threadsOf(t, pid) {
		l.thread(thread)
	}
	stat, own := statOf(t, dir), statOf(t, "/proc/self")
	const group, session, terminal = 2, 3, 4
	lead := strconv.Itoa(l.main)
	if l.accepted("shared-session") {
		if stat[session] != own[session] || stat[terminal] != own[terminal] {
			t.Errorf("%d: session %s and terminal %s, expected the caller's %s and %s", pid, stat[session], stat[terminal], own[session], own[terminal])
		}
	} else if stat[session] != lead || stat[group] != lead || stat[terminal] != "0" {
		t.Errorf("%d: group %s, session %s, terminal %s; expected %s, %s and none", pid, stat[group], stat[session], stat[terminal], lead, lead)
	}
	want := limitsOf(t, l.control)
	if !l.accepted("core-dumps") {
		want["Max core file size"] = "1 1"
	}
	if b, ok := l.spec.Budgets[spec.Handles]; ok {
		want["Max open files"] = fmt.Sprint(b.Limit, " ", b.Limit)
	}
	if got := limitsOf(t, pid); !maps.Equal(got, want) {
		t.Errorf("%d: limits %v, expected %v", pid, got, want)
	}
	var environ []string
	for _, e := range l.spec.Capabilities.Environment {
		environ = append(environ, e.Name+"="+e.Value+"\x00")
	}
	if got := readText(t, dir+"/environ"); got != strings.Join(environ, "") {
		t.Errorf("%d: its environment is %q, expected %q", pid, got, environ)
	}
	if got := readText(t, dir+"/cmdline"); got != strings.Join(l.spec.Workload.Command, "\x00")+"\x00" {
		t.Errorf("%d: its arguments are %q", pid, got)
	}
	if !sameFile(dir+"/exe", l.spec.Workload.Command[0]) {
		t.Errorf("%d: it is another program", pid)
	}
	cwd := path.Clean("/" + l.spec.Workload.Dir)
	if cwd == "/" {
		cwd = dir + "/root/"
	}
	if !sameFile(dir+"/cwd", cwd) {
		t.Errorf("%d: its working directory is not %s", pid, cwd)
	}
	for _, name := range []string{"cgroup", "oom_score_adj"} { // nobody moved it
		if got, own := readText(t, dir+"/"+name), readText(t, "/proc/self/"+name); got != own {
			t.Errorf("%d: %s is %q, ours %q", pid, name, got, own)
		}
	}
	if got := interfacesIn(readText(t, dir+"/net/dev")); !l.accepted("host-network") && !slices.Equal(got, []string{"lo"}) {
		t.Errorf("%d: it sees the interfaces %q", pid, got)
	}
}

const noCapability = "0000000000000000"

// thread looks at what each thread has for itself.
func (l *looked) thread(dir string) {
	t := l.t
	st, own := status(t, dir), status(t, "/proc/self/task/"+strconv.Itoa(os.Getpid()))
	want := map[string]string{"NoNewPrivs": "1", "Umask": "0022", "SigIgn": noCapability, "SigBlk": noCapability, "SigCgt": noCapability, "TracerPid": "0", "Groups": own["Groups"],
		"CapInh": noCapability, "CapPrm": noCapability, "CapEff": noCapability, "CapBnd": noCapability, "CapAmb": noCapability,
		"Cpus_allowed": own["Cpus_allowed"], "Mems_allowed": own["Mems_allowed"]}
	for _, name := range []string{"Uid", "Gid"} {
		want[name] = own[name]
	}
	if l.accepted("new-privileges") {
		want["NoNewPrivs"] = own["NoNewPrivs"]
	}
	if l.accepted("inherited-umask") {
		want["Umask"] = own["Umask"]
	}
	if l.accepted("inherited-signals") {
		want["SigIgn"] = ignored(t)
	}
	if l.accepted("linux-capabilities") {
		// capabilities(7): root gets what the bounding set has, others nothing.
		want["CapBnd"] = everyCapability(t)
		if l.accepted("host-user-namespace") {
			want["CapBnd"] = own["CapBnd"]
		}
		if os.Geteuid() == 0 {
			want["CapPrm"], want["CapEff"] = want["CapBnd"], want["CapBnd"]
		}
	}
	filters, err := strconv.Atoi(own["Seccomp_filters"])
	must(t, err)
	want["Seccomp"], want["Seccomp_filters"] = "2", strconv.Itoa(filters+1)
	if l.accepted("unfiltered-calls") {
		want["Seccomp"], want["Seccomp_filters"] = own["Seccomp"], own["Seccomp_filters"]
	}
	for _, name := range sortedKeys(want) {
		if st[name] != want[name] {
			t.Errorf("%s: %s is %q, expected %q", dir, name, st[name], want[name])
		}
	}
	if depth := len(strings.Fields(st["NSpid"])) - len(strings.Fields(own["NSpid"])); depth != map[bool]int{true: 0, false: 1}[l.accepted("host-pid-namespace")] {
		t.Errorf("%s: NSpid is %q, ours %q", dir, st["NSpid"], own["NSpid"])
	}
	for kind, id := range l.ns {
		if got, err := os.Readlink(dir + "/ns/" + kind); err != nil || got != id {
			t.Errorf("%s: the %s namespace is %s, that of the first thread %s, %v", dir, kind, got, id, err)
		}
	}
	if got, err := os.Readlink(dir + "/ns/pid_for_children"); err != nil || got != l.ns["pid"] {
		t.Errorf("%s: its children would be in the pid namespace %s, expected %s, %v", dir, got, l.ns["pid"], err)
	}
	l.descriptors(dir)
}

// everyCapability is a set with all that this kernel knows.
func everyCapability(t *testing.T) string {
	last, err := strconv.Atoi(strings.TrimSpace(readText(t, "/proc/sys/kernel/cap_last_cap")))
	must(t, err)
	return fmt.Sprintf("%016x", uint64(1)<<(last+1)-1)
}

func (l *looked) descriptors(dir string) {
	t := l.t
	want := map[int]string{0: "device r /dev/null", 1: "device w /dev/null", 2: "device w /dev/null"}
	for _, c := range l.spec.Controls.Capture {
		want[map[string]int{"stdout": 1, "stderr": 2}[c.Stream]] = "pipe w"
	}
	switch in := l.spec.Controls.Stdin; {
	// Without a domain a file could be opened again for writing through
	// /proc/self/fd, so a pipe stands in.
	case in.Mode == spec.StdinFile && !l.accepted("no-landlock"):
		want[0] = "file r " + in.File
	case in.Mode == spec.StdinInherit && !l.accepted("no-landlock"):
		want[0] = "pipe r " + linkOf(t, l.in)
	case in.Mode != spec.StdinNone:
		want[0] = "pipe r"
	}
	for fd, f := range l.fds {
		want[fd] = map[int]string{3: "pipe r", 7: "file r", 11: "socket rw"}[fd] + " " + linkOf(t, f)
	}
	got := descriptorsOf(t, dir)
	if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))) {
		t.Errorf("%s: descriptors %v, expected %v", dir, got, want)
		return
	}
	for fd, d := range got {
		if is := d.class() + " " + d.mode + " " + d.link; is != want[fd] && d.class()+" "+d.mode != want[fd] {
			t.Errorf("%s: descriptor %d is %s, expected %s", dir, fd, is, want[fd])
		}
	}
}

func linkOf(t *testing.T, f *os.File) string {
	link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	must(t, err)
	return link
}

// mounts compares the boundary's tree: what was granted, with its flags, and
// nothing more.
func (l *looked) mounts() {
	t, inside := l.t, fmt.Sprintf("/proc/%d/root", l.main)
	if l.accepted("visible-host-paths") {
		if !sameFile(inside+"/", "/") {
			t.Error("its root is not the host's")
		}
		return
	}
	if sameFile(inside+"/", "/") {
		t.Error("its root is the host's")
	}
	const closed = "ro,nosuid,nodev,noexec"
	want := map[string]string{"/": closed + " tmpfs", "/proc": closed + " proc", "/dev/shm": "nosuid,nodev,noexec tmpfs"}
	if l.accepted("host-devices") {
		l.hostTree(want, "/dev", "nosuid")
	} else {
		for _, name := range []string{"null", "zero", "full", "random", "urandom"} {
			want["/dev/"+name] = flagsAt(t, "/dev/"+name, "ro,nosuid,noexec")
		}
	}
	want["/dev/shm"] = "nosuid,nodev,noexec tmpfs"
	if l.accepted("host-proc") {
		l.hostTree(want, "/proc", closed)
	} else if os.Geteuid() == 0 {
		// Of these modes alone keep others (mounts_linux.go names them).
		for _, name := range []string{"kcore", "keys", "kpagecount", "kpageflags", "kpagecgroup", "pagetypeinfo", "slabinfo", "vmallocinfo", "timer_list", "sysrq-trigger", "mtrr"} {
			if exists("/proc/" + name) {
				want["/proc/"+name] = closed + " tmpfs"
			}
		}
	}
	if l.accepted("host-sys") {
		l.hostTree(want, "/sys", closed)
	}
	for _, x := range l.spec.Controls.Temp {
		want[x.Path] = "nosuid,nodev,noexec tmpfs"
		if x.Access.Exec() {
			want[x.Path] = "nosuid,nodev tmpfs"
		}
	}
	sources := l.grantedMounts(want)
	got := map[string]string{}
	for _, m := range mountsOf(t, l.main) {
		got[m.point] = m.flags + " " + m.fstype // the last at a point is what shows
		if !m.private {
			t.Errorf("the mount at %s takes part in propagation", m.point)
		}
	}
	for _, point := range slices.Sorted(maps.Keys(mergeKeys(got, want))) {
		if got[point] != want[point] {
			t.Errorf("the mount at %s is %q, expected %q", point, got[point], want[point])
		}
	}
	for dest, source := range sources {
		if source == "" {
			var st unix.Stat_t
			if err := unix.Lstat(inside+dest, &st); err != nil || st.Mode&0o7777 != 0 {
				t.Errorf("%s is taken out, and what is there has mode %o, %v", dest, st.Mode, err)
			}
		} else if !sameFile(inside+dest, source) {
			t.Errorf("%s is not the host's %s", dest, source)
		}
	}
}

func mergeKeys(a, b map[string]string) map[string]string {
	m := maps.Clone(a)
	maps.Copy(m, b)
	return m
}

// grantedMounts adds what the grants and the exposed paths make, and says where
// each comes from on the host: "" is nowhere.
func (l *looked) grantedMounts(want map[string]string) map[string]string {
	sources, access := map[string]string{}, map[string]spec.Access{}
	place := func(dest, source string, a spec.Access) {
		flags := "nosuid,nodev"
		if !a.Write() {
			flags = "ro," + flags
		}
		if !a.Exec() {
			flags += ",noexec"
		}
		want[dest], sources[dest], access[dest] = flagsAt(l.t, source, flags), source, a
	}
	grants := slices.Clone(l.spec.Capabilities.Filesystem)
	slices.SortStableFunc(grants, func(a, b spec.Grant) int { return len(a.Paths[0]) - len(b.Paths[0]) })
	for _, g := range grants {
		for _, p := range g.Paths {
			parent := path.Dir(p)
			for ; parent != "/" && access[parent] == ""; parent = path.Dir(parent) {
			}
			if access[parent].Write() { // nothing above it can be renamed
				for d := path.Dir(p); d != parent; d = path.Dir(d) {
					place(d, d, access[parent])
				}
			}
			if g.Access == spec.AccessNone {
				want[p], sources[p] = "ro,nosuid,nodev,noexec tmpfs", ""
				continue
			}
			place(p, p, g.Access)
			for _, e := range names(p) {
				if below := filepath.Join(p, e); g.NonRecursive && len(names(below)) > 0 {
					want[below], sources[below] = "ro,nosuid,nodev,noexec tmpfs", ""
				}
			}
		}
	}
	for _, e := range l.spec.Controls.Expose {
		place(e.Dest, e.Source, e.Access)
	}
	return sources
}

// hostTree adds a tree of the host with all that is mounted in it.
func (l *looked) hostTree(want map[string]string, dir, flags string) {
	for _, m := range mountsOf(l.t, os.Getpid()) {
		if m.point == dir || strings.HasPrefix(m.point, dir+"/") {
			want[m.point] = union(flags, m.flags) + " " + m.fstype
		}
	}
}

// flagsAt are flags together with those that the host's mount has: a copy of a
// mount keeps what it is denied.
func flagsAt(t testing.TB, name, flags string) string {
	var at seenMount
	for _, m := range mountsOf(t, os.Getpid()) {
		if (name == m.point || m.point == "/" || strings.HasPrefix(name, m.point+"/")) && len(m.point) >= len(at.point) {
			at = m
		}
	}
	return union(flags, at.flags) + " " + at.fstype
}

func union(a, b string) string {
	both := append(strings.Split(a, ","), strings.Split(b, ",")...)
	return strings.Join(slices.DeleteFunc(slices.Clone(mountFlags), func(n string) bool { return !slices.Contains(both, n) }), ",")
}

// parents looks at init and the launcher, as far as they can be looked at.
func (l *looked) parents() {
	t := l.t
	init := parent(t, l.main)
	for name, pid := range map[string]int{"init": init, "launcher": parent(t, init)} {
		st := status(t, fmt.Sprintf("/proc/%d", pid))
		sets := []string{"CapInh", "CapPrm", "CapEff", "CapAmb"}
		if name == "init" {
			sets = append(sets, "CapBnd")
			if want := map[bool]string{true: "0", false: "1"}[l.accepted("new-privileges")]; st["NoNewPrivs"] != want {
				t.Errorf("%s: NoNewPrivs is %s, expected %s", name, st["NoNewPrivs"], want)
			}
		}
		for _, set := range sets {
			if st[set] != noCapability && !l.accepted("linux-capabilities") {
				t.Errorf("%s: %s is %s", name, set, st[set])
			}
		}
		var mem unix.Stat_t
		must(t, unix.Stat(fmt.Sprintf("/proc/%d/mem", pid), &mem))
		if os.Geteuid() != 0 && (mem.Uid == 0) == l.accepted("dumpable-launcher") {
			t.Errorf("%s: its memory belongs to %d", name, mem.Uid)
		}
	}
}

// reported compares what was seen with what plan and report say.
func (l *looked) reported(r *report.Report, st map[string]string, fds map[int]seenDescriptor, limits map[string]string) {
	t := l.t
	for _, b := range plan.Baseline {
		held := slices.ContainsFunc(r.Plan.Requirements, func(x plan.Requirement) bool { return x.Kind == b.Kind && x.Verdict.Enforcement == spec.Enforced })
		if held == l.accepted(b.Weakening) {
			t.Errorf("the plan holds %s: %v, and %s is accepted: %v", b.Kind, held, b.Weakening, l.accepted(b.Weakening))
		}
	}
	p := r.Posture
	for name, said := range map[string]string{
		"CapInh": p.Capabilities.Inheritable, "CapPrm": p.Capabilities.Permitted, "CapEff": p.Capabilities.Effective, "CapBnd": p.Capabilities.Bounding,
		"CapAmb": p.Capabilities.Ambient, "NoNewPrivs": strconv.Itoa(p.NoNewPrivs), "Seccomp": strconv.Itoa(p.Seccomp), "Seccomp_filters": strconv.Itoa(p.SeccompFilters),
		"Umask": p.Umask, "SigIgn": p.SignalsIgnored, "SigBlk": p.SignalsBlocked,
	} {
		// Before its exec an ordinary user's workload that keeps Linux
		// capabilities has them still; execve(2) takes them.
		if said != st[name] && (!l.accepted("linux-capabilities") || !strings.HasPrefix(name, "Cap")) {
			t.Errorf("the report says that %s is %s, the host sees %s", name, said, st[name])
		}
	}
	if uid := strings.Fields(st["Uid"])[0]; strconv.Itoa(p.UID) != uid || p.Session == l.accepted("shared-session") {
		t.Errorf("the report says uid %d, session %v", p.UID, p.Session)
	}
	for _, n := range p.Namespaces {
		if n.Own == l.accepted(namespaceWeakenings[n.Name]) || l.ns[n.Name] != n.Name+":["+n.ID+"]" {
			t.Errorf("the report says %+v, the host sees %s", n, l.ns[n.Name])
		}
	}
	if len(p.Namespaces) != len(l.ns) {
		t.Errorf("the report names %d namespaces", len(p.Namespaces))
	}
	for _, limit := range p.Limits {
		name := map[string]string{"as": "Max address space", "core": "Max core file size", "cpu": "Max cpu time",
			"nofile": "Max open files", "nproc": "Max processes"}[limit.Name]
		text := fmt.Sprint(limit.Soft, " ", limit.Hard)
		if text = strings.ReplaceAll(text, "-1", "unlimited"); limits[name] != text {
			t.Errorf("the report says that the limit %s is %s, the host sees %q", limit.Name, text, limits[name])
		}
	}
	survive := map[int]string{}
	for _, d := range p.Descriptors {
		if d.Survive {
			survive[d.FD] = d.Kind
		}
	}
	seen := map[int]string{}
	for fd, d := range fds {
		seen[fd] = d.class()
	}
	if !maps.Equal(survive, seen) {
		t.Errorf("the report says that the descriptors %v survive, the host sees %v", survive, seen)
	}
}

// What /proc shows of every thread of a running workload is what its spec, its
// plan and its report say, whatever the spec.
func TestPostureOfManySpecs(t *testing.T) {
	need.MountNamespace(t)
	untidy(t)
	root := gridTree(t)
	for _, s := range []spec.Spawn{spec.SpawnNone, spec.SpawnThreads, spec.SpawnProcesses} {
		crowd(t, root+"/bin/"+string(s), s)
	}
	plain := exec.Command(root + "/bin/none")
	must(t, plain.Start())
	defer func() { plain.Process.Kill(); plain.Wait() }()
	axes := gridAxes(root)
	var choices [][]int
	for i, a := range axes {
		for k := range a.ways {
			choice := make([]int, len(axes))
			choice[i] = k
			choices = append(choices, choice)
		}
	}
	random := rand.New(rand.NewPCG(1, 2)) // the same every time
	for range rounds(t, 100, 500) {
		choice := make([]int, len(axes))
		for i, a := range axes {
			choice[i] = random.IntN(len(a.ways))
		}
		choices = append(choices, choice)
	}
	held := 0
	for _, choice := range choices {
		g := newGridCase(t, root, axes, choice)
		t.Run(g.name, func(t *testing.T) {
			g.t = t
			if g.confined(plain.Process.Pid) {
				held++
			}
		})
	}
	t.Logf("%d of %d specs were held, the others refused", held, len(choices))
	if held < len(choices)*3/4 {
		t.Errorf("%d of %d specs were held, expected most", held, len(choices))
	}
}
