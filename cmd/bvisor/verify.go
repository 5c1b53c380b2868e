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
	var keys []string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "verify [-v] [--key FILE]... REPORT",
		Short: "Check a report's seal and contents, offline",
		Long: `Verify checks the signature over the bytes as they stand, then that the report is
true to itself. It trusts the key of the state directory, its former ones, and
those that --key names.

` + reportArgument + `

A report that verifies was sealed by the holder of a trusted key and has not been
changed since. It shows what that supervisor saw; it does not prove that its host
was honest.

Exit codes: 0 every check passed, 1 a check failed, 121 there is no such report.`,
		Example: `  bvisor verify report.json
  bvisor verify -v 3f2a91
  bvisor verify --key their-key.pem report.json`,
		Args: arguments(1, 1, "REPORT"),
		RunE: func(_ *cobra.Command, args []string) error { return c.verify(args[0], keys, verbose) },
	}
	cmd.Flags().StringArrayVar(&keys, "key", nil, "trust the public key in `FILE`, too")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "list every check")
	return cmd
}

func (c *cli) verify(name string, keyFiles []string, verbose bool) error {
	keys, err := c.trusted(keyFiles)
	if err != nil {
		return err
	}
	envelope, err := c.envelope(name)
	if err != nil {
		return err
	}
	v, err := report.Verify(envelope, keys)
	if bad, ok := errors.AsType[*report.CheckError](err); ok {
		if verbose {
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
	if verbose {
		if err := c.listChecks(v.Checks); err != nil {
			return err
		}
	}
	return c.write([]byte(fit(fmt.Sprintf("verified: attempt %s, %s, sealed by key %s", v.Report.Identity.Attempt, v.Report.Outcome.Status, v.Key.ID())) + "\n"))
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
