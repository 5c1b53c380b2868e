package inert

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// Script is what a scripted backend says. Its zero value holds everything,
// finds every path and sees the workload exit with 0.
type Script struct {
	Profile    *plan.Profile // nil: Everything()
	ProbeErr   error
	ResolveErr error

	// Observe stands for the launch. It is called once the intent is durable.
	// nil: the workload writes nothing and exits with 0.
	Observe func(context.Context, backend.Launch) (report.Observation, error)
}

// ScriptedBackend implements backend.Backend for tests of what surrounds one.
// It starts nothing, whatever it says; nothing but a test may use it.
type ScriptedBackend struct {
	script Script

	mu       sync.Mutex
	launches []backend.Launch
	closed   int
}

// Scripted returns a backend that follows s.
func Scripted(s Script) *ScriptedBackend { return &ScriptedBackend{script: s} }

// Everything is a made-up profile that offers every requirement kind, without
// bound, and every evidence claim.
func Everything() plan.Profile {
	p := profile(func(kind plan.Kind) plan.Offer { return offer(kind, spec.Claims...) })
	for _, c := range spec.Claims {
		p.Evidence = append(p.Evidence, plan.EvidenceSource{Claim: c, By: Name})
	}
	slices.SortFunc(p.Evidence, func(a, b plan.EvidenceSource) int {
		return strings.Compare(string(a.Claim), string(b.Claim))
	})
	return p
}

// Name implements backend.Backend.
func (*ScriptedBackend) Name() string { return Name }

// Probe implements backend.Backend.
func (b *ScriptedBackend) Probe(context.Context) (plan.Profile, error) {
	if b.script.ProbeErr != nil {
		return plan.Profile{}, b.script.ProbeErr
	}
	if b.script.Profile != nil {
		return b.script.Profile.Seal()
	}
	return Everything().Seal()
}

// Resolve implements backend.Backend. Every path is taken for a directory.
func (b *ScriptedBackend) Resolve(_ context.Context, s spec.Spec, _ []backend.Protected) (backend.Resolution, error) {
	if b.script.ResolveErr != nil {
		return nil, b.script.ResolveErr
	}
	r := asWritten(s)
	r.Executable.Path = "/" + r.Executable.Named
	r.Executable.SHA256 = strings.Repeat("0", 64)
	return scriptedResolution{resolution(r), b}, nil
}

type scriptedResolution struct {
	resolution
	backend *ScriptedBackend
}

func (r scriptedResolution) Close() error {
	r.backend.mu.Lock()
	defer r.backend.mu.Unlock()
	r.backend.closed++
	return nil
}

// Launch implements backend.Backend.
func (b *ScriptedBackend) Launch(ctx context.Context, l backend.Launch) (report.Observation, func(), error) {
	b.mu.Lock()
	b.launches = append(b.launches, l)
	b.mu.Unlock()
	if l.Commit != nil {
		if err := l.Commit(); err != nil {
			return report.Observation{}, func() {}, err
		}
	}
	if b.script.Observe != nil {
		o, err := b.script.Observe(ctx, l)
		return o, func() {}, err
	}
	return Exited(0), func() {}, nil
}

// Launches are the launches asked for so far.
func (b *ScriptedBackend) Launches() []backend.Launch {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.launches)
}

// Closed is how many resolutions were closed.
func (b *ScriptedBackend) Closed() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// Exited is the observation of a workload that ended by itself.
func Exited(code int) report.Observation {
	o := report.Observation{
		Outcome: report.Outcome{Status: report.Completed},
		Exit:    &report.Exit{Code: code},
		Completeness: report.Completeness{
			Level: "none",
			Why:   "scripted",
		},
	}
	if code != 0 {
		o.Outcome.Status = report.Failed
	}
	return o
}

// Relay writes what a scripted workload prints to where the launch wants its
// standard output to go.
func Relay(l backend.Launch, text string) error {
	if l.Stdout == nil {
		return nil
	}
	_, err := io.WriteString(l.Stdout, text)
	return err
}
