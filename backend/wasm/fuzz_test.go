package wasm

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"testing"

	"github.com/bvisor/bvisor/spec"
)

// Whatever a worker says, its supervisor comes to a result that can be, or to an
// error.
func FuzzWhatAWorkerSays(f *testing.F) {
	say := func(kind byte, contents string) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(contents))), contents...)
	}
	f.Add(say(frameResult, `{"exited":true,"code":3,"fuel":7}`))
	f.Add(append(say(frameStdout, "some words"), say(frameResult, `{"trap":{"kind":"unreachable","stack":["a"]}}`)...))
	f.Add(append(say(frameWant, "\x00\x00\x00\x09"), say(frameResult, `{"exceeded":"fuel","denied":[{"act":"x","mechanism":"wasi","times":2}]}`)...))
	f.Add(say(frameStderr, "")[:3])
	f.Add([]byte{frameCode, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, said []byte) {
		j := &job{Limits: map[spec.Dimension]int64{spec.Fuel: 10, spec.Output: 20}}
		gone := make(chan struct{})
		close(gone)
		w := &remote{conn: newConn(bytes.NewReader(said), io.Discard), end: func() {}, gone: gone}
		out := frameWriter{newConn(nil, io.Discard), frameStdout, &output{limit: 20}}
		res, _, err := w.run(context.Background(), j, streams{nil, out, out}, 0)
		switch {
		case err != nil && !res.lost:
			t.Errorf("%+v after %v", res, err)
		case err == nil && !res.credible(j, res.Exceeded == spec.Output):
			t.Errorf("%+v was taken for a result", res)
		}
	})
}
