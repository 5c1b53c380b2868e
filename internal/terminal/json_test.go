package terminal

import (
	"encoding/json"
	"strings"
	"testing"
)

// The text stays what it says, whatever was in it, and is safe.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{"plain", "\u009b31m", "\x7f", "\u202e\U000e0001", "\U0001f600", "\x1b]0;x\a", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text, err := json.Marshal(map[string]string{s: s})
		if err != nil {
			t.Fatal(err)
		}
		got := JSON(text)
		var was, is map[string]string
		if err := json.Unmarshal(text, &was); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(got, &is); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		for k, v := range was {
			if is[k] != v || len(is) != 1 {
				t.Errorf("%q became %q", text, got)
			}
		}
		if strings.ContainsFunc(string(got), func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && !visible(r) }) {
			t.Errorf("%q holds what a terminal obeys", got)
		}
	})
}
