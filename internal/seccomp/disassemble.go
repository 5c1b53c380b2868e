package seccomp

import (
	"fmt"
	"io"
	"strings"
)

// Disassemble writes f one instruction a line, with a label where a jump
// lands, the name of a call where a number is compared, and actions by name.
func Disassemble(w io.Writer, f Filter, arch string) error {
	held := wordsHeld(f)
	target := make([]bool, len(f)+1)
	for pc, in := range f {
		for _, next := range successors(pc, in) {
			if next != pc+1 && next < len(target) {
				target[next] = true
			}
		}
	}
	var b strings.Builder
	for pc, in := range f {
		label := ""
		if target[pc] {
			label = fmt.Sprintf("L%d:", pc)
		}
		fmt.Fprintf(&b, "%-6s%s\n", label, instructionText(pc, in, held[pc], arch))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// successors are the instructions that may follow the one at pc.
func successors(pc int, in Instruction) []int {
	switch in.Code {
	case opRet:
		return nil
	case opJump:
		return []int{pc + 1 + int(in.K)}
	case opJeq, opJge, opJset:
		return []int{pc + 1 + int(in.Jt), pc + 1 + int(in.Jf)}
	}
	return []int{pc + 1}
}

// wordsHeld returns, for each instruction, which word of the call the
// accumulator holds before it. Jumps go forward only, so one pass finds it.
func wordsHeld(f Filter) []word {
	held := make([]word, len(f))
	for pc, in := range f {
		after := held[pc]
		if in.Code == opLoad {
			after = word(in.K)
		}
		for _, next := range successors(pc, in) {
			if next < len(held) {
				held[next] = after
			}
		}
	}
	return held
}

func instructionText(pc int, in Instruction, held word, arch string) string {
	switch in.Code {
	case opLoad:
		return "load " + word(in.K).String()
	case opAnd:
		return fmt.Sprintf("and %#x", in.K)
	case opJump:
		return fmt.Sprintf("goto L%d", pc+1+int(in.K))
	case opRet:
		return "return " + actionText(in.K)
	case opJeq:
		return "if == " + valueText(in.K, held, arch) + jumpText(pc, in)
	case opJge:
		return "if >= " + valueText(in.K, held, arch) + jumpText(pc, in)
	case opJset:
		return fmt.Sprintf("if & %#x", in.K) + jumpText(pc, in)
	}
	return fmt.Sprintf("operation %#x, jt %d, jf %d, k %#x", in.Code, in.Jt, in.Jf, in.K)
}

func valueText(k uint32, held word, arch string) string {
	switch {
	case held == wordNumber:
		return fmt.Sprintf("%d %s", k, strings.TrimPrefix(Name(arch, k), fmt.Sprintf("call %d", k)))
	case held == wordArch && k == NativeArch(arch):
		return arch
	}
	return fmt.Sprintf("%#x", k)
}

// jumpText names the targets that are not the next instruction.
func jumpText(pc int, in Instruction) string {
	var s string
	if in.Jt != 0 {
		s = fmt.Sprintf(" goto L%d", pc+1+int(in.Jt))
	} else {
		s = " continue"
	}
	if in.Jf != 0 {
		s += fmt.Sprintf(", else L%d", pc+1+int(in.Jf))
	}
	return s
}

func (w word) String() string {
	switch {
	case w == wordNumber:
		return "number"
	case w == wordArch:
		return "arch"
	case w >= 16 && w < dataSize:
		half := "low"
		if w%8 == 4 {
			half = "high"
		}
		return fmt.Sprintf("argument %d, %s word", (w-16)/8, half)
	}
	return fmt.Sprintf("offset %d", uint32(w))
}
