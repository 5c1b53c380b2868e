package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func lease(name, value string) Value { return Value{name, value, "m:" + name} }

// encodings are the ways a program may print a value, by somebody else's code.
// Each yields the text that must not survive in its entirety.
func encodings(value string) map[string]string {
	m := map[string]string{
		"plain":     value,
		"terminal":  strings.ReplaceAll(value, "\n", "\r\n"),
		"hex":       hex.EncodeToString([]byte(value)),
		"HEX":       strings.ToUpper(hex.EncodeToString([]byte(value))),
		"query":     url.QueryEscape(value),
		"path":      url.PathEscape(value),
		"query low": string(lowerEscapes(url.QueryEscape(value))),
		"all":       percentAll(value),
	}
	for name, e := range map[string]*base64.Encoding{"std": base64.StdEncoding, "raw std": base64.RawStdEncoding, "url": base64.URLEncoding, "raw url": base64.RawURLEncoding} {
		for _, before := range []string{"", "x", "xy"} {
			for _, behind := range []string{"", "x", "xy"} {
				m[fmt.Sprintf("%s %d+%d", name, len(before), len(behind))] = e.EncodeToString([]byte(before + value + behind))
			}
		}
	}
	return m
}

func percentAll(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02x", s[i])
	}
	return b.String()
}

func TestRedactFindsEveryEncoding(t *testing.T) {
	for _, value := range []string{"abcd", "hunter2 is+old/%41", "\xff\xfe\xfd\xfc\xfb", "line\nline\r\nline", strings.Repeat("k", 200)} {
		r := NewRedactor([]Value{lease("TOKEN", value)})
		for name, text := range encodings(value) {
			// Nothing around it belongs to an encoding.
			in := "<" + text + ">"
			out, found := r.Redact([]byte(in), false)
			if len(found) != 1 || found[0] != (Redaction{"TOKEN", 1}) {
				t.Errorf("%s of %q: found %v in %q", name, value, found, in)
			}
			if strings.Contains(string(out), text) || !strings.Contains(string(out), "[redacted:TOKEN]") {
				t.Errorf("%s of %q: %q", name, value, out)
			}
		}
	}
}

func TestRedactLeavesTheRest(t *testing.T) {
	r := NewRedactor([]Value{lease("A", "secret-a"), {Name: "L", Value: "literal"}})
	for in, want := range map[string]string{
		"":                                 "",
		"nothing secret-":                  "nothing secret-",
		"literal":                          "literal",
		"x secret-a y\nsecret-asecret-a\n": "x [redacted:A] y\n[redacted:A][redacted:A]\n",
		"c2VjcmV0LWE=\n":                   "[redacted:A]=\n",
		"7365637265742d61 7365637265742D6": "[redacted:A] 7365637265742D6",
		"736563\n7265742d61":               "[redacted:A]",
		"se%63ret%2Da&x=%zz%4":             "[redacted:A]&x=%zz%4",
	} {
		kept := []byte(in)
		if got, _ := r.Redact(kept, false); string(got) != want {
			t.Errorf("Redact(%q) = %q, want %q", in, got, want)
		}
		if string(kept) != in {
			t.Errorf("Redact changed its argument to %q", kept)
		}
	}
}

func TestRedactOverlaps(t *testing.T) {
	r := NewRedactor([]Value{lease("SHORT", "abcd"), lease("LONG", "abcdefgh"), lease("NEXT", "ghij"), lease("RUN", "zzzz")})
	for in, want := range map[string]string{
		"-abcdefgh-":   "-[redacted:LONG]-",
		"-abcdefghij-": "-[redacted:LONG]-",
		"-abcdxghij-":  "-[redacted:SHORT]x[redacted:NEXT]-",
		"-zzzzzz-":     "-[redacted:RUN]zz-",
	} {
		if got, _ := r.Redact([]byte(in), false); string(got) != want {
			t.Errorf("Redact(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestRedactCounts(t *testing.T) {
	r := NewRedactor([]Value{lease("B", "bbbb"), lease("A", "aaaa"), lease("C", "cccc"), lease("TINY", "abc")})
	_, found := r.Redact([]byte("bbbb aaaa 62626262 abc"), false)
	if want := []Redaction{{"A", 1}, {"B", 2}}; !slices.Equal(found, want) {
		t.Errorf("found %v, want %v", found, want)
	}
	if got := r.Short(); !slices.Equal(got, []string{"TINY"}) {
		t.Errorf("Short: %q", got)
	}
}

func TestRedactCutOffValue(t *testing.T) {
	r := NewRedactor([]Value{lease("A", "secret-value")})
	for in, want := range map[string]string{
		"x secret-v":                "x [redacted:A]",
		"x sec":                     "x sec",
		"x 7365637265":              "x [redacted:A]",
		"x secret-value secret-val": "x [redacted:A] [redacted:A]",
	} {
		if got, _ := r.Redact([]byte(in), true); string(got) != want {
			t.Errorf("truncated %q: %q, want %q", in, got, want)
		}
	}
	if got, _ := r.Redact([]byte("x secret-v"), false); string(got) != "x secret-v" {
		t.Errorf("whole stream: %q, want it unchanged", got)
	}
}

// What is written in a value's place must not bring one back.
func TestLabelsShowNoValue(t *testing.T) {
	for _, values := range [][]Value{
		{lease("TOKEN", "redacted")},
		{lease("TOKEN", "TOKEN")},
		{lease("A", "]abc"), lease("B", "wxyz")},
		{lease("****", "****")},
		{lease("A", "*#~|!^$&@?;,. []")},
		{lease("a\nb", "aaaa")},
	} {
		r := NewRedactor(values)
		for _, v := range values {
			in := "<wxyzabc" + v.Value + ">" + hex.EncodeToString([]byte(v.Value))
			out, found := r.Redact([]byte(in), false)
			for _, v := range values {
				if bytes.Contains(out, []byte(v.Value)) {
					t.Errorf("values %+v: %q became %q", values, in, out)
				}
			}
			if len(found) == 0 {
				t.Errorf("values %+v: nothing found in %q", values, in)
			}
		}
	}
}

// Taking out the first value changes how what follows it decodes.
func TestRedactUncoveredValue(t *testing.T) {
	r := NewRedactor([]Value{lease("A", "abcd%4"), lease("B", "1xyz")})
	out, _ := r.Redact([]byte("abcd%41%78yz"), false)
	if got := string(out); got != "[redacted:A][redacted:B]" {
		t.Errorf("%q", got)
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("hunter2", "secret", []byte("hunter2 in aHVudGVyMg== and 68756e74657232"), uint64(1))
	f.Add("abcd%4", "1xyz", []byte("abcd%41%78yz"), uint64(2))
	f.Add("redacted", "[red", []byte("[redacted:A]"), uint64(3))
	f.Add("aaaa", "aaab", []byte("aaaaaaaabaab%61+"), uint64(4))
	f.Add("\xff\n ", " +%2", []byte("%25%2b"), uint64(5))
	f.Fuzz(func(t *testing.T, a, b string, around []byte, seed uint64) {
		if strings.Contains(a+b, "\x00") || len(a)+len(b)+len(around) > 1<<12 {
			return // no environment holds NUL
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		values := []Value{lease("A", a), lease("B", b)}
		var needles []string
		in := slices.Clone(around)
		for _, v := range values {
			if len(v.Value) < MinRedacted {
				continue
			}
			// In order of name, so that a seed always makes the same input.
			forms := encodings(v.Value)
			for _, name := range slices.Sorted(maps.Keys(forms)) {
				needles = append(needles, forms[name])
				at := rng.IntN(len(in) + 1)
				in = slices.Insert(in, at, []byte(forms[name])...)
			}
		}
		r := NewRedactor(values)
		out, found := r.Redact(in, seed%2 == 0)
		for _, n := range needles {
			if bytes.Contains(out, []byte(n)) {
				t.Errorf("values %q and %q: %q survives in %q (from %q)", a, b, n, out, in)
			}
		}
		if len(needles) > 0 && len(found) == 0 {
			t.Errorf("values %q and %q: nothing was reported of %q", a, b, in)
		}
		if len(needles) == 0 && !bytes.Equal(in, out) {
			t.Errorf("no value, and %q became %q", in, out)
		}
	})
}

func BenchmarkRedact(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	var values []Value
	for i := range 10 {
		values = append(values, lease(fmt.Sprint("S", i), fmt.Sprintf("%016x%016x", rng.Uint64(), rng.Uint64())))
	}
	r := NewRedactor(values)
	var text []byte
	for len(text) < 1<<20 {
		text = fmt.Appendf(text, "line %d: progress %d%% a+b %s\n", len(text), rng.IntN(100), values[rng.IntN(10)].Value[:31])
	}
	for name, in := range map[string][]byte{"text": text, "zeros": make([]byte, 1<<20), "all": bytes.Repeat([]byte(values[3].Value), 1<<15)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				r.Redact(in, true)
			}
		})
	}
}
