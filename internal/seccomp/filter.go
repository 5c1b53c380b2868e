package seccomp

import "encoding/binary"

// Instruction is struct sock_filter of linux/filter.h.
type Instruction struct {
	Code   uint16
	Jt, Jf uint8
	K      uint32
}

// Filter is a classic BPF program for seccomp(2).
type Filter []Instruction

// Bytes returns the program as an array of struct sock_filter. Both
// architectures are little-endian.
func (f Filter) Bytes() []byte {
	b := make([]byte, 0, 8*len(f))
	for _, in := range f {
		b = binary.LittleEndian.AppendUint16(b, in.Code)
		b = append(b, in.Jt, in.Jf)
		b = binary.LittleEndian.AppendUint32(b, in.K)
	}
	return b
}

// The operations the compiler uses, from linux/bpf_common.h. Up to the load of
// an argument word these are among the few that the kernel's constant-action
// cache can evaluate ahead (seccomp_is_const_allow in kernel/seccomp.c, Linux
// 5.11), so a call that is always allowed does not run the filter at all.
const (
	opLoad uint16 = 0x20 // A = word at offset K of seccomp_data (LD|W|ABS)
	opAnd  uint16 = 0x54 // A &= K
	opJump uint16 = 0x05 // forward by K
	opJeq  uint16 = 0x15 // A == K
	opJge  uint16 = 0x35 // A >= K, unsigned
	opJset uint16 = 0x45 // A & K != 0
	opRet  uint16 = 0x06 // return K
)

// Filter actions, from linux/seccomp.h. An errno stands in the low 16 bits of
// ActionErrno.
const (
	ActionKillProcess uint32 = 0x80000000
	ActionErrno       uint32 = 0x00050000
	ActionAllow       uint32 = 0x7fff0000
)

// Error numbers the policy answers with; the same on both architectures. With
// none the caller is told of success, and nothing has been done.
const (
	eNone  uint32 = 0
	ePERM  uint32 = 1
	eACCES uint32 = 13
	eINVAL uint32 = 22
	eNOSYS uint32 = 38
)

// actionText names an action as a manual page would.
func actionText(action uint32) string {
	switch action {
	case ActionAllow:
		return "allow"
	case ActionKillProcess:
		return "kill process"
	case ActionNotify:
		return "notify the listener, then allow"
	case ActionErrno | eNone:
		return "no effect"
	case ActionErrno | ePERM:
		return "EPERM"
	case ActionErrno | eACCES:
		return "EACCES"
	case ActionErrno | eINVAL:
		return "EINVAL"
	case ActionErrno | eNOSYS:
		return "ENOSYS"
	}
	return "unknown action"
}

// word is the offset of one 32-bit word in struct seccomp_data.
type word uint32

// The layout of struct seccomp_data on a little-endian machine. The
// instruction pointer lies between arch and the arguments.
const (
	wordNumber word = 0
	wordArch   word = 4
	dataSize        = 64
)

func lowWord(arg int) word  { return word(16 + 8*arg) }
func highWord(arg int) word { return word(20 + 8*arg) }
