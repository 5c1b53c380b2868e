package secret

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Registry finds the resolver of a scheme. The zero Registry, and a nil one,
// knows no scheme. Register before use; lookups may then be concurrent.
type Registry struct {
	resolvers map[string]Resolver
}

// NewRegistry knows the schemes env, file and exec.
func NewRegistry() *Registry {
	return &Registry{map[string]Resolver{"env": Env{}, "file": File{}, "exec": Exec{}}}
}

// Register adds a scheme. A scheme that is taken is an error: no part of a
// program can quietly replace where another gets its secrets from.
func (r *Registry) Register(scheme string, resolver Resolver) error {
	if !isScheme(scheme) {
		return fmt.Errorf("secret: scheme %q: want a lower-case letter, then lower-case letters, digits, '+', '-' or '.'", scheme)
	}
	if _, taken := r.resolvers[scheme]; taken {
		return fmt.Errorf("secret: scheme %q is registered already", scheme)
	}
	if r.resolvers == nil {
		r.resolvers = map[string]Resolver{}
	}
	r.resolvers[scheme] = resolver
	return nil
}

// Schemes are the registered schemes, in order.
func (r *Registry) Schemes() []string {
	if r == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(r.resolvers))
}

// Resolve turns a whole reference into its value. An empty value is an error
// whatever the scheme: it is nearly always an earlier step that failed, and a
// spec that wants an empty variable can say so in plain sight.
func (r *Registry) Resolve(ctx context.Context, reference string) (string, error) {
	ref, err := ParseReference(reference)
	if err != nil {
		return "", err
	}
	var resolver Resolver
	if r != nil {
		resolver = r.resolvers[ref.Scheme]
	}
	if resolver == nil {
		return "", fmt.Errorf("scheme %q is not known, want one of: %s", ref.Scheme, strings.Join(r.Schemes(), ", "))
	}
	value, err := resolver.Resolve(ctx, ref.Rest)
	if err != nil {
		return "", err
	}
	if value == "" {
		return "", errors.New("the value is empty; write an empty literal in the spec if that is meant")
	}
	return value, nil
}

// Map resolves from memory: for tests and for programs that embed bvisor and
// hold the values themselves.
type Map map[string]string

// Resolve implements Resolver.
func (m Map) Resolve(_ context.Context, rest string) (string, error) {
	value, ok := m[rest]
	if !ok {
		return "", fmt.Errorf("%q is not in the map", rest)
	}
	return value, nil
}
