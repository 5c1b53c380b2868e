package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"
)

func formsOf(name, value string) secretForms {
	return secretForms{
		name:    name,
		value:   []byte(value),
		escaped: escapedForms(value),
		hex:     []byte(hex.EncodeToString([]byte(value))),
		base64:  base64Forms(value),
	}
}

// escapedForms is what a terminal makes of line ends (ONLCR, termios(3)), and
// what the usual encoders write for URLs. Decoding finds more, but what stands
// before a value can mislead it: in "%2" and "0%41", the escape is "%20".
func escapedForms(value string) [][]byte {
	var forms [][]byte
	if shown := strings.ReplaceAll(value, "\n", "\r\n"); shown != value {
		forms = append(forms, []byte(shown))
	}
	for _, s := range []string{url.QueryEscape(value), url.PathEscape(value)} {
		for _, form := range [][]byte{[]byte(s), lowerEscapes(s)} {
			if string(form) != value && !slices.ContainsFunc(forms, func(f []byte) bool { return bytes.Equal(f, form) }) {
				forms = append(forms, form)
			}
		}
	}
	return forms
}

// lowerEscapes writes the digits of percent escapes in lower case.
func lowerEscapes(s string) []byte {
	out := []byte(s)
	for i, c := range out {
		if c == '%' {
			copy(out[i+1:i+3], bytes.ToLower(out[i+1:i+3]))
		}
	}
	return out
}

// base64Form is a value at one alignment in one alphabet: the characters that
// depend on it alone, and whether the one before or behind shows some of its
// bits, too.
type base64Form struct {
	core         []byte
	partialLeft  bool
	partialRight bool
}

// base64Forms gives the forms of a value that stands behind 0, 1 or 2 bytes
// modulo 3. Three bytes are four characters of six bits each (RFC 4648), so the
// value's bits are 8*shift to 8*(shift+len) and the characters wholly inside
// depend on nothing else.
func base64Forms(value string) []base64Form {
	var forms []base64Form
	for shift := range 3 {
		first := (8*shift + 5) / 6
		last := 8 * (shift + len(value)) / 6
		padded := append(make([]byte, shift), value...)
		for _, alphabet := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			core := alphabet.EncodeToString(padded)[first:last]
			form := base64Form{[]byte(core), 8*shift%6 != 0, 8*(shift+len(value))%6 != 0}
			if n := len(forms); n > 0 && alphabet == base64.RawURLEncoding && bytes.Equal(forms[n-1].core, form.core) {
				continue // no character that the alphabets write differently
			}
			forms = append(forms, form)
		}
	}
	return forms
}

// view is a text made from captured bytes, with the way back.
type view struct {
	text []byte
	from []int // text[i] was made of captured[from[i]:to[i]]; nil: text is captured
	to   []int
}

func newView(size int) view {
	return view{make([]byte, 0, size), make([]int, 0, size), make([]int, 0, size)}
}

func (v *view) add(c byte, from, to int) {
	v.text = append(v.text, c)
	v.from = append(v.from, from)
	v.to = append(v.to, to)
}

type views struct {
	raw     view // as captured
	decoded view // percent escapes decoded; empty if there are none
	form    view // and '+' read as space; empty if there is neither
	joined  view // without line ends
	lower   view // without line ends, in lower case
}

func viewsOf(b []byte) views {
	v := views{raw: view{text: b}, joined: join(b)}
	escapes := bytes.IndexByte(b, '%') >= 0
	if escapes {
		v.decoded = unescape(b, false)
	}
	if escapes || bytes.IndexByte(b, '+') >= 0 {
		v.form = unescape(b, true)
	}
	v.lower = v.joined
	v.lower.text = lowerASCII(v.joined.text)
	return v
}

// join leaves line ends out: base64(1) and xxd(1) break their output.
func join(b []byte) view {
	if !bytes.ContainsAny(b, "\r\n") {
		return view{text: b}
	}
	v := newView(len(b))
	for i, c := range b {
		if c != '\r' && c != '\n' {
			v.add(c, i, i+1)
		}
	}
	return v
}

// unescape decodes percent escapes (RFC 3986, section 2.1) in either case and
// leaves what is none as it stands.
func unescape(b []byte, plusIsSpace bool) view {
	v := newView(len(b))
	for i := 0; i < len(b); {
		c, n := b[i], 1
		if c == '%' && i+2 < len(b) {
			var decoded [1]byte
			if _, err := hex.Decode(decoded[:], b[i+1:i+3]); err == nil {
				c, n = decoded[0], 3
			}
		} else if c == '+' && plusIsSpace {
			c = ' '
		}
		v.add(c, i, i+n)
		i += n
	}
	return v
}

// lowerASCII does what bytes.ToLower does for ASCII, and keeps the length for
// whatever else there is.
func lowerASCII(b []byte) []byte {
	out := bytes.Clone(b)
	for i, c := range out {
		if c >= 'A' && c <= 'Z' {
			out[i] = c + 'a' - 'A'
		}
	}
	return out
}

// find appends the places of needle, and of its beginning at the very end if
// truncated. Occurrences that overlap an earlier one are left out: replacing
// the earlier one breaks them.
func (v view) find(hits []hit, name string, needle []byte, truncated bool) []hit {
	return v.findBase64(hits, name, base64Form{core: needle}, truncated)
}

func (v view) findBase64(hits []hit, name string, form base64Form, truncated bool) []hit {
	at := 0
	for {
		i := bytes.Index(v.text[at:], form.core)
		if i < 0 {
			break
		}
		start := at + i
		at = start + len(form.core)
		hits = append(hits, v.hit(name, form, start, at))
	}
	if n := cutOff(v.text[at:], form.core); truncated && n > 0 {
		hits = append(hits, v.hit(name, form, len(v.text)-n, len(v.text)))
	}
	return hits
}

// hit turns a range of the text, and the characters beside it that show some
// bits of the value, into a range of captured bytes.
func (v view) hit(name string, form base64Form, start, end int) hit {
	if form.partialLeft && start > 0 && isBase64(v.text[start-1]) {
		start--
	}
	if form.partialRight && end < len(v.text) && isBase64(v.text[end]) {
		end++
	}
	if v.from == nil {
		return hit{start, end, name}
	}
	return hit{v.from[start], v.to[end-1], name}
}

func isBase64(c byte) bool {
	return c < 0x80 && isNameRune(rune(c)) || c == '+' || c == '/' || c == '-'
}

// cutOff is the length of the longest beginning of needle, not all of it, that
// ends text; 0 if that is shorter than MinRedacted.
func cutOff(text, needle []byte) int {
	for n := min(len(needle)-1, len(text)); n >= MinRedacted; n-- {
		if bytes.HasSuffix(text, needle[:n]) {
			return n
		}
	}
	return 0
}
