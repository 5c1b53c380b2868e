//go:build linux && (amd64 || arm64)

package linux_test

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

func listed(o outcome) []string {
	names := strings.Split(o.Stdout, "\n")
	slices.Sort(names)
	return names
}

// Without any grant the boundary holds the victim, /dev, /proc, and four files of /etc.
func TestTheWholeViewOfAnEmptySpec(t *testing.T) {
	if place.dynamic {
		need.Missing(t, "static", "the test binary needs libraries: test with CGO_ENABLED=0")
	}
	for dir, want := range map[string][]string{
		"/":        {"dev", "etc", "proc", strings.Split(place.exe, "/")[1]},
		"/etc":     {"group", "hosts", "nsswitch.conf", "passwd"},
		"/dev":     {"fd", "full", "null", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero"},
		"/dev/shm": {""},
		place.dir:  {"victim"},
	} {
		got := slices.DeleteFunc(listed(run(t, mods{}, "list", dir).succeeds(t)), func(n string) bool { return dir == "/" && strings.HasPrefix(n, ".") })
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s holds %q, expected %q", dir, got, want)
		}
	}
	for _, name := range []string{"/sys", "/etc/shadow", "/etc/ssh", "/root", "/home", "/usr", "/run", "/var", "/boot", "/dev/tty", "/dev/kmsg", "/dev/mem", "/dev/pts",
		"/dev/fuse", "/dev/net/tun", "/dev/ptmx", "/dev/mqueue", "/tmp"} {
		if _, err := os.Lstat(name); err == nil && !strings.HasPrefix(name, "/root") {
			control(t, "stat", name).succeeds(t)
		}
		if !strings.HasPrefix(place.exe, name+"/") {
			run(t, mods{}, "stat", name).denied(t, plan.Filesystem, unix.ENOENT)
		}
	}
}

func TestSkeletonCannotBeWritten(t *testing.T) {
	root := tree(t, "in/file")
	granted := mods{grant("rw", root+"/in"), temp("rw", "/scratch")}
	control(t, "create", root+"/control").succeeds(t)
	for _, dir := range []string{"/", "/etc", "/dev", "/proc", root, path.Dir(root), path.Dir(place.exe)} {
		for _, act := range []string{"create", "mkdir", "mkfifo"} {
			run(t, granted, act, path.Join(dir, "new")).denied(t, plan.MountNamespace, unix.EROFS, unix.EACCES, unix.ENOENT, unix.EPERM)
		}
	}
	for _, act := range []string{"write", "truncate", "unlink", "chmod", "utimes"} {
		for _, p := range []string{"/etc/passwd", "/etc/hosts", place.exe} {
			run(t, granted, act, p).denied(t, plan.MountNamespace, unix.EROFS, unix.EACCES, unix.EBUSY, unix.ETXTBSY)
		}
	}
	for _, p := range []string{"/dev/null", "/dev/urandom"} {
		run(t, granted, "unlink", p).denied(t, plan.MinimalDev, unix.EROFS, unix.EACCES, unix.EBUSY)
		run(t, granted, "chmod", p).denied(t, plan.MinimalDev, unix.EROFS)
		run(t, granted, "utimes", p).denied(t, plan.MinimalDev, unix.EROFS)
	}
}

func TestDevices(t *testing.T) {
	for _, name := range []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"} {
		control(t, "device", name).succeeds(t)
		o := run(t, mods{}, "device", name).succeeds(t)
		if want := control(t, "device", name); o.Stdout != want.Stdout {
			t.Errorf("%s is %q, on the host %q", name, o.Stdout, want.Stdout)
		}
	}
	run(t, mods{}, "write", "/dev/null").succeeds(t)
	control(t, "write", "/dev/full").mustFail(t)
	run(t, mods{}, "write", "/dev/full").denied(t, plan.MinimalDev, unix.ENOSPC)
	run(t, mods{}, "read", "/dev/stdin").succeeds(t)
}

func TestAccountsAreSynthesised(t *testing.T) {
	host, err := os.ReadFile("/etc/passwd")
	must(t, err)
	o := run(t, mods{}, "read", "/etc/passwd").succeeds(t)
	if o.Stdout == string(host) || !strings.Contains(o.Stdout, ":"+strconv.Itoa(os.Geteuid())+":") {
		t.Errorf("/etc/passwd is\n%s", o.Stdout)
	}
	need.File(t, "/usr/bin/id")
	o = program(t, mods{preset("system"), spawn(spec.SpawnProcesses)}, "/usr/bin/id")
	name := map[bool]string{true: "root", false: "user"}[os.Geteuid() == 0]
	if o.Code != 0 || !strings.HasPrefix(o.Stdout, fmt.Sprintf("uid=%d(%s) gid=%d(", os.Geteuid(), name, os.Getegid())) {
		t.Errorf("id says %q, %q", o.Stdout, o.Stderr)
	}
	o = program(t, mods{preset("system")}, "/bin/ls", "/etc")
	for _, n := range []string{"shadow", "gshadow", "ssh", "sudoers"} {
		if slices.Contains(strings.Fields(o.Stdout), n) {
			t.Errorf("the preset shows /etc/%s", n)
		}
		run(t, mods{preset("system")}, "read", "/etc/"+n).denied(t, plan.Filesystem, unix.ENOENT)
	}
}

func TestProcIsTheBoundarysOwn(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	if names := listed(control(t, "list", "/proc")); !slices.Contains(names, self) {
		t.Fatal("control: the test process is not in /proc")
	}
	var pids []string
	for _, n := range listed(run(t, mods{}, "list", "/proc").succeeds(t)) {
		if _, err := strconv.Atoi(n); err == nil {
			pids = append(pids, n)
		}
	}
	if !slices.Equal(pids, []string{"1", "2"}) {
		t.Errorf("the boundary sees processes %q, expected its init and the victim", pids)
	}
}

func TestProcCannotBeWritten(t *testing.T) {
	for _, name := range []string{"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches",
		"/proc/sys/net/ipv4/ip_forward", "/proc/self/oom_score_adj", "/proc/self/comm", "/proc/self/mem", "/proc/self/uid_map", "/proc/self/coredump_filter",
		"/proc/self/attr/current", "/proc/self/timerslack_ns", "/proc/1/oom_score_adj", "/proc/1/mem", "/proc/irq/default_smp_affinity", "/proc/sysrq-trigger",
		"/proc/sys/kernel/sysrq", "/proc/sys/kernel/random/boot_id"} {
		if _, err := os.Stat(name); err != nil {
			continue // not every kernel has each
		}
		o := run(t, mods{}, "write", name)
		o.denied(t, plan.PrivateProc, unix.EROFS, unix.EACCES, unix.EPERM, unix.ENOENT)
		run(t, mods{}, "chmod", name).denied(t, plan.PrivateProc, unix.EROFS, unix.EACCES, unix.EPERM, unix.ENOENT)
	}
	// What harms nobody shows that it is the mount that refuses.
	control(t, "write", "/proc/self/comm").succeeds(t)
	run(t, mods{}, "write", "/proc/self/comm").denied(t, plan.PrivateProc, unix.EROFS, unix.EACCES)
	run(t, mods{accept("no-landlock")}, "write", "/proc/self/comm").denied(t, plan.PrivateProc, unix.EROFS)
	run(t, mods{accept("no-landlock", "host-proc")}, "write", "/proc/self/comm").denied(t, plan.MountNamespace, unix.EROFS)
}

// What only the superuser may read of the kernel's state, not even root's own
// workload reads.
func TestProcHidesWhatIsTheSuperusers(t *testing.T) {
	need.Root(t)
	open := control(t, "readable-to-root", "/proc").succeeds(t)
	if !strings.Contains(open.Stdout, "slabinfo") && !strings.Contains(open.Stdout, "vmallocinfo") && !strings.Contains(open.Stdout, "timer_list") {
		t.Fatalf("control: root reads nothing special: %q", open.Stdout)
	}
	o := run(t, mods{}, "readable-to-root", "/proc").succeeds(t)
	for _, name := range strings.Fields(o.Stdout) {
		t.Errorf("the workload reads %s, which its mode keeps from everybody but root", name)
	}
}

func TestMountsCannotBeChanged(t *testing.T) {
	root := tree(t, "ro/file", "rw/file")
	both := mods{grant("r", root+"/ro"), grant("rw", root+"/rw"), temp("rw", "/tmp")}
	ro, rw := root+"/ro", root+"/rw"
	for _, c := range []struct {
		act  string
		args []string
	}{
		{"umount", []string{ro}}, {"umount", []string{"/"}}, {"umount", []string{"/proc"}},
		{"remount", []string{ro}}, {"remount", []string{"/"}}, {"remount", []string{"/proc"}},
		{"mount-tmpfs", []string{rw}}, {"mount-tmpfs", []string{"/tmp"}},
		{"bind", []string{ro, rw}}, {"bind", []string{"/proc", rw}},
		{"mount-setattr", []string{ro}}, {"mount-setattr", []string{"/"}},
		{"open-tree", []string{ro}}, {"move-mount", []string{ro, rw}},
		{"fsopen", []string{"tmpfs"}}, {"fsopen", []string{"proc"}},
		{"pivot", []string{rw}}, {"chroot", []string{rw}},
	} {
		run(t, both, c.act, c.args...).denied(t, plan.CallFilter, unix.EPERM)
		// Without the filter the missing Linux capability still refuses.
		o := run(t, append(slices.Clone(both), accept(unscoped("unfiltered-calls", "host-network")...), spawn(spec.SpawnProcesses)), c.act, c.args...)
		if c.act == "fsopen" && o.Code == 0 {
			continue // only makes a descriptor
		}
		o.denied(t, plan.NoCapabilities, unix.EPERM, unix.EINVAL, unix.EACCES)
	}
	for _, c := range [][]string{{"mount-tmpfs", rw}, {"bind", ro, rw}, {"open-tree", ro}, {"fsopen", "tmpfs"}, {"chroot", rw}, {"mount-setattr", "/proc"}} {
		controlApart(t, c[0], c[1:]...).succeeds(t)
	}
}

func TestNoWayBackToTheHost(t *testing.T) {
	root := tree(t, "out/secret", "in/file")
	secret := root + "/out/secret"
	in := mods{grant("r", root+"/in"), temp("rw", "/tmp"), dir(root + "/in")}
	control(t, "climb", secret).succeeds(t)
	run(t, in, "climb", secret).denied(t, plan.MountNamespace, unix.ENOENT)
	control(t, "proc-climb", secret).succeeds(t)
	run(t, in, "proc-climb", secret).denied(t, plan.MountNamespace, unix.ENOENT, unix.EACCES, unix.EPERM)
	run(t, in, "chroot-out", secret).denied(t, plan.CallFilter, unix.EPERM)
	controlApart(t, "chroot-out", secret).succeeds(t)
	run(t, in, "open-handle", root+"/in/file").denied(t, plan.CallFilter, unix.EPERM)
	// The same with every Linux capability of the boundary's own namespace.
	o := run(t, append(slices.Clone(in), accept("linux-capabilities")), "proc-climb", secret)
	if o.Code == 0 {
		t.Error("with Linux capabilities, /proc leads to the host")
	}
}

// Every program that a process of the boundary runs stays as it is: a write to
// the launcher's would run on the host (CVE-2019-5736).
func TestProgramsCannotBeOverwritten(t *testing.T) {
	root := tree(t, "bin/")
	must(t, copyFile(place.tool, root+"/bin/tool"))
	before := sum(t, place.exe)
	control(t, "overwrite", root+"/bin/tool").succeeds(t)
	for _, name := range []string{"/proc/self/exe", "/proc/1/exe", "/proc/2/exe", place.exe} {
		run(t, mods{}, "overwrite", name).denied(t, plan.Filesystem, unix.EACCES, unix.EROFS, unix.ETXTBSY, unix.EPERM, unix.ENOENT)
		run(t, mods{accept("no-landlock")}, "overwrite", name).denied(t, plan.MountNamespace, unix.EACCES, unix.EROFS, unix.ETXTBSY, unix.EPERM, unix.ENOENT)
	}
	if sum(t, place.exe) != before {
		t.Error("the program changed")
	}
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

func TestTemp(t *testing.T) {
	mark := tree(t, "mark") + "/mark" // the host's /tmp has it
	run(t, mods{temp("rw", "/tmp")}, "stat", mark).denied(t, plan.TempRoot, unix.ENOENT)
	control(t, "stat", mark).succeeds(t)
	name := "/tmp/" + path.Base(path.Dir(path.Dir(mark)))
	for range 2 { // nothing is left from run to run, and nothing reaches the host
		run(t, mods{temp("rw", "/tmp", "/var/scratch")}, "create", name+"-new").succeeds(t)
		holds(t, name+"-new", "")
	}
	run(t, mods{temp("rw", "/tmp")}, "link", "/etc/passwd", "/tmp/x").denied(t, plan.TempRoot, unix.EXDEV)
	if o := run(t, mods{temp("rw", "/tmp", "/var/scratch")}, "rename", "/tmp", "/var/scratch/x"); o.Code == 0 {
		t.Error("a private directory was moved")
	}
}

const mib = 1 << 20

// Bytes and files of all private directories share one bound.
func TestTempIsBounded(t *testing.T) {
	places := mods{temp("rw", "/tmp"), budget(spec.Storage, 4*mib)}
	for _, dir := range []string{"/tmp", "/dev/shm"} {
		o := run(t, places, "fill", dir).denied(t, plan.BudgetKind(spec.Storage), unix.ENOSPC)
		if n, _ := strconv.Atoi(o.Stdout); n > 4*mib+64<<10 || n < 3*mib {
			t.Errorf("%s took %d bytes, expected about %d", dir, n, 4*mib)
		}
		o = run(t, places, "fill-names", dir).denied(t, plan.BudgetKind(spec.Storage), unix.ENOSPC)
		if n, _ := strconv.Atoi(o.Stdout); n > 1000 || n < 100 {
			t.Errorf("%s took %d files", dir, n)
		}
	}
	o := run(t, places, "fill-two", "/tmp", "/dev/shm").denied(t, plan.BudgetKind(spec.Storage), unix.ENOSPC)
	if n, _ := strconv.Atoi(o.Stdout); n > 4*mib+64<<10 {
		t.Errorf("both together took %d bytes, expected about %d", n, 4*mib)
	}
	host := tree(t)
	control(t, "fill-some", host, strconv.Itoa(5*mib)).succeeds(t)
	for _, b := range o.Report.Budgets {
		if b.Dimension == spec.Storage && (b.ReadBack == nil || *b.ReadBack != 4*mib) {
			t.Errorf("the storage budget was read back as %+v", b)
		}
	}
	// Removing gives room again: it is a bound, not a quota that runs dry.
	run(t, places, "fill-again", "/tmp", strconv.Itoa(3*mib)).succeeds(t)
}

// A private directory inside a granted one covers it.
func TestTempInsideAGrant(t *testing.T) {
	root := tree(t, "cache/old", "file")
	inside := mods{grant("rw", root), temp("rw", root+"/cache")}
	run(t, inside, "read", root+"/cache/old").denied(t, plan.TempRoot, unix.ENOENT)
	run(t, inside, "create", root+"/cache/new").succeeds(t)
	holds(t, root+"/cache/new", "")
	holds(t, root+"/cache/old", "cache/old")
	run(t, inside, "rename", root+"/cache", root+"/gone").denied(t, plan.TempRoot, unix.EBUSY)
	if got := problems(t, refused(t, mods{grant("rw", root), temp("rw", root+"/none")}, "exit", "0")); !slices.Equal(got, []string{"spec.temp"}) {
		t.Errorf("got %q", got)
	}
}
