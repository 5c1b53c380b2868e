package wasmmeter

// What instructions cost, in units. One that is named nowhere costs one.
//
// block, loop, else, end and nop cost nothing: they are no instructions of a
// machine, and compilers leave hundreds of them behind. Every way that leads
// back in the code costs something: it takes a branch or a call.
const (
	costDivision = 8   // integers' and floats' division, remainder and square root
	costCall     = 4   // of a function of the module
	costIndirect = 8   // by way of a table
	costHost     = 100 // of the host
	costGrow     = 1000
	bulkShift    = 3 // bulk instructions: a unit for each 8 bytes or elements beside the one for themselves
)

func (p *pass) codeSection(r *reader) []byte {
	n := r.count()
	if n != uint32(len(p.functions)) {
		r.fail(Invalid, "%d functions are declared, and %d have code", len(p.functions), n)
	}
	b := make([]byte, 0, len(r.all[r.pos:r.end])*3/2)
	b = appendU32(b, n)
	f := function{pass: p}
	for i := range n {
		f.reader = r.sub(r.u32())
		f.begin(p.types[p.functions[i]])
		for f.more() {
			f.instruction()
		}
		if f.depth != 0 {
			f.fail(Invalid, "a function does not end")
		}
		f.flush()
		f.leave()
		b = append(appendU32(b, uint32(len(f.out))), f.out...)
	}
	return b
}

// function is one function on its way through.
type function struct {
	reader
	pass  *pass
	out   []byte
	from  int    // where the region begins
	cost  int64  // of the region so far
	body  []byte // of the region so far, rewritten
	depth int    // of blocks
	own   uint32 // locals of its own, parameters among them; those of the pass follow
}

// locals that the pass adds, behind the function's own.
const (
	localLeft = iota // i64
	localSize        // i32
)

func (f *function) begin(t Type) {
	f.out, f.body, f.cost, f.depth = f.out[:0], f.body[:0], 0, 1
	groups := f.u32()
	from := f.pos
	total := uint64(len(t.Params))
	for range groups {
		total += uint64(f.u32())
		f.valueType()
		if total > MaxLocals {
			f.fail(TooLarge, "a function has more than %d locals", MaxLocals)
		}
	}
	f.own = uint32(total)
	f.out = appendU32(f.out, groups+2)
	f.out = append(f.out, f.copied(from)...)
	f.out = append(f.out, 1, typeI64, 1, typeI32)
	f.enter(t)
	f.from = f.pos
}

// cut ends a region.
func (f *function) cut() {
	f.keep()
	f.flush()
}

// keep takes over what was read since the last rewritten instruction.
func (f *function) keep() {
	f.body = append(f.body, f.all[f.from:f.pos]...)
	f.from = f.pos
}

func (f *function) flush() {
	if f.cost > 0 {
		f.out = f.charge(f.out, f.cost, false)
	}
	f.out = append(f.out, f.body...)
	f.body, f.cost = f.body[:0], 0
}

// charge takes from the global a fixed cost, or what localSize says, and calls
// the host where nothing is left.
func (f *function) charge(b []byte, fixed int64, bulk bool) []byte {
	fuel, left := f.pass.globals, f.own+localLeft
	b = appendU32(append(b, 0x23), fuel) // global.get
	if bulk {
		b = appendU32(append(b, 0x20), f.own+localSize) // local.get
		b = append(b, 0xad, 0x42, bulkShift, 0x88)      // i64.extend_i32_u, i64.const, i64.shr_u
	} else {
		b = appendSigned(append(b, 0x42), fixed) // i64.const
	}
	b = appendU32(append(b, 0x7d, 0x22), left) // i64.sub, local.tee
	b = appendU32(append(b, 0x24), fuel)       // global.set
	b = appendU32(append(b, 0x20), left)
	b = append(b, 0x42, 0, 0x53, 0x04, 0x40) // i64.const 0, i64.lt_s, if
	b = appendU32(append(b, 0x20), left)
	b = appendU32(append(b, 0x10), f.pass.imported) // call Tick
	b = appendU32(append(b, 0x24), fuel)
	return append(b, 0x0b)
}

// sized charges by the size that is on top of the stack, before the
// instruction that began at from.
func (f *function) sized(from int) {
	f.body = append(f.body, f.all[f.from:from]...)
	f.body = appendU32(append(f.body, 0x22), f.own+localSize) // local.tee
	f.body = f.charge(f.body, 0, true)
	f.from = from
}

// rewritten puts an instruction with a function's index in place of the one
// that began at from.
func (f *function) rewritten(from int, op byte, index uint32) {
	f.body = append(f.body, f.all[f.from:from]...)
	f.body = appendU32(append(f.body, op), index)
	f.from = f.pos
}

func (f *function) blockType() {
	switch t := f.all[f.pos:min(f.pos+1, f.end)]; {
	case len(t) == 1 && t[0] == 0x40:
		f.pos++
	case len(t) == 1 && t[0]&0xc0 == 0x40: // a negative number of one byte
		f.valueType()
	default:
		from := f.pos
		f.signed(33)
		if f.all[f.pos-1]&0x40 != 0 {
			f.fail(Feature, "a block of a type that is not one of WebAssembly 2.0")
		}
		index := reader{f.all, from, f.pos}
		f.pass.typeOf(&f.reader, index.u32())
	}
}

func (f *function) local() {
	if i := f.u32(); i >= f.own {
		f.fail(Invalid, "there is no local %d", i)
	}
}

func (f *function) global() {
	if i := f.u32(); i >= f.pass.globals {
		f.fail(Invalid, "there is no global %d", i)
	}
}

func (f *function) label() {
	if i := f.u32(); i >= uint32(f.depth) {
		f.fail(Invalid, "there is no label %d", i)
	}
}

func (f *function) memory() {
	if f.byte() != 0 {
		f.fail(Feature, "more than one memory")
	}
}

func (f *function) address() {
	if f.u32() > 31 {
		f.fail(Feature, "more than one memory")
	}
	f.u32()
}

// instruction reads one, adds its cost to the region, and ends the region
// where control may leave it or come in.
func (f *function) instruction() {
	from := f.pos
	op := f.byte()
	if f.depth == 0 {
		f.fail(Invalid, "code behind the end of a function")
	}
	switch {
	case op == 0x01: // nop
	case op == 0x02: // block
		f.blockType()
		f.depth++
	case op == 0x03: // loop
		f.blockType()
		f.depth++
		f.cut()
	case op == 0x04: // if
		f.blockType()
		f.depth++
		f.cost++
		f.cut()
	case op == 0x05: // else
		f.cut()
	case op == 0x0b: // end
		f.depth--
		f.cut()
	case op == 0x00: // unreachable
		f.cost++
		f.cut()
	case op == 0x0f: // return
		f.exit(from)
		f.cost++
		f.cut()
	case op == 0x0c || op == 0x0d: // br, br_if
		f.label()
		f.cost++
		f.cut()
	case op == 0x0e: // br_table
		for range uint64(f.count()) + 1 {
			f.label()
		}
		f.cost++
		f.cut()
	case op == 0x10: // call
		index := f.u32()
		f.cost += costCall
		if index < f.pass.imported {
			f.cost += costHost
		}
		f.rewritten(from, op, f.pass.moved(&f.reader, index))
	case op == 0x11: // call_indirect
		f.pass.typeOf(&f.reader, f.u32())
		f.u32()
		f.cost += costIndirect
	case op == 0xd2: // ref.func
		f.rewritten(from, op, f.pass.moved(&f.reader, f.u32()))
		f.cost++
	default:
		f.plain(op, from)
	}
}

// plain is an instruction that control goes straight through.
func (f *function) plain(op byte, from int) {
	f.cost++
	switch {
	case op == 0x1a || op == 0x1b: // drop, select
	case op == 0x1c: // select with types
		f.valueTypes()
	case op >= 0x20 && op <= 0x22:
		f.local()
	case op == 0x23 || op == 0x24:
		f.global()
	case op == 0x25 || op == 0x26: // table.get, table.set
		f.u32()
	case op >= 0x28 && op <= 0x3e: // loads and stores
		f.address()
	case op == 0x3f:
		f.memory()
	case op == 0x40:
		f.memory()
		f.cost += costGrow
	case op == 0x41:
		f.signed(32)
	case op == 0x42:
		f.signed(64)
	case op == 0x43:
		f.take(4)
	case op == 0x44:
		f.take(8)
	case op >= 0x6d && op <= 0x70, op >= 0x7f && op <= 0x82, op == 0x91, op == 0x95, op == 0x9f, op == 0xa3:
		f.cost += costDivision - 1
	case op >= 0x45 && op <= 0xc4:
	case op == 0xd0: // ref.null
		f.byte()
	case op == 0xd1: // ref.is_null
	case op == 0xfc:
		f.prefixed(from)
	default:
		f.pos = from
		f.fail(Feature, "instruction %#x is not metered%s", op, proposal(op))
	}
}

// prefixed are the conversions that saturate and the bulk instructions.
func (f *function) prefixed(from int) {
	switch op := f.u32(); op {
	case 0, 1, 2, 3, 4, 5, 6, 7:
	case 8: // memory.init
		f.u32()
		f.memory()
		f.sized(from)
	case 9, 13: // data.drop, elem.drop
		f.u32()
	case 10: // memory.copy
		f.memory()
		f.memory()
		f.sized(from)
	case 11: // memory.fill
		f.memory()
		f.sized(from)
	case 12, 14: // table.init, table.copy
		f.u32()
		f.u32()
		f.sized(from)
	case 15: // table.grow
		f.u32()
		f.cost += costGrow
		f.sized(from)
		f.body = appendU32(append(f.body, 0x10), f.pass.imported+1) // call Grow
		f.keep()
		f.body = appendU32(append(f.body, 0x10), f.pass.imported+2) // call Grown
	case 16: // table.size
		f.u32()
	case 17: // table.fill
		f.u32()
		f.sized(from)
	default:
		f.pos = from
		f.fail(Feature, "instruction 0xfc %d is not metered", op)
	}
}

// proposal names what an instruction belongs to.
func proposal(op byte) string {
	switch {
	case op == 0xfd:
		return " (vectors, SIMD)"
	case op == 0xfe:
		return " (threads and atomics)"
	case op == 0xfb:
		return " (garbage collection)"
	case op == 0x12 || op == 0x13 || op == 0x15:
		return " (tail calls)"
	case op >= 0x06 && op <= 0x0a || op == 0x18 || op == 0x19 || op == 0x1f:
		return " (exceptions)"
	case op == 0x14 || op >= 0xd3 && op <= 0xd6:
		return " (typed references)"
	}
	return ""
}
