package wasm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/bvisor/bvisor/internal/wasmmeter"
	"github.com/bvisor/bvisor/spec"
)

// trial is a module whose _start does one thing that costs two units: it pushes
// a number and drops it. It is the only call.
var trial = []byte("\x00asm\x01\x00\x00\x00" +
	"\x01\x04\x01\x60\x00\x00" + // one type: nothing to nothing
	"\x03\x02\x01\x00" + // one function of it
	"\x07\x0a\x01\x06_start\x00\x00" +
	"\x0a\x07\x01\x05\x00\x41\x00\x1a\x0b")

const trialCost, trialDepth = 2, 1

var trialModule = func() *module {
	m, err := wasmmeter.Instrument(trial, wasmmeter.Depth)
	if err != nil {
		panic("bug: " + err.Error())
	}
	return &module{digest: sumOf(trial), form: wasmmeter.Depth, metered: m.Binary, making: make(chan struct{}, 1)}
}

func trialJob() *job { return &job{Args: []string{"trial"}, Limits: map[spec.Dimension]int64{}} }

func trialResult(r result) error {
	switch {
	case r.Fault != "":
		return errors.New(r.Fault)
	case !r.Exited || r.Code != 0 || r.Fuel != trialCost || r.Depth != trialDepth:
		return fmt.Errorf("a trial used %d units and was %d deep, and did not end as expected, with %d and %d", r.Fuel, r.Depth, trialCost, trialDepth)
	}
	return nil
}

// tryEngine runs a module in this process.
func (b *Backend) tryEngine(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil { // the engine, on a processor that it does not know
			err = fmt.Errorf("%v", p)
		}
	}()
	m := trialModule()
	defer m.drop()
	e, code, err := m.ready(ctx, nil)
	if err != nil {
		return err
	}
	return trialResult(e.execute(ctx, code, 0, trialJob(), nil, streams{nil, io.Discard, io.Discard}))
}

// tryWorker runs a module in a worker that is granted nothing.
func (b *Backend) tryWorker(ctx context.Context) error {
	w, err := b.start(ctx, &spec.Resolved{}, nil)
	if err != nil {
		return err
	}
	defer w.kill()
	m := trialModule()
	if err := w.prepare(ctx, m, nil); err != nil {
		return err
	}
	res, _, err := w.run(ctx, trialJob(), streams{nil, io.Discard, io.Discard}, time.Second)
	if err != nil {
		return err
	}
	return trialResult(res)
}
