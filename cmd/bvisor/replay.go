package main

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bvisor/bvisor/internal/canonical"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
)

func newReplay(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "replay REPORT",
		Short: "Make a report's plan again from what it records",
		Long: `Replay gives the request and the profile that a report records to the planner
once more. The plan must come out with the same identity, and a refusal with the
same reasons. Nothing is started and nothing is looked up on this host.

` + reportArgument + `

Replay does not check the seal; "bvisor verify" does.

Exit codes: 0 the decision is the same, 1 it is not, 121 there is no such report.`,
		Example: `  bvisor replay report.json`,
		Args:    arguments(1, 1, "REPORT"),
		RunE:    func(_ *cobra.Command, args []string) error { return c.replay(args[0]) },
	}
}

func (c *cli) replay(name string) error {
	envelope, err := c.envelope(name)
	if err != nil {
		return err
	}
	sealed, err := report.Parse(envelope)
	if err != nil {
		return &failure{code: exitCheck, err: err}
	}
	r := sealed.Report
	var same string
	switch {
	case r.Plan != nil:
		same, err = replayPlan(r)
	case r.Refusal != nil:
		same, err = replayRefusal(r)
	default:
		err = errors.New("the report has neither a plan nor a refusal")
	}
	if err != nil {
		return &failure{code: exitCheck, err: fmt.Errorf("%s: %w", name, err)}
	}
	return c.write([]byte(fit("replayed: "+same) + "\n"))
}

func replayPlan(r *report.Report) (string, error) {
	again, refusal, err := plan.Replay(*r.Plan, r.Profile)
	if err != nil {
		return "", err
	}
	if refusal != nil {
		return "", fmt.Errorf("the recorded plan is refused now: %w", refusal)
	}
	if again.ID() != r.Identity.Plan {
		return "", fmt.Errorf("the plan comes out as %s, the report names %s", again.ID(), r.Identity.Plan)
	}
	return "plan " + again.ID(), nil
}

func replayRefusal(r *report.Report) (string, error) {
	again, refusal := plan.Make(r.Refusal.Resolved, r.Profile)
	if refusal == nil {
		return "", fmt.Errorf("the recorded refusal is now the plan %s", again.ID())
	}
	was, err := canonical.Marshal(r.Refusal)
	if err != nil {
		return "", err
	}
	is, err := canonical.Marshal(refusal)
	if err != nil {
		return "", err
	}
	if !bytes.Equal(was, is) {
		return "", fmt.Errorf("the refusal comes out differently: %w, recorded was: %w", refusal, r.Refusal)
	}
	return refusal.Error(), nil
}
