package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

const schemaFile = "../docs/formats/spec.schema.json"

func compiledSchema(tb testing.TB) *jsonschema.Schema {
	tb.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		tb.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("spec.schema.json", doc); err != nil {
		tb.Fatal(err)
	}
	s, err := c.Compile("spec.schema.json")
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// instance is a YAML document as a schema validator sees it.
func instance(tb testing.TB, in []byte) (any, error) {
	tb.Helper()
	var v any
	if err := yaml.Load(in, &v); err != nil {
		return nil, err
	}
	j, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(j))
}

func TestSchemaFileIsCurrent(t *testing.T) {
	if *update {
		if err := os.WriteFile(schemaFile, Schema(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, Schema()) {
		t.Errorf("%s differs from Schema(): run go test ./spec -update", schemaFile)
	}
}

func TestSchemaAcceptsWhatParseAccepts(t *testing.T) {
	s := compiledSchema(t)
	ins := [][]byte{Example()}
	for _, tt := range accepted {
		ins = append(ins, []byte(tt.in))
	}
	for _, in := range ins {
		v, err := instance(t, in)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(v); err != nil {
			t.Errorf("%v\n%s", err, in)
		}
	}
}

// structural are the mistakes that a schema can see as well.
var structural = []string{CodeUnknownKey, CodeMissing, CodeUnknownName, CodeWrongCase, "spec.type"}

func TestSchemaRefusesWhatItCanSee(t *testing.T) {
	s := compiledSchema(t)
	// What a schema cannot say: that one of two keys must be there.
	except := []string{"workload/neither"}
	seen := 0
	corpus(t, func(name string, data []byte, _ *section) {
		_, err := Parse("x", data)
		var e *Error
		if !errors.As(err, &e) {
			t.Fatalf("%s: %v", name, err)
		}
		v, err := instance(t, data)
		if err != nil || slices.Contains(except, name) {
			return
		}
		refused := s.Validate(v) != nil
		for _, p := range e.Problems {
			if slices.Contains(structural, p.Code) && !refused {
				t.Errorf("%s: the schema accepts: %s", name, p)
			}
		}
		if refused {
			seen++
		}
	})
	if seen < 50 {
		t.Errorf("the schema refused only %d cases", seen)
	}
}

// Every field the tables set must reach a schema, and be documented there.
func TestSchemaDescribesEveryKey(t *testing.T) {
	var walk func(path string, s *schema)
	walk = func(path string, s *schema) {
		if s == nil {
			return
		}
		for name, p := range s.Properties {
			if p.Description == "" {
				t.Errorf("%s.%s has no description", path, name)
			}
			walk(path+"."+name, p)
		}
		walk(path+"[]", s.Items)
		for _, a := range s.AnyOf {
			walk(path, a)
		}
		if a, ok := s.AdditionalProperties.(*schema); ok {
			walk(path+".*", a)
		}
	}
	walk("", specShape().schema)
}

func FuzzSchemaHoldsWhatParseAccepts(f *testing.F) {
	for _, tt := range accepted {
		f.Add([]byte(tt.in))
	}
	s := compiledSchema(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		if _, err := Parse("x", in); err != nil {
			return
		}
		v, err := instance(t, in)
		if err != nil {
			return // the library's own decoder is asked for more than nodes here
		}
		if err := s.Validate(v); err != nil {
			t.Errorf("%v\n%q", err, in)
		}
	})
}
