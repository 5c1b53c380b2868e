// Package wasmmeter rewrites a WebAssembly module so that it counts its own
// instructions, deterministically, and calls its host every so many of them.
//
// Compiled guest code cannot be interrupted from outside: neither a deadline
// nor the collector of the Go process gets a word in. A module that has been
// through this pass asks for both by itself.
//
// The pass adds three imported functions, one exported global and two locals to
// each function. A function is cut into regions: stretches of code that are
// entered at their beginning only. At the beginning of each, what the region costs is
// taken from the global, and where that goes below zero the host is called.
//
// In the form Depth it counts how deep its calls go, too: see depth.go.
//
// The module comes from somebody nobody trusts. The pass reads all that it
// rewrites, refuses what it does not know, and refuses what would become valid
// only by what it adds: an index of a type, global, local or label that the
// module itself does not have.
package wasmmeter

import (
	"errors"
	"fmt"
)

// Version changes whenever equal modules are rewritten in another way, or cost
// another number of units.
const Version = 2

// The names of what the pass adds. HostModule exports the functions to the guest;
// Fuel is the exported global.
const (
	HostModule = "bvisor:meter"
	Tick       = "tick"   // (i64 left) -> (i64 left): what was left, below zero, for what there is from now on
	Grow       = "grow"   // (i32 elements) -> (i32 elements): called before a table grows, for how many are asked for
	Grown      = "grown"  // (i32 answer) -> (i32 answer): called with what table.grow answered
	Deeper     = "deeper" // (): in the form Depth, called where one more function is under way than ever before
	Fuel       = "bvisor:fuel"
)

// Form is what a module counts after the pass.
type Form string

// The forms. A module costs the same number of units in each.
const (
	Units Form = "units"
	Depth Form = "units and depth"
)

// Bounds of a module, looked at before anything of it is compiled.
const (
	MaxSize      = 64 << 20
	MaxFunctions = 100_000
	MaxLocals    = 50_000     // of one function, parameters among them
	MaxElements  = 10_000_000 // of all tables, as browsers have it for each
)

// Why names the rule that a module breaks.
type Why string

// The rules.
const (
	Invalid   Why = "invalid"   // not a module, or one that contradicts itself
	Component Why = "component" // the component model, of which this knows nothing
	Feature   Why = "feature"   // an instruction or a section beyond WebAssembly 2.0 without vectors
	TooLarge  Why = "size"
	TooMany   Why = "functions"
)

// Error says why a module is not rewritten.
type Error struct {
	Why    Why
	Offset int // in the module
	Detail string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s, at byte %d: %s", e.Why, e.Offset, e.Detail)
}

// Kinds of imports and exports.
const (
	KindFunction = iota
	KindTable
	KindMemory
	KindGlobal
)

// Type is the type of a function, each value a byte as the binary format has it.
type Type struct{ Params, Results string }

// Import is one thing that a module wants of its host.
type Import struct {
	Module, Name string
	Kind         byte
	Type         Type // of a function
}

// Export is one thing that a module shows its host.
type Export struct {
	Name string
	Kind byte
	Type Type // of a function
}

// Module is a module that has been through the pass.
type Module struct {
	Binary    []byte // what is compiled
	Imports   []Import
	Exports   []Export
	Functions int    // of its own
	Elements  uint64 // of all tables, to begin with
}

// Instrument rewrites a module. The error is an *Error.
func Instrument(binary []byte, form Form) (m *Module, err error) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(*Error)
			if !ok {
				panic(r)
			}
			m, err = nil, e
		}
	}()
	if len(binary) > MaxSize {
		return nil, &Error{TooLarge, MaxSize, fmt.Sprintf("the module has %d bytes, at most %d are read", len(binary), MaxSize)}
	}
	p := &pass{reader: reader{all: binary, end: len(binary)}, form: form, added: 3}
	if form == Depth {
		p.added = 4
	}
	p.header()
	p.sections()
	return &Module{Binary: p.out, Imports: p.imports, Exports: p.exports, Functions: len(p.functions), Elements: p.elements}, nil
}

// Is says whether err is an *Error for that reason.
func Is(err error, why Why) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Why == why
}
