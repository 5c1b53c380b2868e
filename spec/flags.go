package spec

import (
	"strings"
)

// ParseTemp reads "PATH" or "PATH:ACCESS".
func ParseTemp(s string) (Temp, error) {
	t := Temp{Path: s, Access: "rw"}
	if p, a, ok := cutLast(s); ok {
		access, err := ParseAccess(a)
		if err != nil {
			return Temp{}, err
		}
		t = Temp{Path: p, Access: access}
	}
	if err := checkTempAccess(t.Access); err != nil {
		return Temp{}, err
	}
	if err := checkDestination(t.Path); err != nil {
		return Temp{}, err
	}
	return t, nil
}

// ParseExpose reads "SOURCE:DEST:ACCESS". It is split from the right, so that
// a source may contain colons.
func ParseExpose(s string) (Expose, error) {
	rest, a, ok := cutLast(s)
	source, dest, ok2 := cutLast(rest)
	if !ok || !ok2 {
		return Expose{}, badValue("write SOURCE:DEST:ACCESS, as in data:/data:r", "%s is not an expose", quote(s))
	}
	access, err := ParseAccess(a)
	if err == nil {
		err = checkExposeAccess(access)
	}
	if err == nil {
		err = checkHostPath(source)
	}
	if err == nil {
		err = checkDestination(dest)
	}
	if err != nil {
		return Expose{}, err
	}
	return Expose{Source: source, Dest: dest, Access: access}, nil
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
