//go:build amd64 || arm64

package selftest

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/report"
)

// leaky lets what is held back through to the host.
type leaky struct{ backend.Backend }

func (l leaky) Launch(ctx context.Context, run backend.Launch) (report.Observation, func(), error) {
	o, settle, err := l.Backend.Launch(ctx, run)
	for _, r := range run.Plan.Resolved.Roots {
		if r.Held && err == nil {
			err = os.WriteFile(filepath.Join(r.Path, canary), []byte("through"), 0o644)
		}
	}
	return o, settle, err
}

// A layer that lets a write through is found out, and no attack leaves contents
// in a quarantine.
func TestALayerThatLeaksIsFound(t *testing.T) {
	s := over(t)
	a := named(t, "write-past-a-quarantine")
	r := s.run(t, a)
	if r.Verdict == NotApplicable {
		need.Missing(t, "overlay", r.Why)
	}
	if r.Verdict != Stopped || r.Answer != "no error" || r.Control != "goes through on the host" {
		t.Errorf("%+v", r)
	}
	s.Supervisor.Backend = leaky{s.b}
	if r := s.run(t, a); r.Verdict != Through || !r.Failed() || len(r.Held) == 0 || r.Witness != theFile {
		t.Errorf("it leaks: %+v", r)
	}
	if left, err := filepath.Glob(filepath.Join(s.state.Dir, "quarantine", "*", "*.data")); err != nil || len(left) > 0 {
		t.Errorf("left %q, %v", left, err)
	}
}
