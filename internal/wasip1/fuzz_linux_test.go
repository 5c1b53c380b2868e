package wasip1

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
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
		anyCalls(t, randomBytes(byte(i), 8000+i))
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
	in := &source{Reader: bytes.NewReader(input)}
	layOut(mod.Memory())
	opener := functions[slices.IndexFunc(functions, func(f function) bool { return f.name == "path_open" })]
	for in.Len() > 0 {
		fn := opener
		if in.byte()%3 > 0 {
			fn = functions[in.byte()%uint64(len(functions))]
		}
		params := make([]uint64, 0, 9)
		for i, c := range fn.sig {
			params = append(params, in.argument(shapes[fn.name], i, c == 'I'))
		}
		_, err := mod.ExportedFunction(fn.name).Call(ctx, params...)
		if _, ended := errors.AsType[*sys.ExitError](err); err != nil && !ended {
			t.Fatalf("%s %v: %v", fn.name, params, err)
		}
		switch in.byte() {
		case 0: // as nobody laid it out
			junk := make([]byte, 64)
			in.Read(junk)
			mod.Memory().Write(uint32(in.byte())*16, junk)
		case 1:
			layOut(mod.Memory())
		}
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

// Memory of the guest: paths, each in a place of its own, then vectors, then
// subscriptions, and room for results.
const (
	pathSize        = 32
	vectorsAt       = 1024
	subscriptionsAt = 1536
	resultsAt       = 2048
)

var fuzzPaths = []string{"file", "sub", "../secret", "sub/../file", "new", "new2", "sub/x", "..", ".", "/etc/passwd", "l",
	"sub/../../secret", "l/x", "", "\xff", "sub/", "/"}

func layOut(m api.Memory) {
	for i, p := range fuzzPaths {
		m.Write(uint32(i*pathSize), append([]byte(p), make([]byte, pathSize-len(p))...))
	}
	for i := range uint32(16) {
		m.WriteUint32Le(vectorsAt+i*8, resultsAt+i*64)
		m.WriteUint32Le(vectorsAt+i*8+4, i*5)
	}
	for i := range uint32(8) {
		sub := clockSub(uint64(i), time.Duration(i), uint16(i%2))
		sub[16] = 0 // the clock that there is
		if i%3 > 0 {
			sub = fdSub(uint64(i), byte(i%3), i)
		}
		m.Write(subscriptionsAt+i*subscriptionSize, sub)
	}
}

// shapes say what the parameters of a function are, so that most calls are not
// refused for their form: f descriptor, F one that was opened, p path and l its length, v vectors, s
// subscriptions, n count, o result, x flags, z size or offset, r rights.
var shapes = map[string]string{
	"fd_advise": "fzzx", "fd_allocate": "fzz", "fd_close": "F", "fd_datasync": "f", "fd_fdstat_get": "fo",
	"fd_fdstat_set_flags": "fx", "fd_fdstat_set_rights": "Frr", "fd_filestat_get": "fo", "fd_filestat_set_size": "fz",
	"fd_filestat_set_times": "fzzx", "fd_pread": "fvnzo", "fd_prestat_get": "fo", "fd_prestat_dir_name": "fon",
	"fd_pwrite": "fvnzo", "fd_read": "fvno", "fd_readdir": "fonno", "fd_renumber": "FF", "fd_seek": "fzxo", "fd_sync": "f",
	"fd_tell": "fo", "fd_write": "fvno", "path_create_directory": "fpl", "path_filestat_get": "fxplo",
	"path_filestat_set_times": "fxplzzx", "path_link": "fxplfpl", "path_open": "fxplxrrxo", "path_readlink": "fplono",
	"path_remove_directory": "fpl", "path_rename": "fplfpl", "path_symlink": "plfpl", "path_unlink_file": "fpl",
	"poll_oneoff": "sono",
}

// source makes arguments of bytes.
type source struct {
	*bytes.Reader
	path int // that was named last
}

func (s *source) byte() uint64 {
	b, _ := s.ReadByte()
	return uint64(b)
}

func (s *source) argument(shape string, i int, wide bool) uint64 {
	v := s.byte()
	if i >= len(shape) || s.byte() < 8 {
		return s.anything(v, wide)
	}
	switch shape[i] {
	case 'f':
		return v % 14
	case 'F':
		return 8 + v%6
	case 'p':
		s.path = int(v) % len(fuzzPaths)
		return uint64(s.path * pathSize)
	case 'l':
		return uint64(len(fuzzPaths[s.path]))
	case 'v':
		return vectorsAt + v%8*8
	case 's':
		return subscriptionsAt
	case 'n':
		return v % 8
	case 'o':
		return resultsAt + v%16*64
	case 'x':
		if v < 128 {
			return v % 2
		}
		return v % 16
	case 'r':
		return allRights &^ (1 << (v % 64))
	}
	return v // a size
}

// anything is the edges of what fits.
func (s *source) anything(v uint64, wide bool) uint64 {
	switch v % 4 {
	case 0:
		v = 1<<32 - 1 - v
	case 1:
		v = memorySize - v/16
	case 2:
		if wide {
			v = 1<<63 - v/4
		}
	}
	return v
}
