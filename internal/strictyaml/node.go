package strictyaml

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Kind is the shape of a node.
type Kind int

// Kinds of nodes.
const (
	Scalar Kind = iota
	List
	Map
)

// Node is one value of the document.
type Node struct {
	Kind         Kind
	Line, Column int
	Value        string  // of a scalar, escapes undone
	Plain        bool    // a scalar without quotes and not a block
	Keys         []*Node // of a map, scalars
	Items        []*Node // of a list, or the values of a map

	parent *Node
	index  int // in the parent's Items
	tag    string
}

// Path names the node from the root, e.g. "budgets.wall" or `fds[0]`. It is
// made when asked for: a path per node would let a deep input cost far more
// memory than its size.
func (n *Node) Path() string {
	if n.parent == nil {
		return ""
	}
	up := n.parent.Path()
	if n.parent.Kind == List {
		return up + "[" + strconv.Itoa(n.index) + "]"
	}
	return Join(up, n.parent.Keys[n.index].Value)
}

// Join is the path of key below path.
func Join(path, key string) string {
	switch {
	case !isName(key):
		return path + "[" + strconv.Quote(shorten(key)) + "]"
	case path == "":
		return key
	}
	return path + "." + key
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// Find returns the node at path, or the nearest one above it that exists.
func (n *Node) Find(path string) *Node {
	rest := path
	for rest != "" {
		next, after := n.child(rest)
		if next == nil {
			return n
		}
		n, rest = next, after
	}
	return n
}

// child takes the first step of path, and says what is left of it.
func (n *Node) child(path string) (*Node, string) {
	if n.Kind == List {
		digits, after, ok := strings.Cut(strings.TrimPrefix(path, "["), "]")
		if i, err := strconv.Atoi(digits); ok && err == nil && i >= 0 && i < len(n.Items) {
			return n.Items[i], after
		}
		return nil, ""
	}
	path = strings.TrimPrefix(path, ".")
	for i, key := range n.Keys {
		after, ok := strings.CutPrefix(path, Join("", key.Value))
		if ok && (after == "" || after[0] == '.' || after[0] == '[') {
			return n.Items[i], after
		}
	}
	return nil, ""
}

// Problem is a problem at this node.
func (n *Node) Problem(code, message, hint string) Problem {
	return Problem{Line: n.Line, Column: n.Column, Path: n.Path(), Code: code, Message: message, Hint: hint}
}

// builder turns the library's nodes into ours and collects what it refuses.
type builder struct {
	problems []Problem
}

func (b *builder) add(p Problem) {
	if len(b.problems) < MaxProblems {
		b.problems = append(b.problems, p)
	}
}

func (b *builder) fail(n *Node, code, message, hint string) {
	if len(b.problems) < MaxProblems {
		b.add(n.Problem(code, message, hint))
	}
}

func (b *builder) build(y *yaml.Node, parent *Node, index int) *Node {
	n := &Node{Line: y.Line, Column: y.Column, parent: parent, index: index}
	b.fill(n, y)
	return n
}

func (b *builder) fill(n *Node, y *yaml.Node) {
	if y.Kind == yaml.AliasNode {
		b.fail(n, CodeAnchor, fmt.Sprintf("alias *%s is not read", shorten(y.Value)), "repeat the value, or quote it")
		n.Plain, n.Value, n.tag = true, "*"+y.Value, "!!str"
		return
	}
	if y.Anchor != "" {
		b.fail(n, CodeAnchor, fmt.Sprintf("anchor &%s is not read", shorten(y.Anchor)), "remove it, or quote the value")
	}
	if y.Style&yaml.TaggedStyle != 0 || y.Tag == "!" {
		b.fail(n, CodeTag, fmt.Sprintf("tag %s is not read", shorten(y.Tag)), "remove it, or quote the value")
	}
	if y.Kind != yaml.ScalarNode && n.depth() > MaxDepth {
		b.fail(n, CodeNesting, errDepth.Error(), "")
		return
	}
	switch y.Kind {
	case yaml.MappingNode:
		n.Kind = Map
		b.entries(n, y.Content)
	case yaml.SequenceNode:
		n.Kind = List
		for i, c := range y.Content {
			n.Items = append(n.Items, b.build(c, n, i))
		}
	default:
		n.Value, n.tag = y.Value, y.Tag
		n.Plain = y.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
		if strings.IndexByte(n.Value, 0) >= 0 {
			b.fail(n, CodeNUL, "NUL character", "remove it")
		}
	}
}

func (n *Node) depth() int {
	d := 0
	for ; n != nil; n = n.parent {
		d++
	}
	return d
}

// entries reads the pairs of a map. A refused pair is left out of the tree.
func (b *builder) entries(n *Node, content []*yaml.Node) {
	seen := make(map[string]*Node, len(content)/2)
	for i := 0; i+1 < len(content); i += 2 {
		y := content[i]
		if y.Kind != yaml.ScalarNode {
			b.add(Problem{Line: y.Line, Column: y.Column, Path: n.Path(), Code: CodeKey, Message: "a key must be a string"})
			continue
		}
		key := &Node{Line: y.Line, Column: y.Column, Value: y.Value, parent: n, index: len(n.Keys)}
		n.Keys = append(n.Keys, key)
		b.fill(key, y)
		if key.Plain && key.Value == "<<" {
			b.fail(key, CodeMerge, "merge keys are not read", `repeat the values, or quote the key: "<<"`)
		}
		if first := seen[key.Value]; first != nil {
			b.fail(key, CodeDuplicateKey, fmt.Sprintf("key %s is set twice", Quote(key.Value)),
				fmt.Sprintf("the first is in line %d; keep one", first.Line))
			n.Keys = n.Keys[:len(n.Keys)-1]
			continue
		}
		seen[key.Value] = key
		n.Items = append(n.Items, b.build(content[i+1], n, key.index))
	}
}
