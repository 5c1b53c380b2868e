// Command bvisor starts a program only if this host can hold the boundary that
// was declared around it, and hands over a sealed report afterwards.
//
// Manners: standard output belongs to the workload, or to the answer of a
// command that has none. bvisor itself speaks on standard error: a message
// starts with "bvisor: ", what belongs to it is indented, and what to do is a
// "bvisor: hint: " line. See exit.go for the exit codes.
package main

import (
	"os"

	"github.com/spf13/cobra"
)

func main() {
	actAsVictim()
	actAsWorker()
	c := &cli{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	root := newRoot(c)
	root.SetArgs(os.Args[1:])
	os.Exit(c.end(root.Execute()))
}

func newRoot(c *cli) *cobra.Command {
	root := &cobra.Command{
		Use:   "bvisor",
		Short: "Run programs inside declared boundaries, and prove it",
		Long: `bvisor starts a program only if this host can hold every part of the boundary
that was declared around it, and hands over a sealed report afterwards.

What is not granted is denied. Nothing runs with less than was asked for.`,
		Example: `  bvisor probe                            what this host can hold
  bvisor run -- make test                 run with the working directory readable, no network
  bvisor run --write out -- ./build.sh    and one directory to write to
  bvisor run --quarantine . -- ./agent.sh hold back what is written; bvisor artifacts diff shows it
  bvisor report show                      the last report
  bvisor verify report.json               check a report's seal and contents`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          group,
		// No command has a hook of its own, so this one is run for all.
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return noEmptyValue(cmd.Flags()) },
	}
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	root.SetFlagErrorFunc(badFlag)
	root.CompletionOptions.HiddenDefaultCmd = false
	root.PersistentFlags().StringVar(&c.cgroupParent, "cgroup-parent", "", "make the groups that hold budgets below `PATH`, a delegated directory of cgroup v2 (default: what is delegated to this process)")
	root.PersistentFlags().StringVar(&c.stateDir, "state-dir", "", "directory of the key and the records (default $BVISOR_STATE_DIR, else $XDG_STATE_HOME/bvisor)")
	root.AddCommand(newRun(c), newPlan(c), newLearn(c), newProbe(c), newVerify(c), newReport(c), newArtifacts(c), newLedger(c), newRecover(c), newReplay(c), newSpec(c), newKey(c), newSelftest(c), newVersion(c))
	return root
}
