package backend

import (
	"slices"
	"strings"
	"testing"
)

type named struct {
	Backend
	name string
}

func (n named) Name() string { return n.name }

func TestRegistry(t *testing.T) {
	var r Registry
	if _, err := r.Get("linux"); err == nil {
		t.Error("an empty registry gave a backend")
	}
	for _, name := range []string{"wasm", "linux"} {
		if err := r.Register(named{name: name}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"wasm", ""} {
		if err := r.Register(named{name: name}); err == nil {
			t.Errorf("Register(%q) succeeded", name)
		}
	}
	if got := r.Names(); !slices.Equal(got, []string{"wasm", "linux"}) {
		t.Errorf("Names: %q, want the order of registration", got)
	}
	if b, err := r.Get("linux"); err != nil || b.Name() != "linux" {
		t.Errorf("Get(linux): %v, %v", b, err)
	}
	if _, err := r.Get("auto"); err == nil || !strings.Contains(err.Error(), "wasm, linux") {
		t.Errorf("Get(auto): %v, want the known names", err)
	}
}
