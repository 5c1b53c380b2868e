package terminal

import (
	"bytes"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// JSON returns a text in JSON that says the same and holds nothing that a
// terminal would obey. JSON itself asks for escapes below a space only, and a
// terminal takes U+009B for the beginning of a sequence, too (ECMA-48 section 5.4).
func JSON(text []byte) []byte {
	safe := func(r rune) bool { return r < utf8.RuneSelf && r != 0x7f || r >= utf8.RuneSelf && visible(r) }
	if bytes.IndexFunc(text, func(r rune) bool { return !safe(r) }) < 0 {
		return text
	}
	var b bytes.Buffer
	for _, r := range string(text) {
		switch high, low := utf16.EncodeRune(r); {
		case safe(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}
