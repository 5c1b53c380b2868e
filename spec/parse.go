package spec

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bvisor/bvisor/internal/strictyaml"
)

// Parse reads one spec, YAML or JSON. name stands for the file in errors. The
// error is an *Error with everything that is wrong, in document order.
//
// What Parse returns has passed Validate. Paths are as written: see Rebase.
func Parse(name string, data []byte) (Spec, error) {
	var d decoder
	var s Spec
	root, problems := strictyaml.Parse(data)
	for _, p := range problems {
		d.add(p)
	}
	if root != nil {
		s, _ = specShape().decode(&d, root)
		if !d.full() { // else the rest was not read
			d.problems = append(d.problems, d.validate(s, root)...)
		}
	}
	if len(d.problems) > 0 {
		return Spec{}, finish(name, d.problems)
	}
	slices.SortFunc(s.Capabilities.Environment, func(a, b EnvEntry) int { return cmp.Compare(a.Name, b.Name) })
	slices.Sort(s.Capabilities.FDs)
	return s, nil
}

// validate runs the checks whose fields could all be read, so that one mistake
// is not reported a second time as a consequence of itself.
func (d *decoder) validate(s Spec, root *strictyaml.Node) []Problem {
	var v validator
	for _, c := range checks {
		if !slices.ContainsFunc(d.problems, func(p Problem) bool { return slices.ContainsFunc(c.reads, p.touches) }) {
			c.run(&v, s)
		}
	}
	for i, p := range v.problems {
		v.problems[i] = p.at(root.Find(p.Field))
	}
	return v.problems
}

// touches says whether the problem's field is field, or above or below it.
func (p Problem) touches(field string) bool {
	return below(field, p.Field) || below(p.Field, field)
}

func below(field, path string) bool {
	rest, ok := strings.CutPrefix(path, field)
	return ok && (field == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

// decisive are the problems after which nothing else is worth saying of a node.
var decisive = map[string]bool{
	"spec." + strictyaml.CodeNUL: true, "spec." + strictyaml.CodeTag: true,
	"spec." + strictyaml.CodeMerge: true, "spec." + strictyaml.CodeAnchor: true,
}

// withoutEchoes leaves out what follows from the problem before it.
func withoutEchoes(problems []Problem) []Problem {
	var out []Problem
	for _, p := range problems {
		if len(out) > 0 {
			q := out[len(out)-1]
			if p.Line == q.Line && p.Column == q.Column && decisive[q.Code] {
				continue
			}
		}
		out = append(out, p)
	}
	return out
}

func finish(name string, problems []Problem) *Error {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	problems = withoutEchoes(problems)
	if len(problems) > strictyaml.MaxProblems {
		problems = problems[:strictyaml.MaxProblems]
	}
	for i := range problems {
		problems[i].File = name
	}
	if len(problems) == strictyaml.MaxProblems {
		problems = append(problems, Problem{File: name, Code: CodeTooMany,
			Message: fmt.Sprintf("only the first %d problems are shown", strictyaml.MaxProblems)})
	}
	return &Error{problems}
}

// problemOf is err as a problem of field.
func problemOf(err error, field string) Problem {
	p := Problem{Field: field, Code: CodeValue, Message: err.Error()}
	var v *valueError
	if errors.As(err, &v) {
		p.Code, p.Message, p.Hint = v.code, v.message, v.hint
	}
	return p
}
