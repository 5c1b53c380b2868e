package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bvisor/bvisor/internal/need"
)

// plainly shows lines as they are.
func plainly(kind byte, line []byte) string {
	if kind == '@' {
		return string(line)
	}
	return string(kind) + string(line)
}

// What is shown of two texts leads from the one to the other: each line is said
// of the text that has it, and patch(1), where there is one, makes the second of
// the first.
func FuzzComparisonLeadsFromOneTextToTheOther(f *testing.F) {
	for _, s := range [][2]string{{"", ""}, {"a\n", ""}, {"", "b"}, {"a\nb\nc\n", "a\nx\nc\n"}, {"a", "a\n"}, {"a\nb\nc\nd\n", "d\nc\nb\na\n"},
		{strings.Repeat("l\n", 40), strings.Repeat("l\n", 20) + "new\n" + strings.Repeat("l\n", 20)}, {"1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n", "0\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n13"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		list := compare(splitLines([]byte(a)), splitLines([]byte(b)))
		var left, right bytes.Buffer
		for _, e := range list {
			if e.kind != '+' {
				left.Write(e.line)
			}
			if e.kind != '-' {
				right.Write(e.line)
			}
		}
		if left.String() != a || right.String() != b {
			t.Fatalf("from %q to %q: %q and %q", a, b, left.String(), right.String())
		}
	})
}

func TestComparisonIsTheShortest(t *testing.T) {
	a, b := splitLines([]byte("a\nb\nc\na\nb\nb\na\n")), splitLines([]byte("c\nb\na\nb\na\nc\n"))
	edits := 0
	for _, e := range compare(a, b) {
		if e.kind != ' ' {
			edits++
		}
	}
	if edits != 5 { // the example of Myers' paper
		t.Errorf("%d edits, want 5", edits)
	}
}

func TestPatchTakesAComparison(t *testing.T) {
	patch := need.Program(t, "patch")
	for _, c := range [][2]string{
		{"1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n16\n17\n18\n19\n20\n", "1\n2\nx\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n16\ny\n18\n19\n"},
		{"a\nb\n", "a\nb"}, {"a", "b\nc\n"}, {"x\n", "x\nx\nx\n"},
	} {
		dir := t.TempDir()
		name := filepath.Join(dir, "f")
		if err := os.WriteFile(name, []byte(c[0]), 0o600); err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		text.WriteString("--- f\n+++ f\n")
		unified(&text, compare(splitLines([]byte(c[0])), splitLines([]byte(c[1]))), plainly)
		cmd := exec.Command(patch, "-s", name)
		cmd.Stdin = &text
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("patch: %v: %s", err, out)
		}
		if got, _ := os.ReadFile(name); string(got) != c[1] {
			t.Errorf("patch made %q, want %q", got, c[1])
		}
	}
}
