package backend

import (
	"fmt"
	"strings"
)

// Registry holds the backends a program was built with, in the order they were
// registered: the first is the one to prefer. The zero Registry holds none.
type Registry struct {
	backends []Backend
}

// Register adds a backend. A name that is taken is an error: which backend a
// name means must not depend on who came last.
func (r *Registry) Register(b Backend) error {
	if b.Name() == "" {
		return fmt.Errorf("backend: bug: a backend without a name")
	}
	for _, have := range r.backends {
		if have.Name() == b.Name() {
			return fmt.Errorf("backend: %q is registered already", b.Name())
		}
	}
	r.backends = append(r.backends, b)
	return nil
}

// Get returns the backend of that name.
func (r *Registry) Get(name string) (Backend, error) {
	for _, b := range r.backends {
		if b.Name() == name {
			return b, nil
		}
	}
	if len(r.backends) == 0 {
		return nil, fmt.Errorf("backend: %q is not known, and neither is any other", name)
	}
	return nil, fmt.Errorf("backend: %q is not known, want one of: %s", name, strings.Join(r.Names(), ", "))
}

// Names are the registered names, in order of preference.
func (r *Registry) Names() []string {
	var names []string
	for _, b := range r.backends {
		names = append(names, b.Name())
	}
	return names
}
