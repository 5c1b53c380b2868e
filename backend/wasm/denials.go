package wasm

import (
	"context"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/bvisor/bvisor/report"
)

// mostDenials is how many different denials a report lists.
const mostDenials = 256

// denials are what host functions refused a guest, each with how often. They
// see every attempt there is.
type denials struct {
	list    []report.DeniedAct
	dropped int64
}

func (d *denials) add(act report.DeniedAct) {
	for i := range d.list {
		have := d.list[i]
		have.Times = 0
		if have == act {
			d.list[i].Times++
			return
		}
	}
	if len(d.list) == mostDenials {
		d.dropped++
		return
	}
	act.Times = 1
	d.list = append(d.list, act)
}

// acts is the list. Where there was not room for all, its last entry counts the
// others.
func (d *denials) acts() []report.DeniedAct {
	if d.dropped > 0 {
		return append(d.list, report.DeniedAct{Act: "other attempts, for which the list has no room", Mechanism: mechanismName, Times: d.dropped})
	}
	return d.list
}

const errnoNotSocket = 57 // WASI preview 1, errno

// noSockets answers the functions of sockets: no descriptor of a guest is one.
func noSockets(wasi wazero.HostModuleBuilder) {
	const i32 = api.ValueTypeI32
	for name, params := range map[string]int{"sock_accept": 3, "sock_recv": 6, "sock_send": 5, "sock_shutdown": 2} {
		types := make([]api.ValueType, params)
		for i := range types {
			types[i] = i32
		}
		refuse := func(ctx context.Context, _ api.Module, stack []uint64) {
			runOf(ctx).denied.add(report.DeniedAct{Act: "use a socket: " + name, Mechanism: mechanismName})
			stack[0] = errnoNotSocket
		}
		wasi.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(refuse), types, []api.ValueType{i32}).Export(name)
	}
}
