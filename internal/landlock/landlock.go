// Package landlock encodes Landlock rulesets (landlock(7)): which rights each
// ABI has, what an access means in rights, and the structures of the calls.
// It makes no calls itself but for the probe.
package landlock

import "encoding/binary"

// Rights is a set of file system rights, LANDLOCK_ACCESS_FS_*.
type Rights uint64

// The rights, include/uapi/linux/landlock.h.
const (
	Execute Rights = 1 << iota
	WriteFile
	ReadFile
	ReadDir
	RemoveDir
	RemoveFile
	MakeChar
	MakeDir
	MakeReg
	MakeSock
	MakeFifo
	MakeBlock
	MakeSym
	Refer    // ABI 2, Linux 5.19
	Truncate // ABI 3, Linux 6.2
	IoctlDev // ABI 5, Linux 6.10
)

// Network rights and scopes.
const (
	BindTCP    = 1 << 0 // ABI 4, Linux 6.7
	ConnectTCP = 1 << 1

	ScopeAbstractSockets = 1 << 0 // ABI 6, Linux 6.12
	ScopeSignals         = 1 << 1
)

// onFile are the rights that a rule on something other than a directory may hold.
const onFile = Execute | WriteFile | ReadFile | Truncate | IoctlDev

// Handled returns every file system right that an ABI knows. A newer ABI than
// this package knows counts as the newest it knows.
func Handled(abi int) Rights {
	r := MakeSym<<1 - 1
	if abi >= 2 {
		r |= Refer
	}
	if abi >= 3 {
		r |= Truncate
	}
	if abi >= 5 {
		r |= IoctlDev
	}
	return r
}

// Scopes returns every scope that an ABI knows.
func Scopes(abi int) uint64 {
	if abi >= 6 {
		return ScopeAbstractSockets | ScopeSignals
	}
	return 0
}

// Network returns every network right that an ABI knows.
func Network(abi int) uint64 {
	if abi >= 4 {
		return BindTCP | ConnectTCP
	}
	return 0
}

// For returns the rights behind r, w and x. Device nodes are never made.
func For(read, write, exec bool) Rights {
	var r Rights
	if read {
		r |= ReadFile | ReadDir
	}
	if write {
		r |= WriteFile | RemoveDir | RemoveFile | MakeDir | MakeReg | MakeSock | MakeFifo | MakeSym | Refer | Truncate
	}
	if exec {
		r |= Execute
	}
	return r
}

// OnFile keeps what a rule on a file may hold; the kernel refuses the rest
// with EINVAL.
func (r Rights) OnFile() Rights { return r & onFile }

// Ruleset encodes struct landlock_ruleset_attr in the size that the ABI knows.
func Ruleset(abi int, fs Rights, net, scopes uint64) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(fs))
	if abi >= 4 {
		b = binary.LittleEndian.AppendUint64(b, net)
	}
	if abi >= 6 {
		b = binary.LittleEndian.AppendUint64(b, scopes)
	}
	return b
}

// RuleParentOffset is where the descriptor stands in a rule.
const RuleParentOffset = 8

// Rule encodes struct landlock_path_beneath_attr, which is packed, with room
// for a 64-bit store of the descriptor.
func Rule(r Rights) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(r)), 0)
}
