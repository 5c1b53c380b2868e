package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/bvisor/bvisor/internal/terminal"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

// ShowOptions choose how Show writes.
type ShowOptions struct {
	Color bool // escape sequences for a terminal
	Brief bool // only what a person must know: outcome, weakenings, reasons, denials, exceeded budgets
}

// Show writes r for people, the most important first. Every string that a
// workload or a path could have shaped is made safe for a terminal. It shows
// what the report says; only Verify says whether to believe it.
func Show(w io.Writer, r *Report, opts ShowOptions) error {
	v := view{r: r, opts: opts}
	v.outcome()
	v.accepted()
	v.reasons()
	v.denied()
	v.budgets()
	if !opts.Brief {
		v.streams()
		v.artifacts()
		v.held()
		v.transcript()
		v.posture()
		v.facts()
		v.identity()
	}
	_, err := w.Write(v.out.Bytes())
	return err
}

type view struct {
	r    *Report
	opts ShowOptions
	out  bytes.Buffer
}

const (
	bold  = "\x1b[1m"
	red   = "\x1b[31m"
	green = "\x1b[32m"
	amber = "\x1b[33m"
	reset = "\x1b[0m"
)

func (v *view) paint(color, text string) string {
	if !v.opts.Color {
		return text
	}
	return color + text + reset
}

func (v *view) title(format string, args ...any) {
	v.out.WriteString("\n" + v.paint(bold, fmt.Sprintf(format, args...)) + "\n")
}

func (v *view) line(format string, args ...any) { fmt.Fprintf(&v.out, format+"\n", args...) }

// table writes rows in columns, indented. Cells must be safe.
func (v *view) table(rows [][]string) {
	t := tabwriter.NewWriter(&v.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		io.WriteString(t, "  "+strings.TrimRight(strings.Join(row, "\t"), "\t")+"\n")
	}
	t.Flush()
}

func safe[S ~string](s S) string { return terminal.SanitizeMax(string(s), 200) }

func (v *view) outcome() {
	o := v.r.Outcome
	color := red
	if o.Status == Completed {
		color = green
	}
	head := v.paint(bold+color, safe(o.Status))
	if o.Reason != "" {
		head += ": " + safe(o.Reason)
	}
	v.line("%s", head)
	rows := [][]string{}
	if v.r.Exit != nil {
		rows = append(rows, []string{"ended by", safe(v.r.Exit.String())})
	}
	if c := v.command(); c != "" {
		rows = append(rows, []string{"command", c})
	}
	host := v.r.Profile.Host
	rows = append(rows, []string{"backend", safe(strings.TrimSpace(v.r.Profile.Backend + " on " + host.OS + "/" + host.Arch + " " + host.Kernel))})
	t := v.r.Times
	rows = append(rows, []string{"started", safe(t.Started)})
	if p := t.Prepared; p != nil {
		rows = append(rows, []string{"prepared", safe(p.At) + ", took " + nanos(p.Took)})
	}
	if t.Run > 0 || t.Setup > 0 {
		rows = append(rows, []string{"took", fmt.Sprintf("setup %s, run %s, teardown %s", nanos(t.Setup), nanos(t.Run), nanos(t.Teardown))})
	}
	v.table(rows)
}

func (v *view) command() string {
	if v.r.Plan == nil && v.r.Refusal == nil {
		return ""
	}
	w := v.r.resolved().Spec.Workload
	argv := w.Command
	if w.Wasm != "" {
		argv = append([]string{w.Wasm}, w.Args...)
	}
	parts := make([]string, len(argv))
	for i, a := range argv {
		if parts[i] = a; a == "" || strings.ContainsAny(a, " \t\n'\"") {
			parts[i] = "'" + a + "'"
		}
	}
	return safe(strings.Join(parts, " "))
}

func (v *view) accepted() {
	if len(v.r.Accepted) == 0 {
		return
	}
	head := "WEAKENED: this boundary held less than the baseline, as was accepted"
	if v.r.Refusal != nil {
		head = "accepted weakenings, which were not enough"
	}
	v.out.WriteString("\n" + v.paint(bold+amber, head) + "\n")
	for _, a := range v.r.Accepted {
		lacks, ok := spec.Weakenings[a]
		if !ok {
			lacks = "unknown to this version of bvisor"
		}
		v.line("  %s %s: %s", v.paint(amber, "!"), safe(a), lacks)
	}
}

func (v *view) reasons() {
	f := v.r.Refusal
	if f == nil {
		return
	}
	v.title("refused: %d of %d requirements cannot be held; nothing was started", len(f.Reasons), f.Total)
	for _, x := range f.Reasons {
		about := safe(x.Requirement)
		if x.Subject != "" {
			about += " " + safe(x.Subject)
		}
		v.line("  %s  (%s)", about, safe(x.Code))
		for _, part := range []struct{ name, text string }{{"needs", x.Need}, {"but", x.Fact}, {"remedy", x.Remedy}} {
			if part.text != "" {
				v.line("    %-6s %s", part.name, safe(part.text))
			}
		}
	}
}

func (v *view) denied() {
	if v.r.Refusal != nil {
		return
	}
	c := v.r.Completeness
	head := "denied: " + strconv.Itoa(len(v.r.Denied)) + " seen, the list is " + safe(c.Level)
	if c.Level == LevelNone {
		head = "denied: not observed"
	}
	if c.Why != "" {
		head += " (" + safe(c.Why) + ")"
	}
	v.title("%s", head)
	for _, d := range v.r.Denied {
		line := v.paint(red, safe(d.Act)) + ", by " + safe(d.Mechanism)
		if d.At != "" {
			line += ", at " + safe(d.At)
		}
		if d.Times > 1 {
			line += ", asked " + strconv.FormatInt(d.Times, 10) + " times, first"
		} else if d.Program != "" {
			line += ", asked"
		}
		if d.Program != "" {
			line += " by " + safe(d.Program)
		}
		v.line("  %s", line)
		if d.Allow != "" {
			v.line("    allow with %s", safe(d.Allow))
		}
	}
}

func (v *view) budgets() {
	rows := [][]string{{"", "asked", "set", "read back", "used", "peak", "finding"}}
	for _, b := range v.r.Budgets {
		if v.opts.Brief && b.Finding == Within {
			continue
		}
		rows = append(rows, []string{safe(b.Dimension), amount(b.Dimension, &b.Requested), amount(b.Dimension, &b.Set),
			amount(b.Dimension, b.ReadBack), amount(b.Dimension, b.Used), amount(b.Dimension, b.Peak), safe(b.Finding)})
	}
	if len(rows) > 1 {
		v.title("budgets")
		v.table(rows)
	}
	if u := v.r.Usage; u != nil && !v.opts.Brief {
		v.line("  usage: user %s, system %s, largest process %s", nanos(u.UserTime), nanos(u.SystemTime), bytesOf(u.MaxRSS))
	}
}

// amount writes a value in its dimension's unit; what was not seen is "-".
func amount(d spec.Dimension, n *int64) string {
	if n == nil {
		return "-"
	}
	switch d {
	case spec.Wall, spec.CPU:
		return nanos(*n)
	case spec.Processes, spec.Handles, spec.Fuel, spec.CallDepth:
		return strconv.FormatInt(*n, 10)
	}
	return bytesOf(*n)
}

func nanos(n int64) string {
	d := time.Duration(n)
	switch {
	case d >= time.Second:
		return d.Round(time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(time.Microsecond).String()
	}
	return d.String()
}

func bytesOf(n int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		switch {
		case n >= u.size && n%u.size == 0:
			return fmt.Sprintf("%d %s", n/u.size, u.name)
		case n >= u.size:
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

func (v *view) streams() {
	if len(v.r.Streams) == 0 {
		return
	}
	v.title("streams")
	var rows [][]string
	for _, s := range v.r.Streams {
		note := "whole"
		if s.Truncated {
			note = "kept " + bytesOf(s.Kept)
		}
		if s.Redacted > 0 {
			note += fmt.Sprintf(", %d secrets taken out", s.Redacted)
		}
		rows = append(rows, []string{safe(s.Name), fmt.Sprintf("%d bytes", s.Bytes), note, "sha256 " + safe(cmp.Or(s.SHA256, s.KeptSHA))})
	}
	v.table(rows)
}

func (v *view) artifacts() {
	if len(v.r.Artifacts) == 0 {
		return
	}
	v.title("held back")
	var rows [][]string
	for _, a := range v.r.Artifacts {
		if a.Lost != "" {
			rows = append(rows, []string{safe(a.Path), v.paint(red, "lost: "+safe(a.Lost))})
			continue
		}
		rows = append(rows, []string{safe(a.Path), fmt.Sprintf("%d created, %d changed, %d deleted, %d not kept", a.Created, a.Changed, a.Deleted, a.Refused),
			bytesOf(a.Bytes), "sha256 " + safe(a.Manifest)})
	}
	v.table(rows)
}

func (v *view) held() {
	if v.r.Plan == nil {
		return
	}
	v.title("held by")
	var rows [][]string
	for _, q := range v.r.Plan.Requirements {
		rows = append(rows, []string{safe(q.Kind), strength(q.Verdict.Enforcement), mechanisms(q.Mechanisms), "(" + safe(q.Origin) + ")"})
	}
	for _, b := range v.r.Plan.Budgets {
		rows = append(rows, []string{safe(plan.BudgetKind(b.Dimension)), strength(b.Verdict.Enforcement), mechanisms(b.Mechanisms), "(" + safe(b.Origin) + ")"})
	}
	v.table(rows)
}

func strength(e spec.Enforcement) string {
	switch e {
	case spec.Enforced:
		return "enforced"
	case spec.Mediated:
		return "mediated"
	}
	return "unsupported"
}

func mechanisms(list []plan.Mechanism) string {
	parts := make([]string, len(list))
	for i, m := range list {
		parts[i] = m.Name + parameters(m.Params)
	}
	return safe(strings.Join(parts, " + "))
}

func parameters(list []plan.Param) string {
	if len(list) == 0 {
		return ""
	}
	return "(" + pairs(list) + ")"
}

func pairs(list []plan.Param) string {
	parts := make([]string, len(list))
	for i, p := range list {
		parts[i] = p.Name + "=" + p.Value
	}
	return strings.Join(parts, ", ")
}

func (v *view) transcript() {
	if len(v.r.Transcript) == 0 {
		return
	}
	v.title("transcript")
	var rows [][]string
	for _, p := range v.r.Transcript {
		note := ""
		if p.Elapsed > 0 {
			note = nanos(p.Elapsed)
		}
		if p.Status == PhaseFailed {
			note = fmt.Sprintf("step %d: %s: %s", p.Step, p.Call, p.Errno)
		}
		rows = append(rows, []string{safe(p.Name), safe(p.Status), safe(note)})
	}
	v.table(rows)
}

func (v *view) posture() {
	p := v.r.Posture
	if p == nil {
		return
	}
	v.title("posture, read from the kernel just before exec")
	own := []string{}
	shared := []string{}
	for _, n := range p.Namespaces {
		if n.Own {
			own = append(own, n.Name)
		} else {
			shared = append(shared, n.Name)
		}
	}
	fds := []string{}
	for _, d := range p.Descriptors {
		if d.Survive {
			fds = append(fds, fmt.Sprintf("%d %s", d.FD, d.Kind))
		}
	}
	limits := []string{}
	for _, l := range p.Limits {
		limits = append(limits, fmt.Sprintf("%s %s/%s", l.Name, limit(l.Soft), limit(l.Hard)))
	}
	c := p.Capabilities
	rows := [][]string{
		{"no_new_privs", strconv.Itoa(p.NoNewPrivs)},
		{"seccomp", fmt.Sprintf("mode %d, filters %d", p.Seccomp, p.SeccompFilters)},
		{"capabilities", fmt.Sprintf("effective %s, permitted %s, inheritable %s, bounding %s, ambient %s", c.Effective, c.Permitted, c.Inheritable, c.Bounding, c.Ambient)},
		{"own namespaces", orNothing(strings.Join(own, ", "))},
		{"shared namespaces", orNothing(strings.Join(shared, ", "))},
		{"ids", fmt.Sprintf("uid %d, gid %d, umask %s", p.UID, p.GID, p.Umask)},
		{"session", fmt.Sprintf("own %t, controlling terminal %s", p.Session, cmp.Or(p.Terminal, "none"))},
		{"signals", fmt.Sprintf("ignored %s, blocked %s", p.SignalsIgnored, p.SignalsBlocked)},
		{"descriptors", orNothing(strings.Join(fds, ", "))},
		{"limits", orNothing(strings.Join(limits, ", "))},
	}
	if n := p.Network; n != nil {
		list := func(all []string) string { return orNothing(strings.Join(all, ", ")) }
		rows = append(rows, []string{"network", fmt.Sprintf("interfaces %s; addresses %s; routes elsewhere %s", list(n.Interfaces), list(n.Addresses), list(n.Routes))})
	}
	for _, row := range rows {
		row[1] = terminal.Sanitize(row[1])
	}
	v.table(rows)
}

func limit(n int64) string {
	if n < 0 {
		return "unlimited"
	}
	return strconv.FormatInt(n, 10)
}

func (v *view) facts() {
	if len(v.r.Facts) == 0 && len(v.r.Leases) == 0 {
		return
	}
	v.title("facts")
	var rows [][]string
	for _, f := range v.r.Facts {
		rows = append(rows, []string{safe(f.Kind), safe(pairs(f.Fields))})
	}
	for _, l := range v.r.Leases {
		note := "resolved at " + l.Resolved
		if l.Error != "" {
			note = "not resolved: " + l.Error
		}
		rows = append(rows, []string{"lease", safe(l.Variable + " from " + l.Reference + ", " + note)})
	}
	v.table(rows)
}

func (v *view) identity() {
	id := v.r.Identity
	v.title("identity")
	v.table([][]string{
		{"attempt", safe(id.Attempt)},
		{"plan", safe(orNothing(id.Plan))},
		{"profile", safe(id.Profile)},
		{"program", safe(orNothing(id.Program))},
		{"descriptors", safe(orNothing(id.Descriptors))},
		{"executable", safe(orNothing(id.Executable))},
		{"tool", safe(v.r.Tool.Name + " " + v.r.Tool.Version)},
	})
}
