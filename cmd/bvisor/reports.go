package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bvisor/bvisor/ledger"
	"github.com/bvisor/bvisor/report"
)

func newReport(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Look at sealed reports",
		Args:  cobra.ArbitraryArgs,
		RunE:  group,
	}
	cmd.AddCommand(newReportShow(c), newReportList(c), newReportExport(c))
	return cmd
}

// reportArgument is how commands name a report.
const reportArgument = `REPORT is a file, - for standard input, or the first digits of an attempt's id.`

func newReportShow(c *cli) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show [--json] [REPORT]",
		Short: "Show a report, the last one by default",
		Long: `Show a report for people, and say when its seal does not hold.

` + reportArgument + ` Without it, the last
attempt is shown. With --json the sealed statement is written as it stands; on a
terminal, what that would obey is escaped.`,
		Example: `  bvisor report show
  bvisor report show 3f2a91
  bvisor report show --json report.json`,
		Args: arguments(0, 1, "REPORT"),
		RunE: func(_ *cobra.Command, args []string) error {
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			return c.showReport(name, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write the sealed statement")
	return cmd
}

func newReportList(c *cli) *cobra.Command {
	var asJSON bool
	var last int
	cmd := &cobra.Command{
		Use:     "list [--json] [-n N]",
		Short:   "List the attempts, the last one last",
		Example: "  bvisor report list -n 10",
		Args:    arguments(0, 0, ""),
		RunE:    func(*cobra.Command, []string) error { return c.listReports(asJSON, last) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write one JSON line for each attempt")
	cmd.Flags().IntVarP(&last, "last", "n", 0, "only the last `N`")
	return cmd
}

func newReportExport(c *cli) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "export [-o FILE] REPORT",
		Short: "Write the sealed envelope of an attempt",
		Long: `Write the sealed report, a DSSE envelope, byte for byte as it was recorded. Any
DSSE tool can check its signature with the key of "bvisor key export".`,
		Example: `  bvisor report export 3f2a91 > report.json
  bvisor report export -o report.json 3f2a91`,
		Args: arguments(1, 1, "REPORT"),
		RunE: func(_ *cobra.Command, args []string) error {
			envelope, err := c.envelope(args[0])
			if err != nil {
				return err
			}
			if output == "" {
				return c.write(envelope)
			}
			return c.exportReport(output, envelope)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to `FILE`, which must not exist, and its receipt to FILE"+receiptSuffix)
	return cmd
}

// exportReport writes a report and, if it is in the ledger, its receipt beside it.
func (c *cli) exportReport(name string, envelope []byte) error {
	sealed, err := report.Parse(envelope)
	if err != nil {
		return &failure{code: exitCheck, err: err}
	}
	log, err := c.ownLog()
	if err != nil {
		return err
	}
	if err := writeNew(name, envelope); err != nil {
		return usage("%w", err)
	}
	if log == nil {
		return nil
	}
	defer log.Close()
	proof, _, err := c.receipt("-", "", sealed.Report, log)
	if err != nil {
		return fault("%w", err)
	}
	if proof == nil {
		return nil
	}
	if err := writeNew(name+receiptSuffix, proof.Marshal()); err != nil {
		return usage("%w", err)
	}
	return nil
}

// maxEnvelope is what report.Parse reads.
const maxEnvelope = 16 << 20

// envelope finds a sealed report; "" is the last one.
func (c *cli) envelope(name string) ([]byte, error) {
	if name != "" {
		if _, err := os.Lstat(name); name == "-" || err == nil || strings.ContainsAny(name, "./") {
			return c.readAll(name, maxEnvelope)
		}
	}
	log, err := c.openLog()
	if err != nil {
		return nil, err
	}
	defer log.Close()
	attempt := ""
	if name == "" {
		entries, err := sealed(log, 1)
		if err != nil {
			return nil, err
		}
		if len(entries) == 0 {
			return nil, usage("no report in %s", log.Path())
		}
		attempt = entries[0].Attempt
	} else if attempt, err = log.Find(name); err != nil {
		return nil, usage("%s is no file, and as an attempt: %w", name, err).hinted(`"bvisor report list" lists the attempts`)
	}
	data, err := log.Read(ledger.Report, attempt)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = log.Read(ledger.Refusal, attempt)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usage("attempt %s has no report: it is running now, or a crash ended it", attempt)
	}
	if err != nil {
		return nil, fault("%w", err)
	}
	return data, nil
}

// openLog opens the records without making any.
func (c *cli) openLog() (*ledger.Dir, error) {
	dir, err := c.state()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "ledger")
	if _, err := os.Stat(path); err != nil {
		return nil, usage("no records: %w", err).hinted("--state-dir and BVISOR_STATE_DIR choose another state directory")
	}
	log, err := ledger.OpenDir(path)
	if err != nil {
		return nil, fault("%w", err)
	}
	return log, nil
}

// sealed are the last entries with reports, up to most of them, the last one
// last; 0 is all.
func sealed(log *ledger.Dir, most int) ([]ledger.Entry, error) {
	if most == 0 {
		most = math.MaxInt
	}
	list, _, err := log.List(-1, most, func(e ledger.Entry) (bool, error) {
		return e.Kind == ledger.Report || e.Kind == ledger.Refusal, nil
	})
	if err != nil {
		return nil, fault("%w", err)
	}
	slices.Reverse(list)
	return list, nil
}

func (c *cli) showReport(name string, asJSON bool) error {
	envelope, err := c.envelope(name)
	if err != nil {
		return err
	}
	sealed, err := report.Parse(envelope)
	if err != nil {
		return &failure{code: exitCheck, err: err}
	}
	if asJSON {
		err = c.write(append(onTerminal(c.stdout, sealed.Payload), '\n'))
	} else {
		var text bytes.Buffer
		if err = report.Show(&text, sealed.Report, report.ShowOptions{Color: colors(c.stdout)}); err == nil {
			err = c.write(text.Bytes())
		}
	}
	if err != nil {
		return err
	}
	keys, err := c.trusted(nil)
	if err != nil {
		return err
	}
	if _, err := report.Verify(envelope, keys); err != nil {
		f := &failure{code: exitCheck, err: fmt.Errorf("do not believe this report: %w", err)}
		if errors.Is(err, report.ErrUntrustedKey) {
			f.hinted(`"bvisor verify --key FILE" checks it with the public key of whoever made it`)
		}
		return f
	}
	return nil
}

// line is one attempt in a list.
type line struct {
	Attempt string   `json:"attempt"`
	Time    string   `json:"time"`
	Outcome string   `json:"outcome"`
	Reason  string   `json:"reason,omitempty"`
	Command []string `json:"command,omitempty"`
}

func (c *cli) listReports(asJSON bool, last int) error {
	log, err := c.openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	entries, err := sealed(log, last)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, e := range entries {
		d, _, err := describeEntry(log, e)
		if err != nil {
			return err
		}
		l := line{d.Attempt, e.Time.UTC().Format(time.RFC3339), d.Outcome, d.Reason, d.Command}
		if asJSON {
			if err := c.writeJSON(l); err != nil {
				return err
			}
			continue
		}
		outcome := l.Outcome
		if l.Reason != "" {
			outcome += ": " + shorten(l.Reason, 40)
		}
		rows = append(rows, []string{l.Attempt[:12], l.Time, outcome, shorten(commandLine(l.Command), 60)})
	}
	open, err := log.Open()
	if err != nil {
		return fault("%w", err)
	}
	if !asJSON {
		var out bytes.Buffer
		table(&out, rows)
		if err := c.write(out.Bytes()); err != nil {
			return err
		}
	}
	if len(open) > 0 {
		var attempts []string
		for _, e := range open {
			attempts = append(attempts, e.Attempt)
		}
		c.say("%d without an end, running now or ended by a crash: %s", len(open), strings.Join(attempts, ", "))
	}
	return nil
}

func shorten(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// commandLine is a command for a list, with the program's bare name.
func commandLine(command []string) string {
	if len(command) == 0 {
		return ""
	}
	return strings.Join(append([]string{filepath.Base(command[0])}, command[1:]...), " ")
}
