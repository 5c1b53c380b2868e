package wasm

import (
	"strconv"
	"strings"

	"github.com/bvisor/bvisor/internal/wasip1"
	"github.com/bvisor/bvisor/internal/wasmfs"
	"github.com/bvisor/bvisor/report"
)

// A report lists so many different denials, of so many bytes in all: a guest
// chooses how long its paths are.
const (
	mostDenials = 256
	mostDenied  = 256 << 10
)

// denials are what host functions refused a guest, each with how often. They
// see every attempt there is.
type denials struct {
	list    []report.DeniedAct
	size    int // in bytes
	dropped int64
}

// deny records one attempt.
func (r *run) deny(d wasmfs.Denial) {
	act := report.DeniedAct{Mechanism: mechanismName, Access: d.Access}
	if d.Reason == wasip1.NoSockets {
		act.Act = d.Call + ": " + string(d.Reason)
	} else {
		act.Act, act.Path = d.Call+" "+strconv.Quote(d.Path)+": "+string(d.Reason), strings.ToValidUTF8(d.Path, "\uFFFD")
	}
	// A path that bends away from what it was asked of is nothing to be granted.
	switch d.Reason {
	case wasmfs.NotWritable:
		act.Allow = "--write " + act.Path
	case wasmfs.Outside, wasmfs.NotReadable:
		act.Allow = "--read " + act.Path
		if strings.Contains(d.Access, "w") {
			act.Allow = "--write " + act.Path
		}
	}
	r.denied.add(act)
}

// incredible says whether deny cannot have recorded an act. What would allow it
// is shown to people as advice.
func incredible(d report.DeniedAct) bool {
	advice := d.Allow == "" || d.Path != "" && (d.Allow == "--read "+d.Path || d.Allow == "--write "+d.Path)
	return d.Act == "" || d.Mechanism != mechanismName || d.Times < 1 || !advice || d.At != "" || d.Observed || d.Program != ""
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
	d.size += len(act.Act) + len(act.Path) + len(act.Allow)
	if len(d.list) == mostDenials || d.size > mostDenied {
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
