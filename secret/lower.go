package secret

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bvisor/bvisor/spec"
)

// MaxEnvironment is how many bytes the whole environment may take, each
// variable with its '=' and terminating NUL.
const MaxEnvironment = 128 << 10

// LeaseError says which lease has no usable value, and why. It holds no value.
type LeaseError struct {
	Variable  string
	Reference string
	Err       error
}

func (e *LeaseError) Error() string {
	return fmt.Sprintf("lease of %s (%s): %v", e.Variable, e.Reference, e.Err)
}

func (e *LeaseError) Unwrap() error { return e.Err }

// LowerEnv makes the child's whole environment, sorted by name: literals as
// they are, leases resolved. It fails unless every entry can be lowered; the
// error joins all reasons, each unresolved lease a *LeaseError. LeaseErrors
// takes them apart.
func LowerEnv(ctx context.Context, r *Registry, entries []spec.EnvEntry) ([]Value, error) {
	var values []Value
	var errs []error
	for _, e := range entries {
		v, err := lower(ctx, r, e)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		values = append(values, v)
	}
	slices.SortFunc(values, func(a, b Value) int { return cmp.Compare(a.Name, b.Name) })
	size := 0
	for i, v := range values {
		size += len(v.Name) + len(v.Value) + len("=\x00")
		if i > 0 && values[i-1].Name == v.Name {
			errs = append(errs, fmt.Errorf("environment: %s is set twice", v.Name))
		}
	}
	if size > MaxEnvironment {
		errs = append(errs, fmt.Errorf("environment: %d bytes, want at most %d", size, MaxEnvironment))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return values, nil
}

func lower(ctx context.Context, r *Registry, e spec.EnvEntry) (Value, error) {
	switch {
	case e.Name == "" || strings.ContainsAny(e.Name, "=\x00"):
		return Value{}, fmt.Errorf("environment: %q is not a variable's name: want at least one character, no '=' and no NUL", e.Name)
	case e.Lease == "" && strings.Contains(e.Value, "\x00"):
		return Value{}, fmt.Errorf("environment: %s: its value contains NUL, which no environment can hold", e.Name)
	case e.Lease == "":
		return Value{Name: e.Name, Value: e.Value}, nil
	case e.Value != "":
		return Value{}, fmt.Errorf("environment: %s: it has a value and a lease, want one of them", e.Name)
	}
	value, err := r.Resolve(ctx, e.Lease)
	if err == nil && strings.Contains(value, "\x00") {
		err = errors.New("the value contains NUL, which no environment can hold")
	}
	if err != nil {
		return Value{}, &LeaseError{e.Name, e.Lease, err}
	}
	return Value{Name: e.Name, Value: value, Reference: e.Lease}, nil
}

// LeaseErrors are the lease errors in what LowerEnv returned, in the order of
// the entries.
func LeaseErrors(err error) []*LeaseError {
	if le, ok := err.(*LeaseError); ok {
		return []*LeaseError{le}
	}
	var found []*LeaseError
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			found = append(found, LeaseErrors(err)...)
		}
	}
	return found
}
