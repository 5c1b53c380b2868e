package seccomp

import (
	"errors"
	"fmt"
)

// Data is struct seccomp_data of linux/seccomp.h: one call as a filter sees it.
type Data struct {
	Number uint32
	Arch   uint32 // AUDIT_ARCH_*; NativeArch gives it
	IP     uint64
	Args   [6]uint64
}

// NativeArch returns the AUDIT_ARCH_* value of arch, which is 0 when arch is
// not one a filter can be made for.
func NativeArch(arch string) uint32 { return machines[arch].audit }

func (d Data) load(offset uint32) (uint32, error) {
	if offset%4 != 0 || offset >= dataSize {
		return 0, fmt.Errorf("load at offset %d: expected a multiple of 4 below %d", offset, dataSize)
	}
	switch word(offset) {
	case wordNumber:
		return d.Number, nil
	case wordArch:
		return d.Arch, nil
	}
	v := d.IP
	if offset >= 16 {
		v = d.Args[(offset-16)/8]
	}
	if offset%8 == 4 {
		v >>= 32
	}
	return uint32(v), nil
}

// Run carries out f on one call as the kernel would and returns the action. It
// knows the operations that Compile uses; another one, a jump past the end or
// an end without a return is an error.
func Run(f Filter, d Data) (action uint32, err error) {
	var a uint32
	for pc := 0; pc < len(f); pc++ {
		in := f[pc]
		taken := false
		switch in.Code {
		case opLoad:
			if a, err = d.load(in.K); err != nil {
				return 0, fmt.Errorf("seccomp: instruction %d: %w", pc, err)
			}
			continue
		case opAnd:
			a &= in.K
			continue
		case opRet:
			return in.K, nil
		case opJump:
			if uint64(in.K) >= uint64(len(f)) {
				return 0, fmt.Errorf("seccomp: instruction %d jumps past the end", pc)
			}
			pc += int(in.K)
			continue
		case opJeq:
			taken = a == in.K
		case opJge:
			taken = a >= in.K
		case opJset:
			taken = a&in.K != 0
		default:
			return 0, fmt.Errorf("seccomp: instruction %d: operation %#x is not one Compile uses", pc, in.Code)
		}
		if taken {
			pc += int(in.Jt)
		} else {
			pc += int(in.Jf)
		}
	}
	return 0, errors.New("seccomp: filter ends without a return")
}
