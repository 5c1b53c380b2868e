//go:build amd64 || arm64

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// confined runs programs in the default boundary, in this process.
type confined struct {
	supervisor *bvisor.Supervisor
	close      func() error
	dir        string           // working directory of the runs
	change     func(*spec.Spec) // of the default boundary; nil is none
}

// openConfined opens a supervisor whose records stand in state.
func openConfined(b backend.Backend, state, dir string) (*confined, error) {
	st, err := bvisor.OpenState(state)
	if err != nil {
		return nil, err
	}
	return &confined{supervisor: st.Supervisor(b), close: st.Log.Close, dir: dir}, nil
}

// run launches once and insists that the program ran to its end.
func (c *confined) run(command ...string) (*bvisor.Result, error) {
	s := spec.Default(c.dir, command)
	if c.change != nil {
		c.change(&s)
	}
	res, err := c.supervisor.Run(context.Background(), bvisor.Request{Spec: s})
	if err != nil {
		return nil, err
	}
	if o := res.Report.Outcome; o.Status != report.Completed {
		return nil, fmt.Errorf("%s: %s", o.Status, o.Reason)
	}
	return res, nil
}

// once is run for repeat.
func (c *confined) once(command ...string) func() error {
	return func() error {
		_, err := c.run(command...)
		return err
	}
}

// steps are the parts of a run that can be measured alone.
func steps(c *confined, b *linux.Backend) ([]*subject, error) {
	ctx := context.Background()
	sp := spec.Default(c.dir, []string{truth})
	profile, err := b.Probe(ctx)
	if err != nil {
		return nil, err
	}
	res, err := b.Resolve(ctx, spec.Expand(sp), nil)
	if err != nil {
		return nil, err
	}
	resolved := res.Resolved()
	if err := res.Close(); err != nil {
		return nil, err
	}
	done, err := c.run(truth)
	if err != nil {
		return nil, err
	}
	key, err := report.NewKey()
	if err != nil {
		return nil, err
	}
	return []*subject{
		{name: "spec.Validate", block: repeat(func() error { return spec.Validate(sp) })},
		{name: "Backend.Resolve: every path of the spec to a descriptor", block: repeat(func() error {
			r, err := b.Resolve(ctx, spec.Expand(sp), nil)
			if err != nil {
				return err
			}
			return r.Close()
		})},
		{name: "plan.Make", block: repeat(func() error {
			if _, refusal := plan.Make(resolved, profile); refusal != nil {
				return refusal
			}
			return nil
		})},
		{name: "report.Seal: encode, hash, sign", block: repeat(func() error {
			_, err := report.Seal(done.Report, key)
			return err
		})},
		{name: "Backend.Probe: every mechanism exercised, once per boot", block: repeat(func() error {
			_, err := linux.New().Probe(ctx)
			return err
		})},
	}, nil
}

// bareSync writes as much as a report takes and syncs it: what a durable
// record costs at least on this file system.
func bareSync(dir string, size int) func() error {
	data := make([]byte, size)
	return func() error {
		f, err := os.CreateTemp(dir, "sync")
		if err != nil {
			return err
		}
		defer os.Remove(f.Name())
		if _, err := f.Write(data); err != nil {
			f.Close()
			return err
		}
		if err := f.Sync(); err != nil {
			f.Close()
			return err
		}
		return f.Close()
	}
}

// memoryDir makes a directory on a memory file system.
func memoryDir() (string, error) {
	const shm = "/dev/shm"
	dir, err := os.MkdirTemp(shm, "bvisor-bench-")
	if err != nil {
		return "", fmt.Errorf("no memory file system: %w", err)
	}
	return filepath.Clean(dir), nil
}
