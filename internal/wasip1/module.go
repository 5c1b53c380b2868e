package wasip1

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"github.com/bvisor/bvisor/internal/wasmfs"
)

// ModuleName is the name that guests import from.
const ModuleName = "wasi_snapshot_preview1"

// memory is the guest's. Every access to it is checked.
type memory struct{ api.Memory }

// args are the parameters of a call. An i32 is in the lower half.
type args []uint64

func (a args) u32(i int) uint32 { return uint32(a[i]) }

// function is one of the interface. All but two return an errno.
type function struct {
	name string
	sig  string // parameters: i is i32, I is i64
	call func(ctx context.Context, p *Process, m memory, a args) wasmfs.Errno
}

// functions is the whole of preview 1 but for proc_exit, which does not return.
var functions = []function{
	{"args_get", "ii", argsGet},
	{"args_sizes_get", "ii", argsSizesGet},
	{"environ_get", "ii", environGet},
	{"environ_sizes_get", "ii", environSizesGet},
	{"clock_res_get", "ii", clockResGet},
	{"clock_time_get", "iIi", clockTimeGet},
	{"fd_advise", "iIIi", fdAdvise},
	{"fd_allocate", "iII", fdAllocate},
	{"fd_close", "i", fdClose},
	{"fd_datasync", "i", fdDatasync},
	{"fd_fdstat_get", "ii", fdFdstatGet},
	{"fd_fdstat_set_flags", "ii", fdFdstatSetFlags},
	{"fd_fdstat_set_rights", "iII", fdFdstatSetRights},
	{"fd_filestat_get", "ii", fdFilestatGet},
	{"fd_filestat_set_size", "iI", fdFilestatSetSize},
	{"fd_filestat_set_times", "iIIi", fdFilestatSetTimes},
	{"fd_pread", "iiiIi", fdPread},
	{"fd_prestat_get", "ii", fdPrestatGet},
	{"fd_prestat_dir_name", "iii", fdPrestatDirName},
	{"fd_pwrite", "iiiIi", fdPwrite},
	{"fd_read", "iiii", fdRead},
	{"fd_readdir", "iiiIi", fdReaddir},
	{"fd_renumber", "ii", fdRenumber},
	{"fd_seek", "iIii", fdSeek},
	{"fd_sync", "i", fdSync},
	{"fd_tell", "ii", fdTell},
	{"fd_write", "iiii", fdWrite},
	{"path_create_directory", "iii", pathCreateDirectory},
	{"path_filestat_get", "iiiii", pathFilestatGet},
	{"path_filestat_set_times", "iiiiIIi", pathFilestatSetTimes},
	{"path_link", "iiiiiii", pathLink},
	{"path_open", "iiiiiIIii", pathOpen},
	{"path_readlink", "iiiiii", pathReadlink},
	{"path_remove_directory", "iii", pathRemoveDirectory},
	{"path_rename", "iiiiii", pathRename},
	{"path_symlink", "iiiii", pathSymlink},
	{"path_unlink_file", "iii", pathUnlinkFile},
	{"poll_oneoff", "iiii", pollOneoff},
	{"proc_raise", "i", procRaise},
	{"random_get", "ii", randomGet},
	{"sched_yield", "", schedYield},
	{"sock_accept", "iii", socket("sock_accept")},
	{"sock_recv", "iiiiii", socket("sock_recv")},
	{"sock_send", "iiiii", socket("sock_send")},
	{"sock_shutdown", "ii", socket("sock_shutdown")},
}

func (f function) params() []api.ValueType {
	var types []api.ValueType
	for _, c := range f.sig {
		if c == 'I' {
			types = append(types, api.ValueTypeI64)
		} else {
			types = append(types, api.ValueTypeI32)
		}
	}
	return types
}

// Signature returns what a function of the module takes and returns, or false
// if there is none of that name.
func Signature(name string) (params, results []api.ValueType, ok bool) {
	if name == "proc_exit" {
		return []api.ValueType{api.ValueTypeI32}, nil, true
	}
	i := slices.IndexFunc(functions, func(f function) bool { return f.name == name })
	if i < 0 {
		return nil, nil, false
	}
	return functions[i].params(), []api.ValueType{api.ValueTypeI32}, true
}

var errNoProcess = errors.New("bug: a guest was called without its process")

// Instantiate makes the host module in a runtime. Every guest there must be
// instantiated and called with the context of its own Process.
func Instantiate(ctx context.Context, r wazero.Runtime) (api.Closer, error) {
	b := r.NewHostModuleBuilder(ModuleName)
	for _, f := range functions {
		call := f.call
		b.NewFunctionBuilder().WithName(f.name).
			WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, mod api.Module, stack []uint64) {
				stack[0] = uint64(call(ctx, processOf(ctx), memory{mod.Memory()}, stack))
			}), f.params(), []api.ValueType{api.ValueTypeI32}).
			Export(f.name)
	}
	b.NewFunctionBuilder().WithName("proc_exit").
		WithGoModuleFunction(api.GoModuleFunc(procExit), []api.ValueType{api.ValueTypeI32}, nil).
		Export("proc_exit")
	return b.Instantiate(ctx)
}

func processOf(ctx context.Context) *Process {
	p, ok := ctx.Value(key{}).(*Process)
	if !ok {
		panic(errNoProcess)
	}
	return p
}

// procExit closes the module first, so that nothing else calls into it.
func procExit(ctx context.Context, mod api.Module, stack []uint64) {
	code := uint32(stack[0])
	mod.CloseWithExitCode(ctx, code)
	panic(sys.NewExitError(code))
}

// bytes is a part of the memory. What is written to it, the guest has.
func (m memory) bytes(at, size uint32) ([]byte, wasmfs.Errno) {
	b, ok := m.Read(at, size)
	if !ok {
		return nil, wasmfs.Fault
	}
	return b, wasmfs.Success
}

func (m memory) text(at, size uint32) (string, wasmfs.Errno) {
	b, errno := m.bytes(at, size)
	return string(b), errno
}

// result is where a call will put a number of size bytes. It is looked at
// before the call does anything.
func (m memory) result(at, size uint32) ([]byte, wasmfs.Errno) { return m.bytes(at, size) }

var le = binary.LittleEndian
