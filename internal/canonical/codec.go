package canonical

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// codec is how one Go type is written and read. It is made once per type.
type codec struct {
	encode func(*encoder, reflect.Value) *Error
	decode func(*decoder, reflect.Value) *Error
}

type sliceCodec struct{ elem *codec }

type mapCodec struct{ elem *codec }

type structCodec struct {
	fields []field // in the order they are written
	byName map[string]int
}

type field struct {
	name      string
	prefix    string // the name as written, with quotes and colon
	index     int
	omitEmpty bool
	codec     *codec
}

var (
	known  sync.Map   // reflect.Type to *codec
	making sync.Mutex // one maker at a time; the results are few
)

var (
	rawType             = reflect.TypeFor[Raw]()
	marshalerType       = reflect.TypeFor[Marshaler]()
	textMarshalerType   = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
	jsonMarshalerType   = reflect.TypeFor[json.Marshaler]()
)

func codecOf(t reflect.Type) (*codec, error) {
	if c, ok := known.Load(t); ok {
		return c.(*codec), nil
	}
	making.Lock()
	defer making.Unlock()
	m := maker{}
	c, err := m.codec(t)
	if err != nil {
		return nil, &Error{Offset: -1, Text: fmt.Sprintf("bug: type %s: %s", t, err)}
	}
	// Published only when all of them are whole: a type may contain itself.
	for t, c := range m {
		known.LoadOrStore(t, c)
	}
	return c, nil
}

// maker holds the codecs that are being made.
type maker map[reflect.Type]*codec

func (m maker) codec(t reflect.Type) (*codec, error) {
	if c, ok := known.Load(t); ok {
		return c.(*codec), nil
	}
	if c, ok := m[t]; ok {
		return c, nil
	}
	c := new(codec)
	m[t] = c
	made, err := m.make(t)
	if err != nil {
		return nil, err
	}
	*c = made
	return c, nil
}

func (m maker) make(t reflect.Type) (codec, error) {
	if t == rawType {
		return codec{encodeRaw, decodeRaw}, nil
	}
	if t.Kind() == reflect.Pointer {
		// Then every cycle of pointers passes through something that counts as depth.
		if t.Elem().Kind() == reflect.Pointer {
			return codec{}, fmt.Errorf("%s is a pointer to a pointer", t)
		}
		elem, err := m.codec(t.Elem())
		if err != nil {
			return codec{}, err
		}
		return pointerCodec(elem), nil
	}
	p := reflect.PointerTo(t)
	if p.Implements(textMarshalerType) && !p.Implements(marshalerType) {
		if !p.Implements(textUnmarshalerType) {
			return codec{}, fmt.Errorf("%s has MarshalText but no UnmarshalText", t)
		}
		return codec{encodeText, decodeText}, nil
	}
	c, err := m.plain(t)
	if err != nil {
		return codec{}, err
	}
	if p.Implements(marshalerType) {
		c.encode = encodeKept
	} else if p.Implements(jsonMarshalerType) {
		return codec{}, fmt.Errorf("%s has a MarshalJSON, which is not called here; MarshalText or MarshalCanonical is needed", t)
	}
	return c, nil
}

// plain makes the codec of a type without regard to its methods.
func (m maker) plain(t reflect.Type) (codec, error) {
	switch t.Kind() {
	case reflect.Bool:
		return codec{encodeBool, decodeBool}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return codec{encodeInt, decodeInt}, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return codec{encodeUint, decodeUint}, nil
	case reflect.String:
		return codec{encodeString, decodeString}, nil
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return codec{encodeBytes, decodeBytes}, nil
		}
		elem, err := m.codec(t.Elem())
		if err != nil {
			return codec{}, err
		}
		s := &sliceCodec{elem}
		return codec{s.encode, s.decode}, nil
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			return codec{}, fmt.Errorf("%s has keys that are no strings", t)
		}
		elem, err := m.codec(t.Elem())
		if err != nil {
			return codec{}, err
		}
		mc := &mapCodec{elem}
		return codec{mc.encode, mc.decode}, nil
	case reflect.Struct:
		s, err := m.structure(t)
		if err != nil {
			return codec{}, err
		}
		return codec{s.encode, s.decode}, nil
	}
	return codec{}, fmt.Errorf("%s has no canonical encoding", t)
}

func (m maker) structure(t reflect.Type) (*structCodec, error) {
	s := &structCodec{byName: make(map[string]int)}
	for i := range t.NumField() {
		sf := t.Field(i)
		tag := sf.Tag.Get("json")
		if tag == "-" || (!sf.IsExported() && !sf.Anonymous) {
			continue
		}
		if sf.Anonymous {
			return nil, fmt.Errorf("%s embeds %s, and embedded fields have no encoding", t, sf.Name)
		}
		name, option, _ := strings.Cut(tag, ",")
		if name == "" {
			name = sf.Name
		}
		if option != "" && option != "omitempty" {
			return nil, fmt.Errorf("field %s of %s has the tag option %q; omitempty is the only one known", sf.Name, t, option)
		}
		prefix, ok := appendString(nil, name)
		if !ok {
			return nil, fmt.Errorf("field %s of %s has a name that is not valid UTF-8", sf.Name, t)
		}
		c, err := m.codec(sf.Type)
		if err != nil {
			return nil, err
		}
		s.fields = append(s.fields, field{name, string(prefix) + ":", i, option == "omitempty", c})
	}
	slices.SortFunc(s.fields, func(a, b field) int {
		if less(a.name, b.name) {
			return -1
		}
		return 1
	})
	for i, f := range s.fields {
		if _, twice := s.byName[f.name]; twice {
			return nil, fmt.Errorf("%s has two fields named %q", t, f.name)
		}
		s.byName[f.name] = i
	}
	return s, nil
}
