package seccomp

// prctlAllowed are the options of prctl(2) that touch only the calling process
// or tighten, from linux/prctl.h. Options of other architectures stand here
// too: where they mean nothing the kernel answers EINVAL by itself.
var prctlAllowed = []uint32{
	1, 2, // PDEATHSIG: when to die with the parent
	3, 4, // DUMPABLE: of the process itself; core files stay off by RLIMIT_CORE
	5, 6, 9, 10, 11, 12, 13, 14, 19, 20, // UNALIGN, FPEMU, FPEXC, TIMING, ENDIAN
	7, 8, // KEEPCAPS: there are none to keep
	15, 16, // NAME of the thread
	21, 22, // SECCOMP: a further filter can only tighten; no listener this way
	23, 24, // CAPBSET_READ, CAPBSET_DROP: can only shrink
	25, 26, // TSC: whether the thread may read the time stamp counter
	27,     // GET_SECUREBITS
	29, 30, // TIMERSLACK
	34,     // MCE_KILL_GET
	36, 37, // CHILD_SUBREAPER: within the pid namespace
	38, 39, // NO_NEW_PRIVS: on already
	40,     // GET_TID_ADDRESS
	41, 42, // THP_DISABLE
	45, 46, // FP_MODE
	50, 51, // SVE vector length
	52, 53, // SPECULATION_CTRL: the thread's own mitigations
	54, 60, 61, // pointer authentication keys
	55, 56, // TAGGED_ADDR_CTRL, memory tagging with it
	58,     // GET_IO_FLUSHER
	59,     // SYSCALL_USER_DISPATCH: turns calls into signals before this filter sees them
	63, 64, // SME vector length
	65, 66, // MDWE: refuses writable and executable memory
	68,         // GET_MEMORY_MERGE
	69, 70, 71, // RISC-V vectors and instruction cache
	72, 73, // POWER DEXCR
	74, 75, 76, // shadow stacks
	78,     // FUTEX_HASH: of the process's own locks
	79,     // RSEQ_SLICE_EXTENSION
	80, 81, // CFI
	0x41555856, // GET_AUXV
	0x53564d41, // SET_VMA: names for the process's own mappings
}

// prctlDenied are the options that a boundary must not lend.
var prctlDenied = []uint32{
	28,     // SET_SECUREBITS: privilege rules
	31, 32, // TASK_PERF_EVENTS
	33,         // MCE_KILL: reaction to memory errors
	35,         // SET_MM: rewrites what /proc says of the process, its executable included
	57,         // SET_IO_FLUSHER: memory reserves of the kernel
	62,         // SCHED_CORE: keeps others off the sibling cores
	67,         // MEMORY_MERGE: merged pages tell by timing what another process holds
	77,         // TIMER_CREATE_RESTORE_IDS: for checkpointing
	0x59616d61, // SET_PTRACER: lets another process trace this one (Yama)
}

const (
	prCapAmbient = 47
	ambientIsSet = 1
	ambientLower = 3
	ambientClear = 4
)

// prctl(int option, unsigned long arg2, ...): the option is 32 bits, arg2 is
// 64. An option in neither list is one this policy has not judged; it gets the
// answer of a kernel that does not have it.
var prctlOption = rule{"EINVAL or EPERM for options not listed in rules_prctl.go", func(g graph, _ Options) *decision {
	ambient := g.full64(1, g.errno(ePERM), arm{values[uint32](ambientIsSet, ambientLower, ambientClear), g.allow()})
	return g.low32(0, g.errno(eINVAL),
		arm{prctlAllowed, g.allow()},
		arm{prctlDenied, g.errno(ePERM)},
		arm{values[uint32](prCapAmbient), ambient})
}}
