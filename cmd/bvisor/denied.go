package main

import (
	"fmt"
	"slices"

	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// asksForDenials says whether the plan promised evidence of denials.
func asksForDenials(r *report.Report) bool {
	return r.Plan != nil && slices.ContainsFunc(r.Plan.Evidence, func(e plan.EvidencePlan) bool { return e.Claim == spec.DeniedAttempts })
}

// denied says what was denied, as far as it was seen, and how to allow it.
func (c *cli) denied(r *report.Report) {
	for _, d := range r.Denied {
		c.say("denied: %s, by %s%s", d.Act, d.Mechanism, asker(d))
		if d.Allow != "" {
			c.hint("allow it with %s", d.Allow)
		}
	}
	if !asksForDenials(r) || c.quiet {
		return
	}
	if len(r.Denied) == 0 {
		c.say("nothing was seen to be denied")
	}
	if r.Completeness.Why != "" {
		c.say("the list of denials is %s: %s", r.Completeness.Level, r.Completeness.Why)
	}
}

// asker says who asked, and how often.
func asker(d report.DeniedAct) string {
	text := ""
	if d.Program != "" {
		text = " (asked by " + d.Program
	}
	switch {
	case d.Times < 2:
	case text == "":
		text = fmt.Sprintf(" (%d times", d.Times)
	default:
		text += fmt.Sprintf(", %d times", d.Times)
	}
	if text != "" {
		text += ")"
	}
	return text
}
