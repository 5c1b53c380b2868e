package launcher

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"
)

// record builds a message from words by their offset in the record.
func record(kind int, words map[int]int64) []byte {
	b := make([]byte, MessageSize)
	binary.LittleEndian.PutUint64(b, uint64(kind))
	for off, v := range words {
		binary.LittleEndian.PutUint64(b[8+off:], uint64(v))
	}
	return b
}

func opAddress(i int) int64 { return dataBase + recordSize + int64(i)*opSize }

func TestDecode(t *testing.T) {
	p := sample()
	decode := func(kind int, words map[int]int64) Message {
		t.Helper()
		m, err := p.Decode(record(kind, words))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if m := decode(MessageFailed, map[int]int64{offFailedOp: opAddress(4), offFailedErr: -116}); m.Failed != 4 || m.Errno != 116 {
		t.Errorf("failed step %d with %d, want 4 with 116", m.Failed, m.Errno)
	}
	if m := decode(MessageReady, map[int]int64{OffPhase(2): 3, OffPhase(2) + 8: 7}); m.Phases[2] != 3_000_000_007 || m.Phases[1] != 0 {
		t.Errorf("phases %d", m.Phases)
	}
	m := decode(MessageEnded, map[int]int64{OffExecWait: 2, OffNoExecWait: -10, OffStatus: 0x700, OffLastWait: -10, OffEnded: 1,
		OffUsage: 2, OffUsage + 8: 5, OffUsage + 16: 1, OffUsage + 32: 10, OffTreeUsage + 32: 20})
	if !m.Executed || !m.Ended || !m.Empty || m.WaitStatus != 0x700 || m.EndedAt != 1e9 {
		t.Errorf("ended: %+v", m)
	}
	if m.Usage != (Usage{2*time.Second + 5*time.Microsecond, time.Second, 10 << 10}) || m.Tree.MaxRSS != 20<<10 {
		t.Errorf("usage %+v, tree %+v", m.Usage, m.Tree)
	}
	if m := decode(MessageInit, map[int]int64{OffInitWait: 9, OffInitStatus: 9}); !m.InitReaped || m.InitStatus != 9 {
		t.Errorf("init: %+v", m)
	}
}

// Which of init's two kinds of wait found the workload says whether it had
// executed its program; anything less than that is no success.
func TestDecodeTellsExecutedFromKilledBefore(t *testing.T) {
	p := sample()
	for _, c := range []struct {
		name            string
		kind            int
		exec, noExec    int64
		executed, ended bool
	}{
		{"executed and reaped", MessageEnded, 2, 0, true, true},
		{"never executed", MessageEnded, -10, 2, false, true},
		{"a stale first result", MessageEnded, 2, 2, false, true},
		{"neither", MessageEnded, -10, -10, false, false},
		{"not init's message", MessageReady, 2, 0, true, false},
	} {
		m, err := p.Decode(record(c.kind, map[int]int64{OffExecWait: c.exec, OffNoExecWait: c.noExec}))
		if err != nil {
			t.Fatal(err)
		}
		if m.Executed != c.executed || m.Ended != c.ended || m.Empty {
			t.Errorf("%s: executed %v, ended %v, empty %v", c.name, m.Executed, m.Ended, m.Empty)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	p := sample()
	failed := func(addr int64) []byte { return record(MessageFailed, map[int]int64{offFailedOp: addr}) }
	for name, b := range map[string][]byte{
		"nothing":             nil,
		"one byte less":       make([]byte, MessageSize-1),
		"one byte more":       make([]byte, MessageSize+1),
		"no operation":        failed(0),
		"before the first":    failed(opAddress(0) - 8),
		"between two":         failed(opAddress(1) + 8),
		"behind the last":     failed(opAddress(p.Len())),
		"far behind the last": failed(-1),
	} {
		if m, err := p.Decode(b); err == nil {
			t.Errorf("%s: decoded to %+v", name, m)
		}
	}
}

func FuzzDecode(f *testing.F) {
	p := sample()
	f.Add(record(MessageFailed, map[int]int64{offFailedOp: opAddress(1), offFailedErr: -1}))
	f.Add(record(MessageFailed, map[int]int64{offFailedOp: -1}))
	f.Add(record(MessageEnded, map[int]int64{OffExecWait: 2, OffLastWait: -10}))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		m, err := p.Decode(b)
		if !bytes.Equal(before, b) {
			t.Error("decoding changed the message")
		}
		if err != nil {
			return
		}
		if len(b) != MessageSize || len(m.Phases) != len(Phases) {
			t.Errorf("%d bytes gave %d phases", len(b), len(m.Phases))
		}
		if m.Kind == MessageFailed && (m.Failed < 0 || m.Failed >= p.Len()) {
			t.Errorf("step %d of %d failed", m.Failed, p.Len())
		}
		if m.Ended && m.Kind != MessageEnded {
			t.Errorf("message %d says that the workload ended", m.Kind)
		}
	})
}
