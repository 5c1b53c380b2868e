package spec

import "encoding/json"

// schema is the part of JSON Schema 2020-12 that describes a spec.
type schema struct {
	Dialect              string             `json:"$schema,omitempty"`
	Title                string             `json:"title,omitempty"`
	Description          string             `json:"description,omitempty"`
	Type                 string             `json:"type,omitempty"`
	Enum                 []string           `json:"enum,omitempty"`
	Pattern              string             `json:"pattern,omitempty"`
	MinLength            int                `json:"minLength,omitempty"`
	Minimum              *int64             `json:"minimum,omitempty"`
	Maximum              *int64             `json:"maximum,omitempty"`
	Items                *schema            `json:"items,omitempty"`
	MinItems             int                `json:"minItems,omitempty"`
	Properties           map[string]*schema `json:"properties,omitempty"`
	PropertyNames        *schema            `json:"propertyNames,omitempty"`
	MaxProperties        int                `json:"maxProperties,omitempty"`
	Required             []string           `json:"required,omitempty"`
	AdditionalProperties any                `json:"additionalProperties,omitempty"` // false, or a *schema
	AnyOf                []*schema          `json:"anyOf,omitempty"`
}

// Schema is the JSON Schema of a spec, for editors. It is made from the tables
// the decoder reads by, so the two cannot differ; but it knows only what a
// schema can say, and Parse is what decides.
func Schema() []byte {
	s := *specShape().schema
	s.Dialect = "https://json-schema.org/draft/2020-12/schema"
	s.Title = "bvisor spec, version 1"
	out, err := json.MarshalIndent(&s, "", "  ")
	if err != nil {
		panic("bug: the schema does not marshal: " + err.Error())
	}
	return append(out, '\n')
}
