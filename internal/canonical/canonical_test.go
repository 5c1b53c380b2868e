package canonical

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/gowebpki/jcs"
)

type level int

func (l level) MarshalText() ([]byte, error) { return []byte(fmt.Sprintf("level-%d", int(l))), nil }
func (l *level) UnmarshalText(b []byte) error {
	_, err := fmt.Sscanf(strings.ToLower(string(b)), "level-%d", (*int)(l))
	return err
}

type name string

type leaf struct {
	Text string `json:"text"`
	N    int64  `json:"n,omitempty"`
}

type kept struct {
	A int `json:"a"`
	// The memo counts how often it was asked for.
	asked *int
}

func (k kept) MarshalCanonical() ([]byte, error) {
	if k.asked != nil {
		*k.asked++
	}
	type plain kept
	return Marshal(plain(k))
}

type all struct {
	Zed      string           `json:"zed"`
	Bool     bool             `json:"bool"`
	Int      int              `json:"int"`
	Small    int8             `json:"small,omitempty"`
	Unsigned uint32           `json:"unsigned,omitempty"`
	Dur      time.Duration    `json:"dur,omitempty"`
	Slice    []leaf           `json:"slice"`
	Opt      []string         `json:"opt,omitempty"`
	Map      map[name]leaf    `json:"map"`
	OptMap   map[string][]int `json:"opt_map,omitempty"`
	Ptr      *leaf            `json:"ptr,omitempty"`
	IntPtr   *int64           `json:"int_ptr,omitempty"`
	Level    level            `json:"level"`
	OptLevel level            `json:"opt_level,omitempty"`
	Blob     []byte           `json:"blob,omitempty"`
	Kept     kept             `json:"kept"`
	Next     *all             `json:"next,omitempty"`
	Raw      Raw              `json:"raw,omitempty"`
	Untagged string
	Hidden   string `json:"-"`
	hidden   string
}

func sample() all {
	n := int64(0)
	a := all{
		Zed: "é\u2028<>&\"\\/\b\t\n\f\r\x00\x1f\x7f𝄞", Bool: true, Int: -MaxInt, Small: -128, Unsigned: 1 << 31,
		Dur: time.Second, Slice: []leaf{{"a", 1}, {"", 0}}, Opt: []string{""},
		Map: map[name]leaf{"\ue000": {}, "𝄞": {Text: "x"}, "": {}, "a\"b": {}}, OptMap: map[string][]int{"k": {}},
		Ptr: &leaf{}, IntPtr: &n, Level: 0, OptLevel: 3, Blob: []byte{0xff, 0}, Raw: Raw(`{"a":[1,true,"x"]}`),
		Untagged: "u", Hidden: "not written", hidden: "not written",
	}
	b := all{Raw: Raw(`{}`)}
	a.Next = &b
	return a
}

// TestAgreesWithJCS compares with an independent implementation of RFC 8785.
func TestAgreesWithJCS(t *testing.T) {
	a := sample()
	a.Raw, a.Next = nil, nil // encoding/json knows Raw only as bytes
	a.Slice, a.Map = append(a.Slice, leaf{}), map[name]leaf{"\ue000": {}, "𝄞": {}, "\u00e9": {}, "a": {}, "\uffff": {}, "z": {}}
	got, err := Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	loose, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	// encoding/json writes a type with MarshalText as we do, and calls nothing else of kept.
	want, err := jcs.Transform(loose)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	a := sample()
	b, err := Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var back all
	if err := Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	a.Hidden, a.hidden = "", ""
	a.Next.Slice, a.Next.Map = []leaf{}, map[name]leaf{}
	if !reflect.DeepEqual(a, back) {
		t.Errorf("got  %+v\nwant %+v", back, a)
	}
}

func TestUnmarshalClearsTheTarget(t *testing.T) {
	l := leaf{"old", 7}
	if err := Unmarshal([]byte(`{"text":"new"}`), &l); err != nil || l != (leaf{"new", 0}) {
		t.Errorf("got %+v, %v", l, err)
	}
	if err := Unmarshal([]byte(`{"n":3,"text":7}`), &l); err == nil || l != (leaf{}) {
		t.Errorf("after an error: got %+v, %v", l, err)
	}
}

func TestKeptEncodingIsUsed(t *testing.T) {
	asked := 0
	for _, v := range []any{kept{1, &asked}, &kept{1, &asked}, []kept{{1, &asked}}, struct{ K *kept }{&kept{1, &asked}}, map[string]kept{"k": {1, &asked}}} {
		before := asked
		if _, err := Marshal(v); err != nil || asked != before+1 {
			t.Errorf("%T: asked %d times, %v", v, asked-before, err)
		}
	}
}

type node struct {
	Next *node `json:"next,omitempty"`
}

func TestMarshalRefuses(t *testing.T) {
	cycle := &node{}
	cycle.Next = cycle
	for want, v := range map[string]any{
		"nil has no encoding":                       nil,
		"nil pointer":                               (*leaf)(nil),
		"P: nil pointer":                            struct{ P *leaf }{},
		"not valid UTF-8":                           "\xff",
		"not valid UTF-8, which a JSON":             map[string]int{"\xc0\x80": 1},
		"S[1].n: 9007199254740992 is beyond 2^53-1": struct{ S []leaf }{[]leaf{{}, {N: 1 << 53}}},
		"-9007199254740992 is beyond":               int64(-1 << 53),
		"18446744073709551615 is beyond":            ^uint64(0),
		"nested more than 64 deep":                  cycle,
		"float64 has no canonical encoding":         1.5,
		"interface {} has no canonical encoding":    []any{1},
		"embeds":                                    struct{ leaf }{},
		"tag option": struct {
			A int `json:"a,string"`
		}{},
		"two fields named": struct {
			A int
			B int `json:"A"`
		}{},
		"keys that are no string": map[int]int{},
		"MarshalJSON":             json.RawMessage("1"),
		"pointer to a pointer":    new(*int),
		"raw bytes":               Raw(`{"a": 1}`),
		"at most":                 strings.Repeat("x", MaxSize),
	} {
		b, err := Marshal(v)
		var e *Error
		if err == nil || !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%T: got %.80s, %v; want an error with %q", v, b, err, want)
		}
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	type target struct {
		A int               `json:"a"`
		B string            `json:"b,omitempty"`
		C *int              `json:"c,omitempty"`
		D []int             `json:"d"`
		E level             `json:"e,omitempty"`
		F []byte            `json:"f,omitempty"`
		M map[string]int    `json:"m,omitempty"`
		R Raw               `json:"r,omitempty"`
		S []leaf            `json:"s,omitempty"`
		U uint8             `json:"u,omitempty"`
		Z map[string][]bool `json:"z,omitempty"`
	}
	good := `{"a":1,"b":"x","c":0,"d":[],"e":"level-2","f":"/w==","m":{"x":1,"y":2},"r":[{}],"s":[{"text":""}],"u":255,"z":{"":[true,false]}}`
	var v target
	if err := Unmarshal([]byte(good), &v); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		in     string
		offset int
		path   string
		want   string
	}{
		{``, 0, "", "expected an object, found the end"},
		{` {"a":1,"d":[]}`, 0, "", "white space"},
		{"\ufeff{}", 0, "", "expected an object"},
		{`{"a":1,"d":[]}` + "\n", 14, "", "after the end"},
		{`{"a":1,"d":[]}{}`, 14, "", "after the end"},
		{`{"a": 1,"d":[]}`, 5, "a", "white space"},
		{`{"a":1, "d":[]}`, 7, "", "white space"},
		{`{"d":[],"a":1}`, 1, "", `"a" is missing, or stands after "d"`},
		{`{"a":1,"a":2,"d":[]}`, 7, "", "twice"},
		{`{"a":1,"b":"x","a":2,"d":[]}`, 15, "", "twice"},
		{`{"a":1,"d":[],"d":[]}`, 14, "", "twice"},
		{`{"A":1,"d":[]}`, 1, "", `"A" is unknown`},
		{`{"a":1,"d":[],"q":1}`, 14, "", `"q" is unknown`},
		{`{"a":1}`, 6, "", `"d" is missing`},
		{`{}`, 1, "", `"a" is missing`},
		{`{"a":1,"d":[],}`, 14, "", "expected a string, found '}'"},
		{`{"a":1,"d":[]`, 13, "", "expected ',' or '}'"},
		{`{"a":1,"d":[]]`, 13, "", "expected ',' or '}'"},
		{`{"a":1"d":[]}`, 6, "", "expected ',' or '}'"},
		{`{,"a":1,"d":[]}`, 1, "", "expected a string"},
		{`{"\u0061":1,"d":[]}`, 2, "", "escape is not canonical"},
		{`{"a";1,"d":[]}`, 1, "", "not followed by ':'"},
		{`{"a":01,"d":[]}`, 5, "a", "leading zero"},
		{`{"a":-0,"d":[]}`, 5, "a", "no -0"},
		{`{"a":-,"d":[]}`, 5, "a", "expected an integer"},
		{`{"a":1.0,"d":[]}`, 5, "a", "only integers"},
		{`{"a":1e3,"d":[]}`, 5, "a", "only integers"},
		{`{"a":+1,"d":[]}`, 5, "a", "expected an integer"},
		{`{"a":9007199254740992,"d":[]}`, 5, "a", "beyond 2^53-1"},
		{`{"a":99999999999999999999999,"d":[]}`, 5, "a", "beyond 2^53-1"},
		{`{"a":"1","d":[]}`, 5, "a", "expected an integer"},
		{`{"a":null,"d":[]}`, 5, "a", "no null"},
		{`{"a":true,"d":[]}`, 5, "a", "expected an integer"},
		{`{"a":1,"b":"","d":[]}`, 11, "b", "must be left out"},
		{`{"a":1,"b":"\/","d":[]}`, 12, "b", "escape is not canonical"},
		{`{"a":1,"b":"\u000a","d":[]}`, 12, "b", "escape is not canonical"},
		{`{"a":1,"b":"\u001F","d":[]}`, 12, "b", "escape is not canonical"},
		{`{"a":1,"b":"\u0020","d":[]}`, 12, "b", "escape is not canonical"},
		{`{"a":1,"b":"\ud834\udd1e","d":[]}`, 12, "b", "escape is not canonical"},
		{"{\"a\":1,\"b\":\"\n\",\"d\":[]}", 12, "b", "control character 0x0a"},
		{"{\"a\":1,\"b\":\"\xff\",\"d\":[]}", 12, "b", "not valid UTF-8"},
		{"{\"a\":1,\"b\":\"\\n\xed\xa0\x80\",\"d\":[]}", 12, "b", "not valid UTF-8"},
		{`{"a":1,"b":"x`, 13, "b", "no end"},
		{`{"a":1,"b":"\`, 12, "b", "escape"},
		{`{"a":1,"c":null,"d":[]}`, 11, "c", "no null"},
		{`{"a":1,"d":null}`, 11, "d", "no null"},
		{`{"a":1,"d":[1,]}`, 14, "d[1]", "expected an integer"},
		{`{"a":1,"d":[1 ,2]}`, 13, "d", "white space"},
		{`{"a":1,"d":[,1]}`, 12, "d[0]", "expected an integer"},
		{`{"a":1,"d":[],"e":"LEVEL-2"}`, 18, "e", "not canonical"},
		{`{"a":1,"d":[],"e":"level-0"}`, 18, "e", "must be left out"},
		{`{"a":1,"d":[],"e":2}`, 18, "e", "expected a string"},
		{`{"a":1,"d":[],"f":"/x=="}`, 18, "f", "base64"},
		{`{"a":1,"d":[],"f":"/w"}`, 18, "f", "base64"},
		{`{"a":1,"d":[],"f":"/w=\n="}`, 18, "f", "base64"},
		{`{"a":1,"d":[],"f":""}`, 18, "f", "must be left out"},
		{`{"a":1,"d":[],"m":{}}`, 18, "m", "must be left out"},
		{`{"a":1,"d":[],"m":{"y":1,"x":1}}`, 25, "m", `"x" stands after "y"`},
		{`{"a":1,"d":[],"m":{"y":1,"y":1}}`, 25, "m", "twice"},
		{`{"a":1,"d":[],"m":{"y":1,}}`, 25, "m", "expected a string"},
		{`{"a":1,"d":[],"m":{"y":"1"}}`, 23, `m["y"]`, "expected an integer"},
		{`{"a":1,"d":[],"r":{"b":1,"a":1}}`, 25, "r", "stands after"},
		{`{"a":1,"d":[],"r":[1.5]}`, 19, "r[0]", "only integers"},
		{`{"a":1,"d":[],"r":null}`, 18, "r", "no null"},
		{`{"a":1,"d":[],"s":[{"text":"a"},{"n":1}]}`, 38, "s[1]", `"text" is missing`},
		{`{"a":1,"d":[],"u":256}`, 18, "u", "does not fit"},
		{`{"a":1,"d":[],"u":-1}`, 18, "u", "does not fit"},
		{`{"a":1,"d":[],"z":{"":[1]}}`, 23, `z[""][0]`, "expected true or false"},
		{`{"a":1,"d":[],"r":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, 81, "r" + strings.Repeat("[0]", 63), "nested more than 64"},
	} {
		v := target{A: 9}
		err := Unmarshal([]byte(c.in), &v)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: accepted", c.in)
			continue
		}
		if e.Offset != c.offset || e.Path != c.path || !strings.Contains(e.Text, c.want) {
			t.Errorf("%.60s: got byte %d, path %q, %s; want byte %d, path %q, %s", c.in, e.Offset, e.Path, e.Text, c.offset, c.path, c.want)
		}
		if v.A != 0 {
			t.Errorf("%s: left a value behind", c.in)
		}
	}
}

func TestLimits(t *testing.T) {
	if err := Check([]byte(`"` + strings.Repeat("x", MaxSize-1) + `"`)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("one byte too many: %v", err)
	}
	if err := Check([]byte(`"` + strings.Repeat("x", MaxSize-2) + `"`)); err != nil {
		t.Errorf("exactly the limit: %v", err)
	}
	deep := strings.Repeat(`{"next":`, MaxDepth-1) + `{}` + strings.Repeat(`}`, MaxDepth-1)
	var n node
	if err := Unmarshal([]byte(deep), &n); err != nil {
		t.Fatalf("exactly the depth: %v", err)
	}
	if b, err := Marshal(n); err != nil || string(b) != deep {
		t.Errorf("exactly the depth back: %v", err)
	}
	if err := Unmarshal([]byte(`{"next":`+deep+`}`), &n); err == nil {
		t.Error("one level too many was read")
	}
}

// FuzzOneEncoding holds the promise of the package for typed values.
func FuzzOneEncoding(f *testing.F) {
	b, err := Marshal(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	// The fuzzer gets further with few members at a time.
	n := int64(-1)
	for _, v := range []all{
		{Raw: Raw("1")}, {Raw: Raw(`{"a":[true,"\u001f"],"𝄞":{}}`)}, {Ptr: &leaf{}, IntPtr: &n}, {Next: &all{Next: &all{}}},
		{Map: map[name]leaf{"\ue000": {}, "𝄞": {N: 1}}, OptMap: map[string][]int{"": {1, 2}}},
		{Blob: []byte{0xff}, Level: 1, OptLevel: 2, Dur: time.Hour}, {Small: -1, Unsigned: 1, Opt: []string{"", "\""}, Slice: []leaf{{}}},
	} {
		if b, err = Marshal(v); err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var v all
		if Unmarshal(in, &v) != nil {
			return
		}
		out, err := Marshal(v)
		if err != nil || !bytes.Equal(in, out) {
			t.Errorf("accepted %q but writes %q, %v", in, out, err)
		}
	})
}

// FuzzCheckAgreesWithJCS holds that what Check accepts is a fixed point of an
// independent implementation, and that what that one writes Check accepts
// unless it has a float, a null or a large number.
func FuzzCheckAgreesWithJCS(f *testing.F) {
	for _, s := range []string{`{"a":[1,-2,true],"b":{"\ue000":"","𝄞":"\u0001\n"}}`, `{"b":1,"a":2}`, `[]`, `"x"`, `[9007199254740991]`, `[1e2]`,
		` {}`, `{"a":1,"a":1}`, `["\u0041\/\ud834\udd1e"]`, `[-0,1.0,01]`, `[-0.1]`, `[null]`, `{"":{"":[[],{}]}}`, "[\"\x7f\u2028\"]", "[\"\xff\"]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := jcs.Transform(in)
		if Check(in) == nil {
			// That implementation wants an object or an array at the top.
			if c := in[0]; (c == '{' || c == '[') && (err != nil || !bytes.Equal(in, out)) {
				t.Errorf("accepted %q, JCS gives %q, %v", in, out, err)
			}
			return
		}
		if err == nil && Check(out) != nil {
			var e *Error
			errors.As(Check(out), &e)
			for _, known := range []string{"only integers", "no null", "beyond", "nested"} {
				if strings.Contains(e.Text, known) {
					return
				}
			}
			t.Errorf("JCS writes %q, refused: %v", out, e)
		}
	})
}

func FuzzLessIsUTF16Order(f *testing.F) {
	f.Add("\ue000", "𝄞")
	f.Add("a", "ab")
	f.Fuzz(func(t *testing.T, a, b string) {
		a, b = strings.ToValidUTF8(a, "?"), strings.ToValidUTF8(b, "?")
		if got, want := less(a, b), compareUnits(a, b) < 0; got != want {
			t.Errorf("less(%q, %q) = %t", a, b, got)
		}
	})
}

func compareUnits(a, b string) int {
	return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
}

func BenchmarkMarshal20KB(b *testing.B) {
	v := all{Zed: "z"}
	for i := range 300 {
		v.Slice = append(v.Slice, leaf{fmt.Sprintf("a line of ordinary text, as paths are: /usr/lib/%d", i), int64(i)})
	}
	out, err := Marshal(v)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(out)))
	for b.Loop() {
		Marshal(v)
	}
}

func BenchmarkUnmarshal20KB(b *testing.B) {
	v := all{Zed: "z"}
	for i := range 300 {
		v.Slice = append(v.Slice, leaf{fmt.Sprintf("a line of ordinary text, as paths are: /usr/lib/%d", i), int64(i)})
	}
	v.Raw = Raw("1")
	out, err := Marshal(v)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(out)))
	for b.Loop() {
		if err := Unmarshal(out, &v); err != nil {
			b.Fatal(err)
		}
	}
}
