package wasmmeter

// How deep calls go: the functions of the module that are under way at one
// time, the first one among them. Functions of the host are not counted.
//
// The form Depth adds a global that says how far the calls of now lie below the
// deepest so far. Whoever enters a function takes one from it; where nothing is
// left they are deeper than ever, and the host is called, which counts.
// Whoever leaves gives it back.
//
// A function is left in many ways: at its end, by return, and by every branch
// to its outermost label. So its code becomes a block inside of it, which all of
// them lead to the end of, and a return becomes a branch to there. A function
// that does not come back ends the module, by a trap or by proc_exit.

// room is the global.
func (p *pass) room() uint32 { return p.globals + 1 }

// depthTypes are those that the form needs besides the module's own and the two
// of every form: of Deeper, and of blocks that leave more than one value.
func (p *pass) depthTypes() (n uint32, types []byte) {
	if p.form != Depth {
		return 0, nil
	}
	types, n = append(types, 0x60, 0, 0), 1
	p.results = map[string]uint32{}
	for i, t := range p.types {
		if t.Params == "" {
			p.results[t.Results] = uint32(i)
		}
	}
	for _, t := range p.types {
		if _, have := p.results[t.Results]; have || len(t.Results) < 2 {
			continue
		}
		p.results[t.Results] = uint32(len(p.types)) + 2 + n
		types = append(appendU32(append(types, 0x60, 0), uint32(len(t.Results))), t.Results...)
		n++
	}
	return n, types
}

// enter begins a function of type t, behind its locals.
func (f *function) enter(t Type) {
	if f.pass.form != Depth {
		return
	}
	room := f.pass.room()
	b := appendU32(append(f.out, 0x23), room)               // global.get
	b = appendU32(append(b, 0x04, 0x40, 0x23), room)        // if, global.get
	b = appendU32(append(b, 0x41, 1, 0x6b, 0x24), room)     // i32.const 1, i32.sub, global.set
	b = appendU32(append(b, 0x05, 0x10), f.pass.imported+3) // else, call Deeper
	b = append(b, 0x0b, 0x02)                               // end, block
	switch len(t.Results) {
	case 0:
		b = append(b, 0x40)
	case 1:
		b = append(b, t.Results[0])
	default:
		b = appendSigned(b, int64(f.pass.results[t.Results]))
	}
	f.out = b
}

// exit puts a branch to the end of the block in place of the return at from.
func (f *function) exit(from int) {
	if f.pass.form == Depth {
		f.rewritten(from, 0x0c, uint32(f.depth-1))
	}
}

// leave ends a function, behind its block.
func (f *function) leave() {
	if f.pass.form != Depth {
		return
	}
	room := f.pass.room()
	b := appendU32(append(f.out, 0x23), room)           // global.get
	b = appendU32(append(b, 0x41, 1, 0x6a, 0x24), room) // i32.const 1, i32.add, global.set
	f.out = append(b, 0x0b)                             // end
}
