package nearest

import "testing"

func TestName(t *testing.T) {
	names := []string{"read", "write", "exec", "execute"}
	for _, tt := range []struct {
		s    string
		most int
		want string
	}{
		{"read", 0, "read"},
		{"raed", 1, ""},
		{"raed", 2, "read"},
		{"wite", 1, "write"},
		{"writes", 1, "write"},
		{"exed", 1, "exec"},
		{"execut", 2, "execute"},
		{"", 3, ""},
		{"", 4, "read"},
		{"chmod", 2, ""},
	} {
		if got := Name(tt.s, names, tt.most); got != tt.want {
			t.Errorf("Name(%q, names, %d) = %q, want %q", tt.s, tt.most, got, tt.want)
		}
	}
	if got := Name("read", nil, 9); got != "" {
		t.Errorf("of no names, %q is the nearest", got)
	}
}
