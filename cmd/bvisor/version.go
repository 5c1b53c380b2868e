package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

func newVersion(c *cli) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version [--json]",
		Short: "Name the version and the formats it reads and writes",
		Args:  arguments(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			if !asJSON {
				return c.write([]byte(fmt.Sprintf("bvisor %s, %s, %s/%s\n", bvisor.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)))
			}
			return c.writeJSON(struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				OS      string `json:"os"`
				Arch    string `json:"arch"`
				Spec    int    `json:"spec"`
				Plan    int    `json:"plan"`
				Profile int    `json:"profile"`
				Report  int    `json:"report"`
			}{bvisor.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH, spec.Version, plan.Version, plan.ProfileVersion, report.Version})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write it as JSON")
	return cmd
}
