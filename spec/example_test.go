package spec

import "testing"

func TestExampleParses(t *testing.T) {
	s, err := Parse("example.yaml", Example())
	if err != nil {
		t.Fatal(err)
	}
	if err := Validate(Expand(s.Rebase("/work"))); err != nil {
		t.Error(err)
	}
}
