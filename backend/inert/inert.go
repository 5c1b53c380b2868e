// Package inert is the backend that holds nothing and starts nothing.
//
// New offers launch and capture and refuses the rest, so every spec is refused
// by it, with one reason for each requirement a boundary has: it shows what a
// spec asks for on any system, and what a backend that grew no mechanism yet
// would have to say.
//
// Scripted is for tests of what surrounds a backend. It offers what it is told
// to offer and observes what it is told to observe.
package inert

import (
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// Name is the backend's name.
const Name = "inert"

// Backend implements backend.Backend. It has no state.
type Backend struct{}

// New returns the inert backend.
func New() *Backend { return &Backend{} }

// Name implements backend.Backend.
func (*Backend) Name() string { return Name }

// Probe implements backend.Backend. There is nothing to learn from the host.
func (*Backend) Probe(context.Context) (plan.Profile, error) {
	return profile(func(kind plan.Kind) plan.Offer {
		if kind == plan.Launch || kind == plan.CaptureStreams {
			return offer(kind)
		}
		return plan.Offer{
			Kind:   kind,
			Fact:   "the inert backend has no mechanism",
			Need:   "a backend that holds boundaries",
			Remedy: "use --backend linux or --backend wasm",
		}
	}).Seal()
}

// Resolve implements backend.Backend. No path is looked up: nothing could come
// of it.
func (*Backend) Resolve(_ context.Context, s spec.Spec, _ []backend.Protected) (backend.Resolution, error) {
	r := asWritten(s)
	r.Unresolved = true
	return resolution(r), nil
}

// Launch implements backend.Backend. No plan can be made for this backend, so
// this is never reached by way of one.
func (*Backend) Launch(context.Context, backend.Launch) (report.Observation, func(), error) {
	return report.Observation{}, func() {}, errors.New("inert: bug: asked to launch; this backend starts nothing and admits no plan")
}

func profile(offer func(plan.Kind) plan.Offer) plan.Profile {
	p := plan.Profile{
		Version: plan.ProfileVersion,
		Backend: Name,
		Host:    plan.Host{OS: runtime.GOOS, Arch: runtime.GOARCH, UID: os.Getuid()},
		Facts:   []plan.Fact{{Name: "mechanisms", Value: "none", Learned: "by construction"}},
	}
	for _, kind := range plan.Kinds() {
		p.Offers = append(p.Offers, offer(kind))
	}
	return p
}

// offer says that kind is held by this backend itself.
func offer(kind plan.Kind, evidence ...spec.Claim) plan.Offer {
	return plan.Offer{Kind: kind, Ways: []plan.Way{{
		Mechanisms: []plan.Mechanism{{Name: Name, Enforcement: spec.Enforced, Evidence: evidence}},
	}}}
}

// asWritten is a spec with its paths taken for canonical directories.
func asWritten(s spec.Spec) spec.Resolved {
	r := spec.Resolved{Spec: s, UID: os.Getuid(), GID: os.Getgid()}
	add := func(named, dest string, access spec.Access, role spec.Role, origin spec.Origin, flat bool) {
		r.Roots = append(r.Roots, spec.Root{Named: named, Path: named, Dest: dest, Kind: spec.KindDirectory,
			Access: access, NonRecursive: flat, Role: role, Origin: origin})
	}
	for _, g := range s.Capabilities.Filesystem {
		role := spec.RoleGrant
		if g.Access == spec.AccessNone {
			role = spec.RoleCarveOut
		}
		for _, p := range g.Paths {
			add(p, p, g.Access, role, g.Origin, g.NonRecursive)
		}
	}
	for _, e := range s.Controls.Expose {
		add(e.Source, e.Dest, e.Access, spec.RoleExpose, spec.FromSpec, false)
	}
	slices.SortFunc(r.Roots, func(a, b spec.Root) int {
		if c := strings.Compare(a.Dest, b.Dest); c != 0 {
			return c
		}
		return strings.Compare(a.Path, b.Path)
	})
	if len(s.Workload.Command) > 0 {
		r.Executable.Named = s.Workload.Command[0]
	} else {
		r.Executable.Named = s.Workload.Wasm
	}
	return r
}

// resolution holds nothing open.
type resolution spec.Resolved

func (r resolution) Resolved() spec.Resolved { return spec.Resolved(r) }
func (r resolution) Close() error            { return nil }
