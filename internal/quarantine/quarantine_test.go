package quarantine

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "plain", "\xff", `\`, `\xff`, "a\nb", "\x1b[31m", "\xe2\x82", "ü\\\xfe"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := Escape(s)
		if !utf8.ValidString(e) {
			t.Fatalf("%q became %q, which is not UTF-8", s, e)
		}
		if got, err := Unescape(e); err != nil || got != s {
			t.Fatalf("%q became %q, and that %q, %v", s, e, got, err)
		}
		// One name, one text: what is taken as one is what Escape gives.
		if raw, err := Unescape(s); err == nil && Escape(raw) != s {
			t.Fatalf("%q is taken for %q, which is written %q", s, raw, Escape(raw))
		}
	})
}

func TestCovers(t *testing.T) {
	dir := &Entry{After: &State{Type: Directory}}
	for _, c := range []struct {
		o    Options
		rel  string
		e    *Entry
		want bool
	}{
		{Options{Chosen: []string{""}}, "a", &Entry{}, true},
		{Options{}, "a", &Entry{}, false},
		{Options{Chosen: []string{"a"}}, "a", &Entry{}, true},
		{Options{Chosen: []string{"a"}}, "a/b", &Entry{}, true},
		{Options{Chosen: []string{"a"}}, "ab", &Entry{}, false},
		{Options{Chosen: []string{"a/b"}}, "a", dir, true},
		{Options{Chosen: []string{"a/b"}}, "a", &Entry{}, false},
		{Options{Chosen: []string{""}, Without: []string{"a"}}, "a/b", &Entry{}, false},
		{Options{Chosen: []string{""}, Without: []string{"a"}}, "ab", &Entry{}, true},
	} {
		if got := c.o.Covers(c.rel, c.e); got != c.want {
			t.Errorf("%+v covers %q: %t, want %t", c.o, c.rel, got, c.want)
		}
	}
}

// Names are ordered as what is written of them.
func FuzzOrderOfNames(f *testing.F) {
	for _, pair := range [][2]string{{"a", "b"}, {"a", "ab"}, {"", "a"}, {"\xc3A", "\xc3\xa9"}, {"x\xe2\x82", "x\xe2\x82\xac"}, {"\\", "\xff"}, {"]", "\\"}, {"\xff", "\xfe"}, {"\ufffd", "\xff"}} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		want := strings.Compare(Escape(a), Escape(b))
		if got := byEscape(a, b); (got < 0) != (want < 0) || (got > 0) != (want > 0) {
			t.Errorf("%q and %q: %d, their escaped forms have %d", a, b, got, want)
		}
	})
}
