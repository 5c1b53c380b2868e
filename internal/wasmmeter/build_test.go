package wasmmeter_test

import "slices"

// The smallest builder of modules that tests need.

const (
	i32 = 0x7f
	i64 = 0x7e
)

func u(v uint32) []byte {
	var b []byte
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func section(id byte, items ...[]byte) []byte {
	body := append(u(uint32(len(items))), slices.Concat(items...)...)
	return append(append([]byte{id}, u(uint32(len(body)))...), body...)
}

func text(s string) []byte { return append(u(uint32(len(s))), s...) }

func signature(params, results []byte) []byte {
	return slices.Concat([]byte{0x60}, u(uint32(len(params))), params, u(uint32(len(results))), results)
}

func export(name string, kind byte, index uint32) []byte {
	return slices.Concat(text(name), []byte{kind}, u(index))
}

// code is a function's body: groups of locals, instructions and the end.
func code(locals []byte, instructions ...byte) []byte {
	b := slices.Concat(locals, instructions, []byte{0x0b})
	return append(u(uint32(len(b))), b...)
}

var noLocals = []byte{0}

func module(sections ...[]byte) []byte {
	return append([]byte("\x00asm\x01\x00\x00\x00"), slices.Concat(sections...)...)
}

// function is a module with one exported function.
func function(params, results, locals []byte, instructions ...byte) []byte {
	return module(section(1, signature(params, results)), section(3, u(0)), section(5, []byte{0, 1}),
		section(7, export("f", 0, 0)), section(10, code(locals, instructions...)))
}
