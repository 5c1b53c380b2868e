package canonical

import (
	"encoding"
	"encoding/base64"
	"fmt"
	"reflect"
	"strconv"
	"unicode/utf8"
)

type decoder struct {
	data  []byte
	pos   int
	depth int
}

func newDecoder(data []byte) (*decoder, error) {
	if len(data) > MaxSize {
		return nil, &Error{Offset: MaxSize, Text: fmt.Sprintf("%d bytes, and at most %d are read", len(data), MaxSize)}
	}
	return &decoder{data: data}, nil
}

func (d *decoder) errorAt(offset int, format string, args ...any) *Error {
	return &Error{Offset: offset, Text: fmt.Sprintf(format, args...)}
}

// whole reads one value with read and expects the end of the input after it.
func (d *decoder) whole(read func() *Error) error {
	if err := read(); err != nil {
		return err
	}
	if d.pos != len(d.data) {
		return d.errorAt(d.pos, "%d bytes after the end of the value; nothing may follow it, not even a line feed", len(d.data)-d.pos)
	}
	return nil
}

// found names the next byte for an error text.
func (d *decoder) found() string {
	if d.pos >= len(d.data) {
		return "the end of the input"
	}
	switch c := d.data[d.pos]; c {
	case ' ', '\t', '\n', '\r':
		return "white space, of which canonical JSON has none"
	case 'n':
		return "'n'; there is no null, absent members are left out"
	default:
		return strconv.QuoteRune(rune(c))
	}
}

func (d *decoder) expect(c byte, what string) *Error {
	if d.pos >= len(d.data) || d.data[d.pos] != c {
		return d.errorAt(d.pos, "expected %s, found %s", what, d.found())
	}
	d.pos++
	return nil
}

func (d *decoder) at(c byte) bool { return d.pos < len(d.data) && d.data[d.pos] == c }

func (d *decoder) enter() *Error {
	if d.depth++; d.depth > MaxDepth {
		return d.errorAt(d.pos, "nested more than %d deep", MaxDepth)
	}
	return nil
}

// text reads a string.
func (d *decoder) text() (string, *Error) {
	if err := d.expect('"', "a string"); err != nil {
		return "", err
	}
	start, ascii := d.pos, true
	for d.pos < len(d.data) && plain[d.data[d.pos]] {
		ascii = ascii && d.data[d.pos] < utf8.RuneSelf
		d.pos++
	}
	var s string
	if d.at('"') {
		s = string(d.data[start:d.pos])
	} else {
		b, err := d.escaped(append([]byte(nil), d.data[start:d.pos]...))
		if err != nil {
			return "", err
		}
		s, ascii = string(b), false
	}
	if !ascii && !utf8.ValidString(s) {
		return "", d.errorAt(start, "string is not valid UTF-8")
	}
	d.pos++
	return s, nil
}

// escaped reads on to the closing quote of a string that has escapes.
func (d *decoder) escaped(b []byte) ([]byte, *Error) {
	for d.pos < len(d.data) {
		c := d.data[d.pos]
		switch {
		case c == '"':
			return b, nil
		case plain[c]:
			b = append(b, c)
			d.pos++
		case c == '\\':
			c, n := unescape(d.data[d.pos:])
			if n == 0 {
				return nil, d.errorAt(d.pos, `escape is not canonical: only \b \t \n \f \r \" \\ and \u00xx (lower case) for the other control characters are`)
			}
			b = append(b, c)
			d.pos += n
		default:
			return nil, d.errorAt(d.pos, "control character 0x%02x stands unescaped in a string", c)
		}
	}
	return nil, d.errorAt(d.pos, "string has no end")
}

// unescape reads the canonical escape b starts with; n is 0 when there is none.
func unescape(b []byte) (c byte, n int) {
	if len(b) >= 2 && long[b[1]] != 0 {
		return long[b[1]], 2
	}
	if len(b) < 6 || b[1] != 'u' || b[2] != '0' || b[3] != '0' || (b[4] != '0' && b[4] != '1') {
		return 0, 0
	}
	c = (b[4] - '0') << 4
	switch h := b[5]; {
	case '0' <= h && h <= '9':
		c |= h - '0'
	case 'a' <= h && h <= 'f':
		c |= h - 'a' + 10
	default:
		return 0, 0
	}
	if short[c] != 0 {
		return 0, 0
	}
	return c, 6
}

// integer reads a number in the one spelling it has.
func (d *decoder) integer() (int64, *Error) {
	start := d.pos
	negative := d.at('-')
	if negative {
		d.pos++
	}
	digits := d.pos
	var n int64
	for d.pos < len(d.data) && '0' <= d.data[d.pos] && d.data[d.pos] <= '9' {
		n = n*10 + int64(d.data[d.pos]-'0')
		if n > MaxInt {
			return 0, d.errorAt(start, "number is beyond 2^53-1")
		}
		d.pos++
	}
	switch {
	case d.pos == digits:
		d.pos = start
		return 0, d.errorAt(start, "expected an integer, found %s", d.found())
	case d.at('.') || d.at('e') || d.at('E'):
		return 0, d.errorAt(start, "number has a fraction or an exponent; there are only integers")
	case d.data[digits] == '0' && (d.pos > digits+1 || negative):
		return 0, d.errorAt(start, "number %q is not canonical: no leading zero, no -0", d.data[start:d.pos])
	}
	if negative {
		n = -n
	}
	return n, nil
}

func (d *decoder) boolean() (bool, *Error) {
	rest := d.data[d.pos:]
	if len(rest) >= 4 && string(rest[:4]) == "true" {
		d.pos += 4
		return true, nil
	}
	if len(rest) >= 5 && string(rest[:5]) == "false" {
		d.pos += 5
		return false, nil
	}
	return false, d.errorAt(d.pos, "expected true or false, found %s", d.found())
}

// array reads the elements with read.
func (d *decoder) array(read func(i int) *Error) *Error {
	if err := d.enter(); err != nil {
		return err
	}
	if err := d.expect('[', "an array"); err != nil {
		return err
	}
	for i := 0; !d.at(']'); i++ {
		if i > 0 {
			if err := d.expect(',', "',' or ']'"); err != nil {
				return err
			}
		}
		if err := read(i); err != nil {
			return err.in("[" + strconv.Itoa(i) + "]")
		}
	}
	d.pos++
	d.depth--
	return nil
}

// members reads an object whose names are free, with read for each value.
func (d *decoder) members(read func(name string) *Error) *Error {
	if err := d.enter(); err != nil {
		return err
	}
	if err := d.expect('{', "an object"); err != nil {
		return err
	}
	last := ""
	for i := 0; !d.at('}'); i++ {
		if i > 0 {
			if err := d.expect(',', "',' or '}'"); err != nil {
				return err
			}
		}
		start := d.pos
		name, err := d.text()
		if err != nil {
			return err
		}
		if i > 0 && name == last {
			return d.errorAt(start, "member %q is there twice", name)
		}
		if i > 0 && less(name, last) {
			return d.errorAt(start, "member %q stands after %q; names must be sorted by their UTF-16 code units", name, last)
		}
		last = name
		if err := d.expect(':', "':'"); err != nil {
			return err
		}
		if err := read(name); err != nil {
			return err.in("[" + strconv.Quote(name) + "]")
		}
	}
	d.pos++
	d.depth--
	return nil
}

// skip reads a value of whatever shape.
func (d *decoder) skip() *Error {
	if d.pos >= len(d.data) {
		return d.errorAt(d.pos, "expected a value, found %s", d.found())
	}
	switch c := d.data[d.pos]; {
	case c == '{':
		return d.members(func(string) *Error { return d.skip() })
	case c == '[':
		return d.array(func(int) *Error { return d.skip() })
	case c == '"':
		_, err := d.text()
		return err
	case c == 't' || c == 'f':
		_, err := d.boolean()
		return err
	case c == '-' || '0' <= c && c <= '9':
		_, err := d.integer()
		return err
	}
	return d.errorAt(d.pos, "expected a value, found %s", d.found())
}

func decodeRaw(d *decoder, v reflect.Value) *Error {
	start := d.pos
	if err := d.skip(); err != nil {
		return err
	}
	v.SetBytes(append([]byte(nil), d.data[start:d.pos]...))
	return nil
}

func decodeBool(d *decoder, v reflect.Value) *Error {
	b, err := d.boolean()
	v.SetBool(b)
	return err
}

func decodeInt(d *decoder, v reflect.Value) *Error {
	start := d.pos
	n, err := d.integer()
	if err != nil {
		return err
	}
	if v.OverflowInt(n) {
		return d.errorAt(start, "number %d does not fit", n)
	}
	v.SetInt(n)
	return nil
}

func decodeUint(d *decoder, v reflect.Value) *Error {
	start := d.pos
	n, err := d.integer()
	if err != nil {
		return err
	}
	if n < 0 || v.OverflowUint(uint64(n)) {
		return d.errorAt(start, "number %d does not fit", n)
	}
	v.SetUint(uint64(n))
	return nil
}

func decodeString(d *decoder, v reflect.Value) *Error {
	s, err := d.text()
	v.SetString(s)
	return err
}

func decodeBytes(d *decoder, v reflect.Value) *Error {
	start := d.pos
	s, err := d.text()
	if err != nil {
		return err
	}
	b, bad := base64.StdEncoding.Strict().DecodeString(s)
	// The decoder skips line feeds even when it is strict.
	if bad != nil || base64.StdEncoding.EncodedLen(len(b)) != len(s) {
		return d.errorAt(start, "string is not base64 with padding, without line feeds and stray bits (RFC 4648 section 4)")
	}
	v.SetBytes(b)
	return nil
}

// decodeText also writes the value again: a type that reads two spellings of
// one value would give that value two encodings.
func decodeText(d *decoder, v reflect.Value) *Error {
	start := d.pos
	s, err := d.text()
	if err != nil {
		return err
	}
	p := v.Addr().Interface()
	if err := p.(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
		return d.errorAt(start, "%s", err)
	}
	again, bad := p.(encoding.TextMarshaler).MarshalText()
	if bad != nil {
		return d.errorAt(start, "%s", bad)
	}
	if string(again) != s {
		return d.errorAt(start, "%q is not canonical, %q is", s, again)
	}
	return nil
}

func (s *sliceCodec) decode(d *decoder, v reflect.Value) *Error {
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	return d.array(func(i int) *Error {
		v.Grow(1)
		v.SetLen(i + 1)
		return s.elem.decode(d, v.Index(i))
	})
}

func (m *mapCodec) decode(d *decoder, v reflect.Value) *Error {
	v.Set(reflect.MakeMap(v.Type()))
	return d.members(func(name string) *Error {
		key := reflect.New(v.Type().Key()).Elem()
		key.SetString(name)
		value := reflect.New(v.Type().Elem()).Elem()
		if err := m.elem.decode(d, value); err != nil {
			return err
		}
		v.SetMapIndex(key, value)
		return nil
	})
}

// decode walks the fields in the order they must stand in.
func (s *structCodec) decode(d *decoder, v reflect.Value) *Error {
	if err := d.enter(); err != nil {
		return err
	}
	if err := d.expect('{', "an object"); err != nil {
		return err
	}
	any := false
	for i := range s.fields {
		f := &s.fields[i]
		comma := 0
		if any && d.at(',') {
			comma = 1
		}
		here := d.pos + comma
		if (any && comma == 0) || len(d.data)-here < len(f.prefix) || string(d.data[here:here+len(f.prefix)]) != f.prefix {
			if f.omitEmpty {
				continue
			}
			return s.mismatch(d, !any, i)
		}
		d.pos = here + len(f.prefix)
		any = true
		fv := v.Field(f.index)
		start := d.pos
		if err := f.codec.decode(d, fv); err != nil {
			return err.in(f.name)
		}
		if f.omitEmpty && empty(fv) {
			return d.errorAt(start, "an empty value must be left out").in(f.name)
		}
	}
	if !d.at('}') {
		return s.mismatch(d, !any, len(s.fields))
	}
	d.pos++
	d.depth--
	return nil
}

// mismatch says why what comes next is not the member numbered want.
func (s *structCodec) mismatch(d *decoder, first bool, want int) *Error {
	if d.at('}') {
		return d.errorAt(d.pos, "member %q is missing", s.fields[want].name)
	}
	if !first {
		if err := d.expect(',', "',' or '}'"); err != nil {
			return err
		}
	}
	here := d.pos
	name, err := d.text()
	if err != nil {
		return err
	}
	i, ok := s.byName[name]
	switch {
	case !ok:
		return d.errorAt(here, "member %q is unknown", name)
	case i < want && s.fields[i].prefix == string(d.data[here:min(len(d.data), d.pos+1)]):
		return d.errorAt(here, "member %q is there twice or after members it must precede; names must be sorted", name)
	case i <= want:
		return d.errorAt(here, "member %q is misspelt or not followed by ':'", name)
	}
	return d.errorAt(here, "member %q is missing, or stands after %q", s.fields[want].name, name)
}
