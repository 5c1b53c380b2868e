//go:build linux

#include "textflag.h"

// The machine. R12 points at the current operation, R15 at the record; both
// are kept by the kernel across SYSCALL, which clobbers RCX and R11 alone.
//
// An operation is eleven words (see opWords in image_linux.go):
//   0 number | 8..48 arguments | 56 store address | 64 mode | 72 target | 80 expect
// Mode bits: 0-5 the argument is an address to load from, 6 so is expect,
//   7 ignore errors, 8 on error go to target, 9 go to target when the result
//   equals expect, 10 go to target.
// Number -1 is the check: load from argument 0, mask with argument 1, compare
// with argument 2; the result is 0 or -ESTALE. Number -2 is the copy: the
// result is what stands at argument 0.
// Any other error stores {operation, result} in the record's first two words
// and goes on at the operation named by the third.
//
// Entry point of the generated ELF; the frame is never used.
TEXT ·machine(SB),NOSPLIT|NOFRAME,$0
	MOVQ $0x100000000, R15
	MOVQ 24(R15), R12
loop:
	MOVQ 64(R12), BX
	MOVQ 8(R12), DI
	BTL  $0, BX
	JCC  a1
	MOVQ (DI), DI
a1:
	MOVQ 16(R12), SI
	BTL  $1, BX
	JCC  a2
	MOVQ (SI), SI
a2:
	MOVQ 24(R12), DX
	BTL  $2, BX
	JCC  a3
	MOVQ (DX), DX
a3:
	MOVQ 32(R12), R10
	BTL  $3, BX
	JCC  a4
	MOVQ (R10), R10
a4:
	MOVQ 40(R12), R8
	BTL  $4, BX
	JCC  a5
	MOVQ (R8), R8
a5:
	MOVQ 48(R12), R9
	BTL  $5, BX
	JCC  a6
	MOVQ (R9), R9
a6:
	MOVQ 0(R12), AX
	TESTQ AX, AX
	JLT  check
	SYSCALL
store:
	MOVQ 56(R12), CX
	TESTQ CX, CX
	JEQ  decide
	MOVQ AX, (CX)
decide:
	CMPQ AX, $-4095
	JCC  failed
	BTL  $10, BX
	JCS  jump
	BTL  $9, BX
	JCC  next
	MOVQ 80(R12), CX
	BTL  $6, BX
	JCC  compare
	MOVQ (CX), CX
compare:
	CMPQ AX, CX
	JEQ  jump
next:
	ADDQ $88, R12
	JMP  loop
jump:
	MOVQ 72(R12), R12
	JMP  loop
check:
	MOVQ AX, CX
	MOVQ (DI), AX
	CMPQ CX, $-2
	JEQ  store
	ANDQ SI, AX
	SUBQ DX, AX
	JEQ  store
	MOVQ $-116, AX
	JMP  store
failed:
	BTL  $8, BX
	JCS  jump
	BTL  $7, BX
	JCS  next
	MOVQ R12, 0(R15)
	MOVQ AX, 8(R15)
	MOVQ 16(R15), R12
	JMP  loop
	BYTE $0xde; BYTE $0xad; BYTE $0xbe; BYTE $0xef; BYTE $0xb0; BYTE $0x07; BYTE $0x15; BYTE $0x0e

// func machineAddr() uintptr
TEXT ·machineAddr(SB),NOSPLIT,$0-8
	MOVQ $·machine(SB), AX
	MOVQ AX, ret+0(FP)
	RET
