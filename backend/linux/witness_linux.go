//go:build amd64 || arm64

package linux

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/notify"
	"github.com/bvisor/bvisor/internal/seccomp"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// witness looks at the workload's calls and keeps those that ask for what the
// plan does not give. It decides nothing: each call goes on, and the kernel
// reads its arguments again.
type witness struct {
	*view
	calls    map[uint32]seccomp.Watched
	listener *notify.Listener
	failure  error // why it ended early; read after finish

	mu      sync.Mutex // one that did not end in time may still write
	denials []*denial
	index   map[denialKey]*denial
	left    int64 // attempts of denials that were not kept
}

// denial is one thing that was asked for, as often as it was.
type denial struct {
	denialKey
	access  string // of "rwx"; "" is that it is there
	connect bool
	program string
	at      time.Time
	times   int64
	allow   bool   // a grant would allow it
	flag    string // instead: what would
}

type denialKey struct{ path, mechanism string }

// maxDenials and maxPath bound what a workload can make the witness keep.
const (
	maxDenials = 200
	maxPath    = 1 << 10
)

// witnessDenials begins to serve the observer, before the workload makes the
// first call that waits for it: its exec.
func (r *run) witnessDenials() {
	if !observed(r.launch.Plan) || r.ready == nil || r.fault != nil || r.mismatch != "" {
		return
	}
	if r.observer < 0 {
		r.fault = errors.New("observe denials: no observer came from the workload")
		return
	}
	v, err := newView(r.launch.Plan, r.pid)
	if err != nil {
		r.fault = fmt.Errorf("observe denials: %w", err)
		return
	}
	w := &witness{view: v, calls: seccomp.ObservedByNumber(runtime.GOARCH), index: map[denialKey]*denial{}}
	w.listener, r.fault = notify.Listen(r.observer, w.look)
	r.observer = -1 // the listener's
	if r.fault == nil {
		r.witness = w
	}
}

// finish ends the looking. By then nobody is left who could make a call.
func (w *witness) finish() {
	if w != nil && w.listener != nil {
		w.failure = w.listener.Close(stuckReader)
		w.listener = nil
		if w.failure != notify.ErrBusy {
			w.view.close()
		}
	}
}

// look judges what a waiting call names by the boundary's own view, and leaves
// the look at the host for afterwards: only the listener waits for that.
func (w *witness) look(c *notify.Call) func() {
	call, ok := w.calls[uint32(c.Number)]
	if !ok || c.Arch != seccomp.NativeArch(runtime.GOARCH) {
		return nil
	}
	var findings []finding
	for _, n := range call.Names {
		a, err := read(c, n)
		switch {
		case err == errNothing:
		case err != nil:
			w.unseen.Add(1)
		default:
			findings = append(findings, w.judge(a, 0)...)
		}
	}
	if len(findings) == 0 {
		return nil
	}
	program, _ := os.Readlink("/proc/" + strconv.Itoa(int(c.PID)) + "/exe") // "": nobody can say
	if !c.Waiting() {
		// What was read may be another process's, and the view may be gone.
		w.unseen.Add(1)
		return nil
	}
	return func() {
		for _, f := range findings {
			w.keep(f, program)
		}
	}
}

// keep notes the first candidate of a finding that holds on the host.
func (w *witness) keep(f finding, program string) {
	for _, c := range f {
		if c.host != "" {
			there, known := w.onHost(c.host)
			if !known {
				w.unseen.Add(1)
				return
			}
			if !there {
				continue
			}
		}
		w.note(c, program)
		return
	}
}

func (w *witness) note(c candidate, program string) {
	key := denialKey{c.path, c.mechanism}
	allow := c.allow && (c.connect || mayOnHost(c.path, c.access))
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.index[key]
	if d == nil {
		if len(w.denials) == maxDenials || len(c.path) > maxPath || len(program) > maxPath {
			w.left++
			return
		}
		d = &denial{denialKey: key, program: program, at: time.Now(), allow: allow, flag: c.flag}
		w.index[key] = d
		w.denials = append(w.denials, d)
	}
	d.access = string(union(spec.Access(d.access), spec.Access(c.access)))
	d.connect = d.connect || c.connect
	d.allow = d.allow && allow
	d.times++
}

// mayOnHost says whether the user has the rights without the boundary: it gives
// nothing that the user does not have.
func mayOnHost(name, access string) bool {
	var mode uint32
	for right, bit := range map[string]uint32{"r": unix.R_OK, "w": unix.W_OK, "x": unix.X_OK} {
		if strings.Contains(access, right) {
			mode |= bit
		}
	}
	return unix.Faccessat(unix.AT_FDCWD, name, mode, unix.AT_EACCESS) == nil
}

// acts are the denials as a report writes them, in the order in which they were
// first seen.
func (w *witness) acts() []report.DeniedAct {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]report.DeniedAct, 0, len(w.denials))
	for _, d := range w.denials {
		a := report.DeniedAct{Act: d.verb() + " " + quoted(d.path), Mechanism: d.mechanism, At: d.at.UTC().Format(time.RFC3339Nano),
			Observed: true, Access: d.access, Times: d.times, Program: strings.ToValidUTF8(d.program, "\uFFFD")}
		if utf8.ValidString(d.path) {
			a.Path = d.path
		}
		switch {
		case a.Path == "":
		case d.flag != "":
			a.Allow = d.flag
		case d.allow:
			a.Allow = flags(d.access, a.Path)
		}
		list = append(list, a)
	}
	return list
}

func (d *denial) verb() string {
	var verbs []string
	for _, v := range []struct{ right, verb string }{{"r", "read"}, {"w", "write"}, {"x", "execute"}} {
		if strings.Contains(d.access, v.right) {
			verbs = append(verbs, v.verb)
		}
	}
	if d.connect {
		verbs = append(verbs, "connect to")
	}
	if len(verbs) == 0 {
		return "look at"
	}
	return strings.Join(verbs, " and ")
}

// flags are those of the command line that grant a path.
func flags(access, name string) string {
	name = shellWord(name)
	switch {
	case strings.Contains(access, "w") && strings.Contains(access, "x"):
		return "--write " + name + " --exec " + name
	case strings.Contains(access, "w"):
		return "--write " + name
	case strings.Contains(access, "x"):
		return "--exec " + name
	}
	return "--read " + name
}

// shellWord quotes what a shell would take apart.
func shellWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+,:@%=") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func quoted(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strconv.Quote(s)
}

// completeness says what the list cannot hold.
func (w *witness) completeness() report.Completeness {
	w.mu.Lock()
	defer w.mu.Unlock()
	why := []string{"attempts on paths and unix sockets were seen before the kernel decided and judged against the plan; " +
		"what the system call filter itself refuses, network sockets among it, and network addresses were not seen"}
	if n := w.unseen.Load(); n > 0 {
		why = append(why, fmt.Sprintf("%d attempts could not be read or judged", n))
	}
	if w.left > 0 {
		why = append(why, fmt.Sprintf("%d more attempts are not listed: the list is full, or their names are too long", w.left))
	}
	if w.failure != nil {
		why = append(why, "the observer ended early: "+w.failure.Error())
	}
	return report.Completeness{Level: report.LevelPartial, Why: strings.Join(why, "; ")}
}

// counts are what a fact says of the looking.
func (w *witness) counts() []plan.Param {
	w.mu.Lock()
	defer w.mu.Unlock()
	return []plan.Param{{Name: "listed", Value: strconv.Itoa(len(w.denials))}, {Name: "unlisted", Value: strconv.FormatInt(w.left, 10)},
		{Name: "unread", Value: strconv.FormatInt(w.unseen.Load(), 10)}}
}

// mechanismsOf joins the names of what holds a requirement.
func mechanismsOf(p plan.Plan, kind plan.Kind) string {
	names := map[string]bool{}
	for _, r := range p.Requirements {
		if r.Kind == kind {
			for _, m := range r.Mechanisms {
				names[m.Name] = true
			}
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(names)), ", ")
}
