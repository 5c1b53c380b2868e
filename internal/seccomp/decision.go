package seccomp

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A decision is a leaf, which is an action, or a look at one word of the call:
// the word under mask selects one of spans. The decisions of one filter form a
// graph without cycles; equal decisions are one and the same pointer, so a rule
// that several calls share is compiled once.
type decision struct {
	action uint32
	word   word
	mask   uint32
	spans  []span // empty in a leaf; otherwise ascending, the first begins at 0
}

// span is the values from low up to the next span's low.
type span struct {
	low uint32
	to  *decision
}

// arm is what a set of values leads to.
type arm struct {
	values []uint32
	to     *decision
}

// graph makes decisions and keeps equal ones equal.
type graph map[string]*decision

func (g graph) intern(d decision) *decision {
	var key strings.Builder
	fmt.Fprintf(&key, "%x/%x/%x", d.action, d.word, d.mask)
	for _, s := range d.spans {
		fmt.Fprintf(&key, "/%x:%p", s.low, s.to)
	}
	if known, ok := g[key.String()]; ok {
		return known
	}
	g[key.String()] = &d
	return &d
}

func (g graph) leaf(action uint32) *decision { return g.intern(decision{action: action}) }

func (g graph) allow() *decision { return g.leaf(ActionAllow) }

func (g graph) errno(e uint32) *decision { return g.leaf(ActionErrno | e) }

// look decides by the value of w under mask: the arm that holds the value, or
// otherwise. No two arms hold the same value.
func (g graph) look(w word, mask uint32, otherwise *decision, arms ...arm) *decision {
	var points []span
	for _, a := range arms {
		for _, v := range a.values {
			points = append(points, span{v, a.to})
		}
	}
	slices.SortFunc(points, func(a, b span) int { return cmp.Compare(a.low, b.low) })
	var spans []span
	add := func(low uint32, to *decision) {
		if len(spans) == 0 || spans[len(spans)-1].to != to {
			spans = append(spans, span{low, to})
		}
	}
	next, whole := uint32(0), false // the first value not covered yet; whether all are
	for _, p := range points {
		if p.low > next {
			add(next, otherwise)
		}
		add(p.low, p.to)
		next, whole = p.low+1, p.low == ^uint32(0)
	}
	if !whole {
		add(next, otherwise)
	}
	if len(spans) == 1 {
		return spans[0].to
	}
	return g.intern(decision{word: w, mask: mask, spans: spans})
}

const wholeWord = ^uint32(0)

// low32 decides by an argument of which the kernel takes the low 32 bits: its
// prototype says int or unsigned int (SYSCALL_DEFINEx truncates), so the high
// word must not be looked at. A caller can set it at will.
func (g graph) low32(arg int, otherwise *decision, arms ...arm) *decision {
	return g.look(lowWord(arg), wholeWord, otherwise, arms...)
}

// full64 decides by an argument that the kernel takes whole: a value above 32
// bits is none of the arms'.
func (g graph) full64(arg int, otherwise *decision, arms ...arm) *decision {
	return g.look(highWord(arg), wholeWord, otherwise, arm{[]uint32{0}, g.low32(arg, otherwise, arms...)})
}

// anyBit decides by whether one of the bits is set in the low word.
func (g graph) anyBit(arg int, bits uint32, set, clear *decision) *decision {
	return g.look(lowWord(arg), bits, set, arm{[]uint32{0}, clear})
}

// zero64 decides by whether a whole argument, such as a pointer, is zero.
func (g graph) zero64(arg int, zero, nonzero *decision) *decision {
	return g.full64(arg, nonzero, arm{[]uint32{0}, zero})
}

// values is a list of values for an arm.
func values[T ~uint16 | ~uint32](v ...T) []uint32 {
	out := make([]uint32, len(v))
	for i := range v {
		out[i] = uint32(v[i])
	}
	return out
}
