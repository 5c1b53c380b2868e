package spec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bvisor/bvisor/internal/strictyaml"
)

// shape is a form that a value of the document may take: how to decode it, and
// the schema that says the same. Every shape makes both from the same
// arguments.
type shape[T any] struct {
	decode func(*decoder, *strictyaml.Node) (T, bool)
	schema *schema
}

// decoder collects what is wrong while shapes walk the document.
type decoder struct {
	problems []Problem
}

func (d *decoder) add(p strictyaml.Problem) {
	d.problems = append(d.problems, Problem{Line: p.Line, Column: p.Column, Field: p.Path, Code: "spec." + p.Code,
		Message: p.Message, Hint: p.Hint})
}

func (d *decoder) full() bool { return len(d.problems) >= strictyaml.MaxProblems }

// refuse reports err at n and says false.
func (d *decoder) refuse(n *strictyaml.Node, err error) bool {
	d.problems = append(d.problems, problemOf(err, n.Path()).at(n))
	return false
}

func (p Problem) at(n *strictyaml.Node) Problem {
	p.Line, p.Column = n.Line, n.Column
	return p
}

// text is a string that parse turns into a T.
func text[T any](parse func(string) (T, error), s schema) shape[T] {
	s.Type = "string"
	return shape[T]{func(d *decoder, n *strictyaml.Node) (T, bool) {
		var zero T
		v, p := n.Text()
		if p != nil && (p.Code != strictyaml.CodeAmbiguous) {
			d.add(*p)
			return zero, false
		}
		// Quotes around an ambiguous value would not help where the value is
		// no good either way, so that is said first.
		if p != nil {
			v = n.Value
		}
		t, err := parse(v)
		switch {
		case err != nil:
			return zero, d.refuse(n, err)
		case p != nil:
			d.add(*p)
			return zero, false
		}
		return t, true
	}, &s}
}

// checked turns a check of a string into a parse function.
func checked(check func(string) error) func(string) (string, error) {
	return func(s string) (string, error) { return s, check(s) }
}

// choice is one of names. others, for the error, are what may stand there
// besides.
func choice[T ~string](what string, names []T, others ...string) shape[T] {
	s := schema{}
	for _, n := range names {
		s.Enum = append(s.Enum, string(n))
	}
	return text(func(v string) (T, error) { return oneOf(what, v, names, others...) }, s)
}

// integer is a whole number from least to most.
func integer(least, most int64, check func(int64) error) shape[int64] {
	return shape[int64]{func(d *decoder, n *strictyaml.Node) (int64, bool) {
		v, p := n.Int()
		if p != nil {
			d.add(*p)
			return 0, false
		}
		if err := check(v); err != nil {
			return 0, d.refuse(n, err)
		}
		return v, true
	}, &schema{Type: "integer", Minimum: &least, Maximum: &most}}
}

// boolean is true or false.
func boolean() shape[bool] {
	return shape[bool]{func(d *decoder, n *strictyaml.Node) (bool, bool) {
		v, p := n.Bool()
		if p != nil {
			d.add(*p)
		}
		return v, p == nil
	}, &schema{Type: "boolean"}}
}

// list is a list of at least least items.
func list[T any](item shape[T], least int) shape[[]T] {
	return shape[[]T]{func(d *decoder, n *strictyaml.Node) ([]T, bool) {
		if n.Kind != strictyaml.List {
			d.add(n.Expected("a list"))
			return nil, false
		}
		if len(n.Items) < least {
			return nil, d.refuse(n, badValue("add one, or leave the key out", "the list is empty"))
		}
		var out []T
		for _, c := range n.Items {
			if d.full() {
				return nil, false
			}
			v, ok := item.decode(d, c)
			if ok {
				out = append(out, v)
			}
		}
		return out, len(out) == len(n.Items)
	}, &schema{Type: "array", Items: item.schema, MinItems: least}}
}

// field is one key of an object.
type field[T any] struct {
	name     string
	required bool
	schema   *schema
	set      func(*decoder, *strictyaml.Node, *T)
}

// key is a field called name; doc is for the schema.
func key[T, V any](name, doc string, s shape[V], set func(*T, V)) field[T] {
	described := *s.schema
	described.Description = doc
	return field[T]{name: name, schema: &described, set: func(d *decoder, n *strictyaml.Node, into *T) {
		if v, ok := s.decode(d, n); ok {
			set(into, v)
		}
	}}
}

// required makes f one that must be there.
func required[T any](f field[T]) field[T] {
	f.required = true
	return f
}

// object is a map with the keys of fields and no others. what names it in
// errors, with its article.
func object[T any](what string, fields ...field[T]) shape[T] {
	s := &schema{Type: "object", Properties: map[string]*schema{}, AdditionalProperties: false}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
		s.Properties[f.name] = f.schema
		if f.required {
			s.Required = append(s.Required, f.name)
		}
	}
	return shape[T]{func(d *decoder, n *strictyaml.Node) (T, bool) {
		var out T
		if n.Kind != strictyaml.Map {
			d.add(n.Expected(what + " (a map)"))
			return out, false
		}
		before := len(d.problems)
		present := make([]bool, len(fields))
		for i, k := range n.Keys {
			if d.full() {
				return out, false
			}
			f := slices.Index(names, k.Value)
			if f < 0 {
				d.refuse(k, unknownKey(what, k.Value, names))
				continue
			}
			present[f] = true
			fields[f].set(d, n.Items[i], &out)
		}
		for i, f := range fields {
			if f.required && !present[i] {
				d.refuse(n, &valueError{CodeMissing, "key " + f.name + " is missing", ""})
			}
		}
		return out, len(d.problems) == before
	}, s}
}

func unknownKey(what, name string, names []string) error {
	e := &valueError{code: CodeUnknownKey, message: "unknown key in " + what}
	near := closest(name, names)
	switch {
	case near == "":
		e.hint = expected(names)
	case strings.EqualFold(near, name):
		e.code, e.hint = CodeWrongCase, fmt.Sprintf("keys are lower case: %q", near)
	default:
		e.hint = fmt.Sprintf("did you mean %q?", near)
	}
	return e
}

// either picks a shape by the kind of the node. A nil shape is a kind that is
// not expected; what says what is.
func either[T any](what string, scalar, list, mapping *shape[T]) shape[T] {
	s := &schema{}
	byKind := map[strictyaml.Kind]*shape[T]{strictyaml.Scalar: scalar, strictyaml.List: list, strictyaml.Map: mapping}
	for _, alternative := range []*shape[T]{scalar, list, mapping} {
		if alternative != nil {
			s.AnyOf = append(s.AnyOf, alternative.schema)
		}
	}
	return shape[T]{func(d *decoder, n *strictyaml.Node) (T, bool) {
		if alternative := byKind[n.Kind]; alternative != nil {
			return alternative.decode(d, n)
		}
		var zero T
		d.add(n.Expected(what))
		return zero, false
	}, s}
}

// numberOr is a plain number, or anything else the other shape takes.
func numberOr[T any](what string, number, others shape[T]) shape[T] {
	return shape[T]{func(d *decoder, n *strictyaml.Node) (T, bool) {
		switch {
		case n.IsNumber():
			return number.decode(d, n)
		case n.Kind != strictyaml.Scalar:
			var zero T
			d.add(n.Expected(what))
			return zero, false
		}
		return others.decode(d, n)
	}, &schema{AnyOf: []*schema{number.schema, others.schema}}}
}

// mapped is s with its value turned into another.
func mapped[A, B any](s shape[A], f func(A) B) shape[B] {
	return shape[B]{func(d *decoder, n *strictyaml.Node) (B, bool) {
		v, ok := s.decode(d, n)
		if !ok {
			var zero B
			return zero, false
		}
		return f(v), true
	}, s.schema}
}
