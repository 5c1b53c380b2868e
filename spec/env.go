package spec

import (
	"strings"
)

// ParseEnv reads "NAME=VALUE".
func ParseEnv(s string) (EnvEntry, error) {
	name, value, ok := strings.Cut(s, "=")
	if !ok {
		return EnvEntry{}, badValue("write NAME=VALUE", "%s is not a variable", quote(s))
	}
	if err := checkEnvName(name); err != nil {
		return EnvEntry{}, err
	}
	if err := checkNoNUL("value of "+quote(name), value); err != nil {
		return EnvEntry{}, err
	}
	return EnvEntry{Name: name, Value: value}, nil
}

// ParseLease reads "NAME=SCHEME:REST".
func ParseLease(s string) (EnvEntry, error) {
	name, ref, ok := strings.Cut(s, "=")
	if !ok {
		return EnvEntry{}, badValue("write NAME=SCHEME:REST, as in TOKEN=env:TOKEN", "%s is not a lease", quote(s))
	}
	if err := checkEnvName(name); err != nil {
		return EnvEntry{}, err
	}
	if err := checkLease(ref); err != nil {
		return EnvEntry{}, err
	}
	return EnvEntry{Name: name, Lease: ref}, nil
}

func checkEnvName(name string) error {
	switch {
	case name == "":
		return badValue("", "variable name is empty")
	case strings.IndexByte(name, '=') >= 0:
		return badValue("", "variable name %s contains \"=\"", quote(name))
	}
	return checkNoNUL("variable name", name)
}

func checkNoNUL(what, s string) error {
	if strings.IndexByte(s, 0) >= 0 {
		return &valueError{CodeNUL, what + " contains a NUL", "remove it"}
	}
	return nil
}

const leasePattern = `^[a-z][a-z0-9+.-]*:.`

// checkLease checks the form of a reference. Which schemes there are is known
// only to the program that resolves it.
func checkLease(ref string) error {
	const hint = `write "scheme:rest", as in "env:API_TOKEN" or "file:/run/secrets/token"`
	scheme, rest, ok := strings.Cut(ref, ":")
	if !ok || rest == "" || scheme == "" || scheme[0] < 'a' || scheme[0] > 'z' ||
		strings.Trim(scheme, "abcdefghijklmnopqrstuvwxyz0123456789+.-") != "" {
		return badValue(hint, "%s is not a reference to a secret", quote(ref))
	}
	return checkNoNUL("reference", ref)
}
