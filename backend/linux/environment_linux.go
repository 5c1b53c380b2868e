//go:build amd64 || arm64

package linux

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/secret"
)

// An environment without leases is part of the program. With leases it is not:
// the program is kept, hashed and may be loaded long before it is used, and the
// values shall exist for one run only. Then the whole environment stands in a
// memfd that the workload has mapped, and is written there last.
const (
	environmentBase = 0x1_c000_0000
	environmentRoom = 1 << 20 // secret.MaxEnvironment, and a pointer for each string
)

// leases says whether an environment has values that are leased.
func leases(env []secret.Value) bool {
	return slices.ContainsFunc(env, func(v secret.Value) bool { return v.Reference != "" })
}

// mapEnvironment is init's, from the descriptor that it was handed.
func (l *lowering) mapEnvironment(fd int) {
	if leases(l.env) {
		l.Call("mmap", unix.SYS_MMAP, launcher.Flag(environmentBase, "environment"), launcher.Int(environmentRoom), launcher.Flag(unix.PROT_READ, "PROT_READ"),
			launcher.Flag(unix.MAP_SHARED|unix.MAP_FIXED, "MAP_SHARED|MAP_FIXED"), launcher.Int(fd), launcher.Int(0))
	}
}

// forgetLeases is init's, once the workload has a mapping of its own.
func (l *lowering) forgetLeases() {
	if leases(l.env) {
		l.Call("munmap", unix.SYS_MUNMAP, launcher.Flag(environmentBase, "environment"), launcher.Int(environmentRoom))
	}
}

// environment is what execve(2) gets.
func (l *lowering) environment() launcher.Arg {
	text := fmt.Sprintf("envp of %d", len(l.env))
	if leases(l.env) {
		return launcher.Flag(environmentBase, text)
	}
	envp := make([]launcher.Arg, 0, len(l.env)+1)
	for _, v := range l.env {
		envp = append(envp, l.Str(v.Name+"="+v.Value))
	}
	return l.Words(text, append(envp, launcher.Int(0))...)
}

// newEnvironment is the memfd that is handed over.
func newEnvironment() (*os.File, error) {
	fd, err := unix.MemfdCreate("bvisor-environment", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory for the environment: %w", err)
	}
	return os.NewFile(uintptr(fd), "environment"), nil
}

// writeEnvironment lays an environment out for where it is mapped: a pointer to
// each string, a null pointer, the strings.
func writeEnvironment(f *os.File, env []secret.Value) error {
	var pointers, texts []byte
	at := uint64(environmentBase + 8*(len(env)+1))
	for _, v := range env {
		pointers = binary.LittleEndian.AppendUint64(pointers, at+uint64(len(texts)))
		texts = append(append(texts, v.Name+"="+v.Value...), 0)
	}
	if _, err := f.Write(slices.Concat(pointers, make([]byte, 8), texts)); err != nil {
		return fmt.Errorf("write the environment: %w", err)
	}
	return nil
}
