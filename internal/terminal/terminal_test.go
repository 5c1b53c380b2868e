package terminal

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

var sanitized = map[string]string{
	"":                          "",
	"/usr/bin/env":              "/usr/bin/env",
	"é ü 漢字 e\u0301":            "é ü 漢字 e\u0301",
	"a\nb\tc\r":                 `a\nb\tc\r`,
	"\x1b[31mred\x1b[0m":        `\x1b[31mred\x1b[0m`,
	"\x1b]0;title\x07":          `\x1b]0;title\x07`,
	"\x7f\x00":                  `\x7f\x00`,
	"\u009b31m":                 `\u009b31m`, // the one-character CSI
	"abc\u202etxt.exe":          `abc\u202etxt.exe`,
	"\u2066a\u2069\u200e":       `\u2066a\u2069\u200e`,
	"zero\u200bwidth\ufeff":     `zero\u200bwidth\ufeff`,
	"\u2028\u2029\u00a0":        `\u2028\u2029\u00a0`,
	"\u3164\u2800\ufe0f":        `\u3164\u2800\ufe0f`,
	"\U000e0041":                `\U000e0041`,
	"\xff\xfe":                  `\xff\xfe`,
	`\x1b`:                      `\\x1b`,
	"\u0301a":                   `\u0301a`,
	"a\u0301\u0301\u0301\u0301": "a\u0301\u0301\u0301" + `\u0301`,
	"\ufffd":                    "\ufffd",
}

func TestSanitize(t *testing.T) {
	for in, want := range sanitized {
		if got := Sanitize(in); got != want {
			t.Errorf("Sanitize(%q) = %q, want %q", in, got, want)
		}
	}
	for _, c := range []struct {
		in   string
		max  int
		want string
	}{
		{"abcdef", 6, "abcdef"},
		{"abcdefg", 6, "abcdef…(1 more bytes)"},
		{"ab\x1b", 4, "ab…(1 more bytes)"},
		{"ééé", 2, "éé…(2 more bytes)"},
		{"x", 0, "…(1 more bytes)"},
	} {
		if got := SanitizeMax(c.in, c.max); got != c.want {
			t.Errorf("SanitizeMax(%q, %d) = %q, want %q", c.in, c.max, got, c.want)
		}
	}
}

func FuzzSanitize(f *testing.F) {
	for _, in := range slices.Sorted(maps.Keys(sanitized)) {
		f.Add(in, 100)
	}
	f.Add("\x1b[2J\u202e\xff\\\u0301", 100)
	f.Add("\x1b[2J\u202e\xff\\\u0301", 5)
	f.Add("e\u0301\u0301\u0301\u0301\u0301\x00é", 3)
	f.Fuzz(func(t *testing.T, in string, limit int) {
		limit &= 0xfff
		out := SanitizeMax(in, limit)
		if !utf8.ValidString(out) || utf8.RuneCountInString(out) > limit+40 {
			t.Fatalf("%q with %d gives %q", in, limit, out)
		}
		for _, r := range out {
			if !unicode.IsPrint(r) || unicode.Is(unicode.Bidi_Control, r) {
				t.Fatalf("%q gives %q with %U", in, out, r)
			}
		}
		if strings.HasSuffix(out, " more bytes)") {
			return
		}
		// Whole output reads back as the input: nothing was lost or confused.
		var back []byte
		for rest := out; rest != ""; {
			r, multi, tail, err := strconv.UnquoteChar(rest, 0)
			if err != nil {
				t.Fatalf("%q gives %q: %v", in, out, err)
			}
			if multi || r < utf8.RuneSelf {
				back = utf8.AppendRune(back, r)
			} else {
				back = append(back, byte(r))
			}
			rest = tail
		}
		if string(back) != in {
			t.Fatalf("%q gives %q, which reads as %q", in, out, back)
		}
	})
}
