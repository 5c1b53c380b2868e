package seccomp

import (
	"fmt"
	"math"
	"slices"
)

// maxInstructions is BPF_MAXINSNS of linux/bpf_common.h.
const maxInstructions = 4096

// Compile makes the filter for o. Equal options give equal filters.
func Compile(o Options) (Filter, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	e := emitter{at: map[*decision]int{}}
	e.decision(decide(o))
	return e.finish()
}

// finish turns the program, which was written from its end, around.
func (e *emitter) finish() (Filter, error) {
	if len(e.code) > maxInstructions {
		return nil, fmt.Errorf("seccomp: bug: filter has %d instructions, the kernel takes %d", len(e.code), maxInstructions)
	}
	slices.Reverse(e.code)
	return e.code, nil
}

// decide turns the policy into one decision about a whole call.
func decide(o Options) *decision {
	g := graph{}
	verdicts := policyByName()
	var arms []arm
	for _, c := range machines[o.Arch].calls {
		if v, ok := verdicts[c.name]; ok {
			arms = append(arms, arm{values(c.number), v.rule.decide(g, o)})
		}
	}
	// Numbers from 0x40000000 on are the x32 interface of amd64. It shares
	// AUDIT_ARCH_X86_64 with the native one, so only the number tells them apart;
	// like every number without an arm it does not exist here, which is what a
	// kernel built without CONFIG_X86_X32_ABI answers.
	byNumber := g.look(wordNumber, wholeWord, g.errno(eNOSYS), arms...)
	// Numbers mean other calls on another architecture. No fallback is waiting
	// behind int 0x80 in a 64-bit program, so this is an attempt or a program
	// that cannot run here: end it.
	return g.look(wordArch, wholeWord, g.leaf(ActionKillProcess), arm{values(machines[o.Arch].audit), byNumber})
}

// emitter writes a program from its end: jumps go forward only, so whatever an
// instruction leads to is already in place. Positions count from the end.
type emitter struct {
	code []Instruction
	at   map[*decision]int
}

func (e *emitter) put(in Instruction) int {
	e.code = append(e.code, in)
	return len(e.code) - 1
}

// decision writes d unless it is there already, and returns where it begins.
func (e *emitter) decision(d *decision) int {
	if p, ok := e.at[d]; ok {
		return p
	}
	var p int
	switch {
	case len(d.spans) == 0:
		p = e.put(Instruction{Code: opRet, K: d.action})
	case d.mask != wholeWord && len(d.spans) == 2 && d.spans[1].low == 1:
		// Zero or not, under a mask: one test does it.
		zero, set := e.decision(d.spans[0].to), e.decision(d.spans[1].to)
		e.branch(opJset, d.mask, set, zero)
		p = e.put(Instruction{Code: opLoad, K: uint32(d.word)})
	default:
		// What the spans lead to goes first, or it would lie inside the tree.
		for _, s := range d.spans {
			e.decision(s.to)
		}
		emulated := uint32(0)
		if d.word == wordNumber {
			emulated = emulatedNumbers
		}
		e.tree(newTree(d.spans, emulated), 0, len(d.spans)-1)
		if d.mask != wholeWord {
			e.put(Instruction{Code: opAnd, K: d.mask})
		}
		p = e.put(Instruction{Code: opLoad, K: uint32(d.word)})
	}
	e.at[d] = p
	return p
}

// branch writes a conditional jump.
func (e *emitter) branch(op uint16, k uint32, yes, no int) int {
	yes = e.near(yes, 2) // near(no) may put one instruction in between
	no = e.near(no, 1)
	here := len(e.code)
	return e.put(Instruction{Code: op, K: k, Jt: uint8(here - yes - 1), Jf: uint8(here - no - 1)})
}

// near returns a position that behaves like p and lies within a conditional
// jump's 255 instructions, also after another ahead-1 have been written.
func (e *emitter) near(p, ahead int) int {
	if len(e.code)+ahead-1-p-1 <= math.MaxUint8 {
		return p
	}
	if in := e.code[p]; in.Code == opRet {
		p = e.put(in)
		for d := range e.at {
			if len(d.spans) == 0 && d.action == in.K {
				e.at[d] = p // later jumps take the nearer one
			}
		}
		return p
	}
	return e.put(Instruction{Code: opJump, K: uint32(len(e.code) - p - 1)})
}

// tree writes the comparisons that tell spans i to j apart.
func (e *emitter) tree(t *tree, i, j int) int {
	step := t.best[i][j]
	if !step.chain {
		high := e.tree(t, step.split, j)
		low := e.tree(t, i, step.split-1)
		return e.branch(opJge, t.spans[step.split].low, high, low)
	}
	background := t.spans[step.split].to
	p := e.decision(background)
	for n := i; n <= j; n++ {
		if t.spans[n].to != background {
			p = e.branch(opJeq, t.spans[n].low, e.decision(t.spans[n].to), p)
		}
	}
	return p
}
