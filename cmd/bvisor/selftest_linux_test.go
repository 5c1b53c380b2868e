//go:build amd64 || arm64

package main

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/internal/selftest"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// onHostNetwork launches on the host's network whatever the plan says.
type onHostNetwork struct{ backend.Backend }

func (b onHostNetwork) Launch(ctx context.Context, l backend.Launch) (report.Observation, func(), error) {
	p, err := b.Probe(ctx)
	if err != nil {
		return report.Observation{}, func() {}, err
	}
	r := l.Plan.Resolved
	r.Spec.Accept = []spec.Weakening{"host-network", "unscoped-ipc"}
	weaker, refusal := plan.Make(r, p)
	if refusal != nil {
		return report.Observation{}, func() {}, refusal
	}
	l.Plan = weaker
	return b.Backend.Launch(ctx, l)
}

// A selftest that finds a hole says so, and fails.
func TestSelftestFails(t *testing.T) {
	if err := canConfine(); err != nil {
		need.Missing(t, "confine", err.Error())
	}
	exe, err := exec.LookPath("bvisor") // this binary, as scripts find it
	if err != nil {
		t.Fatal(err)
	}
	state, err := bvisor.OpenState(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer state.Log.Close()
	s := state.Supervisor(linux.New())
	defer s.Wait()
	s.Backend = onHostNetwork{s.Backend}
	tester := &selftest.Tester{Supervisor: s, Spec: spec.Default("/", nil), Exe: exe}
	for _, asJSON := range []bool{false, true} {
		var out bytes.Buffer
		c := &cli{stdout: &out, stderr: &out}
		o := &selftestOptions{json: asJSON, only: []string{"connect-by-tcp", "read-a-file"}}
		attacks, err := o.chosen()
		if err != nil {
			t.Fatal(err)
		}
		err = c.attack(t.Context(), o, tester, attacks)
		if f, ok := errors.AsType[*failure](err); !ok || f.code != exitCheck {
			t.Errorf("it ended with %v, expected a failed check", err)
		}
		want := []string{"went-through    connect-by-tcp: ", "network-namespace (network-namespace), says the plan", "witness   the listener on the host", "stopped         read-a-file", "2 attacks: 1 stopped, 1 went-through"}
		if asJSON {
			want = []string{`"verdict":"went-through","witness":"the listener on the host"`}
		}
		for _, text := range want {
			if !strings.Contains(out.String(), text) {
				t.Errorf("it said nothing of %q:\n%s", text, &out)
			}
		}
	}
}
