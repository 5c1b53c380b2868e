//go:build amd64 || arm64

package linux

import (
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/secret"
	"github.com/bvisor/bvisor/spec"
)

// A leased value is neither in the program that is executed, nor in what is
// printed or hashed of it. One that is written in the spec is: the control.
func TestLeasedValuesAreNotInTheProgram(t *testing.T) {
	need.MountNamespace(t)
	const value = "s3cr3t-value"
	b := New()
	profile, err := b.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	made := func(e spec.EnvEntry, v secret.Value) (holds bool, digest string) {
		s := spec.Default("/usr", []string{"true"})
		s.Capabilities.Environment = []spec.EnvEntry{e}
		r, err := b.Resolve(t.Context(), spec.Expand(s), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		p, refusal := plan.Make(r.Resolved(), profile)
		if refusal != nil {
			t.Fatal(refusal)
		}
		program, err := lower(p, r.(*resolution), []secret.Value{v}, newSlots(nil, false))
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		if err := program.Print(&text); err != nil {
			t.Fatal(err)
		}
		for _, seal := range []func() (*os.File, error){program.Image().Seal, program.SealBody} {
			f, err := seal()
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := io.Copy(&text, io.NewSectionReader(f, 0, 1<<30)); err != nil {
				t.Fatal(err)
			}
		}
		return bytes.Contains(text.Bytes(), []byte(value)), program.Digest()
	}
	leased := spec.EnvEntry{Name: "TOKEN", Lease: "env:TOKEN"}
	holds, digest := made(leased, secret.Value{Name: "TOKEN", Value: value, Reference: "env:TOKEN"})
	if holds {
		t.Error("the program holds the leased value")
	}
	if _, other := made(leased, secret.Value{Name: "TOKEN", Value: "longer than " + value, Reference: "env:TOKEN"}); other != digest {
		t.Error("the digest depends on the leased value")
	}
	if holds, _ := made(spec.EnvEntry{Name: "TOKEN", Value: value}, secret.Value{Name: "TOKEN", Value: value}); !holds {
		t.Error("control: the program does not hold the spec's own value")
	}
}
