package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

func newProbe(c *cli) *cobra.Command {
	var asJSON bool
	var name string
	cmd := &cobra.Command{
		Use:   "probe [--json]",
		Short: "Say what this host can hold, why not, and what to change",
		Long: `Probe exercises every mechanism in throwaway processes and says what was found:
what can be held and by what, what cannot and why, and how each fact was learnt.
What it finds replaces what earlier runs knew of this host.

With --json it writes the profile, which "bvisor plan --profile" takes.`,
		Example: `  bvisor probe
  bvisor probe --json > host.json`,
		Args: arguments(0, 0, ""),
		RunE: func(*cobra.Command, []string) error { return c.probe(name, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write the profile in its canonical JSON")
	cmd.Flags().StringVar(&name, "backend", auto, "what to probe: `NAME` is auto, linux, wasm or inert")
	return cmd
}

func (c *cli) probe(name string, asJSON bool) error {
	b, err := c.backend(name, spec.Spec{})
	if err != nil {
		return err
	}
	defer closeBackend(b)
	ctx := context.Background()
	p, err := b.Probe(ctx)
	if err != nil {
		return fault("probe: %w", err)
	}
	if asJSON {
		err = c.writeJSON(p)
	} else {
		err = c.write(profileText(p))
	}
	if err != nil {
		return err
	}
	// An unusable state directory is a finding, not a reason to find nothing.
	return c.remember(ctx, b)
}

// remember makes the next run know what was found just now.
func (c *cli) remember(ctx context.Context, b backend.Backend) error {
	state, err := c.openState()
	if err != nil {
		return err
	}
	defer state.Log.Close()
	if err := state.Forget(b); err != nil {
		return fault("%w", err)
	}
	return state.Recall(ctx, b)
}

// profileText is a profile for people.
func profileText(p plan.Profile) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s backend on %s\n", fit(p.Backend), fit(strings.TrimSpace(p.Host.OS+"/"+p.Host.Arch+" "+p.Host.Kernel)))
	fmt.Fprintf(&out, "profile %s, as uid %d\n", p.Digest(), p.Host.UID)

	var held [][]string
	var not, weak []plan.Offer
	for _, o := range p.Offers {
		if len(o.Ways) == 0 {
			not = append(not, o)
			continue
		}
		if o.Fact != "" {
			weak = append(weak, o)
		}
		held = append(held, []string{string(o.Kind), strength(o.Ways[0]), mechanisms(o.Ways[0])})
	}
	fmt.Fprintf(&out, "\nheld: %d of %d kinds of requirement\n", len(held), len(p.Offers))
	table(&out, held)
	if waived := unheldBaseline(not); len(waived) > 0 {
		fmt.Fprintf(&out, "\nEvery run is refused on this host unless it accepts %s.\n", strings.Join(waived, ", "))
	}
	if len(not) > 0 {
		fmt.Fprintf(&out, "\nnot held: %d\n", len(not))
		for len(not) > 0 {
			not = unheld(&out, not)
		}
	}
	if len(weak) > 0 {
		fmt.Fprintf(&out, "\nheld otherwise than it could be: %d\n", len(weak))
		for len(weak) > 0 {
			weak = unheld(&out, weak)
		}
	}
	if len(p.Evidence) > 0 {
		out.WriteString("\nevidence\n")
		var rows [][]string
		for _, e := range p.Evidence {
			rows = append(rows, []string{string(e.Claim), "shown by " + e.By})
		}
		table(&out, rows)
	}
	out.WriteString("\nfacts\n")
	var rows [][]string
	for _, f := range p.Facts {
		value := f.Value
		if f.Detail != "" {
			value += " (" + f.Detail + ")"
		}
		rows = append(rows, []string{f.Name, value, f.Learned})
	}
	table(&out, rows)
	return out.Bytes()
}

// unheldBaseline lists the weakenings without which nothing can run.
func unheldBaseline(not []plan.Offer) []string {
	var names []string
	for _, b := range plan.Waivable {
		for _, o := range not {
			if o.Kind == b.Kind {
				names = append(names, string(b.Weakening))
			}
		}
	}
	return names
}

// unheld writes the first offer with all that have the same cause, and returns
// the others.
func unheld(out *bytes.Buffer, not []plan.Offer) []plan.Offer {
	first := not[0]
	var kinds []string
	var others []plan.Offer
	for _, o := range not {
		if o.Need == first.Need && o.Fact == first.Fact && o.Remedy == first.Remedy {
			kinds = append(kinds, string(o.Kind))
		} else {
			others = append(others, o)
		}
	}
	fmt.Fprintf(out, "  %s\n", fit(strings.Join(kinds, ", ")))
	for _, part := range [][2]string{{"needs", first.Need}, {"but", first.Fact}, {"remedy", first.Remedy}} {
		if part[1] != "" {
			fmt.Fprintf(out, "    %-7s %s\n", part[0], fit(part[1]))
		}
	}
	return others
}

func strength(w plan.Way) string {
	least := spec.Enforced
	for _, m := range w.Mechanisms {
		least = min(least, m.Enforcement)
	}
	return least.String()
}

func mechanisms(w plan.Way) string {
	var names []string
	for _, m := range w.Mechanisms {
		name := m.Name
		var params []string
		for _, p := range m.Params {
			params = append(params, p.Name+"="+p.Value)
		}
		if len(params) > 0 {
			name += " (" + strings.Join(params, ", ") + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, " + ")
}

// table writes rows in columns, indented and fit for a terminal.
func table(out *bytes.Buffer, rows [][]string) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = fit(cell)
		}
		fmt.Fprintf(t, "  %s\n", strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
	t.Flush()
}
