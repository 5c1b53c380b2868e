package seccomp

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"sync"
)

// Spawn says what a workload may start. The zero value is the closed one.
type Spawn uint8

// The spawn modes.
const (
	SpawnNone      Spawn = iota // neither threads nor processes
	SpawnThreads                // threads of the one process
	SpawnProcesses              // processes too
)

// The socket families that can be granted, from linux/socket.h.
const (
	AFUnix    uint16 = 1
	AFInet    uint16 = 2
	AFInet6   uint16 = 10
	AFNetlink uint16 = 16
)

// Options is everything a filter depends on. Its zero value, with an
// architecture, is the tightest filter.
type Options struct {
	Arch           string   // AMD64 or ARM64
	Spawn          Spawn    // what clone(2), fork(2) and vfork(2) may start
	SocketFamilies []uint16 // what socket(2) may open, in any order; none: no socket at all
	ExecFiles      bool     // memfd_create(2) may make a file that can be executed
}

func (o Options) check() error {
	if _, ok := machines[o.Arch]; !ok {
		return fmt.Errorf("seccomp: architecture %q: expected %q or %q", o.Arch, AMD64, ARM64)
	}
	if o.Spawn > SpawnProcesses {
		return fmt.Errorf("seccomp: spawn mode %d: expected 0 (none), 1 (threads) or 2 (processes)", o.Spawn)
	}
	for _, f := range o.SocketFamilies {
		if _, ok := socketRules[f]; !ok {
			return fmt.Errorf("seccomp: socket family %d: expected %d (unix), %d (inet), %d (inet6) or %d (netlink)",
				f, AFUnix, AFInet, AFInet6, AFNetlink)
		}
	}
	return nil
}

func (o Options) family(f uint16) bool { return slices.Contains(o.SocketFamilies, f) }

// Key names the options; equal options have equal keys.
func (o Options) Key() string {
	families := slices.Clone(o.SocketFamilies)
	slices.Sort(families)
	b := append([]byte(o.Arch), ' ', '0'+byte(o.Spawn), ' ')
	b = strconv.AppendBool(b, o.ExecFiles)
	for _, f := range slices.Compact(families) {
		b = strconv.AppendUint(append(b, ' '), uint64(f), 10)
	}
	return string(b)
}

// Common are the option sets that nearly every launch uses. Their filters are
// compiled ahead, see genfilters.
func Common() []Options {
	var list []Options
	for _, arch := range []string{AMD64, ARM64} {
		for spawn := SpawnNone; spawn <= SpawnProcesses; spawn++ {
			for _, exec := range []bool{false, true} {
				list = append(list, Options{Arch: arch, Spawn: spawn, SocketFamilies: []uint16{AFUnix}, ExecFiles: exec})
			}
		}
	}
	return list
}

// compiled remembers filters by their options: a supervisor launches many
// workloads under few policies, and compiling costs more than a launch's
// whole system call overhead.
var compiled sync.Map // string to Filter

// CompileCached is Compile, made once for each set of options: ahead for the
// common ones, otherwise once in the life of the process. The filter is the
// caller's own copy.
func CompileCached(o Options) (Filter, error) {
	key := o.Key()
	if code := precompiled(key); code != "" {
		return parse(code), nil
	}
	if f, ok := compiled.Load(key); ok {
		return slices.Clone(f.(Filter)), nil
	}
	f, err := Compile(o)
	if err != nil {
		return nil, err
	}
	compiled.Store(key, f)
	return slices.Clone(f), nil
}

// parse reads what Filter.Bytes writes.
func parse(code string) Filter {
	f := make(Filter, len(code)/8)
	for i := range f {
		in := []byte(code[i*8 : i*8+8])
		f[i] = Instruction{binary.LittleEndian.Uint16(in), in[2], in[3], binary.LittleEndian.Uint32(in[4:])}
	}
	return f
}
