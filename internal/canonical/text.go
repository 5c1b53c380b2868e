package canonical

import (
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// plain tells which bytes stand in a string as they are (RFC 8785 section
// 3.2.2.2): all but the quote, the backslash and the C0 controls.
var plain = func() (t [256]bool) {
	for i := 0x20; i < 256; i++ {
		t[i] = i != '"' && i != '\\'
	}
	return t
}()

// short holds the two-character escapes, which RFC 8785 demands where they exist.
var short = [256]byte{'\b': 'b', '\t': 't', '\n': 'n', '\f': 'f', '\r': 'r', '"': '"', '\\': '\\'}

// long holds the reverse of short.
var long = func() (t [256]byte) {
	for c, s := range short {
		if s != 0 {
			t[s] = byte(c)
		}
	}
	return t
}()

// appendString appends s quoted; ok is false when s is not valid UTF-8.
func appendString(b []byte, s string) (_ []byte, ok bool) {
	b = append(b, '"')
	start, ascii := 0, true
	for i := 0; i < len(s); i++ {
		c := s[i]
		if plain[c] {
			ascii = ascii && c < utf8.RuneSelf
			continue
		}
		b = append(b, s[start:i]...)
		start = i + 1
		if e := short[c]; e != 0 {
			b = append(b, '\\', e)
		} else {
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	b = append(b, s[start:]...)
	return append(b, '"'), ascii || utf8.ValidString(s)
}

// less orders names by their UTF-16 code units (RFC 8785 section 3.2.3). That
// differs from the order of their bytes only where a surrogate pair, which
// starts at 0xD800, meets a character from U+E000 to U+FFFF.
func less(a, b string) bool {
	n := min(len(a), len(b))
	i := 0
	for i < n && a[i] == b[i] {
		i++
	}
	if i == n {
		return len(a) < len(b)
	}
	// In UTF-8 a character above U+FFFF starts with 0xF0 to 0xF4, one from
	// U+E000 to U+FFFF with 0xEE or 0xEF.
	x, y := a[i], b[i]
	if x >= 0xF0 && (y == 0xEE || y == 0xEF) {
		return true
	}
	if y >= 0xF0 && (x == 0xEE || x == 0xEF) {
		return false
	}
	return x < y
}
