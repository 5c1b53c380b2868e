//go:build amd64 || arm64

package hostmatrix

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/plan"
)

// On every host each spec is either admitted, and what it becomes stops the
// attacks; or refused for a reason that is true, by remedies that work.
func TestHostMatrix(t *testing.T) {
	doc, err := readDocument(*table)
	if err != nil && !(*golden && errors.Is(err, os.ErrNotExist)) {
		t.Fatal(err)
	}
	title, err := section()
	if err != nil {
		t.Fatal(err)
	}
	here := hosts()[0].in(t, true) // as it is: what it admits
	var mu sync.Mutex
	t.Cleanup(func() { // after all of them
		if *golden && !t.Failed() {
			if err := os.WriteFile(*table, []byte(doc.String()), 0o644); err != nil {
				t.Error(err)
			}
		}
	})
	for _, h := range hosts() {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting: for the disk, for processes
			a := h.in(t, false)
			a.check(t)
			if got := fact(a.Profile, "cgroup").Value; h.hierarchies != "" && got != h.hierarchies {
				t.Errorf("the hierarchies here are %s, the profile says %s", h.hierarchies, got)
			}
			if got := fact(a.Profile, "landlock.abi").Value; h.abi != 0 && got != strconv.Itoa(h.abi) {
				t.Errorf("the Landlock ABI here is %d, the profile says %s", h.abi, got)
			}
			if h.cure.how != "" {
				h.check(t, here, a, h.in(t, true))
			}
			got := h.rows(a)
			t.Logf("%s%s\n%s%s", titleMark, title, got.answers, got.why)
			if *golden {
				mu.Lock()
				defer mu.Unlock()
				doc.add(title, h.name, got)
				return
			}
			want, ok := doc.sections[title][h.name]
			if !ok {
				need.Missing(t, "host-matrix", title+": no such section, or no such host in it, in "+*table+"; make golden adds it")
			}
			if got != want {
				t.Errorf("%s is not current; look, and run make golden:\n-%s-%s+%s+%s", *table, want.answers, want.why, got.answers, got.why)
			}
		})
	}
}

// What people read is what the tests hold.
func TestTheDocumentIsWhatIsWrittenDown(t *testing.T) {
	if *golden {
		t.Skip("-golden writes the table that this compares with")
	}
	text, err := os.ReadFile(*table)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := readDocument(*table)
	if err != nil {
		t.Fatal(err)
	}
	if got := doc.String(); got != string(text) {
		t.Errorf("%s is not what would be written: run make golden", *table)
	}
}

func fact(p plan.Profile, name string) plan.Fact {
	for _, f := range p.Facts {
		if f.Name == name {
			return f
		}
	}
	return plan.Fact{}
}

// check judges what was found on one host.
func (a answer) check(t *testing.T) {
	t.Helper()
	told := map[string]bool{}
	for _, r := range a.Specs {
		for _, w := range r.Asked.Wrong {
			t.Errorf("%s: %s", r.Spec, w)
		}
		if r.Changed != nil {
			for _, w := range r.Changed.Wrong {
				t.Errorf("%s with %q: %s", r.Spec, r.Changed.Changes, w)
			}
		}
		for _, reason := range r.Asked.Reasons {
			name, detail, ok := factOf(reason.Fact)
			if ok && !agrees(a.Exercised[name], detail) && !told[reason.Fact] {
				told[reason.Fact] = true
				t.Errorf("%s: refused because %s; somebody else met %q", r.Spec, reason.Fact, a.Exercised[name])
			}
		}
	}
}

// agrees compares what somebody else met with the words of a fact: an errno, or
// that something was not as it should be.
func agrees(met, detail string) bool {
	if strings.HasPrefix(detail, "the result is ") {
		return met != noError
	}
	for n := unix.Errno(1); n < 200; n++ {
		if unix.ErrnoName(n) == met {
			return detail == met || strings.HasSuffix(detail, n.Error())
		}
	}
	return detail == met
}

// check compares a host with itself cured: what was refused there alone is
// admitted, and the refusals said how.
func (h host) check(t *testing.T, here, sick, cured answer) {
	t.Helper()
	cured.check(t)
	said := map[string]bool{}
	for i, r := range sick.Specs {
		for _, reason := range r.Asked.Reasons {
			for _, words := range h.cure.says {
				said[words] = said[words] || strings.Contains(reason.Remedy, words)
			}
		}
		j := slices.IndexFunc(here.Specs, func(o result) bool { return o.Spec == r.Spec })
		admitted := j >= 0 && here.Specs[j].Asked.Reasons == nil
		if j < 0 { // a spec about groups, which is not tried there
			admitted = fact(cured.Profile, groupFact).Value == "available"
		}
		if c := cured.Specs[i]; admitted && c.Asked.Reasons != nil {
			t.Errorf("%s: with %q it is refused still: %+v", r.Spec, h.cure.how, c.Asked.Reasons)
		}
	}
	if len(h.cure.says) > 0 && len(said) > 0 && !slices.ContainsFunc(h.cure.says, func(w string) bool { return said[w] }) {
		t.Errorf("no remedy says any of %q: %+v", h.cure.says, sick.Specs[0].Asked.Reasons)
	}
}
