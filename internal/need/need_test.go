package need

import "testing"

func TestDemanded(t *testing.T) {
	for _, tt := range []struct {
		list, name string
		want       bool
	}{
		{"", "root", false},
		{"root", "root", true},
		{"userns, root", "root", true},
		{"rooted", "root", false},
		{"landlock:3", "landlock:3", true},
		{"landlock:3", "landlock:1", true},
		{"landlock:3", "landlock:4", false},
		{"landlock", "landlock:1", false},
		{"file=/bin/sh", "file=/bin/sh", true},
	} {
		if got := demanded(tt.list, tt.name); got != tt.want {
			t.Errorf("demanded(%q, %q) is %v, want %v", tt.list, tt.name, got, tt.want)
		}
	}
}
