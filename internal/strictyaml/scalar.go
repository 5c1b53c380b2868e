package strictyaml

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// Text is the node as a string. A plain scalar that some YAML version reads as
// anything but a string is refused rather than taken either way: "no" is a
// boolean to YAML 1.1 and a string to 1.2, and 010 is 8 to one and 10 to the other.
func (n *Node) Text() (string, *Problem) {
	if n.Kind != Scalar {
		return "", n.expected("a string")
	}
	if !n.Plain {
		return n.Value, nil
	}
	if n.Value == "" {
		return "", n.expected("a string")
	}
	if m := n.meaning(); m != "" {
		p := n.Problem(CodeAmbiguous, fmt.Sprintf("expected a string, got %s, which YAML reads as %s", plain(n.Value), m),
			"quote it: "+Quote(n.Value))
		return "", &p
	}
	return n.Value, nil
}

// Int is the node as a whole number, written in decimal.
func (n *Node) Int() (int64, *Problem) {
	const what = "a whole number"
	if n.Kind != Scalar || !n.Plain || n.meaning() != number {
		return 0, n.expected(what)
	}
	if !isDecimal(n.Value) {
		p := n.Problem(CodeAmbiguous, fmt.Sprintf("expected %s, got %s", what, plain(n.Value)),
			"write it in decimal, without a sign, leading zeros, exponent or underscores")
		return 0, &p
	}
	v, err := strconv.ParseInt(n.Value, 10, 64)
	if err != nil {
		p := n.Problem(CodeType, fmt.Sprintf("%s does not fit in 64 bits", plain(n.Value)), "")
		return 0, &p
	}
	return v, nil
}

// Bool is the node as true or false, spelt exactly so.
func (n *Node) Bool() (bool, *Problem) {
	if n.Kind == Scalar && n.Plain {
		switch n.Value {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
	}
	return false, n.expected("true or false")
}

// IsNumber says whether the node is a plain number in some YAML version.
func (n *Node) IsNumber() bool { return n.Kind == Scalar && n.Plain && n.meaning() == number }

// Expected is the problem of a node that is not what was expected.
func (n *Node) Expected(what string) Problem { return *n.expected(what) }

func (n *Node) expected(what string) *Problem {
	p := n.Problem(CodeType, "expected "+what+", got "+n.describe(), "")
	return &p
}

func (n *Node) describe() string {
	switch n.Kind {
	case Map:
		return "a map"
	case List:
		return "a list"
	}
	if n.Plain {
		switch m := n.meaning(); m {
		case "":
		case null:
			return "nothing"
		default:
			return plain(n.Value)
		}
	}
	return "the string " + Quote(n.Value)
}

// What a plain scalar may mean besides a string.
const (
	null    = "null"
	boolean = "a boolean"
	number  = "a number"
	base60  = "a base 60 number"
	date    = "a date"
	other   = "something else"
)

// isDecimal says whether s is the one way to write a whole number in decimal.
func isDecimal(s string) bool {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || s == "-0" || (digits[0] == '0' && len(digits) > 1) {
		return false
	}
	return strings.Trim(digits, "0123456789") == ""
}

// meanings unites the implicit types of YAML 1.1 (yaml.org/type) and of the
// YAML 1.2 core schema (section 10.3.2). They are compiled on first use, to
// cost a program that reads no YAML nothing.
var meanings = sync.OnceValue(func() []meaning {
	return []meaning{
		{null, regexp.MustCompile(`^(~|null|Null|NULL)?$`)},
		{boolean, regexp.MustCompile(`^(y|Y|n|N|(?i:yes|no|true|false|on|off))$`)},
		{number, regexp.MustCompile(`^[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)$`)},
		{number, regexp.MustCompile(`^[-+]?(\.[0-9_]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?$`)},
		{number, regexp.MustCompile(`^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$`)},
		{base60, regexp.MustCompile(`^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$`)},
		{date, regexp.MustCompile(`^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t].*)?$`)},
	}
})

type meaning struct {
	means string
	re    *regexp.Regexp
}

// meaning is what some YAML version reads a plain scalar as, or empty for a string.
func (n *Node) meaning() string {
	if len(n.Value) <= 64 && (n.Value == "" || strings.IndexByte("~.+-0123456789yYnNtTfFoO", n.Value[0]) >= 0) {
		for _, m := range meanings() {
			if m.re.MatchString(n.Value) {
				return m.means
			}
		}
	}
	switch n.tag {
	case "!!str", "!!merge", "!", "":
		return ""
	case "!!int", "!!float":
		return number
	}
	return other
}

// Quote writes s as a string, shortened when long.
func Quote(s string) string { return strconv.Quote(shorten(s)) }

func plain(s string) string {
	if s == "" {
		return "nothing"
	}
	return strings.Trim(strconv.Quote(shorten(s)), `"`)
}

func shorten(s string) string {
	const most = 60
	count := 0
	for i := range s {
		if count == most {
			return s[:i] + "…"
		}
		count++
	}
	return s
}
