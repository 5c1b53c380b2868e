package spec

import (
	_ "embed"
	"slices"
)

//go:embed example.yaml
var example []byte

// Example is a commented spec to start from.
func Example() []byte { return slices.Clone(example) }
