package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/bvisor/bvisor/report"
)

func newKey(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Look at the key that seals reports",
		Long: `The key that seals reports is an Ed25519 key in the state directory, made on first
use. No boundary can reach it.`,
		Args: cobra.ArbitraryArgs,
		RunE: group,
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:     "show",
			Short:   "Name the key and those whose seals are believed besides",
			Example: "  bvisor key show",
			Args:    arguments(0, 0, ""),
			RunE:    func(*cobra.Command, []string) error { return c.showKeys() },
		},
		&cobra.Command{
			Use:     "export",
			Short:   "Write the public key, for those who verify",
			Example: "  bvisor key export > bvisor-key.pem",
			Args:    arguments(0, 0, ""),
			RunE: func(*cobra.Command, []string) error {
				_, k, err := c.key()
				if err != nil {
					return err
				}
				return c.write(k.Public().PEM())
			},
		},
		&cobra.Command{
			Use:     "rotate",
			Short:   "Replace the key with a new one",
			Long:    "Replace the key with a new one. Seals of the former key are still believed; its\nsecret half is gone.",
			Example: "  bvisor key rotate",
			Args:    arguments(0, 0, ""),
			RunE:    func(*cobra.Command, []string) error { return c.rotateKey() },
		},
	)
	return cmd
}

// key returns the sealing key and its directory.
func (c *cli) key() (string, *report.Key, error) {
	dir, err := c.state()
	if err != nil {
		return "", nil, err
	}
	dir = filepath.Join(dir, "keys")
	k, err := report.LoadOrCreateKey(dir)
	if err != nil {
		return "", nil, fault("signing key: %w", err)
	}
	return dir, k, nil
}

func (c *cli) showKeys() error {
	dir, k, err := c.key()
	if err != nil {
		return err
	}
	trusted, err := report.TrustedKeys(dir)
	if err != nil {
		return fault("%w", err)
	}
	text := fmt.Sprintf("seals    %s\n", k.ID())
	for _, p := range trusted {
		if p.ID() != k.ID() {
			text += fmt.Sprintf("trusted  %s\n", p.ID())
		}
	}
	return c.write([]byte(text + "kept in  " + fit(dir) + "\n"))
}

func (c *cli) rotateKey() error {
	dir, former, err := c.key()
	if err != nil {
		return err
	}
	k, err := report.Rotate(dir)
	if err != nil {
		return fault("signing key: %w", err)
	}
	return c.write([]byte(fmt.Sprintf("seals    %s\nformer   %s, still trusted\n", k.ID(), former.ID())))
}
