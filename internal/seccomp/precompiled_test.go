package seccomp

import (
	"slices"
	"testing"
)

// What was compiled ahead is what the policy compiles to.
func TestPrecompiledFiltersAreCurrent(t *testing.T) {
	for _, o := range Common() {
		want, err := Compile(o)
		if err != nil {
			t.Fatal(err)
		}
		if code := precompiled(o.Key()); !slices.Equal(parse(code), want) {
			t.Errorf("%s: the precompiled filter is not the policy's; run go generate ./internal/seccomp", o.Key())
		}
	}
}
