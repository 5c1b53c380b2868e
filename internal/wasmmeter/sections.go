package wasmmeter

import (
	"bytes"
	"slices"
	"strings"
)

// Sections of a module (WebAssembly Core Specification 2.0, 5.5).
const (
	sectionCustom = iota
	sectionType
	sectionImport
	sectionFunction
	sectionTable
	sectionMemory
	sectionGlobal
	sectionExport
	sectionStart
	sectionElement
	sectionCode
	sectionData
	sectionDataCount
)

// order is the order that sections stand in, each at most once.
var order = []byte{sectionType, sectionImport, sectionFunction, sectionTable, sectionMemory, sectionGlobal,
	sectionExport, sectionStart, sectionElement, sectionDataCount, sectionCode, sectionData}

// pass is one module on its way through.
type pass struct {
	reader
	form  Form
	added uint32 // functions that the pass imports: those of the module's own move up by as many
	out   []byte

	types     []Type
	imports   []Import
	imported  uint32   // functions among them
	functions []uint32 // types of the module's own
	globals   uint32
	exports   []Export
	elements  uint64            // of tables
	results   map[string]uint32 // in the form Depth: the type of a block that leaves several
}

func (p *pass) header() {
	switch head := p.take(uint32(min(8, p.end))); {
	case len(head) < 8 || !bytes.Equal(head[:4], []byte("\x00asm")):
		p.pos = 0
		p.fail(Invalid, "it does not begin as a WebAssembly module does")
	case head[6] == 1 && head[7] == 0:
		p.pos = 4
		p.fail(Component, "it is a component (layer 1), and only core modules can be run; take the core module out of it, or build for wasip1")
	case !bytes.Equal(head[4:], []byte{1, 0, 0, 0}):
		p.pos = 4
		p.fail(Invalid, "it has version % x of the format, expected 01 00 00 00", head[4:])
	default:
		p.out = append(p.out, head...)
	}
}

// sections goes through the sections in their order. One that the pass adds to
// and that is missing is made.
func (p *pass) sections() {
	found := map[byte]reader{}
	last := -1
	var names reader
	for p.more() {
		id := p.byte()
		body := p.sub(p.u32())
		if id == sectionCustom {
			if name := body.name(); name == "name" {
				names = body
			}
			continue // nothing else in them matters to a run
		}
		at := slices.Index(order, id)
		switch {
		case at < 0:
			p.fail(Feature, "section %d is not one of WebAssembly 2.0", id)
		case at <= last:
			p.fail(Invalid, "section %d stands twice or out of order", id)
		}
		last = at
		found[id] = body
	}
	for _, id := range order {
		body, ok := found[id]
		rewrite := map[byte]func(*reader) []byte{sectionType: p.typeSection, sectionImport: p.importSection,
			sectionFunction: p.functionSection, sectionGlobal: p.globalSection, sectionExport: p.exportSection,
			sectionStart: p.startSection, sectionElement: p.elementSection, sectionCode: p.codeSection,
			sectionData: p.dataSection, sectionTable: p.tableSection, sectionMemory: p.memorySection, sectionDataCount: p.dataCountSection}[id]
		switch {
		case !ok && id != sectionType && id != sectionImport && id != sectionGlobal && id != sectionExport:
		default:
			if !ok {
				body = reader{all: []byte{0}, end: 1} // an empty list
			}
			b := rewrite(&body)
			body.done("a section")
			p.emit(id, b)
		}
	}
	if _, ok := found[sectionCode]; !ok && len(p.functions) > 0 {
		p.fail(Invalid, "functions are declared, and there is no code")
	}
	if names.more() {
		p.nameSection(names)
	}
}

func (p *pass) emit(id byte, body []byte) {
	p.out = append(appendU32(append(p.out, id), uint32(len(body))), body...)
}

// copied is what a reader went over since from.
func (r *reader) copied(from int) []byte { return r.all[from:r.pos] }

// longer is a list of n more items than it had.
func longer(old, more uint32, items []byte, tail ...byte) []byte {
	return append(append(appendU32(nil, old+more), items...), tail...)
}

// Types of values.
const (
	typeI32  = 0x7f
	typeI64  = 0x7e
	typeV128 = 0x7b
)

func (r *reader) valueType() byte {
	t := r.byte()
	switch t {
	case typeI32, typeI64, 0x7d, 0x7c, 0x70, 0x6f:
	case typeV128:
		r.fail(Feature, "vectors (SIMD) are not metered")
	default:
		r.fail(Feature, "%#x is no type of a value of WebAssembly 2.0", t)
	}
	return t
}

func (r *reader) valueTypes() string {
	n := r.count()
	b := make([]byte, 0, n)
	for range n {
		b = append(b, r.valueType())
	}
	return string(b)
}

func (p *pass) typeSection(r *reader) []byte {
	n := r.count()
	from := r.pos
	for range n {
		if form := r.byte(); form != 0x60 {
			r.fail(Feature, "type %#x is not that of a function", form)
		}
		p.types = append(p.types, Type{r.valueTypes(), r.valueTypes()})
	}
	more, own := p.depthTypes()
	own = append([]byte{0x60, 1, typeI64, 1, typeI64, 0x60, 1, typeI32, 1, typeI32}, own...)
	return longer(n, 2+more, r.copied(from), own...)
}

// typeOf is a type that the module itself has.
func (p *pass) typeOf(r *reader, index uint32) Type {
	if index >= uint32(len(p.types)) {
		r.fail(Invalid, "there is no type %d", index)
	}
	return p.types[index]
}

// limits reads the limits of a table or a memory and returns what it begins with.
func (r *reader) limits() uint32 {
	flag := r.byte()
	if flag > 1 {
		r.fail(Feature, "limits of kind %#x: shared and 64 bit memories are not supported", flag)
	}
	least := r.u32()
	if flag == 1 {
		r.u32()
	}
	return least
}

func (r *reader) tableType() uint32 {
	if t := r.byte(); t != 0x70 && t != 0x6f {
		r.fail(Feature, "a table of %#x is not one of WebAssembly 2.0", t)
	}
	return r.limits()
}

func (p *pass) globalType(r *reader) {
	r.valueType()
	if r.byte() > 1 {
		r.fail(Invalid, "a global is neither constant nor variable")
	}
}

func (p *pass) importSection(r *reader) []byte {
	n := r.count()
	from := r.pos
	for range n {
		i := Import{Module: r.name(), Name: r.name(), Kind: r.byte()}
		switch i.Kind {
		case KindFunction:
			i.Type = p.typeOf(r, r.u32())
			p.imported++
		case KindTable:
			r.tableType()
		case KindMemory:
			r.limits()
		case KindGlobal:
			p.globalType(r)
			p.globals++
		default:
			r.fail(Feature, "import of kind %d", i.Kind)
		}
		p.imports = append(p.imports, i)
	}
	b := longer(n, p.added, r.copied(from))
	for i, name := range []string{Tick, Grow, Grown, Deeper}[:p.added] {
		b = appendName(appendName(b, HostModule), name)
		b = appendU32(append(b, KindFunction), uint32(len(p.types)+[]int{0, 1, 1, 2}[i]))
	}
	return b
}

func (p *pass) functionSection(r *reader) []byte {
	n := r.count()
	if n > MaxFunctions {
		r.fail(TooMany, "it has %d functions, expected at most %d", n, MaxFunctions)
	}
	from := r.pos
	for range n {
		t := r.u32()
		p.typeOf(r, t)
		p.functions = append(p.functions, t)
	}
	return append(appendU32(nil, n), r.copied(from)...)
}

func (p *pass) tableSection(r *reader) []byte {
	n := r.count()
	from := r.pos
	for range n {
		p.elements += uint64(r.tableType())
	}
	if p.elements > MaxElements {
		r.fail(TooLarge, "its tables have %d elements to begin with, expected at most %d", p.elements, MaxElements)
	}
	return append(appendU32(nil, n), r.copied(from)...)
}

func (p *pass) memorySection(r *reader) []byte {
	n := r.count()
	from := r.pos
	for range n {
		r.limits()
	}
	return append(appendU32(nil, n), r.copied(from)...)
}

func (p *pass) dataCountSection(r *reader) []byte { return appendU32(nil, r.u32()) }

// moved is where a function is after the pass.
func (p *pass) moved(r *reader, index uint32) uint32 {
	if uint64(index) >= uint64(p.imported)+uint64(len(p.functions)) {
		r.fail(Invalid, "there is no function %d", index)
	}
	if index < p.imported {
		return index
	}
	return index + p.added
}

// constant rewrites an expression of constants.
func (p *pass) constant(out []byte, r *reader) []byte {
	for {
		from := r.pos
		switch op := r.byte(); op {
		case 0x0b:
			return append(out, op)
		case 0x23:
			if g := r.u32(); g >= p.globals {
				r.fail(Invalid, "there is no global %d yet", g)
			}
		case 0x41:
			r.signed(32)
		case 0x42:
			r.signed(64)
		case 0x43:
			r.take(4)
		case 0x44:
			r.take(8)
		case 0xd0:
			r.byte()
		case 0xd2:
			out = appendU32(append(out, op), p.moved(r, r.u32()))
			continue
		default:
			r.fail(Feature, "instruction %#x in a constant", op)
		}
		out = append(out, r.copied(from)...)
	}
}

func (p *pass) globalSection(r *reader) []byte {
	n := r.count()
	b := appendU32(nil, n+1)
	if p.form == Depth {
		b = appendU32(nil, n+2)
	}
	own := uint32(0)
	for range n {
		from := r.pos
		p.globalType(r)
		b = p.constant(append(b, r.copied(from)...), r)
		own++
	}
	p.globals += own
	b = append(b, typeI64, 1, 0x42, 0, 0x0b)
	if p.form == Depth {
		b = append(b, typeI32, 1, 0x41, 0, 0x0b)
	}
	return b
}

func (p *pass) exportSection(r *reader) []byte {
	n := r.count()
	b := appendU32(nil, n+1)
	for range n {
		e := Export{Name: r.name(), Kind: r.byte()}
		index := r.u32()
		switch e.Kind {
		case KindFunction:
			moved := p.moved(r, index)
			if index < p.imported {
				e.Type = p.importedType(index)
			} else {
				e.Type = p.types[p.functions[index-p.imported]]
			}
			index = moved
		case KindGlobal:
			if index >= p.globals {
				r.fail(Invalid, "there is no global %d", index)
			}
		case KindTable, KindMemory:
		default:
			r.fail(Feature, "export of kind %d", e.Kind)
		}
		if e.Name == Fuel {
			r.fail(Invalid, "it exports %q, which is the name of what is added", Fuel)
		}
		p.exports = append(p.exports, e)
		b = appendU32(append(appendName(b, e.Name), e.Kind), index)
	}
	return appendU32(append(appendName(b, Fuel), KindGlobal), p.globals)
}

func (p *pass) importedType(index uint32) Type {
	for _, i := range p.imports {
		if i.Kind != KindFunction {
			continue
		}
		if index == 0 {
			return i.Type
		}
		index--
	}
	panic("bug: an imported function without an import")
}

func (p *pass) startSection(r *reader) []byte { return appendU32(nil, p.moved(r, r.u32())) }

func (p *pass) elementSection(r *reader) []byte {
	n := r.count()
	b := appendU32(nil, n)
	for range n {
		flag := r.u32()
		if flag > 7 {
			r.fail(Invalid, "elements of kind %d", flag)
		}
		b = appendU32(b, flag)
		if flag&1 == 0 { // active
			if flag&2 != 0 {
				b = appendU32(b, r.u32()) // its table
			}
			b = p.constant(b, r)
		}
		if flag&3 != 0 {
			b = append(b, r.byte()) // the kind of the elements
		}
		items := r.count()
		b = appendU32(b, items)
		for range items {
			if flag&4 == 0 {
				b = appendU32(b, p.moved(r, r.u32()))
			} else {
				b = p.constant(b, r)
			}
		}
	}
	return b
}

func (p *pass) dataSection(r *reader) []byte {
	n := r.count()
	b := appendU32(nil, n)
	for range n {
		flag := r.u32()
		if flag > 2 {
			r.fail(Invalid, "data of kind %d", flag)
		}
		b = appendU32(b, flag)
		if flag == 2 {
			b = appendU32(b, r.u32()) // its memory
		}
		if flag != 1 {
			b = p.constant(b, r)
		}
		data := r.take(r.u32())
		b = append(appendU32(b, uint32(len(data))), data...)
	}
	return b
}

// mostName is how much is kept of a name. The engine writes it into a stack trace
// once for each frame.
const mostName = 200

func short(name string) string {
	if len(name) > mostName {
		return strings.ToValidUTF8(name[:mostName], "") + "..."
	}
	return name
}

// nameSection keeps the names of functions, for stack traces. What cannot be
// read of it is left out: it is for people.
func (p *pass) nameSection(r reader) {
	defer func() {
		if e := recover(); e != nil {
			if _, ok := e.(*Error); !ok {
				panic(e)
			}
		}
	}()
	for r.more() {
		id := r.byte()
		body := r.sub(r.u32())
		if id != 1 {
			continue
		}
		n := body.count()
		list := appendU32(nil, n)
		for range n {
			index := p.moved(&body, body.u32())
			list = appendName(appendU32(list, index), short(body.name()))
		}
		body.done("the list of names")
		b := appendU32(append(appendName(nil, "name"), 1), uint32(len(list)))
		p.emit(sectionCustom, append(b, list...))
		return
	}
}
