package strictyaml

import (
	"fmt"
	"strings"
	"testing"
)

// show writes a tree with everything a decoder can see of it.
func show(n *Node) string {
	switch n.Kind {
	case List:
		var items []string
		for _, c := range n.Items {
			items = append(items, show(c))
		}
		return "[" + strings.Join(items, " ") + "]"
	case Map:
		var items []string
		for i, c := range n.Items {
			items = append(items, n.Keys[i].Value+":"+show(c))
		}
		return "{" + strings.Join(items, " ") + "}"
	}
	if n.Plain {
		return n.Value
	}
	return fmt.Sprintf("%q", n.Value)
}

func TestParseKeepsWhatWasWritten(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"a: 010\nb: [no, \"no\", 'x']\n", `{a:010 b:[no "no" "x"]}`},
		{"{\"a\":\t[1, {\"b\": null}]}", `{a:[1 {b:null}]}`},
		{"--- \na: |\n  x\n  y\n...\n", `{a:"x\ny\n"}`},
		{"# c\n\na:\n", `{a:}`},
		{"a: b\r\nc: d\r\n", `{a:b c:d}`},
		{"x", "x"},
	} {
		n, problems := Parse([]byte(tt.in))
		if len(problems) > 0 {
			t.Errorf("%q: %v", tt.in, problems)
			continue
		}
		if got := show(n); got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.in, got, tt.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"empty", "", "1:1 : syntax: no document, expected one"},
		{"comment only", "# a\n", "1:1 : syntax: no document, expected one"},
		{"too large", strings.Repeat("#", MaxBytes+1), "1:1 : size: 1048577 bytes, expected at most 1048576"},
		{"not UTF-8", "a: b\nc: \xff", "2:4 : encoding: byte 0xff is not UTF-8"},
		{"byte order mark", "\uFEFFa: b", "1:1 : encoding: byte order mark"},
		{"NUL byte", "a: b\x00", "1:5 : nul: NUL byte"},
		{"NUL escape", "a: \"b\\0\"", "1:4 a: nul: NUL character"},
		{"NUL in key", "\"a\\0\": b", `1:1 ["a\x00"]: nul: NUL character`},
		{"escape character", "a: \x1b[1m", "1:4 : encoding: invisible or control character U+001B"},
		{"line separator", "é: \u2028", "1:4 : encoding: invisible or control character U+2028"},
		{"next line", "a: \u0085", "1:4 : encoding: invisible or control character U+0085"},
		{"right-to-left override", "a: \u202e", "1:4 : encoding: invisible or control character U+202E"},
		{"lone carriage return", "a: b\rc: d", "1:5 : encoding: carriage return without a line feed"},
		{"directive", "# x\n%YAML 1.1\n---\na: b\n", "2:1 : directive: directives are not read"},
		{"two documents", "a: 1\n---\nb: 2\n", "2:1 : documents: a second document starts here, expected one"},
		{"empty second document", "a: 1\n---\n", "2:1 : documents: a second document starts here, expected one"},
		{"anchor", "a: &x 1", "1:4 a: anchor: anchor &x is not read"},
		{"alias", "a: &x 1\nb: *x", "1:4 a: anchor: anchor &x is not read\n2:4 b: anchor: alias *x is not read"},
		{"alias without anchor", "a: *x", "1:4 : anchor: unknown anchor 'x' referenced"},
		{"merge key", "<<: {a: 1}", `1:1 ["<<"]: merge-key: merge keys are not read`},
		{"tag", "a: !!str 1", "1:4 a: tag: tag !!str is not read"},
		{"own tag", "a: [!x y]", "1:5 a[0]: tag: tag !x is not read"},
		{"non-specific tag", "a: ! 1", "1:4 a: tag: tag ! is not read"},
		{"tag on a map", "a: !!map {}", "1:4 a: tag: tag !!map is not read"},
		{"list as key", "a:\n  [b]: c", "2:3 a: key: a key must be a string"},
		{"duplicate keys", "a: 1\nb:\n  c: 1\n  c: 2\na: 3", "4:3 b.c: duplicate-key: key \"c\" is set twice\n5:1 a: duplicate-key: key \"a\" is set twice"},
		{"duplicate after unquoting", "a: 1\n\"\\x61\": 2", "2:1 a: duplicate-key: key \"a\" is set twice"},
		{"unclosed", "a: [1, 2\nb: 3\n", "2:2 : syntax: while parsing a flow sequence: did not find expected ',' or ']'"},
		{"lone surrogates", `{"a": "\ud83d\ude00"}`, "1:10 : syntax: while scanning a quoted scalar: found invalid Unicode character escape code"},
		{"flow nesting", strings.Repeat("[", 65) + strings.Repeat("]", 65), "1:65 : nesting: lists and maps nest more than 64 levels deep"},
		{"block nesting", strings.Repeat("- ", 65), "1:129 : nesting: lists and maps nest more than 64 levels deep"},
		{"mixed nesting", strings.Repeat("- ", 40) + strings.Repeat("[", 30) + strings.Repeat("]", 30),
			"1:105 " + strings.Repeat("[0]", 64) + ": nesting: lists and maps nest more than 64 levels deep"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, problems := Parse([]byte(tt.in))
			var got []string
			for _, p := range problems {
				got = append(got, fmt.Sprintf("%d:%d %s: %s: %s", p.Line, p.Column, p.Path, p.Code, p.Message))
			}
			if g := strings.Join(got, "\n"); g != tt.want {
				t.Errorf("got\n%s\nwant\n%s", g, tt.want)
			}
		})
	}
}

func TestDeepestNestingIsRead(t *testing.T) {
	in := strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth)
	if _, problems := Parse([]byte(in)); len(problems) > 0 {
		t.Errorf("%d levels: %v", MaxDepth, problems)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	_, problems := Parse([]byte(strings.Repeat("- !x y\n", 10*MaxProblems)))
	if len(problems) != MaxProblems {
		t.Errorf("got %d problems, want %d", len(problems), MaxProblems)
	}
}

func TestScalars(t *testing.T) {
	const refused = "!"
	for _, tt := range []struct{ in, text, integer, boolean string }{
		{"abc", "abc", refused, refused},
		{"10.0.0.1", "10.0.0.1", refused, refused},
		{"64MiB", "64MiB", refused, refused},
		{"--flag", "--flag", refused, refused},
		{".", ".", refused, refused},
		{"..", "..", refused, refused},
		{"3.1.2", "3.1.2", refused, refused},
		{"note", "note", refused, refused},
		{`"no"`, "no", refused, refused},
		{`'10'`, "10", refused, refused},
		{"10", refused, "10", refused},
		{"0", refused, "0", refused},
		{"-7", refused, "-7", refused},
		{"9223372036854775808", refused, refused, refused},
		{"true", refused, refused, "true"},
		{"false", refused, refused, "false"},
		{"True", refused, refused, refused},
		{"no", refused, refused, refused},
		{"NO", refused, refused, refused},
		{"off", refused, refused, refused},
		{"y", refused, refused, refused},
		{"~", refused, refused, refused},
		{"", refused, refused, refused},
		{"null", refused, refused, refused},
		{"010", refused, refused, refused},
		{"0o10", refused, refused, refused},
		{"0x10", refused, refused, refused},
		{"0b1", refused, refused, refused},
		{"+5", refused, refused, refused},
		{"1_000", refused, refused, refused},
		{"1.0", refused, refused, refused},
		{"1e3", refused, refused, refused},
		{".5", refused, refused, refused},
		{".inf", refused, refused, refused},
		{"1:30", refused, refused, refused},
		{"22:22", refused, refused, refused},
		{"2024-01-02", refused, refused, refused},
		{"2024-01-02T10:00:00Z", refused, refused, refused},
		{"[a]", refused, refused, refused},
	} {
		n, problems := Parse([]byte("k: " + tt.in))
		if len(problems) > 0 {
			t.Errorf("%q: %v", tt.in, problems)
			continue
		}
		n = n.Items[0]
		text, p := n.Text()
		compare(t, tt.in, "Text", text, p, tt.text)
		i, p := n.Int()
		compare(t, tt.in, "Int", fmt.Sprint(i), p, tt.integer)
		b, p := n.Bool()
		compare(t, tt.in, "Bool", fmt.Sprint(b), p, tt.boolean)
	}
}

func compare(t *testing.T, in, method, got string, p *Problem, want string) {
	t.Helper()
	if p != nil {
		got = "!"
	}
	if got != want {
		t.Errorf("%q.%s: got %s, want %s", in, method, got, want)
	}
}

func TestFind(t *testing.T) {
	n, problems := Parse([]byte("a:\n  - b: 1\n  - {\"c d\": 2, b: [3]}\nab: 4\n"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, tt := range []struct{ path, want string }{
		{"a[0].b", "a[0].b"}, {`a[1]["c d"]`, `a[1]["c d"]`}, {"a[1].b[0]", "a[1].b[0]"}, {"ab", "ab"},
		{"", ""}, {"zz", ""}, {"a[7].b", "a"}, {"a[1].x.y", "a[1]"}, {"ab.c", "ab"},
	} {
		if got := n.Find(tt.path).Path(); got != tt.want {
			t.Errorf("Find(%s): got %s, want %s", tt.path, got, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a: b", "{\"a\": [1, 2.5, null]}", "- 'x'\n- |\n  y\n", "a: &x 1\nb: *x", "<<: {}", "%YAML 1.1\n---\n", "? [a]\n: b", "a: !!str 1", "\"\\0\": 1", "a: 1\n---\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		n, problems := Parse(in)
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || p.Code == "" || p.Message == "" {
				t.Errorf("incomplete problem %+v", p)
			}
		}
		if len(problems) > 0 {
			return
		}
		walk(t, n, n)
	})
}

// walk checks that every node can be asked for anything, and found by its path.
func walk(t *testing.T, root, n *Node) {
	n.Text()
	n.Int()
	n.Bool()
	if n.Line < 1 || n.Column < 1 {
		t.Errorf("node without a position: %+v", n)
	}
	if p := n.Path(); len(p) < 200 && !strings.Contains(p, "…") && root.Find(p) != n {
		t.Errorf("Find(%s) is another node", p)
	}
	for _, c := range n.Items {
		walk(t, root, c)
	}
}
