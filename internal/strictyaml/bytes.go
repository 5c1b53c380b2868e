package strictyaml

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// checkBytes refuses input by its bytes alone: too much of it, not UTF-8, or
// characters that an editor shows as nothing or that only some YAML readers
// take for a line break (YAML 1.1 and 1.2 differ over U+0085, U+2028 and
// U+2029). Bidirectional controls are refused because they can make the shown
// text differ from the read text (CVE-2021-42574). All of them may be written
// as escapes in a double-quoted string.
func checkBytes(data []byte) *Problem {
	if len(data) > MaxBytes {
		return &Problem{Line: 1, Column: 1, Code: CodeSize,
			Message: fmt.Sprintf("%d bytes, expected at most %d", len(data), MaxBytes)}
	}
	line, column := 1, 1
	fail := func(code, message, hint string) *Problem {
		return &Problem{Line: line, Column: column, Code: code, Message: message, Hint: hint}
	}
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			return fail(CodeEncoding, fmt.Sprintf("byte 0x%02x is not UTF-8", data[i]), "save the file as UTF-8")
		case r == 0xFEFF:
			return fail(CodeEncoding, "byte order mark", "save the file as UTF-8 without one")
		case r == 0:
			return fail(CodeNUL, "NUL byte", "remove it")
		case r == '\r' && !bytes.HasPrefix(data[i+n:], []byte("\n")):
			return fail(CodeEncoding, "carriage return without a line feed", "end lines with a line feed")
		case !allowed(r):
			return fail(CodeEncoding, fmt.Sprintf("invisible or control character %U", r),
				"write it as an escape in a double-quoted string")
		}
		i += n
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
	}
	return nil
}

func allowed(r rune) bool {
	switch {
	case r == '\t', r == '\n', r == '\r':
		return true
	case r < 0x20, r >= 0x7F && r < 0xA0:
		return false
	case r == 0x2028, r == 0x2029, r >= 0x202A && r <= 0x202E, r >= 0x2066 && r <= 0x2069:
		return false
	case r&0xFFFE == 0xFFFE:
		return false
	}
	return true
}

// checkDirective refuses %YAML and %TAG lines. They can only stand before the
// document, where nothing but comments and empty lines may come first.
func checkDirective(data []byte) *Problem {
	line := 0
	for text := range bytes.Lines(data) {
		line++
		if text[0] == '%' {
			return &Problem{Line: line, Column: 1, Code: CodeDirective, Message: "directives are not read", Hint: "remove this line"}
		}
		if rest := bytes.TrimSpace(text); len(rest) > 0 && rest[0] != '#' {
			return nil
		}
	}
	return nil
}
