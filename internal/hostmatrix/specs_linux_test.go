//go:build amd64 || arm64

package hostmatrix

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// specCase is one spec, and what must be so where it is admitted.
type specCase struct {
	name string
	what string
	spec func(p *place) spec.Spec
	// attacks are those of package selftest, each with a control run. They are
	// carried out with threads: a Go program does not start without.
	attacks []string
	tries   func(p *place) []try
	cgroups bool // it is about cgroups, and tried where those are what the host is about
}

// place is where the files of one case are.
type place struct {
	dir    string
	secret string // what its files hold
}

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

// try is an act of a victim inside, judged from outside.
type try struct {
	name    string
	kind    plan.Kind // of the requirement that it is about: left out where the plan has none
	command []string
	control []string // the same act without a boundary; nil is the command
	through func(e ended) bool
	passes  bool // whether it must go through inside; outside it must
	also    func(r *report.Report) string
}

// ended is how a victim ended.
type ended struct {
	code   int
	stdout string
}

func succeeded(e ended) bool { return e.code == 0 }

func act(args ...string) []string { return append([]string{exeOf(), victim.Word}, args...) }

// says is a judge that looks for a text that only the host has.
func (p *place) says(e ended) bool { return strings.Contains(e.stdout, p.secret) }

// base is a spec of a victim: its own program, threads, streams, and the
// posture read back from the kernel.
func base(change ...func(*spec.Spec)) spec.Spec {
	s := spec.Spec{
		Version: spec.Version,
		Capabilities: spec.Capabilities{
			Filesystem: []spec.Grant{{Access: "rx", Paths: []string{exeOf()}, Origin: spec.FromSpec}},
			Spawn:      spec.SpawnThreads,
		},
		Controls: spec.Controls{Capture: []spec.Capture{{Stream: "stdout", Limit: spec.DefaultCapture}, {Stream: "stderr", Limit: spec.DefaultCapture}},
			Kill: spec.Kill{Tree: "atomic"}},
		Evidence: []spec.Claim{spec.TerminalOutcome, spec.CapturedStreams, spec.MechanismAttestation},
	}
	if dynamic() {
		s.Presets = []string{"system"}
	}
	for _, f := range change {
		f(&s)
	}
	return s
}

// dynamic says whether this program was put together by a loader, which its
// boundary must then have: AT_BASE in getauxval(3).
func dynamic() bool {
	const base = 7
	vector, err := unix.Auxv()
	return err == nil && slices.ContainsFunc(vector, func(v [2]uintptr) bool { return v[0] == base && v[1] != 0 })
}

func grant(access spec.Access, path string) func(*spec.Spec) {
	return func(s *spec.Spec) {
		s.Capabilities.Filesystem = append(s.Capabilities.Filesystem, spec.Grant{Access: access, Paths: []string{path}, Origin: spec.FromSpec})
	}
}

func budgeted(d spec.Dimension, limit int64) func(p *place) spec.Spec {
	return func(*place) spec.Spec {
		return base(func(s *spec.Spec) {
			s.Budgets = map[spec.Dimension]spec.Budget{d: {Limit: limit, Guarantee: spec.Enforced, Origin: spec.FromSpec}}
		})
	}
}

const mib = 1 << 20

// specs are the columns of the table.
func specs() []specCase {
	plain := func(change ...func(*spec.Spec)) func(*place) spec.Spec {
		return func(*place) spec.Spec { return base(change...) }
	}
	return []specCase{
		{name: "closed", what: "nothing granted but the program itself: no threads, no files, no network", spec: func(*place) spec.Spec {
			return base(func(s *spec.Spec) { s.Presets, s.Capabilities = nil, spec.Capabilities{} }, grant("rx", callsOf(filepath.Dir(exeOf()))))
		}, tries: closedTries},
		{name: "threads", what: "spawn: threads", spec: plain(),
			attacks: []string{"read-a-file", "write-a-file", "connect-by-tcp", "connect-to-an-abstract-socket", "signal-a-process", "read-memory", "mount"}},
		{name: "processes", what: "spawn: processes", spec: plain(func(s *spec.Spec) { s.Capabilities.Spawn = spec.SpawnProcesses }),
			attacks: []string{"read-a-file", "leave-a-process-behind", "signal-a-process"}},
		{name: "carve-out", what: "a directory, and one in it taken out", spec: func(p *place) spec.Spec {
			return base(grant("r", p.path("open")), grant("none", p.path("open/out")))
		}, tries: func(p *place) []try {
			return []try{
				{name: "read what is granted", kind: plan.Filesystem, command: act("read", p.path("open/file")), through: p.says, passes: true},
				{name: "read what is taken out", kind: plan.FilesystemCarveOut, command: act("read", p.path("open/out/file")), through: p.says},
			}
		}, attacks: []string{"read-a-file"}},
		{name: "loopback", what: "network: loopback", spec: plain(func(s *spec.Spec) { s.Capabilities.Network.Loopback = true }),
			attacks: []string{"connect-by-tcp", "send-by-udp", "connect-to-an-abstract-socket", "read-a-file"}},
		{name: "temp", what: "a private directory over one of the host's", spec: func(p *place) spec.Spec {
			return base(func(s *spec.Spec) { s.Controls.Temp = []spec.Temp{{Path: p.path("open"), Access: "rw"}} })
		}, tries: func(p *place) []try {
			return []try{
				{name: "read the host's directory", kind: plan.TempRoot, command: act("read", p.path("open/file")), through: p.says},
				{name: "make a file in it", kind: plan.TempRoot, command: act("create", p.path("open/new")), through: succeeded, passes: true,
					control: act("create", p.path("open/control"))},
				{name: "make a file on the host", kind: plan.TempRoot, command: act("create", p.path("open/kept")), control: act("create", p.path("open/control2")),
					through: func(ended) bool { return exists(p.path("open/kept")) || exists(p.path("open/control2")) }},
			}
		}, attacks: []string{"read-a-file"}},
		{name: "expose", what: "a directory under another name", spec: func(p *place) spec.Spec {
			return base(func(s *spec.Spec) {
				s.Controls.Expose = []spec.Expose{{Source: p.path("open"), Dest: "/shown", Access: "r"}}
			})
		}, tries: func(p *place) []try {
			return []try{
				{name: "read what is exposed", kind: plan.ExposePath, command: act("read", "/shown/file"), control: act("read", p.path("open/file")), through: p.says, passes: true},
				{name: "write what is exposed", kind: plan.ExposePath, command: act("create", "/shown/new"), control: act("create", p.path("open/control")), through: succeeded},
				{name: "read it by its own name", kind: plan.Filesystem, command: act("read", p.path("open/file")), through: p.says},
			}
		}},
		{name: "terminal", what: "stdin: tty", spec: plain(func(s *spec.Spec) {
			s.Controls.Stdin, s.Controls.Capture = spec.Stdin{Mode: spec.StdinTTY}, nil
			s.Evidence = []spec.Claim{spec.TerminalOutcome, spec.MechanismAttestation}
		}), tries: func(p *place) []try {
			return []try{{name: "read a file of the host", kind: plan.Filesystem, command: act("read", p.path("open/file")), through: p.says}}
		}},
		{name: "denials", what: "evidence of denied attempts", spec: plain(func(s *spec.Spec) { s.Evidence = append(s.Evidence, spec.DeniedAttempts) }),
			tries: func(p *place) []try {
				file := p.path("open/file")
				return []try{{name: "read a file of the host", kind: plan.Filesystem, command: act("read", file), through: p.says, also: func(r *report.Report) string {
					for _, e := range r.Plan.Evidence {
						if e.Claim != spec.DeniedAttempts {
							continue
						}
						for _, d := range r.Denied {
							if d.Path == file && d.Observed {
								return ""
							}
						}
						return "the report does not list the denied attempt"
					}
					return "" // the remedy was to do without
				}}}
			}},
		{name: "wall", what: "budget of wall time", spec: budgeted(spec.Wall, 5e9), attacks: []string{"outstay-the-deadline"}},
		{name: "handles", what: "budget of descriptors", spec: budgeted(spec.Handles, 64), attacks: []string{"exhaust-descriptors"}},
		{name: "storage", what: "budget of storage", spec: budgeted(spec.Storage, mib), attacks: []string{"fill-the-storage", "read-a-file"}},
		{name: "output", what: "budget of output", spec: budgeted(spec.Output, mib), attacks: []string{"flood-the-output"}},
		{name: "cpu", what: "budget of processor time", spec: budgeted(spec.CPU, 20e9), attacks: []string{"use-processor-time", "read-a-file"}, cgroups: true},
		{name: "memory", what: "budget of memory", spec: budgeted(spec.Memory, 4096*mib), attacks: []string{"take-memory", "read-a-file"}, cgroups: true},
		{name: "tasks", what: "budget of processes", spec: budgeted(spec.Processes, 64), attacks: []string{"start-processes-without-end", "read-a-file"}, cgroups: true},
	}
}

func exists(path string) bool { return unix.Lstat(path, new(unix.Stat_t)) == nil }

// closedTries are made by a program of a few system calls: it needs neither
// threads nor files.
func closedTries(*place) []try {
	result := func(n int) func(ended) bool {
		return func(e ended) bool {
			b := []byte(e.stdout)
			return len(b) == 8*closedCalls && int64(binary.LittleEndian.Uint64(b[8*n:])) >= 0
		}
	}
	command := []string{callsOf(filepath.Dir(exeOf()))}
	told := func(e ended) bool { return len(e.stdout) == 8*closedCalls }
	return []try{
		{name: "run and tell", kind: plan.Launch, command: command, through: told, passes: true},
		{name: "open a file of the host", kind: plan.Filesystem, command: command, through: result(0)},
		{name: "open a socket", kind: plan.NetworkDenyAll, command: command, through: result(1)},
		{name: "start a process", kind: plan.SpawnNone, command: command, through: result(2)},
	}
}

const closedCalls = 3

// callsOf and targetOf are the program that closedTries runs, and what it opens,
// in a directory.
func callsOf(dir string) string  { return filepath.Join(dir, "calls") }
func targetOf(dir string) string { return filepath.Join(dir, "target") }

// writeCalls makes them. The program writes what each call gave. It is made on
// the host as it is, since its bytes come by way of a memfd.
func writeCalls(dir string) error {
	if err := os.WriteFile(targetOf(dir), nil, 0o644); err != nil {
		return err
	}
	c := &launcher.Program{}
	zero := launcher.Int(0)
	results := c.Bytes(make([]byte, 8*closedCalls), "results")
	end := c.NewLabel()
	c.OnFailure(end)
	c.Begin(launcher.RoleWorkload, "calls")
	c.Call("openat", unix.SYS_OPENAT, launcher.Int(-1), c.Str(targetOf(dir)), zero, zero).To(launcher.At(results, 0, "openat")).Ignore()
	c.Call("socket", unix.SYS_SOCKET, launcher.Int(unix.AF_INET), launcher.Int(unix.SOCK_STREAM), zero).To(launcher.At(results, 8, "socket")).Ignore()
	child := c.NewLabel()
	c.Call("clone", unix.SYS_CLONE, launcher.Int(int(unix.SIGCHLD)), zero, zero, zero, zero).To(launcher.At(results, 16, "clone")).Ignore().If(zero, child)
	c.Call("write", unix.SYS_WRITE, launcher.Int(1), results, launcher.Int(8*closedCalls)).Ignore()
	c.Mark(child)
	c.Mark(end)
	c.Call("exit_group", unix.SYS_EXIT_GROUP, zero)
	image, err := c.Image().Seal()
	if err != nil {
		return err
	}
	defer image.Close()
	out, err := os.OpenFile(callsOf(dir), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.NewSectionReader(image, 0, 1<<30))
	if e := out.Close(); err == nil {
		err = e
	}
	return err
}

func newPlace(dir string, n int) (*place, error) {
	p := &place{dir: filepath.Join(dir, fmt.Sprint("case", n)), secret: fmt.Sprintf("only the host has %d", n)}
	if err := os.MkdirAll(p.path("open/out"), 0o755); err != nil {
		return nil, err
	}
	for _, name := range []string{"open/file", "open/out/file"} {
		if err := os.WriteFile(p.path(name), []byte(p.secret), 0o644); err != nil {
			return nil, err
		}
	}
	return p, nil
}
