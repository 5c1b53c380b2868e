package seccomp

import (
	"cmp"
	"fmt"
	"slices"
)

// The architectures a filter can be made for, named as GOARCH names them.
const (
	AMD64 = "amd64"
	ARM64 = "arm64"
)

// call is one line of a generated table.
type call struct {
	number uint16
	name   string
}

// machine is what differs between architectures.
type machine struct {
	audit uint32 // AUDIT_ARCH_*, linux/audit.h: what seccomp_data.arch holds
	calls []call // sorted by number
}

var machines = map[string]machine{
	AMD64: {audit: 0xc000003e, calls: callsAMD64},
	ARM64: {audit: 0xc00000b7, calls: callsARM64},
}

// Number returns the number of the named call on arch.
func Number(arch, name string) (nr uint32, ok bool) {
	calls := machines[arch].calls
	i := slices.IndexFunc(calls, func(c call) bool { return c.name == name })
	if i < 0 {
		return 0, false
	}
	return uint32(calls[i].number), true
}

// Name returns the name of call nr on arch, or its number as "call N" when the
// table does not know it.
func Name(arch string, nr uint32) string {
	calls := machines[arch].calls
	i, ok := slices.BinarySearchFunc(calls, nr, func(c call, nr uint32) int {
		return cmp.Compare(uint32(c.number), nr)
	})
	if !ok {
		return fmt.Sprintf("call %d", nr)
	}
	return calls[i].name
}
