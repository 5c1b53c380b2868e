package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bvisor/bvisor/spec"
)

func newSpec(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "spec",
		Short: "Write, check and compare specs",
		Args:  cobra.ArbitraryArgs,
		RunE:  group,
	}
	cmd.AddCommand(newSpecInit(c), newSpecCheck(c), newSpecDiff(c), newSpecSchema(c), newSpecPresets(c))
	return cmd
}

func newSpecInit(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "init [FILE]",
		Short:   "Write a commented spec to start from",
		Long:    "Write a commented spec to FILE, bvisor.yaml by default, which must not exist; - is\nstandard output.",
		Example: "  bvisor spec init\n  bvisor spec init - | less",
		Args:    arguments(0, 1, "FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			name := "bvisor.yaml"
			if len(args) == 1 {
				name = args[0]
			}
			if name == "-" {
				return c.write(spec.Example())
			}
			if err := writeNew(name, spec.Example()); errors.Is(err, fs.ErrExist) {
				return usage("%s exists already", name).hinted("name another file")
			} else if err != nil {
				return usage("%w", err)
			}
			return c.write([]byte(fit("wrote "+name) + "\n"))
		},
	}
}

func newSpecCheck(c *cli) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check [--json] FILE...",
		Short: "Find everything that is wrong with specs",
		Long: `Check reads specs as run does, as far as that needs no other file: "bvisor plan
--spec FILE" also looks up the paths and says how this host holds the boundary.
FILE may be - for standard input.

Exit codes: 0 nothing is wrong, 121 otherwise.`,
		Example: "  bvisor spec check job.yaml",
		Args:    arguments(1, 1<<20, "FILE"),
		RunE:    func(_ *cobra.Command, args []string) error { return c.checkSpecs(args, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write the problems as one JSON list")
	return cmd
}

func (c *cli) checkSpecs(names []string, asJSON bool) error {
	cwd, err := os.Getwd()
	if err != nil {
		return usage("working directory: %w", err)
	}
	found := &spec.Error{Problems: []spec.Problem{}}
	for _, name := range names {
		s, err := c.parseSpec(name, cwd)
		if err == nil {
			err = spec.Validate(s)
		}
		if list := problems(err); list != nil {
			found.Problems = append(found.Problems, list...)
		} else if err != nil {
			return err
		} else if !asJSON {
			if err := c.write([]byte(fit(name+": ok") + "\n")); err != nil {
				return err
			}
		}
	}
	if asJSON {
		if err := c.writeJSON(found.Problems); err != nil {
			return err
		}
		if len(found.Problems) > 0 {
			return &failure{code: exitUsage}
		}
		return nil
	}
	if len(found.Problems) > 0 {
		return found
	}
	return nil
}

func newSpecDiff(c *cli) *cobra.Command {
	var asJSON, failOnWiden bool
	cmd := &cobra.Command{
		Use:   "diff [--fail-on-widen] [--json] A B",
		Short: "Say what spec B allows that A does not, and what it no longer allows",
		Long: `Diff compares what two specs mean, not how they are written: with their presets
and defaults written out, a grant inside a wider one is no difference. Each line
is one:

  +  B allows what A does not, or no longer demands what A demands
  -  A allows what B does not, or B demands more
  ~  what runs is not the same

Values that have no order, such as those of a variable, give one + and one -.
Nothing is written where there is no difference. A or B may be - for standard
input.

Paths are compared by their text, cleaned: no file is looked up, so a link and
what it leads to are two paths. Relative paths of both specs start at the
directory of B, of A where B is standard input.

Exit codes: 0 compared; 1 with --fail-on-widen, if there is a + line; 121 if one
of them is no spec.`,
		Example: `  bvisor spec diff old.yaml new.yaml
  git show main:job.yaml | bvisor spec diff --fail-on-widen - job.yaml`,
		Args: arguments(2, 2, "A or B"),
		RunE: func(_ *cobra.Command, args []string) error {
			list, err := c.diffSpecs(args[0], args[1])
			if err == nil {
				err = c.writeDifferences(list, asJSON)
			}
			if err != nil {
				return err
			}
			if failOnWiden && slices.ContainsFunc(list, func(d spec.Difference) bool { return d.Effect == spec.Widens }) {
				f := &failure{code: exitCheck}
				if !asJSON {
					f.err = fmt.Errorf("%s allows what %s does not", specName(args[1]), specName(args[0]))
				}
				return f
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&failOnWiden, "fail-on-widen", false, "exit with 1 if B allows anything that A does not")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write the differences as one JSON list")
	return cmd
}

func (c *cli) diffSpecs(a, b string) ([]spec.Difference, error) {
	cwd, err := os.Getwd()
	if err != nil {
		return nil, usage("working directory: %w", err)
	}
	if a == "-" && b == "-" {
		return nil, usage("A and B are both standard input").hinted("name a file for one of them")
	}
	// The older of two versions often lies elsewhere by the time it is
	// compared; it is meant as it would be in the place of the newer.
	dir := specDir(b, cwd)
	if b == "-" {
		dir = specDir(a, cwd)
	}
	both := make([]spec.Spec, 2)
	found := &spec.Error{}
	for i, name := range []string{a, b} {
		both[i], err = c.readSpec(name)
		if err == nil {
			err = spec.Validate(both[i].Rebase(dir))
			for j := range problems(err) {
				problems(err)[j].File = specName(name)
			}
		}
		if list := problems(err); list != nil {
			found.Problems = append(found.Problems, list...)
		} else if err != nil {
			return nil, err
		}
	}
	if len(found.Problems) > 0 {
		return nil, found
	}
	return spec.Diff(both[0], both[1], dir), nil
}

func (c *cli) writeDifferences(list []spec.Difference, asJSON bool) error {
	if asJSON {
		return c.writeJSON(append([]spec.Difference{}, list...))
	}
	var out bytes.Buffer
	for _, d := range list {
		fmt.Fprintln(&out, fit(d.String()))
	}
	return c.write(out.Bytes())
}

func newSpecSchema(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "Write the JSON Schema of a spec, for editors",
		Example: "  bvisor spec schema > bvisor.schema.json",
		Args:    arguments(0, 0, ""),
		RunE:    func(*cobra.Command, []string) error { return c.write(spec.Schema()) },
	}
}

func newSpecPresets(c *cli) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "presets [--json]",
		Short: "List the presets with every grant in them",
		Args:  arguments(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return c.writeJSON(spec.Presets())
			}
			var out bytes.Buffer
			for _, p := range spec.Presets() {
				fmt.Fprintf(&out, "%s: %s\n", p.Name, p.Summary)
				var rows [][]string
				for _, g := range p.Grants {
					for _, path := range g.Paths {
						rows = append(rows, []string{string(g.Access), path, strings.Join(remarks(g), ", ")})
					}
				}
				table(&out, rows)
			}
			return c.write(out.Bytes())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write them as JSON")
	return cmd
}

func remarks(g spec.Grant) []string {
	var list []string
	if g.Optional {
		list = append(list, "if it exists")
	}
	if g.NonRecursive {
		list = append(list, "not what lies below")
	}
	return list
}
