package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/internal/recovery"
)

func newRecover(c *cli) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "recover [--json]",
		Short: "Close the attempts that a crash left open",
		Long: `Recover looks at every attempt that has an intent and no end: whether the bvisor
that wrote it lives, and what is left of it on this host. What crashes left is
taken away, and the attempt gets its end in the ledger:

  absent       nothing of it was left
  rolled-back  processes were killed, groups, placeholders and quarantines removed
  finished     a decision over what it left had been cut short, and is carried out
  running      another bvisor has it under way; it is not touched
  refused      ledger and host contradict each other, or too little is known;
               nothing is done

The first run of every bvisor does the same by itself, so this is for looking.

Exit codes: 0, or 1 when an attempt was refused.`,
		Example: "  bvisor recover",
		Args:    arguments(0, 0, ""),
		RunE:    func(*cobra.Command, []string) error { return c.recover(asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write one JSON line for each attempt")
	return cmd
}

// recoveredLine is an attempt for --json.
type recoveredLine struct {
	Attempt string           `json:"attempt"`
	Outcome recovery.Outcome `json:"outcome"`
	Swept   []recovery.Trace `json:"swept,omitempty"`
	Why     string           `json:"why,omitempty"`
}

func (c *cli) recover(asJSON bool) error {
	prober, ok := any(linux.New()).(recovery.Prober)
	if !ok {
		return usage("nothing can have been launched on this system, so there is nothing to recover")
	}
	log, err := c.openLog() // makes none
	if err != nil {
		return err
	}
	log.Close()
	state, err := c.openState()
	if err != nil {
		return err
	}
	defer state.Log.Close()
	list, err := state.Recover(prober)
	refused := false
	for _, r := range list {
		refused = refused || r.Outcome == recovery.Refused
		if asJSON {
			if err := c.writeJSON(recoveredLine{r.Attempt, r.Outcome, r.Swept, r.Why}); err != nil {
				return err
			}
		} else if err := c.write([]byte(fit(inWords(r)) + "\n")); err != nil {
			return err
		}
	}
	if err != nil {
		return fault("%w", err)
	}
	c.repaired(state.Log)
	if refused {
		return &failure{code: exitCheck}
	}
	return nil
}

func inWords(r bvisor.Recovered) string {
	text := fmt.Sprintf("%s  %s", r.Attempt, r.Outcome)
	if r.Why != "" {
		text += ": " + r.Why
	}
	for i, t := range r.Swept {
		if i == 0 {
			text += ": "
		} else {
			text += ", "
		}
		text += t.Kind + " " + t.Name
	}
	return text
}

// recovered tells what a run found of earlier ones. What it could not close is
// said by "bvisor recover".
func (c *cli) recovered(list []bvisor.Recovered, err error) {
	if c.json || c.quiet {
		return
	}
	for _, r := range list {
		if r.Outcome == recovery.Absent || r.Outcome == recovery.RolledBack || r.Outcome == recovery.Finished {
			c.say("closed after a crash: %s", inWords(r))
		}
	}
	if err != nil {
		c.say("%v", err)
	}
}
