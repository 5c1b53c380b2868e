package secret

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// MinRedacted is the length of the shortest value that is redacted. Shorter
// ones would be found by chance all over ordinary output.
const MinRedacted = 4

// Redactor takes the values of leases out of captured bytes. It finds a value
// as it is, and encoded in base64 (standard and URL alphabet, padded or not, at
// any of the three alignments, in lines of any length), in hexadecimal (in
// either case, in lines of any length) and percent-encoded for URLs (whichever
// bytes were escaped, spaces as '+' included).
//
// That is all it finds. A program that holds a secret can always write it in a
// form nobody thought of; redaction is against accidents.
type Redactor struct {
	secrets []secretForms
	short   []string
	plain   bool // "[redacted:NAME]" would itself bring a value back
	filler  string
}

// secretForms is one value in the forms that are searched for.
type secretForms struct {
	name    string
	value   []byte
	escaped [][]byte
	hex     []byte
	base64  []base64Form
}

// Redaction says how many places held one variable's value.
type Redaction struct {
	Name  string
	Count int
}

// NewRedactor redacts the values that have a Reference. A literal is in the
// spec and so in the report; there is nothing to hide.
func NewRedactor(values []Value) *Redactor {
	r := &Redactor{}
	for _, v := range values {
		switch {
		case v.Reference == "":
		case len(v.Value) < MinRedacted:
			r.short = append(r.short, v.Name)
		default:
			r.secrets = append(r.secrets, formsOf(v.Name, v.Value))
		}
	}
	r.chooseLabel()
	return r
}

// Short names the leases whose values are too short to be redacted.
func (r *Redactor) Short() []string { return r.short }

// maxPasses bounds the work. Output in which taking out one value uncovers
// another, again and again, is no accident.
const maxPasses = 8

// Redact returns captured with every value replaced by "[redacted:NAME]", and
// how often, in order of name. captured is not changed. truncated says that
// the stream went on: then the beginning of a value at the very end is taken
// out, too.
func (r *Redactor) Redact(captured []byte, truncated bool) ([]byte, []Redaction) {
	counts := map[string]int{}
	out := captured
	for pass := 0; ; pass++ {
		hits := r.find(out, truncated && pass == 0)
		if len(hits) == 0 {
			break
		}
		if pass == maxPasses {
			for _, h := range hits {
				counts[h.name]++
			}
			out = []byte(r.label(""))
			break
		}
		out = r.replace(out, hits, counts)
	}
	var found []Redaction
	for name, n := range counts {
		found = append(found, Redaction{name, n})
	}
	slices.SortFunc(found, func(a, b Redaction) int { return cmp.Compare(a.Name, b.Name) })
	return out, found
}

// hit is a range of bytes that shows a value.
type hit struct {
	start, end int
	name       string
}

// find looks for every value in every form. It reads the bytes a fixed number
// of times per value.
func (r *Redactor) find(b []byte, truncated bool) []hit {
	var hits []hit
	views := viewsOf(b)
	for _, s := range r.secrets {
		hits = views.raw.find(hits, s.name, s.value, truncated)
		for _, form := range s.escaped {
			hits = views.raw.find(hits, s.name, form, truncated)
		}
		hits = views.decoded.find(hits, s.name, s.value, truncated)
		if bytes.Contains(s.value, []byte(" ")) {
			hits = views.form.find(hits, s.name, s.value, truncated)
		}
		hits = views.lower.find(hits, s.name, s.hex, truncated)
		for _, form := range s.base64 {
			hits = views.joined.findBase64(hits, s.name, form, truncated)
		}
	}
	return hits
}

// replace writes b with the hits replaced. Hits that overlap are one place,
// which is the variable's whose hit begins first, or is longer.
func (r *Redactor) replace(b []byte, hits []hit, counts map[string]int) []byte {
	slices.SortFunc(hits, func(x, y hit) int {
		return cmp.Or(x.start-y.start, y.end-x.end, cmp.Compare(x.name, y.name))
	})
	var out []byte
	at := 0
	for i := 0; i < len(hits); {
		h := hits[i]
		for i++; i < len(hits) && hits[i].start < h.end; i++ {
			h.end = max(h.end, hits[i].end)
		}
		out = append(out, b[at:h.start]...)
		out = append(out, r.label(h.name)...)
		at = h.end
		counts[h.name]++
	}
	return append(out, b[at:]...)
}

// chooseLabel makes sure that what is written in a value's place holds no
// value, not even together with its surroundings. No form but the plain one has
// square brackets, so a label in brackets is safe unless a value has one or
// lies within the label's text.
func (r *Redactor) chooseLabel() {
	for _, s := range r.secrets {
		if bytes.ContainsAny(s.value, "[]") {
			r.plain = true
		}
	}
	for _, s := range r.secrets {
		if !r.plain && len(r.find([]byte(r.label(s.name)), false)) > 0 {
			r.plain = true
		}
	}
	if !r.plain {
		return
	}
	// A byte that occurs in no value and in no encoding of one. No environment
	// variable holds NUL, so there always is one.
	for _, c := range []byte("*#~|!^$&@?;,. \x00") {
		if !slices.ContainsFunc(r.secrets, func(s secretForms) bool { return bytes.IndexByte(s.value, c) >= 0 }) {
			r.filler = strings.Repeat(string(rune(c)), 3)
			return
		}
	}
}

func (r *Redactor) label(name string) string {
	switch {
	case r.plain:
		return r.filler
	case name == "" || strings.ContainsFunc(name, func(c rune) bool { return !isNameRune(c) }):
		return "[redacted]"
	default:
		return "[redacted:" + name + "]"
	}
}

func isNameRune(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}
