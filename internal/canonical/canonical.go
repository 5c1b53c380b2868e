// Package canonical is the one encoding of everything bvisor hashes or signs:
// JSON in the form of RFC 8785 (JCS), restricted so that no implementation can
// disagree about it.
//
// Values are strings, booleans, integers of at most 2^53-1 in magnitude,
// arrays and objects. There are no floats and there is no null: a nil pointer
// can only stand in a field with omitempty, where it is left out. Strings are
// valid UTF-8 and are not normalised.
//
// One value, one encoding: whatever Unmarshal accepts, Marshal gives back byte
// for byte. Without this two different files could claim the same digest.
//
// # How Go types map
//
// Structs are objects, with the names and the omitempty and "-" options of
// their json tags. A field without omitempty is always written and must be
// present; a field with omitempty must not be present when it is empty. Maps
// have keys of string kind. A nil slice is [], a nil map is {}. []byte is a
// string in padded base64, as in encoding/json. A type that implements
// encoding.TextMarshaler is a string. time.Duration is its integer.
// Everything else (floats, interfaces, arrays, embedded fields, types with a
// MarshalJSON of their own) is an error.
package canonical

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"sync"
)

// Limits that hold for both directions, so that what one writes the other reads.
const (
	MaxSize  = 16 << 20  // bytes of one encoding
	MaxDepth = 64        // arrays and objects inside one another
	MaxInt   = 1<<53 - 1 // largest magnitude an IEEE 754 double counts without gaps (RFC 7493 section 2.2)
)

// Marshaler is for values that keep their encoding. MarshalCanonical must
// return what Marshal would give for the plain fields; the bytes are taken as
// they are.
type Marshaler interface {
	MarshalCanonical() ([]byte, error)
}

// Error says what is wrong and where.
type Error struct {
	Offset int    // byte of the input; -1 when encoding
	Path   string // e.g. "plan.budgets[2].limit"; empty is the whole value
	Text   string
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("canonical JSON: ")
	if e.Offset >= 0 {
		fmt.Fprintf(&b, "byte %d: ", e.Offset)
	}
	if e.Path != "" {
		b.WriteString(e.Path)
		b.WriteString(": ")
	}
	b.WriteString(e.Text)
	return b.String()
}

// in puts one path element before what e has.
func (e *Error) in(element string) *Error {
	if e.Path != "" && e.Path[0] != '[' {
		element += "."
	}
	e.Path = element + e.Path
	return e
}

// Marshal returns the canonical encoding of v.
func Marshal(v any) ([]byte, error) {
	var out []byte
	err := Lend(v, func(b []byte) error {
		out = bytes.Clone(b)
		return nil
	})
	return out, err
}

// Lend hands the canonical encoding of v to use, whose it is until use returns:
// for bytes that are looked at once. A run would otherwise touch as much fresh
// memory again as its report is long.
func Lend(v any, use func([]byte) error) error {
	rv := reflect.ValueOf(v)
	if !rv.IsValid() {
		return &Error{Offset: -1, Text: "nil has no encoding"}
	}
	c, err := codecOf(rv.Type())
	if err != nil {
		return err
	}
	scratch := scratches.Get().(*[]byte)
	e := encoder{buf: (*scratch)[:0]}
	defer func() {
		if cap(e.buf) <= maxScratch {
			*scratch = e.buf
			scratches.Put(scratch)
		}
	}()
	if err := c.encode(&e, rv); err != nil {
		return err
	}
	if len(e.buf) > MaxSize {
		return &Error{Offset: -1, Text: fmt.Sprintf("%d bytes, and at most %d can be read back", len(e.buf), MaxSize)}
	}
	return use(e.buf)
}

// scratches are what encodings grow in; a result is a copy of its own size. In
// a process with a large heap garbage is collected seldom, and memory touched
// for the first time is dear.
var scratches = sync.Pool{New: func() any { b := make([]byte, 0, 32<<10); return &b }}

const maxScratch = 1 << 20

// Unmarshal reads the one value in data, which must be in canonical form, into
// what v points to. After an error that is the zero value.
func Unmarshal(data []byte, v any) error {
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return &Error{Offset: 0, Text: fmt.Sprintf("bug: cannot unmarshal into %T, a non-nil pointer is needed", v)}
	}
	rv = rv.Elem()
	rv.SetZero()
	c, err := codecOf(rv.Type())
	if err != nil {
		return err
	}
	d, err := newDecoder(data)
	if err != nil {
		return err
	}
	if err := d.whole(func() *Error { return c.decode(d, rv) }); err != nil {
		rv.SetZero()
		return err
	}
	return nil
}

// Check says whether data is one value in canonical form, of whatever shape.
func Check(data []byte) error {
	d, err := newDecoder(data)
	if err != nil {
		return err
	}
	if err := d.whole(d.skip); err != nil {
		return err
	}
	return nil
}

// Raw is a value kept as the bytes it has. Both directions check that they are
// canonical.
type Raw []byte
