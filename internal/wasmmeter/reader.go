package wasmmeter

import (
	"fmt"
	"unicode/utf8"
)

// reader walks over a part of a module. It panics with an *Error, which
// Instrument recovers: every read can fail, and none can be gone on after.
type reader struct {
	all []byte
	pos int
	end int
}

func (r *reader) fail(why Why, format string, args ...any) {
	panic(&Error{why, r.pos, fmt.Sprintf(format, args...)})
}

func (r *reader) more() bool { return r.pos < r.end }

func (r *reader) byte() byte {
	if r.pos >= r.end {
		r.fail(Invalid, "it ends too early")
	}
	r.pos++
	return r.all[r.pos-1]
}

func (r *reader) take(n uint32) []byte {
	if uint64(n) > uint64(r.end-r.pos) {
		r.fail(Invalid, "it ends too early")
	}
	b := r.all[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return b
}

// sub is the next n bytes as a reader of their own.
func (r *reader) sub(n uint32) reader {
	from := r.pos
	r.take(n)
	return reader{r.all, from, r.pos}
}

func (r *reader) u32() uint32 {
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		c := r.byte()
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			if v > 1<<32-1 {
				break
			}
			return uint32(v)
		}
	}
	r.fail(Invalid, "a number has more than 32 bits")
	return 0
}

// signed skips a signed number of at most bits bits. Its value decides nothing
// here; the engine checks its last byte.
func (r *reader) signed(bits int) {
	for range (bits + 6) / 7 {
		if r.byte() < 0x80 {
			return
		}
	}
	r.fail(Invalid, "a number has more than %d bits", bits)
}

// count reads the length of a vector whose items take at least one byte each.
func (r *reader) count() uint32 {
	n := r.u32()
	if uint64(n) > uint64(r.end-r.pos) {
		r.fail(Invalid, "a list says that it has %d items, and only %d bytes follow", n, r.end-r.pos)
	}
	return n
}

func (r *reader) name() string {
	b := r.take(r.u32())
	if !utf8.Valid(b) {
		r.fail(Invalid, "a name is not in UTF-8")
	}
	return string(b)
}

// done fails where a part is longer than what is in it.
func (r *reader) done(what string) {
	if r.more() {
		r.fail(Invalid, "%s is longer than what is in it", what)
	}
}

func appendU32(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func appendSigned(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func appendName(b []byte, name string) []byte {
	return append(appendU32(b, uint32(len(name))), name...)
}
