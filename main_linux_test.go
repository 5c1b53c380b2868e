//go:build amd64 || arm64

package bvisor_test

import (
	"context"
	"flag"
	"os"
	"sync"
	"testing"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/spec"
)

// admitted says why this host cannot hold the boundary of the examples.
var admitted = sync.OnceValue(func() error {
	s := &bvisor.Supervisor{Backend: linux.New()}
	_, refusal, err := s.Plan(context.Background(), spec.Default("/usr", []string{"true"}))
	if refusal != nil {
		return refusal
	}
	return err
})

// An example has no way to skip itself.
func TestMain(m *testing.M) {
	if os.Getenv(deciderVar) != "" {
		os.Exit(decider())
	}
	flag.Parse()
	if admitted() != nil {
		skip := flag.Lookup("test.skip").Value
		pattern := "^Example"
		if skip.String() != "" {
			pattern = skip.String() + "|" + pattern
		}
		if err := skip.Set(pattern); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// What the examples need is said by name, and can be demanded.
func TestThisHostRunsTheExamples(t *testing.T) {
	if err := admitted(); err != nil {
		need.Missing(t, "confine", err.Error())
	}
}
