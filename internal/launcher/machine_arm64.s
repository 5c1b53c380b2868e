//go:build linux

#include "textflag.h"

// The machine; see machine_amd64.s for the operation's layout and its meaning.
// R19 points at the current operation, R20 at the record. SVC keeps every
// register but R0.
TEXT ·machine(SB),NOSPLIT|NOFRAME,$0
	MOVD $0x100000000, R20
	MOVD 24(R20), R19
loop:
	MOVD 64(R19), R21
	MOVD 8(R19), R0
	TBZ  $0, R21, a1
	MOVD (R0), R0
a1:
	MOVD 16(R19), R1
	TBZ  $1, R21, a2
	MOVD (R1), R1
a2:
	MOVD 24(R19), R2
	TBZ  $2, R21, a3
	MOVD (R2), R2
a3:
	MOVD 32(R19), R3
	TBZ  $3, R21, a4
	MOVD (R3), R3
a4:
	MOVD 40(R19), R4
	TBZ  $4, R21, a5
	MOVD (R4), R4
a5:
	MOVD 48(R19), R5
	TBZ  $5, R21, a6
	MOVD (R5), R5
a6:
	MOVD (R19), R8
	TBNZ $63, R8, check
	SVC
store:
	MOVD 56(R19), R9
	CBZ  R9, decide
	MOVD R0, (R9)
decide:
	MOVD $-4095, R10
	CMP  R10, R0
	BHS  failed
	TBNZ $10, R21, jump
	TBZ  $9, R21, next
	MOVD 80(R19), R9
	TBZ  $6, R21, compare
	MOVD (R9), R9
compare:
	CMP  R9, R0
	BEQ  jump
next:
	ADD  $88, R19
	B    loop
jump:
	MOVD 72(R19), R19
	B    loop
check:
	MOVD (R0), R0
	CMN  $2, R8
	BEQ  store
	AND  R1, R0, R0
	SUBS R2, R0, R0
	BEQ  store
	MOVD $-116, R0
	B    store
failed:
	TBNZ $8, R21, jump
	TBNZ $7, R21, next
	MOVD R19, 0(R20)
	MOVD R0, 8(R20)
	MOVD 16(R20), R19
	B    loop
	WORD $0xefbeadde
	WORD $0x0e1507b0

// func machineAddr() uintptr
TEXT ·machineAddr(SB),NOSPLIT,$0-8
	MOVD $·machine(SB), R0
	MOVD R0, ret+0(FP)
	RET
