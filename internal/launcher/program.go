package launcher

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Role is which of the three processes makes a call.
type Role string

// The three processes of a launch.
const (
	RoleLauncher Role = "launcher"
	RoleInit     Role = "init"
	RoleWorkload Role = "workload"
)

// Program is a list of system calls with the data they point to. It is a
// value: made before the launch, printable, and hashed.
//
// It has one part or two. The boot is in the image that is executed. The body,
// where there is one, comes later: the boot's last operation maps it at BodyBase
// and goes on there. So one boot serves many programs, and can run ahead of them.
//
// It is made for every launch, so it is kept small: a page that is touched for
// the first time costs more than the calls that fill it.
type Program struct {
	ops    []op
	args   []Arg // of all operations, one after the other
	chunks []chunk
	places []Label
	role   Role
	phase  string
	fail   Label
	body   *part // where the body begins; nil without one
}

// part is where a part begins: its first operation and its first chunk.
type part struct{ op, chunk int }

// chunk is one piece of the data segment.
type chunk struct {
	data    []byte
	pointer []Arg // instead of data: addresses and numbers, 8 bytes each
}

// Arg is one argument of a call. Without a text of its own it is printed from
// what it is, and only when somebody asks.
type Arg struct {
	value uint64 // number, or offset into the chunk
	show  string
	chunk int32
	kind  argKind
}

type argKind uint8

const (
	argInt    argKind = iota // the value itself
	argAddr                  // the address of a chunk, plus value
	argLoad                  // what stands in a chunk, plus value, when the call is made
	argRecord                // an address in the record: value is the byte offset
	argHex                   // a number that is printed in hex
	argString                // the address of a chunk that is text
	argPlace                 // the address of an operation: value is the index in Program.places
)

// Name is the text that the argument was given.
func (a Arg) Name() string { return a.show }

// Label is a place in the program that can be jumped to.
type Label struct{ at *int }

// op is one call.
type op struct {
	name          string
	role          Role
	phase         string
	nr            int32
	args          int32 // where they begin in Program.args
	count         uint8
	mode          uint16
	store, expect int32 // in Program.args; -1 is none
	target        Label
}

// Op is a call that was just appended. Its methods add what happens with the
// result.
type Op struct {
	p *Program
	i int
}

// Step is a call of a finished program.
type Step struct {
	Role  Role
	Phase string
	Name  string
	p     *Program
	o     *op
}

// Numbers of what the machine does itself.
const (
	checkNumber = -1
	copyNumber  = -2
)

const (
	modeExpectLoad = 1 << 6
	modeIgnore     = 1 << 7
	modeErrJump    = 1 << 8
	modeIf         = 1 << 9
	modeJump       = 1 << 10
)

// Begin says which process and which phase the following calls belong to.
func (p *Program) Begin(r Role, phase string) { p.role, p.phase = r, phase }

// Int is a plain number.
func Int(v int) Arg { return Arg{value: uint64(v)} }

// Flag is a number that is printed as text.
func Flag[T ~int | ~uint32 | ~uint64 | ~uintptr](v T, show string) Arg {
	return Arg{value: uint64(v), show: show}
}

// Str is the address of a NUL-terminated string.
func (p *Program) Str(s string) Arg {
	data := make([]byte, len(s)+1)
	copy(data, s)
	a := p.Bytes(data, "")
	a.kind = argString
	return a
}

// Bytes is the address of data, printed as show.
func (p *Program) Bytes(data []byte, show string) Arg {
	p.chunks = append(p.chunks, chunk{data: data})
	return Arg{kind: argAddr, chunk: int32(len(p.chunks) - 1), show: show}
}

// Words is the address of 64-bit numbers and addresses, in native order.
func (p *Program) Words(show string, words ...Arg) Arg {
	p.chunks = append(p.chunks, chunk{pointer: words})
	return Arg{kind: argAddr, chunk: int32(len(p.chunks) - 1), show: show}
}

// Var is a named 64-bit slot: its value is loaded when the call is made.
func (p *Program) Var(name string) Arg {
	p.chunks = append(p.chunks, chunk{data: make([]byte, 8)})
	return Arg{kind: argLoad, chunk: int32(len(p.chunks) - 1), show: name}
}

// Load turns an address into the value that stands there, 64 bits wide, when
// the call is made.
func Load(addr Arg, offset int, name string) Arg {
	if addr.kind == argRecord {
		panic("bug: the record is written, never loaded from")
	}
	return Arg{kind: argLoad, chunk: addr.chunk, value: addr.value + uint64(offset), show: name}
}

// At is an address offset bytes further.
func At(addr Arg, offset int, show string) Arg {
	addr.value += uint64(offset)
	addr.show = show
	return addr
}

// Addr is the address of a variable.
func Addr(v Arg) Arg {
	v.kind = argAddr
	v.show = "&" + v.show
	return v
}

// Record is the address of a field of the record (see the Record type).
func Record(offset int, show string) Arg {
	return Arg{kind: argRecord, value: uint64(offset), show: show}
}

// Call appends a system call.
func (p *Program) Call(name string, nr uintptr, args ...Arg) Op {
	return p.add(name, int64(nr), args...)
}

// Check appends a comparison: the 64 bits at addr, masked, must equal want, or
// the step fails with ESTALE.
func (p *Program) Check(addr Arg, mask, want uint64, show string) Op {
	return p.add("check", checkNumber, addr, Arg{kind: argHex, value: mask}, Arg{kind: argHex, value: want, show: show})
}

// Same appends a comparison of the 64 bits at two addresses.
func (p *Program) Same(a, b Arg) Op {
	other := Load(b, 0, b.show)
	return p.add("check", checkNumber, a, Arg{kind: argHex, value: ^uint64(0)}, other)
}

// Copy appends a load of a variable, to be stored where To says.
func (p *Program) Copy(v Arg) Op {
	addr := Addr(v)
	addr.show = v.show
	return p.add("copy", copyNumber, addr)
}

func (p *Program) add(name string, nr int64, args ...Arg) Op {
	if p.ops == nil {
		p.ops, p.args = make([]op, 0, 512), make([]Arg, 0, 2560)
		p.chunks = append(make([]chunk, 0, 320), p.chunks...)
	}
	if len(args) > 6 {
		panic("bug: a system call has at most six arguments")
	}
	p.ops = append(p.ops, op{name: name, role: p.role, phase: p.phase, nr: int32(nr), args: int32(len(p.args)), count: uint8(len(args)), store: -1, expect: -1})
	p.args = append(p.args, args...)
	return Op{p, len(p.ops) - 1}
}

// keep puts an argument that is not one of the call's own beside them.
func (o Op) keep(a Arg) int32 {
	o.p.args = append(o.p.args, a)
	return int32(len(o.p.args) - 1)
}

// NewLabel returns a place that Mark fixes.
func (p *Program) NewLabel() Label {
	at := -1
	return Label{&at}
}

// Mark puts l before the next call.
func (p *Program) Mark(l Label) { *l.at = len(p.ops) }

// OnFailure makes l the place where a failing call without a rule of its own
// goes on.
func (p *Program) OnFailure(l Label) { p.fail = l }

// BeginBody ends the boot. The body may use what the boot has in memory; the
// boot knows nothing of the body but where it begins.
func (p *Program) BeginBody() { p.body = &part{len(p.ops), len(p.chunks)} }

// FailAt makes l the place where a failing call goes on from now on, in this
// process and those it forks. Until then it is the boot's.
func (p *Program) FailAt(l Label) Op {
	p.places = append(p.places, l)
	word := p.Words("failure", Arg{kind: argPlace, value: uint64(len(p.places) - 1), show: "failure"})
	return p.Copy(Load(word, 0, "failure")).To(Record(offFailTarget, "on failure"))
}

// To stores the result in a variable or, with an address, where it points.
func (o Op) To(v Arg) Op { o.p.ops[o.i].store = o.keep(v); return o }

// Ignore goes on after an error.
func (o Op) Ignore() Op { o.p.ops[o.i].mode |= modeIgnore; return o }

// OnError goes to l after an error.
func (o Op) OnError(l Label) Op { return o.jump(modeErrJump, l) }

// If goes to l when the result equals want.
func (o Op) If(want Arg, l Label) Op {
	o.p.ops[o.i].expect = o.keep(want)
	return o.jump(modeIf, l)
}

// Jump goes to l after success.
func (o Op) Jump(l Label) Op { return o.jump(modeJump, l) }

func (o Op) jump(mode uint16, l Label) Op {
	if at := o.p.ops[o.i].target.at; at != nil && at != l.at {
		panic("bug: an operation has one target")
	}
	o.p.ops[o.i].mode |= mode
	o.p.ops[o.i].target = l
	return o
}

// Len is the number of operations.
func (p *Program) Len() int { return len(p.ops) }

// Op returns operation i.
func (p *Program) Op(i int) Step {
	o := &p.ops[i]
	return Step{o.role, o.phase, o.name, p, o}
}

// text is how an argument is printed.
func (p *Program) text(a Arg) string {
	switch {
	case a.show != "":
		return a.show
	case a.kind == argString:
		data := p.chunks[a.chunk].data
		return strconv.Quote(string(data[:len(data)-1]))
	case a.kind == argHex:
		return "0x" + strconv.FormatUint(a.value, 16)
	}
	return strconv.FormatInt(int64(a.value), 10)
}

// String prints the operation like strace does.
func (s Step) String() string {
	p, o := s.p, s.o
	var b strings.Builder
	if o.store >= 0 {
		b.WriteString(p.text(p.args[o.store]) + " = ")
	}
	b.WriteString(o.name + "(")
	for i, a := range p.args[o.args : o.args+int32(o.count)] {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(p.text(a))
	}
	b.WriteByte(')')
	return b.String()
}

func (p *Program) flow(o *op) string {
	var s []string
	if o.mode&modeIgnore != 0 {
		s = append(s, "errors ignored")
	}
	if o.mode&modeErrJump != 0 {
		s = append(s, fmt.Sprintf("error: go to %d", *o.target.at))
	}
	if o.mode&modeIf != 0 {
		s = append(s, fmt.Sprintf("%s: go to %d", p.text(p.args[o.expect]), *o.target.at))
	}
	if o.mode&modeJump != 0 {
		s = append(s, fmt.Sprintf("go to %d", *o.target.at))
	}
	return strings.Join(s, "; ")
}

// Print lists every call in order, with the process and phase it belongs to.
func (p *Program) Print(w io.Writer) error {
	var role Role
	var phase string
	for i := range p.ops {
		o := &p.ops[i]
		if o.role != role || o.phase != phase {
			role, phase = o.role, o.phase
			if _, err := fmt.Fprintf(w, "%s: %s\n", role, phase); err != nil {
				return err
			}
		}
		flow := p.flow(o)
		if flow != "" {
			flow = "  [" + flow + "]"
		}
		if _, err := fmt.Fprintf(w, "  %3d  %s%s\n", i, p.Op(i), flow); err != nil {
			return err
		}
	}
	return nil
}

// Digest is the hex SHA-256 of the program as it is encoded: of the boot and,
// behind it, the body.
func (p *Program) Digest() string {
	h := sha256.New()
	boot, body := p.encode()
	h.Write(boot)
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// Addresses of the image. They are far from where Go programs live, so that a
// test can map the data into its own address space.
const (
	dataBase   = 0x1_0000_0000 // also in machine_*.s
	BodyBase   = 0x1_8000_0000 // where the boot maps the body
	BodyRoom   = 64 << 20      // and how much room it makes for it
	codeBase   = 0x2_0000_0000
	opSize     = 88
	recordSize = RecordWords * 8
)

// end is where the boot ends.
func (p *Program) end() part {
	if p.body != nil {
		return *p.body
	}
	return part{len(p.ops), len(p.chunks)}
}

func (p *Program) opAddr(i int) uint64 {
	if n := p.end().op; i >= n && p.body != nil {
		return BodyBase + uint64(i-n)*opSize
	}
	return dataBase + recordSize + uint64(i)*opSize
}

// encode lays out the boot, which is record, operations, chunks, and the body,
// which has no record of its own.
func (p *Program) encode() (boot, body []byte) {
	end := p.end()
	addrs := make([]uint64, len(p.chunks))
	layOut := func(at uint64, from, to int) uint64 {
		for i := from; i < to; i++ {
			addrs[i] = at
			n := len(p.chunks[i].data)
			if w := p.chunks[i].pointer; w != nil {
				n = len(w) * 8
			}
			at += uint64(n+7) &^ 7
		}
		return at
	}
	boot = make([]byte, layOut(p.opAddr(0)+uint64(end.op)*opSize, 0, end.chunk)-dataBase)
	if p.body != nil {
		body = make([]byte, layOut(BodyBase+uint64(len(p.ops)-end.op)*opSize, end.chunk, len(p.chunks))-BodyBase)
	}
	at := func(addr uint64) []byte {
		if addr >= BodyBase {
			return body[addr-BodyBase:]
		}
		return boot[addr-dataBase:]
	}
	put := func(addr, v uint64) { binary.LittleEndian.PutUint64(at(addr), v) }
	value := func(a Arg) uint64 {
		switch a.kind {
		case argInt, argHex:
			return a.value
		case argRecord:
			return dataBase + a.value
		case argPlace:
			return p.opAddr(*p.places[a.value].at)
		default:
			return addrs[a.chunk] + a.value
		}
	}
	put(dataBase+offFailTarget, p.opAddr(*p.fail.at))
	put(dataBase+offFirstOp, p.opAddr(0))
	for i := range p.ops {
		o, addr := &p.ops[i], p.opAddr(i)
		mode := uint64(o.mode)
		put(addr, uint64(o.nr))
		for k, a := range p.args[o.args : o.args+int32(o.count)] {
			put(addr+8+uint64(k)*8, value(a))
			if a.kind == argLoad {
				mode |= 1 << k
			}
		}
		if o.store >= 0 {
			put(addr+56, value(p.args[o.store]))
		}
		if o.expect >= 0 {
			put(addr+80, value(p.args[o.expect]))
			if p.args[o.expect].kind == argLoad {
				mode |= modeExpectLoad
			}
		}
		put(addr+64, mode)
		if o.target.at != nil {
			put(addr+72, p.opAddr(*o.target.at))
		}
	}
	for i := range p.chunks {
		c := &p.chunks[i]
		if len(c.data) > 0 {
			copy(at(addrs[i]), c.data)
		}
		for k, a := range c.pointer {
			put(addrs[i]+uint64(k)*8, value(a))
		}
	}
	return boot, body
}

// opAt turns an operation's address, as found in a failure record, into its index.
func (p *Program) opAt(addr uint64) (int, bool) {
	first, count, base := 0, p.end().op, p.opAddr(0)
	if addr >= BodyBase && p.body != nil {
		first, count, base = count, len(p.ops)-count, BodyBase
	}
	off := addr - base // wraps to something large below the first
	if off >= uint64(count)*opSize || off%opSize != 0 {
		return 0, false
	}
	return first + int(off/opSize), true
}
