package wasm_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// The smallest builder of modules that tests need.

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

// asModule is a command whose _start has that code. In stack traces it is
// called culprit.
func asModule(t testing.TB, body []byte) []byte {
	t.Helper()
	names := slices.Concat(u(1), u(0), text("culprit"))
	custom := slices.Concat(text("name"), []byte{1}, u(uint32(len(names))), names)
	return module(section(1, signature(nil, nil)), section(3, u(0)), section(4, []byte{0x70, 0, 1}), section(5, []byte{0, 1}),
		section(7, export("_start", 0, 0)), section(10, body), append(append([]byte{0}, u(uint32(len(custom)))...), custom...))
}

func moduleFile(t testing.TB, binary []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "m.wasm")
	must(t, os.WriteFile(name, binary, 0o644))
	return name
}
