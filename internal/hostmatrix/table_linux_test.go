//go:build amd64 || arm64

package hostmatrix

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/sys"
)

// generated stands in the document between what people write and what tests do.
const generated = "<!-- generated -->\n"

// document is docs/host-matrix.md. Sections are kernels and users, each with
// two rows for every host that could be made there.
type document struct {
	intro    string
	sections map[string]map[string]rows
}

// rows are what a host gives, and why. They hold nothing of a machine but its
// kernel's answers.
type rows struct{ answers, why string }

// section names the kernel, its groups and the user, and nothing that differs
// from one build of that kernel to the next. Groups are in it because one of the
// workload's own can end it where there are no pid namespaces.
func section() (string, error) {
	abi, err := sys.LandlockABI()
	if err != nil && err != unix.ENOSYS && err != unix.EOPNOTSUPP {
		return "", err
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return "", err
	}
	version := strings.SplitN(unix.ByteSliceToString(uts.Release[:]), ".", 3)
	if len(version) < 2 {
		return "", fmt.Errorf("the kernel calls itself %q", uts.Release)
	}
	who := "root"
	if os.Geteuid() != 0 {
		who = "an ordinary user"
		if writable(ownGroup()) {
			who += " with a group"
		}
	}
	return fmt.Sprintf("Linux %s.%s, Landlock ABI %d, cgroup %s, %s", version[0], version[1], abi, hierarchies(), who), nil
}

func readDocument(path string) (document, error) {
	text, err := os.ReadFile(path)
	d := document{sections: map[string]map[string]rows{}}
	if err != nil {
		return d, err
	}
	intro, rest, _ := strings.Cut(string(text), generated)
	d.intro = intro
	var at map[string]rows
	for line := range strings.Lines(rest) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			at = map[string]rows{}
			d.sections[strings.TrimSpace(title)] = at
			continue
		}
		name, _, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "` |")
		if at == nil || !ok || !strings.HasPrefix(line, "| `") {
			continue
		}
		r := at[name]
		if r.answers == "" {
			r.answers = line
		} else {
			r.why = line
		}
		at[name] = r
	}
	delete(d.sections, "Hosts")
	delete(d.sections, "Specs")
	return d, nil
}

// add puts a host's rows into a section.
func (d document) add(title, host string, r rows) {
	if d.sections[title] == nil {
		d.sections[title] = map[string]rows{}
	}
	d.sections[title][host] = r
}

// adopt adds what the test logged under another kernel: a title, then two rows.
func adopt(log string) error {
	text, err := os.ReadFile(log)
	if err != nil {
		return err
	}
	d, err := readDocument(*table)
	if err != nil {
		return err
	}
	title, last := "", ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(strings.TrimRight(line, "\r\n"))
		if _, after, ok := strings.Cut(line, ": "+titleMark); ok {
			title, last = after, ""
			continue
		}
		host, _, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "` |")
		switch {
		case !ok || title == "" || !strings.HasPrefix(line, "| `"):
			title, last = "", ""
		case last == "":
			last = line
		default:
			d.add(title, host, rows{last + "\n", line + "\n"})
		}
	}
	return os.WriteFile(*table, []byte(d.String()), 0o644)
}

// titleMark goes before a title where rows are logged.
const titleMark = "rows of "

func (d document) String() string {
	var b strings.Builder
	b.WriteString(d.intro + generated)
	b.WriteString("\n## Hosts\n\n| host | what it is |\n|---|---|\n")
	for _, h := range hosts() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", h.name, h.what)
	}
	b.WriteString("\n## Specs\n\n| spec | what it asks for |\n|---|---|\n")
	for _, c := range specs() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", c.name, c.what)
	}
	for _, title := range slices.Sorted(maps.Keys(d.sections)) {
		fmt.Fprintf(&b, "\n## %s\n\n| host |", title)
		for _, c := range specs() {
			b.WriteString(" " + c.name + " |")
		}
		b.WriteString("\n|---|" + strings.Repeat("---|", len(specs())) + "\n")
		d.write(&b, title, func(r rows) string { return r.answers })
		b.WriteString("\n| host | because | refused for | the spec without | the host, cured |\n|---|---|---|---|---|\n")
		d.write(&b, title, func(r rows) string { return r.why })
	}
	return b.String()
}

func (d document) write(b *strings.Builder, title string, line func(rows) string) {
	for _, h := range hosts() {
		b.WriteString(line(d.sections[title][h.name]))
	}
}

// word is one cell: how a spec fares.
func (r result) word() string {
	switch {
	case r.Asked.Reasons == nil:
		return "holds"
	case r.Changed == nil || r.Changed.Reasons != nil:
		return "refused"
	case slices.ContainsFunc(r.Changed.Changes, func(c string) bool { return !strings.HasPrefix(c, accepting) }):
		return "changed"
	}
	return "by name"
}

// rows sums up what was found on a host.
func (h host) rows(a answer) rows {
	facts, codes, changes := map[string]bool{}, map[string]bool{}, map[string]bool{}
	answers := "| `" + h.name + "` |"
	for _, c := range specs() {
		i := slices.IndexFunc(a.Specs, func(r result) bool { return r.Spec == c.name })
		if i < 0 {
			answers += " - |"
			continue
		}
		r := a.Specs[i]
		answers += " " + r.word() + " |"
		for _, reason := range r.Asked.Reasons {
			codes[strings.TrimPrefix(reason.Code, "unsupported.")] = true
			if name, _, ok := factOf(reason.Fact); ok {
				facts["`"+name+"`: "+a.Exercised[name]] = true
			}
		}
		if r.word() == "by name" || r.word() == "changed" {
			for _, c := range r.Changed.Changes {
				changes[strings.TrimPrefix(c, accepting)] = true
			}
		}
	}
	list := func(m map[string]bool) string {
		if len(m) == 0 {
			return "-"
		}
		return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
	}
	cured := "-"
	if h.cure.how != "" {
		cured = h.cure.how + ": holds as it is"
	}
	return rows{answers + "\n", fmt.Sprintf("| `%s` | %s | %s | %s | %s |\n", h.name, list(facts), list(codes), list(changes), cured)}
}
