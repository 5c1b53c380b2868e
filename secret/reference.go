package secret

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Reference names a secret: "env:API_TOKEN", "file:/run/secrets/token". It
// stands in specs, plans and reports as it was written.
type Reference struct {
	Scheme string // chooses the resolver
	Rest   string // what the resolver is asked for
}

// maxReference bounds a reference, which is repeated in every report.
const maxReference = 4096

// ParseReference splits s at its first colon. The scheme has RFC 3986's form
// in lower case; the rest is printable text.
func ParseReference(s string) (Reference, error) {
	scheme, rest, found := strings.Cut(s, ":")
	switch {
	case len(s) > maxReference:
		return Reference{}, fmt.Errorf("reference has %d bytes, want at most %d", len(s), maxReference)
	case !found:
		return Reference{}, fmt.Errorf("reference %q has no scheme, want one like env:NAME, file:/path or exec:/path", s)
	case !isScheme(scheme):
		return Reference{}, fmt.Errorf("scheme %q: want a lower-case letter, then lower-case letters, digits, '+', '-' or '.'", scheme)
	case rest == "":
		return Reference{}, fmt.Errorf("reference %q names nothing behind its scheme", s)
	case !utf8.ValidString(rest) || strings.ContainsFunc(rest, unicode.IsControl):
		return Reference{}, fmt.Errorf("reference %q: want printable text behind its scheme", s)
	}
	return Reference{scheme, rest}, nil
}

// String is what ParseReference read.
func (r Reference) String() string { return r.Scheme + ":" + r.Rest }

func isScheme(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z'
		if !letter && (i == 0 || !(c >= '0' && c <= '9' || c == '+' || c == '-' || c == '.')) {
			return false
		}
	}
	return s != ""
}
