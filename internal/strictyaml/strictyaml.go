// Package strictyaml reads one YAML document (and so one JSON document) into a
// tree that keeps every position and changes nothing it read.
//
// It refuses what makes two readers see two documents in one file: anchors,
// aliases, merge keys, tags, directives, a second document, duplicate keys,
// byte order marks and invisible characters. It bounds size and nesting before
// the YAML library does any work on them. Scalars stay text: whether "010" may
// stand where a number is expected is asked of the node, not guessed here.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

const (
	// MaxBytes is the largest input.
	MaxBytes = 1 << 20
	// MaxDepth is how deeply lists and maps may nest.
	MaxDepth = 64
	// MaxProblems is how many problems are collected before the rest is left out.
	MaxProblems = 100
)

// Problem is one thing that is wrong with the input.
type Problem struct {
	Line, Column int    // from 1; columns count characters
	Path         string // of the node, e.g. "budgets.wall"; empty for the document
	Code         string // stable, e.g. "duplicate-key"
	Message      string
	Hint         string // what to do, may be empty
}

// Codes of the problems this package reports.
const (
	CodeSize         = "size"
	CodeEncoding     = "encoding"
	CodeSyntax       = "syntax"
	CodeNesting      = "nesting"
	CodeDocuments    = "documents"
	CodeDirective    = "directive"
	CodeAnchor       = "anchor"
	CodeMerge        = "merge-key"
	CodeTag          = "tag"
	CodeKey          = "key"
	CodeDuplicateKey = "duplicate-key"
	CodeNUL          = "nul"
	CodeType         = "type"
	CodeAmbiguous    = "ambiguous"
)

// Parse reads data. With problems the tree holds what could be read, or is nil.
func Parse(data []byte) (*Node, []Problem) {
	if p := checkBytes(data); p != nil {
		return nil, []Problem{*p}
	}
	if p := checkDirective(data); p != nil {
		return nil, []Problem{*p}
	}
	loader, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthFunc(checkDepth))))
	if err != nil {
		return nil, []Problem{syntaxProblem(err)}
	}
	var doc yaml.Node
	if err := loader.Load(&doc); err != nil {
		return nil, []Problem{syntaxProblem(err)}
	}
	if len(doc.Content) != 1 {
		return nil, []Problem{emptyProblem()}
	}
	b := builder{}
	root := b.build(doc.Content[0], nil, 0)
	var next yaml.Node
	switch err := loader.Load(&next); {
	case err == nil:
		b.add(Problem{Line: max(next.Line, 1), Column: max(next.Column, 1), Code: CodeDocuments,
			Message: "a second document starts here, expected one", Hint: `remove it, or the "---" before it`})
	case !errors.Is(err, io.EOF):
		b.add(syntaxProblem(err))
	}
	return root, b.problems
}

// errDepth is recognised by its text: the library keeps the message of the
// plug-in's error, not the error.
var errDepth = fmt.Errorf("lists and maps nest more than %d levels deep", MaxDepth)

// checkDepth runs in the library's scanner, so that it stops before a node or
// even a token of the next level exists. Flow and block levels are counted
// apart there; their sum is checked by build.
func checkDepth(depth int, _ *yaml.DepthContext) error {
	if depth > MaxDepth {
		return errDepth
	}
	return nil
}

func emptyProblem() Problem {
	return Problem{Line: 1, Column: 1, Code: CodeSyntax, Message: "no document, expected one"}
}

func syntaxProblem(err error) Problem {
	if errors.Is(err, io.EOF) {
		return emptyProblem()
	}
	p := Problem{Line: 1, Column: 1, Code: CodeSyntax, Message: err.Error()}
	var le *yaml.LoadError
	if !errors.As(err, &le) {
		return p
	}
	p.Message = le.Message
	if le.ContextMsg != "" {
		p.Message = le.ContextMsg + ": " + le.Message
	}
	if le.Mark.Line > 0 {
		p.Line, p.Column = le.Mark.Line, max(le.Mark.Column, 1)
	}
	switch {
	case le.Message == errDepth.Error():
		p.Code, p.Message = CodeNesting, le.Message
	case le.Stage == yaml.ComposerStage:
		p.Code, p.Hint = CodeAnchor, "anchors and aliases are not read; repeat the value, or quote it"
	case le.Message == "found invalid Unicode character escape code":
		p.Hint = "write the character itself instead of a pair of surrogate escapes"
	}
	return p
}
