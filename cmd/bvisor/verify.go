package main

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/bvisor/bvisor/report"
)

func newVerify(c *cli) *cobra.Command {
	o := &verifyOptions{}
	cmd := &cobra.Command{
		Use:   "verify [-v] [--key FILE]... [--receipt FILE] [--since CHECKPOINT] REPORT",
		Short: "Check a report's seal and contents, offline",
		Long: `Verify checks the signature over the bytes as they stand, then that the report is
true to itself. It trusts the key of the state directory, its former ones, and
those that --key names.

` + reportArgument + `

With a receipt it also checks that the report is in the ledger of the checkpoint in
it. --receipt names one; otherwise REPORT.tlog-proof is taken if it is there, or
the ledger of the state directory is asked. With --since it checks that the ledger
continues the tree of an older checkpoint.

A report that verifies was sealed by the holder of a trusted key and has not been
changed since. It shows what that supervisor saw; it does not prove that its host
was honest.

Exit codes: 0 every check passed, 1 a check failed, 121 there is no such report.`,
		Example: `  bvisor verify report.json
  bvisor verify -v 3f2a91
  bvisor verify --key their-key.pem report.json`,
		Args: arguments(1, 1, "REPORT"),
		RunE: func(_ *cobra.Command, args []string) error { return c.verify(args[0], o) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.keys, "key", nil, "trust the public key in `FILE`, too")
	f.StringVar(&o.receipt, "receipt", "", "the proof in `FILE` that the report is in a ledger")
	f.StringVar(&o.since, "since", "", "check that the ledger continues the tree of the checkpoint in `FILE`")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "list every check")
	return cmd
}

type verifyOptions struct {
	keys    []string
	receipt string
	since   string
	verbose bool
}

func (c *cli) verify(name string, o *verifyOptions) error {
	keys, err := c.trusted(o.keys)
	if err != nil {
		return err
	}
	envelope, err := c.envelope(name)
	if err != nil {
		return err
	}
	v, err := report.Verify(envelope, keys)
	recorded := ""
	if err == nil {
		if recorded, err = c.recorded(name, envelope, v, keys, o); err != nil {
			if f, ok := errors.AsType[*failure](err); ok {
				return f
			}
		}
	}
	if bad, ok := errors.AsType[*report.CheckError](err); ok {
		if o.verbose {
			if err := c.listChecks(bad.Passed); err != nil {
				return err
			}
		}
		f := &failure{code: exitCheck, err: fmt.Errorf("%s: %w", name, bad)}
		if errors.Is(err, report.ErrUntrustedKey) {
			f.hinted("name the public key of whoever made it with --key FILE")
		}
		return f
	}
	if err != nil {
		return fault("%w", err)
	}
	if o.verbose {
		if err := c.listChecks(v.Checks); err != nil {
			return err
		}
	}
	return c.write([]byte(fit(fmt.Sprintf("verified: attempt %s, %s, sealed by key %s; %s", v.Report.Identity.Attempt, v.Report.Outcome.Status, v.Key.ID(), recorded)) + "\n"))
}

func (c *cli) listChecks(checks []report.Check) error {
	var out bytes.Buffer
	var rows [][]string
	for _, k := range checks {
		rows = append(rows, []string{"passed", k.Name, k.Detail})
	}
	table(&out, rows)
	return c.write(out.Bytes())
}

// trusted are the keys of the state directory and of files.
func (c *cli) trusted(files []string) ([]report.PublicKey, error) {
	var keys []report.PublicKey
	for _, name := range files {
		data, err := c.readAll(name, 64<<10)
		if err != nil {
			return nil, err
		}
		k, err := report.ParsePublicKey(data)
		if err != nil {
			return nil, usage("--key %s: %w", name, err).hinted(`"bvisor key export" writes a public key`)
		}
		keys = append(keys, k)
	}
	dir, err := c.state()
	if err != nil && len(keys) > 0 {
		return keys, nil // verifying needs no state of one's own
	}
	if err != nil {
		return nil, err
	}
	own, err := report.TrustedKeys(filepath.Join(dir, "keys"))
	if err != nil {
		return nil, fault("%w", err)
	}
	return append(keys, own...), nil
}
