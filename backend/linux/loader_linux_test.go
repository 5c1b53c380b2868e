package linux

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"strings"
	"testing"
)

// program is an ELF file that asks for the interpreter at that place in it.
func program(tableAt uint64, count uint16, kind elf.ProgType, nameAt, nameSize uint64, rest string) []byte {
	var b bytes.Buffer
	h := elf.Header64{Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: tableAt, Ehsize: 64, Phentsize: 56, Phnum: count}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	_ = binary.Write(&b, binary.LittleEndian, h)
	_ = binary.Write(&b, binary.LittleEndian, elf.Prog64{Type: uint32(kind), Off: nameAt, Filesz: nameSize})
	b.WriteString(rest)
	return b.Bytes()
}

// Any file can be named as a program: what reads its header finds what
// debug/elf finds, or nothing, and survives.
func FuzzLoader(f *testing.F) {
	f.Add(program(64, 1, elf.PT_INTERP, 120, 9, "/lib/ld\x00"))
	f.Add(program(64, 1, elf.PT_INTERP, 120, 1<<40, "/lib/ld"))
	f.Add(program(64, 1, elf.PT_INTERP, 1<<63, 8, "/lib/ld\x00"))
	f.Add(program(64, 2, elf.PT_LOAD, 0, 0, ""))
	f.Add(program(1<<64-8, 1, elf.PT_INTERP, 0, 0, "")) // the table ends behind the end of all numbers
	f.Add(program(1<<64-56, 3, elf.PT_INTERP, 0, 0, ""))
	f.Add([]byte("#!/bin/sh\n"))
	if self, err := os.ReadFile("/proc/self/exe"); err == nil {
		f.Add(self[:1024])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got := loader(bytes.NewReader(data), data[:min(len(data), 1024)])
		if got == "" {
			return
		}
		file, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			return // debug/elf looks at parts that execve(2) does not look at
		}
		for _, p := range file.Progs {
			if p.Type != elf.PT_INTERP {
				continue
			}
			text, _ := io.ReadAll(io.LimitReader(p.Open(), 4096))
			if want, _, _ := strings.Cut(string(text), "\x00"); got != want {
				t.Errorf("found %q, debug/elf %q", got, want)
			}
			return
		}
		t.Errorf("found %q, debug/elf nothing", got)
	})
}
