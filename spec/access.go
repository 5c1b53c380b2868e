package spec

import (
	"strings"
)

// ParseAccess reads r, w and x in any order, or "none".
func ParseAccess(s string) (Access, error) {
	const hint = "use r, w and x, each at most once, or none"
	if s == string(AccessNone) {
		return AccessNone, nil
	}
	if s == "" {
		return "", badValue(hint, "access is empty")
	}
	for i, c := range s {
		switch {
		case strings.ContainsRune("RWX", c) || strings.EqualFold(s, string(AccessNone)):
			return "", &valueError{CodeWrongCase, "access " + quote(s) + " is not in lower case",
				"did you mean " + quote(strings.ToLower(s)) + "?"}
		case !strings.ContainsRune("rwx", c):
			return "", badValue(hint, "access %s has an unknown letter", quote(s))
		case strings.ContainsRune(s[:i], c):
			return "", badValue(hint, "access %s names a right twice", quote(s))
		}
	}
	var a Access
	for _, right := range []string{"r", "w", "x"} {
		if strings.Contains(s, right) {
			a += Access(right)
		}
	}
	return a, nil
}

func checkTempAccess(a Access) error {
	if a != "rw" && a != "rwx" {
		return badValue("use rw or rwx", "access %s is of no use for a private directory", quote(string(a)))
	}
	return nil
}

func checkExposeAccess(a Access) error {
	if a == AccessNone {
		return badValue("use r, w and x", "an exposed path needs an access")
	}
	return nil
}
