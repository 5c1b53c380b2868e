package canonical

import (
	"encoding"
	"encoding/base64"
	"fmt"
	"reflect"
	"slices"
	"strconv"
)

type encoder struct {
	buf   []byte
	depth int
}

func encodeError(format string, args ...any) *Error {
	return &Error{Offset: -1, Text: fmt.Sprintf(format, args...)}
}

func (e *encoder) enter() *Error {
	if e.depth++; e.depth > MaxDepth {
		return encodeError("nested more than %d deep", MaxDepth)
	}
	return nil
}

func (e *encoder) text(s string) *Error {
	var ok bool
	if e.buf, ok = appendString(e.buf, s); !ok {
		return encodeError("%q is not valid UTF-8, which a JSON string must be", s)
	}
	return nil
}

func encodeBool(e *encoder, v reflect.Value) *Error {
	e.buf = strconv.AppendBool(e.buf, v.Bool())
	return nil
}

func encodeInt(e *encoder, v reflect.Value) *Error {
	n := v.Int()
	if n > MaxInt || n < -MaxInt {
		return encodeError("%d is beyond 2^53-1; such a number must be a string", n)
	}
	e.buf = strconv.AppendInt(e.buf, n, 10)
	return nil
}

func encodeUint(e *encoder, v reflect.Value) *Error {
	n := v.Uint()
	if n > MaxInt {
		return encodeError("%d is beyond 2^53-1; such a number must be a string", n)
	}
	e.buf = strconv.AppendUint(e.buf, n, 10)
	return nil
}

func encodeString(e *encoder, v reflect.Value) *Error { return e.text(v.String()) }

func encodeBytes(e *encoder, v reflect.Value) *Error {
	e.buf = append(e.buf, '"')
	e.buf = base64.StdEncoding.AppendEncode(e.buf, v.Bytes())
	e.buf = append(e.buf, '"')
	return nil
}

func encodeRaw(e *encoder, v reflect.Value) *Error {
	b := v.Bytes()
	d, err := newDecoder(b)
	if err == nil {
		d.depth = e.depth
		err = d.whole(d.skip)
	}
	if err != nil {
		return encodeError("raw bytes: %s", err)
	}
	e.buf = append(e.buf, b...)
	return nil
}

// pointerTo gives v's address, or that of a copy, so that methods of either
// receiver can be called without boxing a large struct.
func pointerTo(v reflect.Value) reflect.Value {
	if v.CanAddr() {
		return v.Addr()
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	return p
}

func encodeText(e *encoder, v reflect.Value) *Error {
	b, err := pointerTo(v).Interface().(encoding.TextMarshaler).MarshalText()
	if err != nil {
		return encodeError("%s", err)
	}
	return e.text(string(b))
}

func encodeKept(e *encoder, v reflect.Value) *Error {
	b, err := pointerTo(v).Interface().(Marshaler).MarshalCanonical()
	if err != nil {
		return encodeError("%s", err)
	}
	if len(b) == 0 {
		return encodeError("bug: MarshalCanonical of %s returned nothing", v.Type())
	}
	e.buf = append(e.buf, b...)
	return nil
}

func pointerCodec(elem *codec) codec {
	return codec{
		encode: func(e *encoder, v reflect.Value) *Error {
			if v.IsNil() {
				return encodeError("nil pointer: there is no null, and the field has no omitempty")
			}
			return elem.encode(e, v.Elem())
		},
		decode: func(d *decoder, v reflect.Value) *Error {
			p := reflect.New(v.Type().Elem())
			if err := elem.decode(d, p.Elem()); err != nil {
				return err
			}
			v.Set(p)
			return nil
		},
	}
}

func (s *sliceCodec) encode(e *encoder, v reflect.Value) *Error {
	if err := e.enter(); err != nil {
		return err
	}
	e.buf = append(e.buf, '[')
	for i := range v.Len() {
		if i > 0 {
			e.buf = append(e.buf, ',')
		}
		if err := s.elem.encode(e, v.Index(i)); err != nil {
			return err.in("[" + strconv.Itoa(i) + "]")
		}
	}
	e.buf = append(e.buf, ']')
	e.depth--
	return nil
}

func (m *mapCodec) encode(e *encoder, v reflect.Value) *Error {
	if err := e.enter(); err != nil {
		return err
	}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int {
		switch x, y := a.String(), b.String(); {
		case x == y:
			return 0
		case less(x, y):
			return -1
		}
		return 1
	})
	e.buf = append(e.buf, '{')
	for i, k := range keys {
		if i > 0 {
			e.buf = append(e.buf, ',')
		}
		if err := e.text(k.String()); err != nil {
			return err
		}
		e.buf = append(e.buf, ':')
		if err := m.elem.encode(e, v.MapIndex(k)); err != nil {
			return err.in("[" + strconv.Quote(k.String()) + "]")
		}
	}
	e.buf = append(e.buf, '}')
	e.depth--
	return nil
}

func (s *structCodec) encode(e *encoder, v reflect.Value) *Error {
	if err := e.enter(); err != nil {
		return err
	}
	e.buf = append(e.buf, '{')
	first := true
	for i := range s.fields {
		f := &s.fields[i]
		fv := v.Field(f.index)
		if f.omitEmpty && empty(fv) {
			continue
		}
		if !first {
			e.buf = append(e.buf, ',')
		}
		first = false
		e.buf = append(e.buf, f.prefix...)
		if err := f.codec.encode(e, fv); err != nil {
			return err.in(f.name)
		}
	}
	e.buf = append(e.buf, '}')
	e.depth--
	return nil
}

// empty is what omitempty of encoding/json means by it.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}
