//go:build !linux

package selftest

import (
	"context"
	"errors"
)

// Attacks are none: no backend holds a boundary on this system.
func Attacks() []Attack { return nil }

// Run cannot be reached with an attack on this system.
func (t *Tester) Run(context.Context, Attack) (Result, error) { return Result{}, errors.ErrUnsupported }

// dynamic does not matter where nothing is started.
func dynamic() bool { return false }

// There is no attack that has any of these.
type (
	scene struct{}
	try   struct{}
)
