package wasip1

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"github.com/bvisor/bvisor/internal/need"
)

// FuzzCalls makes any calls with any arguments over any memory. No call may
// fail otherwise than by its errno, and nothing outside of the grant changes.
func FuzzCalls(f *testing.F) {
	for i := range byte(4) {
		f.Add(randomBytes(i, 2000))
	}
	f.Fuzz(anyCalls)
}

func TestAnyCalls(t *testing.T) {
	for i := range need.Rounds(t, 40, 2000) {
		anyCalls(t, randomBytes(byte(i), 4000+i))
	}
}

// randomBytes look random and are always the same.
func randomBytes(seed byte, n int) []byte {
	var out []byte
	for i := uint64(0); len(out) < n; i++ {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte{seed, byte(n), byte(n >> 8)}, i))
		out = append(out, sum[:]...)
	}
	return out[:n]
}

func anyCalls(t *testing.T, input []byte) {
	base, err := os.MkdirTemp("", "bvisor-wasip1-fuzz-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	files, _ := view(t, base)
	budget := 1 << 20 // of what the host hands out besides
	p, err := New(Config{Args: []string{"a"}, Env: []string{"A=1"}, FS: files, Random: zeros{}, Handles: 20,
		Stdin: bytes.NewReader(make([]byte, 100)), Stdout: &limited{&budget}, Realtime: func() uint64 { return 1 },
		Sleep: func(context.Context, time.Duration) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx := p.Context(context.Background())
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer r.Close(ctx)
	if _, err := Instantiate(ctx, r); err != nil {
		t.Fatal(err)
	}
	mod, err := r.Instantiate(ctx, callerModule())
	if err != nil {
		t.Fatal(err)
	}
	in := source{bytes.NewReader(input)}
	for at := uint32(0); at < 4096; at += 32 {
		mod.Memory().Write(at, in.memory())
	}
	for in.Len() > 0 {
		fn := functions[in.byte()%uint64(len(functions))]
		params := make([]uint64, 0, 9)
		for _, c := range fn.sig {
			params = append(params, in.argument(c == 'I'))
		}
		_, err := mod.ExportedFunction(fn.name).Call(ctx, params...)
		if _, ended := errors.AsType[*sys.ExitError](err); err != nil && !ended {
			t.Fatalf("%s %v: %v", fn.name, params, err)
		}
		mod.Memory().Write(uint32(in.byte())*8, in.memory())
	}
	for name, want := range map[string]string{"secret": "secret", "ro/file": "ro", "hosts": "hosts"} {
		if b, err := os.ReadFile(filepath.Join(base, name)); string(b) != want {
			t.Fatalf("%s holds %q, %v", name, b, err)
		}
	}
	for dir, want := range map[string]int{"": 4, "ro": 2} {
		if list, err := os.ReadDir(filepath.Join(base, dir)); len(list) != want {
			t.Fatalf("%q holds %v, %v", dir, list, err)
		}
	}
}

// limited takes no more than a number of bytes.
type limited struct{ left *int }

func (l *limited) Write(p []byte) (int, error) {
	if *l.left -= len(p); *l.left < 0 {
		return 0, errors.New("enough")
	}
	return len(p), nil
}

// source makes arguments and memory of bytes, most of them such as mean
// something.
type source struct{ *bytes.Reader }

func (s source) byte() uint64 {
	b, _ := s.ReadByte()
	return uint64(b)
}

func (s source) argument(wide bool) uint64 {
	v := s.byte()
	switch kind := s.byte() % 8; {
	case kind < 3:
		v %= 12 // a descriptor, a flag, a length
	case kind < 6:
		v *= 16 // a place in the memory
	case kind == 6 && wide:
		v = 1<<64 - 1 - v
	case kind == 6:
		v = 1<<32 - 1 - v
	case wide: // rights
		v = 1<<30 - 1 - v
	}
	if v > memorySize && !wide {
		return uint64(api.EncodeU32(uint32(v)))
	}
	return v
}

// memory is 32 bytes of it: paths, vectors, subscriptions, or anything.
func (s source) memory() []byte {
	paths := []string{"file", "sub", "../secret", "sub/../file", "new", "new2", "sub/x", "..", ".", "/etc/passwd", "l", "sub/../../secret"}
	out := make([]byte, 32)
	switch s.byte() % 3 {
	case 0:
		copy(out, paths[s.byte()%uint64(len(paths))])
	case 1:
		for i := 0; i < 32; i += 4 {
			binary.LittleEndian.PutUint32(out[i:], uint32(s.argument(false)))
		}
	default:
		s.Read(out)
	}
	return out
}
