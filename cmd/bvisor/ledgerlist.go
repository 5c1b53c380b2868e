package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bvisor/bvisor/ledger"
	"github.com/bvisor/bvisor/report"
)

// filter is what a list is to show.
type filter struct {
	from, until                       string
	kind, outcome, host, plan, denied string
	begin, end                        time.Time
	asJSON                            bool
	page                              int
	before                            int64
}

func newLedgerList(c *cli) *cobra.Command {
	o := &filter{}
	cmd := &cobra.Command{
		Use:   "list [--json] [-n N] [--before INDEX] [filters]",
		Short: "List entries, the newest first",
		Long: `List the entries, the newest first, a page at a time. Filters add up: an entry is
listed if all of them fit. --outcome, --host, --plan and --denied are about
reports and refusals, so they leave out everything else.

Times are those of the host's clock when the entry was written; the order is that
of the log.`,
		Example: `  bvisor ledger list
  bvisor ledger list --outcome failed --from 2026-01-31
  bvisor ledger list --denied /etc/shadow --json`,
		Args: arguments(0, 0, ""),
		RunE: func(*cobra.Command, []string) error { return c.listEntries(o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.asJSON, "json", false, "write one JSON line for each entry")
	f.IntVarP(&o.page, "entries", "n", 50, "at most `N` entries")
	f.Int64Var(&o.before, "before", -1, "only entries before `INDEX`: the next page")
	f.StringVar(&o.from, "from", "", "only entries since `TIME`: 2026-01-31, or RFC 3339")
	f.StringVar(&o.until, "until", "", "only entries before `TIME`")
	f.StringVar(&o.kind, "kind", "", "only entries of `KIND`: intent, report, refusal, disposition, recovery")
	f.StringVar(&o.outcome, "outcome", "", "only reports with `OUTCOME`, for example failed")
	f.StringVar(&o.host, "host", "", "only reports of a host whose system, architecture or kernel holds `TEXT`")
	f.StringVar(&o.plan, "plan", "", "only reports of the plan whose identity begins with `DIGITS`")
	f.StringVar(&o.denied, "denied", "", "only reports in which something was denied whose path or act holds `TEXT`")
	return cmd
}

// moment reads a day or a time.
func moment(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usage("--%s: %q is no time; expected 2026-01-31 or 2026-01-31T12:00:00Z", flag, text)
}

func (f *filter) parse() (err error) {
	if f.begin, err = moment("from", f.from); err != nil {
		return err
	}
	if f.end, err = moment("until", f.until); err != nil {
		return err
	}
	all := []string{"", string(ledger.Intent), string(ledger.Report), string(ledger.Refusal), string(ledger.Disposition), string(ledger.Recovery)}
	if !slices.Contains(all, f.kind) {
		return usage("--kind: unknown kind %q; expected one of %s", f.kind, words(all[1:]))
	}
	if f.page < 1 {
		return usage("-n: %d entries, expected at least 1", f.page)
	}
	return nil
}

// wants looks at the leaf first: an entry that it rules out is not read.
func (f *filter) wants(log *ledger.Dir, e ledger.Entry) (bool, error) {
	if f.kind != "" && f.kind != string(e.Kind) || !f.begin.IsZero() && e.Time.Before(f.begin) || !f.end.IsZero() && !e.Time.Before(f.end) {
		return false, nil
	}
	if f.outcome == "" && f.host == "" && f.plan == "" && f.denied == "" {
		return true, nil
	}
	_, r, err := describeEntry(log, e)
	if err != nil || r == nil {
		return false, err
	}
	h := r.Profile.Host
	return (f.outcome == "" || f.outcome == string(r.Outcome.Status)) &&
		strings.HasPrefix(r.Identity.Plan, f.plan) &&
		strings.Contains(fmt.Sprintf("%s/%s %s", h.OS, h.Arch, h.Kernel), f.host) &&
		(f.denied == "" || slices.ContainsFunc(r.Denied, func(d report.DeniedAct) bool {
			return strings.Contains(d.Path, f.denied) || strings.Contains(d.Act, f.denied)
		})), nil
}

func (c *cli) listEntries(f *filter) error {
	if err := f.parse(); err != nil {
		return err
	}
	log, err := c.openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	total, err := log.Len()
	if err != nil {
		return fault("%w", err)
	}
	told := c.progress("looked through")
	list, more, err := log.List(f.before, f.page, func(e ledger.Entry) (bool, error) {
		told(total-e.Index, total)
		return f.wants(log, e)
	})
	told(0, 0)
	if err != nil {
		return fault("%w", err)
	}
	var rows [][]string
	for _, e := range list {
		l, _, err := describeEntry(log, e)
		if err != nil {
			return err
		}
		if f.asJSON {
			if err := c.writeJSON(l); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, rowOf(l))
	}
	var out bytes.Buffer
	table(&out, rows)
	if err := c.write(out.Bytes()); err != nil {
		return err
	}
	if more > 0 {
		c.hint("there are older entries: --before %d", more)
	}
	return nil
}
