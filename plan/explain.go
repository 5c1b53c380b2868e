package plan

import (
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/bvisor/bvisor/spec"
)

// Explain writes the plan for people: what is accepted, what is held, by which
// mechanism, and who asked. Equal plans give equal text.
func (p Plan) Explain(w io.Writer) error {
	var b strings.Builder
	b.WriteString("plan " + p.ID() + "\n")
	b.WriteString("backend " + printable(p.Backend) + ", profile " + p.Profile + "\n")
	if len(p.Accepted) > 0 {
		b.WriteString("\nweakened: this boundary is open where the spec accepts it\n")
		var t table
		for _, a := range p.Accepted {
			t.row("!", string(a), spec.Weakenings[a])
		}
		t.write(&b)
	}
	if p.Resolved.Unresolved {
		b.WriteString("\nunresolved: the paths were not looked up, the profile is another host's\n")
	}

	b.WriteString("\nrequirements\n")
	var t table
	for i := range p.Requirements {
		r := &p.Requirements[i]
		t.row(strength(r.Verdict.Enforcement), strings.TrimSpace(printable(string(r.Kind))+" "+summary(r.Params)), list(r.Mechanisms), printable(string(r.Origin)))
	}
	t.write(&b)

	if len(p.Budgets) > 0 {
		b.WriteString("\nbudgets\n")
		t = table{}
		for i := range p.Budgets {
			u := &p.Budgets[i]
			t.row(strength(u.Verdict.Enforcement), string(u.Dimension)+" "+amount(u.Dimension, u.Limit)+rate(u), list(u.Mechanisms), printable(string(u.Origin)))
		}
		t.write(&b)
	}
	if len(p.Evidence) > 0 {
		b.WriteString("\nevidence\n")
		t = table{}
		for _, e := range p.Evidence {
			t.row(string(e.Claim), "shown by "+printable(strings.Join(e.By, ", ")))
		}
		t.write(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Error is the refusal in one line.
func (r *Refusal) Error() string {
	var codes []string
	var times []int
	for _, reason := range r.Reasons {
		if i := slices.Index(codes, reason.Code); i >= 0 {
			times[i]++
			continue
		}
		codes, times = append(codes, reason.Code), append(times, 1)
	}
	for i, n := range times {
		if n > 1 {
			codes[i] += " (" + strconv.Itoa(n) + " times)"
		}
	}
	return r.head() + ": " + strings.Join(codes, ", ")
}

func (r *Refusal) head() string {
	reasons := " reasons"
	if len(r.Reasons) == 1 {
		reasons = " reason"
	}
	return "refused by " + printable(r.Backend) + ": " + strconv.Itoa(len(r.Reasons)) + reasons +
		" among " + strconv.Itoa(r.Total) + " requirements"
}

// Explain writes every reason for people: what cannot be held, what would hold
// it, the fact that rules it out, and what to change. Reasons that differ only
// in their subject are written once.
func (r *Refusal) Explain(w io.Writer) error {
	var b strings.Builder
	b.WriteString(r.head() + "; nothing was started\n")
	b.WriteString("profile " + r.Profile + "\n")
	for _, g := range grouped(r.Reasons) {
		title := string(g.Requirement)
		if g.Subject != "" && !strings.HasSuffix(title, "."+g.Subject) {
			title += " " + printable(g.Subject)
		}
		if g.more > 0 {
			title += " and " + strconv.Itoa(g.more) + " more"
		}
		b.WriteString("\n" + title + "  [" + printable(g.Code) + "]\n")
		var t table
		t.row("needs", printable(g.Need))
		t.row("fact", printable(g.Fact))
		t.row("remedy", printable(g.Remedy))
		if g.Origin != "" {
			t.row("origin", printable(string(g.Origin)))
		}
		t.write(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// group is a reason that stands for more like it.
type group struct {
	Reason
	more int
}

func grouped(reasons []Reason) []group {
	var groups []group
next:
	for _, r := range reasons {
		for i := range groups {
			like := groups[i].Reason
			like.Subject = r.Subject
			if like == r {
				groups[i].more++
				continue next
			}
		}
		groups = append(groups, group{Reason: r})
	}
	return groups
}

// summary is the parameters in the words of the spec.
func summary(params []Param) string {
	get := func(name string) string {
		for _, p := range params {
			if p.Name == name {
				return p.Value
			}
		}
		return ""
	}
	if path, access := get("path"), get("access"); path != "" && access != "" {
		s := access + " " + printable(path)
		if dest := get("dest"); dest != "" && dest != path {
			s += " at " + printable(dest)
		}
		if get("recursive") == "false" {
			s += " (not recursive)"
		}
		return s
	}
	var s string
	for i, p := range params {
		value := printable(p.Value)
		if p.Name == "sha256" && len(value) > 12 {
			value = value[:12]
		}
		switch {
		case i > 0 && params[i-1].Name == p.Name:
			s += "," + value
		case i > 0:
			s += " " + p.Name + "=" + value
		default:
			s = p.Name + "=" + value
		}
	}
	return s
}

func list(all []Mechanism) string {
	var words []string
	for i := range all {
		m := &all[i]
		word := printable(m.Name)
		if len(m.Params) > 0 {
			word += " (" + summary(m.Params) + ")"
		}
		words = append(words, word)
	}
	return strings.Join(words, " + ")
}

// printable keeps control characters out of a terminal: file names may come
// from a program that nobody trusts.
func printable(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// table aligns the columns of some rows, indented by two.
type table struct {
	rows  [][]string
	width []int
}

func (t *table) row(cells ...string) {
	for i, c := range cells {
		if i == len(t.width) {
			t.width = append(t.width, 0)
		}
		t.width[i] = max(t.width[i], min(runes(c), widest))
	}
	t.rows = append(t.rows, cells)
}

func (t *table) write(b *strings.Builder) {
	for _, cells := range t.rows {
		line := " "
		for i, c := range cells {
			line += " " + c
			if i < len(cells)-1 {
				line += strings.Repeat(" ", max(0, t.width[i]-runes(c))+1)
			}
		}
		b.WriteString(line + "\n")
	}
}

// widest is how wide one long cell may make the column of the others.
const widest = 56

func runes(s string) int { return utf8.RuneCountInString(s) }

func rate(b *BudgetPlan) string {
	if b.Rate == 0 {
		return ""
	}
	return " at " + spec.RateWords(b.Rate) + " of a processor"
}
