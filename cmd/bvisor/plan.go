package main

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/backend/inert"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

type planOptions struct {
	request
	json, program, filter, explain bool
	profile                        string
}

func newPlan(c *cli) *cobra.Command {
	o := &planOptions{}
	cmd := &cobra.Command{
		Use:   "plan [flags] [--spec FILE] [--] CMD [ARG...]",
		Short: "Say whether and how this host would hold a boundary",
		Long: `Plan decides over the same request as run, without starting anything and
without writing anything down. It probes the host anew.

With --profile it plans against a host that was probed elsewhere ("bvisor probe
--json"). Paths are then left as they are written, and the program is not looked
for.

Exit codes: 0 admitted, 120 refused, 121 spec or usage error, 126 and 127 as with
run.`,
		Example: `  bvisor plan -- make test
  bvisor plan --spec job.yaml --json
  bvisor plan --program -- /bin/true      every system call of the launch
  bvisor plan --filter -- /bin/true       the system call filter, disassembled
  bvisor plan --profile other.json -- make test`,
		RunE: func(_ *cobra.Command, args []string) error { return c.plan(o, args) },
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.SortFlags = false
	o.request.add(f)
	f.BoolVar(&o.explain, "explain", true, "explain the plan, which is what happens without another choice")
	f.BoolVar(&o.json, "json", false, "write the plan, or the refusal, in its canonical JSON")
	f.BoolVar(&o.program, "program", false, "list the system calls of the launch in order; leases stay references")
	f.BoolVar(&o.filter, "filter", false, "disassemble the system call filter")
	f.StringVar(&o.profile, "profile", "", "plan against the saved profile in `FILE`")
	cmd.MarkFlagsMutuallyExclusive("json", "program", "filter")
	cmd.MarkFlagsMutuallyExclusive("profile", "program")
	cmd.MarkFlagsMutuallyExclusive("profile", "filter")
	if completing() {
		complete(cmd)
	}
	return cmd
}

func (c *cli) plan(o *planOptions, args []string) error {
	sp, err := o.spec(c, args)
	if err != nil {
		return err
	}
	b, err := c.backend(o.backend, sp)
	if err != nil {
		return err
	}
	defer closeBackend(b)
	ctx := context.Background()
	if o.profile != "" {
		p, refusal, err := c.planElsewhere(ctx, sp, o.profile)
		if err != nil {
			return err
		}
		return c.decided(o, p, refusal)
	}
	dir, err := c.state()
	if err != nil {
		return err
	}
	s := &bvisor.Supervisor{Backend: b, Protected: append((&bvisor.State{Dir: dir}).Supervisor(b).Protected, o.protected()...)}
	p, refusal, err := s.Plan(ctx, sp)
	if err != nil {
		return err
	}
	switch {
	case p == nil || !o.program && !o.filter:
		return c.decided(o, p, refusal)
	case o.program:
		var text bytes.Buffer
		if err := s.Program(ctx, sp, &text); err != nil {
			return fault("%w", err)
		}
		return c.write(text.Bytes())
	}
	return c.filter(b, *p)
}

func (c *cli) filter(b backend.Backend, p plan.Plan) error {
	f, ok := b.(interface {
		PrintFilter(w io.Writer, p plan.Plan) error
	})
	if !ok {
		return usage("the %s backend has no filter to print", b.Name())
	}
	var text bytes.Buffer
	if err := f.PrintFilter(&text, p); err != nil {
		return fault("%w", err)
	}
	return c.write(text.Bytes())
}

// planElsewhere plans against a profile that was taken on another host. The
// inert backend leaves every path as it is written.
func (c *cli) planElsewhere(ctx context.Context, sp spec.Spec, name string) (*plan.Plan, *plan.Refusal, error) {
	data, err := c.readAll(name, plan.MaxEncoding+1)
	if err != nil {
		return nil, nil, err
	}
	profile, err := plan.ParseProfile(bytes.TrimSuffix(data, []byte("\n")))
	if err != nil {
		return nil, nil, usage("%s: %w", name, err).hinted(`"bvisor probe --json" writes a profile`)
	}
	if err := spec.Validate(sp); err != nil {
		return nil, nil, err
	}
	r, err := inert.New().Resolve(ctx, spec.Expand(sp), nil)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	p, refusal := plan.Make(r.Resolved(), profile)
	if refusal != nil {
		return nil, refusal, nil
	}
	return &p, nil, nil
}

// decided answers with a plan or a refusal.
func (c *cli) decided(o *planOptions, p *plan.Plan, refusal *plan.Refusal) error {
	var text bytes.Buffer
	var err error
	switch {
	case o.json && p != nil:
		err = c.writeJSON(*p)
	case o.json:
		err = c.writeJSON(*refusal)
	case p != nil:
		if err = p.Explain(&text); err == nil {
			err = c.write(text.Bytes())
		}
	default:
		if err = refusal.Explain(&text); err == nil {
			err = c.write(text.Bytes())
		}
	}
	if err != nil {
		return err
	}
	if refusal != nil {
		if !o.json {
			c.hint(`"bvisor probe" shows what this host can hold`)
		}
		return &failure{code: exitRefused, err: nil}
	}
	if !o.json {
		fmt.Fprintln(c.stdout, "\nadmitted: this host can hold all of it")
	}
	return nil
}
