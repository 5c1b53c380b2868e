// Package secret resolves named references to values just before a launch.
// Only the reference is ever written down.
package secret

import "context"

// Resolver turns the part of a reference behind "scheme:" into a value.
type Resolver interface {
	Resolve(ctx context.Context, rest string) (string, error)
}

// Value is one variable of the child's environment.
type Value struct {
	Name      string
	Value     string
	Reference string // non-empty when Value came from a lease and must not be written down
}
