package wasip1

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// docs/wasi.md has a row for every function, and names no other.
func TestEveryFunctionIsDescribed(t *testing.T) {
	b, err := os.ReadFile("../../docs/wasi.md")
	if err != nil {
		t.Fatal(err)
	}
	described := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`[a-z_0-9]+`(?:, `[a-z_0-9]+`)*) \\|").FindAllStringSubmatch(string(b), -1) {
		for _, name := range strings.Split(row[1], ", ") {
			name = strings.Trim(name, "`")
			described[name] = true
			if _, _, ok := Signature(name); !ok {
				t.Errorf("%s is described and does not exist", name)
			}
		}
	}
	for name := range cases {
		if !described[name] {
			t.Errorf("%s is not described", name)
		}
	}
}
