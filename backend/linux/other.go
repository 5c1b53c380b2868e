//go:build !linux || !(amd64 || arm64)

package linux

import (
	"context"
	"errors"
	"runtime"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// Backend is the Linux backend where it can hold nothing.
type Backend struct{}

// New returns the Linux backend.
func New() *Backend { return &Backend{} }

// Below returns the Linux backend: there is no group here to be below.
func Below(string) *Backend { return New() }

// Name implements backend.Backend.
func (*Backend) Name() string { return "linux" }

// Probe implements backend.Backend: the profile offers nothing, so every plan
// is refused, with this system as the fact.
func (*Backend) Probe(context.Context) (plan.Profile, error) {
	fact := "this host runs " + runtime.GOOS + "/" + runtime.GOARCH + ", which the linux backend does not know"
	p := plan.Profile{
		Version: plan.ProfileVersion, Backend: "linux", Host: plan.Host{OS: runtime.GOOS, Arch: runtime.GOARCH, UID: -1},
		Facts: []plan.Fact{{Name: "platform", Value: "unavailable", Learned: "built for", Detail: runtime.GOOS + "/" + runtime.GOARCH}},
	}
	for _, k := range plan.Kinds() {
		p.Offers = append(p.Offers, plan.Offer{Kind: k, Need: "the Linux kernel", Fact: fact, Remedy: "run on Linux, on amd64 or arm64"})
	}
	return p.Seal()
}

// Resolve implements backend.Backend. Paths are left as they are: nothing can
// be launched.
func (*Backend) Resolve(_ context.Context, s spec.Spec, _ []backend.Protected) (backend.Resolution, error) {
	return unresolved{spec.Resolved{Spec: s, Unresolved: true}}, nil
}

type unresolved struct{ r spec.Resolved }

func (u unresolved) Resolved() spec.Resolved { return u.r }
func (u unresolved) Close() error            { return nil }

// Launch implements backend.Backend.
func (*Backend) Launch(context.Context, backend.Launch) (report.Observation, func(), error) {
	return report.Observation{}, func() {}, errors.New("bug: nothing can be launched on " + runtime.GOOS)
}
