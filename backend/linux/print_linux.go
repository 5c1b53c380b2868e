//go:build amd64 || arm64

package linux

import (
	"errors"
	"io"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/internal/seccomp"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/secret"
)

// Print lists every system call of a plan's launch. Leases are not resolved
// for it: their references stand in their place.
func (b *Backend) Print(w io.Writer, p plan.Plan, r backend.Resolution) error {
	res, ok := r.(*resolution)
	if !ok {
		return errors.New("bug: the resolution is another backend's")
	}
	var env []secret.Value
	for _, e := range p.Resolved.Spec.Capabilities.Environment {
		env = append(env, secret.Value{Name: e.Name, Value: e.Value, Reference: e.Lease})
	}
	program, err := lower(p, res, env, slotsOf(p))
	if err != nil {
		return err
	}
	return program.Print(w)
}

// PrintFilter disassembles a plan's system call filter.
func (b *Backend) PrintFilter(w io.Writer, p plan.Plan) error {
	o := filterOptions(p)
	f, err := seccomp.CompileCached(o)
	if err != nil {
		return err
	}
	return seccomp.Disassemble(w, f, o.Arch)
}
