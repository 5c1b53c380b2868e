package spec

import (
	"fmt"
	"strings"

	"github.com/bvisor/bvisor/internal/strictyaml"
)

// Error is everything that is wrong with one spec, in document order.
type Error struct {
	Problems []Problem
}

// Problem is one mistake in a spec.
type Problem struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`   // from 1; 0 when the spec was not read from a file
	Column  int    `json:"column,omitempty"` // from 1, in characters
	Field   string `json:"field,omitempty"`  // e.g. "capabilities.filesystem[0].access"
	Code    string `json:"code"`             // stable, e.g. "spec.unknown-key"
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"` // what to do
}

// Codes of the problems found in a spec's meaning. Those found in its YAML are
// "spec." and the code of internal/strictyaml: size, encoding, nul, syntax,
// nesting, documents, directive, anchor, merge-key, tag, key, duplicate-key,
// type, ambiguous.
const (
	CodeUnknownKey    = "spec.unknown-key"
	CodeUnknownName   = "spec.unknown-name" // a value that must be one of a closed list
	CodeWrongCase     = "spec.wrong-case"
	CodeMissing       = "spec.missing"
	CodeValue         = "spec.value"
	CodeLimit         = "spec.limit" // too many, too long, too large
	CodeNUL           = "spec.nul"
	CodeDuplicate     = "spec.duplicate"
	CodeContradiction = "spec.contradiction"
	CodeReserved      = "spec.reserved"
	CodeTooMany       = "spec.too-many-problems"
)

// String is the problem on one line.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File + ":")
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", p.Line, p.Column)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString("; " + p.Hint)
	}
	return b.String()
}

// Error is one problem per line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// valueError is why one value was refused. Where the value stands is added by
// whoever knows it: the decoder, Validate, or the flag it came from.
type valueError struct {
	code, message, hint string
}

func (e *valueError) Error() string {
	if e.hint == "" {
		return e.message
	}
	return e.message + "; " + e.hint
}

func badValue(hint, format string, args ...any) *valueError {
	return &valueError{CodeValue, fmt.Sprintf(format, args...), hint}
}

func tooMuch(hint, format string, args ...any) *valueError {
	return &valueError{CodeLimit, fmt.Sprintf(format, args...), hint}
}

// quote writes s as a string, shortened when long.
func quote(s string) string { return strictyaml.Quote(s) }
