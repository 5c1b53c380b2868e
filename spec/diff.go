package spec

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bvisor/bvisor/internal/strictyaml"
)

// Effect is what a difference does to the boundary.
type Effect string

// Effects of a difference.
const (
	Widens  Effect = "widens"  // allowed now and not before, or demanded before and not now
	Narrows Effect = "narrows" // the other way round
	Changes Effect = "changes" // of what runs, not of what it may do
)

// Difference is one thing that two specs do not both say.
type Difference struct {
	Effect  Effect `json:"effect"`
	Field   string `json:"field"`             // as in the spec, e.g. "capabilities.filesystem"
	Subject string `json:"subject,omitempty"` // which entry of the field: a path, a name
	Text    string `json:"text"`
}

// String is the difference on one line, with "+", "-" or "~" in front. It may
// hold what no terminal should be shown.
func (d Difference) String() string {
	sign := map[Effect]string{Widens: "+", Narrows: "-", Changes: "~"}[d.Effect]
	if d.Subject == "" {
		return sign + " " + d.Field + ": " + d.Text
	}
	return sign + " " + d.Field + ": " + shown(d.Subject) + " " + d.Text
}

// shown is s so that it cannot be taken for words of ours.
func shown(s string) string {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' || r == '\\' || r == ',' }) {
		return strconv.Quote(s)
	}
	return s
}

// Diff lists in the order of a spec's fields how b differs from a in what it
// means: presets and defaults are written out, order and repetition count for
// nothing, a grant inside a wider one allows nothing more. Relative paths of
// both start at dir, which is absolute. Paths are compared by their text: which
// of them are links is known only on a host.
//
// What b allows and a does not widens, the reverse narrows. Values that have no
// order, such as those of a variable, give one of each. Both specs are valid,
// also after Rebase(dir).
func Diff(a, b Spec, dir string) []Difference {
	a, b = Expand(a.Rebase(dir)), Expand(b.Rebase(dir))
	list := changes(a, b)
	for _, more := range comparisons {
		var group []Difference
		for _, g := range more(a, b) {
			group = append(group, Difference{Widens, g.field, g.subject, g.now})
		}
		for _, g := range more(b, a) {
			group = append(group, Difference{Narrows, g.field, g.subject, g.then})
		}
		slices.SortStableFunc(group, func(x, y Difference) int { return cmp.Compare(x.Subject, y.Subject) })
		list = append(list, group...)
	}
	return list
}

// gain is something that one spec allows and another does not, or does not
// demand though the other does. Seen from the other one it is a loss: a
// comparison is written once and used both ways.
type gain struct {
	field, subject string
	now            string // in words, when it is gained
	then           string // when it is lost
}

// comparisons say what the second spec allows that the first does not. Both
// are expanded.
var comparisons = []func(from, to Spec) []gain{
	moreFiles,
	moreNetwork,
	moreEnvironment,
	moreSpawn,
	moreDescriptors,
	moreClock,
	moreRandom,
	moreCapture,
	moreStdin,
	moreArtifacts,
	moreKill,
	moreBudgets,
	moreEvidence,
	moreWeakenings,
}

// changes are those of the workload itself.
func changes(a, b Spec) []Difference {
	var list []Difference
	change := func(field, was, is string) {
		if was != is {
			list = append(list, Difference{Changes, field, "", is + ", was " + was})
		}
	}
	words := func(args []string) string {
		if len(args) == 0 {
			return "none"
		}
		return fmt.Sprintf("%q", args)
	}
	word := func(s, otherwise string) string {
		if s == "" {
			return otherwise
		}
		return strconv.Quote(s)
	}
	change("version", strconv.Itoa(a.Version), strconv.Itoa(b.Version))
	change("workload.command", words(a.Workload.Command), words(b.Workload.Command))
	change("workload.dir", word(a.Workload.Dir, `"/"`), word(b.Workload.Dir, `"/"`))
	change("workload.wasm", word(a.Workload.Wasm, "none"), word(b.Workload.Wasm, "none"))
	change("workload.args", words(a.Workload.Args), words(b.Workload.Args))
	return list
}

// replaced is a gain in a field that has one value.
func replaced(field, is, was string) gain {
	return gain{field: field, now: is + ", was " + was, then: was + ", was " + is}
}

// outranks says whether to comes behind from in order. Names that are not in it
// have no order, which counts as more either way.
func outranks[T ~string](order []T, from, to T) bool {
	i, j := slices.Index(order, from), slices.Index(order, to)
	return from != to && (i < 0 || j < 0 || i < j)
}

func moreEnvironment(from, to Spec) []gain {
	var list []gain
	for _, e := range to.Capabilities.Environment {
		if slices.Contains(from.Capabilities.Environment, e) {
			continue
		}
		value := strconv.Quote(e.Value)
		if e.Lease != "" {
			value = "the secret " + strconv.Quote(e.Lease)
		}
		list = append(list, gain{"capabilities.environment", e.Name, "is set to " + value, "is no longer set to " + value})
	}
	return list
}

func moreSpawn(from, to Spec) []gain {
	f, t := from.Capabilities.Spawn, to.Capabilities.Spawn
	if !outranks(spawns, f, t) {
		return nil
	}
	return []gain{replaced("capabilities.spawn", string(t), string(f))}
}

func moreDescriptors(from, to Spec) []gain {
	var list []gain
	for _, n := range to.Capabilities.FDs {
		if !slices.Contains(from.Capabilities.FDs, n) {
			list = append(list, gain{"capabilities.fds", strconv.Itoa(n), "is handed over", "is no longer handed over"})
		}
	}
	return list
}

func moreClock(from, to Spec) []gain {
	f, t := cmp.Or(from.Capabilities.Clock, ClockReal), cmp.Or(to.Capabilities.Clock, ClockReal)
	if !outranks(clocks, f, t) {
		return nil
	}
	return []gain{replaced("capabilities.clock", string(t), string(f))}
}

func moreRandom(from, to Spec) []gain {
	f, t := cmp.Or(from.Capabilities.Random, RandomReal), cmp.Or(to.Capabilities.Random, RandomReal)
	if !outranks(randoms, f, t) {
		return nil
	}
	return []gain{replaced("capabilities.random", string(t), string(f))}
}

// moreCapture: what is captured leaves the boundary. More bytes beyond the
// limit do too, but are not kept.
func moreCapture(from, to Spec) []gain {
	var list []gain
	for _, t := range to.Controls.Capture {
		was := int64(0)
		for _, f := range from.Controls.Capture {
			if f.Stream == t.Stream {
				was = f.Limit
			}
		}
		words := func(n int64) string {
			if n == 0 {
				return "goes nowhere"
			}
			return "is relayed and " + sizeWords(n) + " of it kept"
		}
		if t.Limit > was {
			list = append(list, gain{"controls.capture", t.Stream, words(t.Limit), words(was)})
		}
	}
	return list
}

func moreStdin(from, to Spec) []gain {
	in := to.Controls.Stdin
	if in.Mode == StdinNone || in == from.Controls.Stdin {
		return nil
	}
	source := in.Mode
	if in.Mode == StdinInherit {
		source = "the caller's own"
	}
	if in.Mode == StdinFile {
		source = shown(in.File)
	}
	return []gain{{"controls.stdin", "", "is " + source, "is no longer " + source}}
}

// moreArtifacts: a write that is held back takes effect only when somebody
// commits it.
func moreArtifacts(from, to Spec) []gain {
	f, t := from.Controls.Artifacts, to.Controls.Artifacts
	if f == nil {
		return nil
	}
	held := map[string]bool{}
	if t != nil {
		for _, p := range t.Paths {
			held[p] = true
		}
	}
	var list []gain
	for _, p := range f.Paths {
		if _, _, ok := deepest(held, p); !ok {
			list = append(list, gain{"controls.artifacts.paths", p, "writes are no longer held back", "writes are held back"})
		}
	}
	if t == nil {
		return list
	}
	if outranks([]string{"never", "manual", "on-success"}, f.Commit, t.Commit) {
		list = append(list, replaced("controls.artifacts.commit", t.Commit, f.Commit))
	}
	if outranks([]string{"durable", "atomic"}, f.Durability, t.Durability) {
		list = append(list, replaced("controls.artifacts.durability", t.Durability, f.Durability))
	}
	return list
}

func moreKill(from, to Spec) []gain {
	var list []gain
	f, t := from.Controls.Kill, to.Controls.Kill
	if outranks(killTrees, f.Tree, t.Tree) {
		list = append(list, replaced("controls.kill.tree", t.Tree, f.Tree))
	}
	if t.Grace > f.Grace {
		list = append(list, replaced("controls.kill.grace", t.Grace.String(), f.Grace.String()))
	}
	return list
}

func moreBudgets(from, to Spec) []gain {
	var list []gain
	for _, d := range Dimensions {
		field := strictyaml.Join("budgets", string(d))
		f, bounded := from.Budgets[d]
		t, stays := to.Budgets[d]
		switch {
		case !bounded:
			continue
		case !stays:
			list = append(list, replaced(field, "no limit", d.words(f.Limit)))
		case t.Limit > f.Limit:
			list = append(list, replaced(field, d.words(t.Limit), d.words(f.Limit)))
		}
		if f.Rate != 0 && stays && (t.Rate == 0 || t.Rate > f.Rate) {
			to := "no rate"
			if t.Rate != 0 {
				to = RateWords(t.Rate)
			}
			list = append(list, replaced(field+".rate", to, RateWords(f.Rate)))
		}
		if stays && t.Guarantee < f.Guarantee {
			list = append(list, replaced(field+".guarantee", t.Guarantee.String(), f.Guarantee.String()))
		}
		list = append(list, dropped(field+".evidence", f.Evidence, t.Evidence)...)
	}
	return list
}

// words is a limit in the unit of the dimension.
func (d Dimension) words(n int64) string {
	switch d {
	case Wall, CPU:
		return time.Duration(n).String()
	case Processes, Handles, Fuel, CallDepth:
		return strconv.FormatInt(n, 10)
	}
	return sizeWords(n)
}

// sizeWords is a number of bytes as ParseSize reads it, in the largest binary
// unit that is exact.
func sizeWords(n int64) string {
	for _, u := range slices.Backward(sizeUnits) {
		if u.bytes&(u.bytes-1) == 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

func moreEvidence(from, to Spec) []gain { return dropped("evidence", from.Evidence, to.Evidence) }

func dropped(field string, was, is []Claim) []gain {
	var list []gain
	for _, c := range was {
		if !slices.Contains(is, c) {
			list = append(list, gain{field, string(c), "is no longer demanded", "is demanded"})
		}
	}
	return list
}

func moreWeakenings(from, to Spec) []gain {
	var list []gain
	for _, w := range to.Accept {
		if !slices.Contains(from.Accept, w) {
			list = append(list, gain{"accept", string(w), "is accepted: " + Weakenings[w], "is no longer accepted: " + Weakenings[w]})
		}
	}
	return list
}
