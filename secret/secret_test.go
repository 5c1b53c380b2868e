package secret

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bvisor/bvisor/spec"
)

func TestParseReference(t *testing.T) {
	for in, want := range map[string]Reference{
		"env:A":              {"env", "A"},
		"file:/a:b":          {"file", "/a:b"},
		"exec:/bin/x 'a b'":  {"exec", "/bin/x 'a b'"},
		"op+v1.2-x:é":        {"op+v1.2-x", "é"},
		`file:C:\secrets\it`: {"file", `C:\secrets\it`},
	} {
		if got, err := ParseReference(in); err != nil || got != want {
			t.Errorf("ParseReference(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "A", ":", ":A", "env:", "Env:A", "1env:A", "e nv:A", "env:a\x00", "env:a\nb", "env:\xff", "env:" + strings.Repeat("a", maxReference)} {
		if got, err := ParseReference(in); err == nil {
			t.Errorf("ParseReference(%q) = %+v, want an error", in, got)
		}
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"env:A", "file:/a:b", "x:", "", "exec:[\"/bin/true\"]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		ref, err := ParseReference(in)
		if err == nil && ref.String() != in {
			t.Errorf("%q reads as %q", in, ref)
		}
	})
}

func TestRegistry(t *testing.T) {
	ctx := t.Context()
	r := NewRegistry()
	if err := r.Register("vault", Map{"a": "value", "empty": ""}); err != nil {
		t.Fatal(err)
	}
	if got := r.Schemes(); !slices.Equal(got, []string{"env", "exec", "file", "vault"}) {
		t.Errorf("schemes: %q", got)
	}
	for _, scheme := range []string{"env", "vault", "", "Up"} {
		if err := r.Register(scheme, Map{}); err == nil {
			t.Errorf("Register(%q) succeeded", scheme)
		}
	}
	if got, err := r.Resolve(ctx, "vault:a"); err != nil || got != "value" {
		t.Errorf("Resolve: %q, %v", got, err)
	}
	for ref, want := range map[string]string{
		"vault:b":     "not in the map",
		"vault:empty": "empty",
		"op:a":        "want one of: env, exec, file, vault",
		"a":           "no scheme",
	} {
		if _, err := r.Resolve(ctx, ref); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Resolve(%s): %v, want %q", ref, err, want)
		}
	}
	var none *Registry
	if _, err := none.Resolve(ctx, "env:PATH"); err == nil {
		t.Error("a nil registry resolved env:PATH")
	}
	var zero Registry
	if err := zero.Register("m", Map{"a": "b"}); err != nil {
		t.Error(err)
	}
}

func TestEnv(t *testing.T) {
	t.Setenv("BVISOR_TEST_SECRET", "s3cret")
	t.Setenv("BVISOR_TEST_EMPTY", "")
	r := NewRegistry()
	if got, err := r.Resolve(t.Context(), "env:BVISOR_TEST_SECRET"); err != nil || got != "s3cret" {
		t.Errorf("%q, %v", got, err)
	}
	for ref, want := range map[string]string{
		"env:BVISOR_TEST_UNSET":    "not set",
		"env:BVISOR_TEST_EMPTY":    "empty",
		"env:BVISOR_TEST_SECRET=x": "'='",
	} {
		if _, err := r.Resolve(t.Context(), ref); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", ref, err, want)
		}
	}
}

func write(t *testing.T, data string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // past the umask
		t.Fatal(err)
	}
	return path
}

func TestFile(t *testing.T) {
	for data, want := range map[string]string{
		"x":                           "x",
		"x\n":                         "x",
		"x\r\n":                       "x",
		"x\n\n":                       "x\n",
		"x \n":                        "x ",
		"a\nb":                        "a\nb",
		"\xff\n":                      "\xff",
		strings.Repeat("a", maxValue): strings.Repeat("a", maxValue),
	} {
		if got, err := (File{}).Resolve(t.Context(), write(t, data, 0o444)); err != nil || got != want {
			t.Errorf("%.20q: %.20q, %v; want %.20q", data, got, err, want)
		}
	}
	for path, want := range map[string]string{
		write(t, strings.Repeat("a", maxValue+1), 0o600): "more than",
		t.TempDir():                     "not a regular file",
		filepath.Join(t.TempDir(), "x"): "no such file",
		"secret":                        "absolute",
		"~/secret":                      "absolute",
	} {
		if _, err := (File{}).Resolve(t.Context(), path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

func TestLowerEnv(t *testing.T) {
	r := &Registry{}
	if err := r.Register("m", Map{"a": "va", "b": "vb"}); err != nil {
		t.Fatal(err)
	}
	got, err := LowerEnv(t.Context(), r, []spec.EnvEntry{
		{Name: "Z", Lease: "m:a"}, {Name: "A", Value: "x=y"}, {Name: "M"}, {Name: "B", Lease: "m:b"},
	})
	want := []Value{{"A", "x=y", ""}, {"B", "vb", "m:b"}, {"M", "", ""}, {"Z", "va", "m:a"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("LowerEnv: %+v, %v; want %+v", got, err, want)
	}
	if got, err := LowerEnv(t.Context(), nil, nil); err != nil || len(got) != 0 {
		t.Errorf("LowerEnv of nothing: %v, %v", got, err)
	}
}

func TestLowerEnvNamesEveryFault(t *testing.T) {
	r := &Registry{}
	cause := errors.New("sealed")
	for scheme, resolver := range map[string]Resolver{
		"m":    Map{"nul": "hush\x00hush", "big": strings.Repeat("hush", MaxEnvironment)},
		"down": resolverFunc(func() (string, error) { return "hush", cause }),
	} {
		if err := r.Register(scheme, resolver); err != nil {
			t.Fatal(err)
		}
	}
	values, err := LowerEnv(t.Context(), r, []spec.EnvEntry{
		{Name: "", Value: "x"}, {Name: "A=B"}, {Name: "N", Value: "a\x00b"}, {Name: "BOTH", Value: "x", Lease: "m:big"},
		{Name: "NUL", Lease: "m:nul"}, {Name: "ABSENT", Lease: "m:none"}, {Name: "DOWN", Lease: "down:x"},
		{Name: "BIG", Lease: "m:big"}, {Name: "TWICE"}, {Name: "TWICE"},
	})
	if err == nil || values != nil {
		t.Fatalf("LowerEnv: %d values, %v; want an error alone", len(values), err)
	}
	for _, want := range []string{`""`, "A=B", "N: its value", "BOTH", "NUL (m:nul)", "ABSENT (m:none)", "DOWN (down:x): sealed", "bytes, want at most 131072", "TWICE is set twice"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "hush") {
		t.Errorf("error shows a value: %.300s", err)
	}
	var variables []string
	for _, le := range LeaseErrors(err) {
		variables = append(variables, le.Variable)
	}
	if !slices.Equal(variables, []string{"NUL", "ABSENT", "DOWN"}) || !errors.Is(err, cause) {
		t.Errorf("lease errors of %q, cause %v", variables, errors.Is(err, cause))
	}
}

type resolverFunc func() (string, error)

func (f resolverFunc) Resolve(context.Context, string) (string, error) { return f() }

func TestSplitCommand(t *testing.T) {
	for in, want := range map[string][]string{
		"/a":                     {"/a"},
		"  /a  b ":               {"/a", "b"},
		`/a 'b c' "d e" f'g h'i`: {"/a", "b c", "d e", "fg hi"},
		`/a '' "'" '"'`:          {"/a", "", "'", `"`},
		`/a $HOME \n *`:          {"/a", "$HOME", `\n`, "*"},
		`["/a b","","\u0063"]`:   {"/a b", "", "c"},
	} {
		if got, err := splitCommand(in); err != nil || !slices.Equal(got, want) {
			t.Errorf("splitCommand(%s) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", " ", "''", "/a 'b", `/a "`, "[", "[]", `[""]`, `["/a",1]`, `["/a"] x`, `["/a","\u0000"]`, "/a\x00"} {
		if got, err := splitCommand(in); err == nil {
			t.Errorf("splitCommand(%q) = %q, want an error", in, got)
		}
	}
}

// Words that hold no quote of one kind survive being quoted with it.
func FuzzSplitCommand(f *testing.F) {
	for _, s := range []string{"/a b", `["/a"]`, "'", `"a' b"`, "/a ''"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		words, err := splitCommand(in)
		if err != nil {
			return
		}
		var quoted []string
		for _, w := range words {
			switch {
			case !strings.Contains(w, "'"):
				quoted = append(quoted, "'"+w+"'")
			case !strings.Contains(w, `"`):
				quoted = append(quoted, `"`+w+`"`)
			default:
				return
			}
		}
		again, err := splitCommand(strings.Join(quoted, " "))
		if err != nil || !slices.Equal(words, again) {
			t.Errorf("%q splits into %q; quoted again into %q, %v", in, words, again, err)
		}
	})
}

func TestErrorsNameTheLease(t *testing.T) {
	err := &LeaseError{"A", "env:B", fmt.Errorf("no")}
	if got := err.Error(); got != "lease of A (env:B): no" {
		t.Error(got)
	}
}
