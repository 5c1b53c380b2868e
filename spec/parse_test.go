package spec

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite expected files")

// section is one file of a txtar archive.
type section struct {
	name string
	data []byte
}

var marker = regexp.MustCompile(`(?m)^-- (\S+) --\n`)

// readArchive reads the txtar format, without its escapes.
func readArchive(tb testing.TB, file string) (comment []byte, sections []section) {
	tb.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	marks := marker.FindAllSubmatchIndex(data, -1)
	for i, m := range marks {
		end := len(data)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}
		sections = append(sections, section{string(data[m[2]:m[3]]), data[m[1]:end]})
	}
	if len(sections) == 0 {
		tb.Fatalf("%s: no sections", file)
	}
	return slices.Clone(data[:marks[0][0]]), sections
}

// corpus calls do with every refused spec of testdata.
func corpus(tb testing.TB, do func(name string, data []byte, want *section)) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		tb.Fatal("no cases", err)
	}
	for _, file := range files {
		out, sections := readArchive(tb, file)
		for i := 0; i+1 < len(sections); i += 2 {
			name, ok := strings.CutSuffix(sections[i].name, ".yaml")
			if !ok || sections[i+1].name != name+".want" {
				tb.Fatalf("%s: %s is not followed by its .want", file, sections[i].name)
			}
			do(strings.TrimSuffix(filepath.Base(file), ".txtar")+"/"+name, sections[i].data, &sections[i+1])
			for _, s := range sections[i : i+2] {
				out = fmt.Appendf(out, "-- %s --\n%s", s.name, s.data)
			}
		}
		if *update {
			if err := os.WriteFile(file, out, 0o644); err != nil {
				tb.Fatal(err)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	corpus(t, func(name string, data []byte, want *section) {
		t.Run(name, func(t *testing.T) {
			s, err := Parse("x.yaml", data)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("accepted: %+v", s)
			}
			var got bytes.Buffer
			for _, p := range e.Problems {
				fmt.Fprintf(&got, "%s: %s\n", p.Code, p)
				if p.Line < 1 || p.Column < 1 {
					t.Errorf("no position: %s", p)
				}
			}
			if *update {
				want.data = got.Bytes()
			}
			if !bytes.Equal(got.Bytes(), want.data) {
				t.Errorf("got\n%swant\n%s", got.Bytes(), want.data)
			}
			if !reflect.DeepEqual(s, Spec{}) {
				t.Error("a refused spec came back with something in it")
			}
		})
	})
}
