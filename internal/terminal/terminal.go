// Package terminal makes text that others chose fit to be printed.
//
// A workload names files, and file names reach reports, errors and tables. A
// name can carry escape sequences that rewrite what the terminal already
// shows, bidirectional overrides that reorder it (CVE-2021-42574), or nothing
// visible at all.
package terminal

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// DefaultMax is how many characters Sanitize lets through.
const DefaultMax = 512

// maxMarks is how many combining marks may stand on one character. Real
// scripts need three at most; more of them draw over neighbouring lines.
const maxMarks = 3

// Sanitize returns s as one line of visible characters, at most DefaultMax of
// them. What is not visible stands as a Go escape (\n, \x1b, \u202e), bytes
// that are not UTF-8 as \xff, and a backslash as \\, so that two different
// strings never look the same unless they were cut; a cut is marked.
func Sanitize(s string) string { return SanitizeMax(s, DefaultMax) }

// SanitizeMax is Sanitize with another bound on the characters. The mark of a
// cut comes on top.
func SanitizeMax(s string, limit int) string {
	if clean(s) && len(s) <= limit {
		return s
	}
	var b strings.Builder
	width, marks := 0, maxMarks // a mark at the start has nothing to stand on
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		piece := s[i : i+size]
		mark := unicode.Is(unicode.M, r)
		if mark {
			marks++
		} else {
			marks = 0
		}
		switch {
		case r == utf8.RuneError && size == 1:
			piece = fmt.Sprintf(`\x%02x`, s[i])
		case r == '\\':
			piece = `\\`
		case !visible(r) || (mark && marks > maxMarks):
			piece = escape(r)
		}
		n := utf8.RuneCountInString(piece)
		if width+n > limit {
			fmt.Fprintf(&b, "…(%d more bytes)", len(s)-i)
			break
		}
		b.WriteString(piece)
		width += n
		i += size
	}
	return b.String()
}

// clean tells the common case: printable ASCII without a backslash.
func clean(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '\\' {
			return false
		}
	}
	return true
}

// visible is stricter than unicode.IsPrint, which counts some characters as
// letters or marks that no font draws.
func visible(r rune) bool {
	return unicode.IsPrint(r) && r != '\u2800' && // braille pattern blank
		!unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

func escape(r rune) string {
	switch r {
	case '\n':
		return `\n`
	case '\r':
		return `\r`
	case '\t':
		return `\t`
	}
	switch {
	case r < utf8.RuneSelf:
		return fmt.Sprintf(`\x%02x`, r)
	case r <= 0xffff:
		return fmt.Sprintf(`\u%04x`, r)
	}
	return fmt.Sprintf(`\U%08x`, r)
}
