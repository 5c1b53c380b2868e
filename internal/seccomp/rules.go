package seccomp

// rule is a verdict on one call. words says it for people; it is the whole
// verdict when the rule looks at no argument.
type rule struct {
	words  string
	decide func(g graph, o Options) *decision
}

var (
	allow  = rule{"allow", func(g graph, _ Options) *decision { return g.allow() }}
	eperm  = rule{"EPERM", func(g graph, _ Options) *decision { return g.errno(ePERM) }}
	enosys = rule{"ENOSYS", func(g graph, _ Options) *decision { return g.errno(eNOSYS) }}
)

// Terminal commands, from asm-generic/ioctls.h; the same on both architectures.
const (
	tiocSTI   = 0x5412 // pushes a byte into the terminal's input, as if typed
	tiocLINUX = 0x541c // pastes the selection of a virtual console (CVE-2023-28100)
	tiocCONS  = 0x541d // takes the console's output
	tiocSETD  = 0x5423 // another line discipline: rarely used drivers (CVE-2017-2636)
)

// ioctl(unsigned int fd, unsigned int cmd, unsigned long arg): the command is
// 32 bits; a filter that compares 64 lets 0x1_0000_5412 through (CVE-2019-7303).
var ioctlCommand = rule{"EPERM for TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD", func(g graph, _ Options) *decision {
	return g.low32(1, g.allow(), arm{values[uint32](tiocSTI, tiocLINUX, tiocCONS, tiocSETD), g.errno(ePERM)})
}}

// File types of inode(7).
const (
	sIFMT   = 0o170000
	sIFIFO  = 0o010000
	sIFREG  = 0o100000
	sIFSOCK = 0o140000
)

// mknod(const char *, umode_t mode, unsigned dev): the mode is 16 bits, in
// argument arg. No type means a regular file.
func mknodMode(arg int) rule {
	return rule{"EPERM but for regular files, FIFOs and sockets", func(g graph, _ Options) *decision {
		return g.look(lowWord(arg), sIFMT, g.errno(ePERM), arm{values[uint32](0, sIFREG, sIFIFO, sIFSOCK), g.allow()})
	}}
}

const mfdNoexecSeal = 0x8 // linux/memfd.h

// memfd_create(const char *, unsigned int flags).
var memfdFlags = rule{"EPERM without MFD_NOEXEC_SEAL, unless files may be executed", func(g graph, o Options) *decision {
	if o.ExecFiles {
		return g.allow()
	}
	return g.anyBit(1, mfdNoexecSeal, g.allow(), g.errno(ePERM))
}}

// Flags of clone(2) and unshare(2), from linux/sched.h.
const (
	cloneFS      = 0x200
	cloneFiles   = 0x400
	cloneThread  = 0x10000
	cloneSysvsem = 0x40000

	// NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. NEWTIME is 0x80,
	// which in clone(2) lies in the byte of the exit signal and is not a flag.
	cloneNamespaces = 0x7e020000
)

// clone(unsigned long flags, ...): the kernel takes lower_32_bits(flags)
// (kernel/fork.c), on both architectures in the first argument.
var cloneFlags = rule{"EPERM with a namespace flag; EPERM without CLONE_THREAD where spawn is threads; EPERM where spawn is none", func(g graph, o Options) *decision {
	switch o.Spawn {
	case SpawnProcesses:
		return g.anyBit(0, cloneNamespaces, g.errno(ePERM), g.allow())
	case SpawnThreads:
		return g.look(lowWord(0), cloneThread|cloneNamespaces, g.errno(ePERM), arm{values[uint32](cloneThread), g.allow()})
	}
	return g.errno(ePERM)
}}

var forkRule = rule{"EPERM unless spawn is processes", func(g graph, o Options) *decision {
	if o.Spawn == SpawnProcesses {
		return g.allow()
	}
	return g.errno(ePERM)
}}

// unshare(unsigned long flags): the kernel looks at all 64 bits. Here 0x80 is
// CLONE_NEWTIME, and later flags take any bit, so only known harmless ones pass.
var unshareFlags = rule{"EPERM but for CLONE_FILES, CLONE_FS, CLONE_SYSVSEM", func(g graph, _ Options) *decision {
	low := g.anyBit(0, ^uint32(cloneFiles|cloneFS|cloneSysvsem), g.errno(ePERM), g.allow())
	return g.look(highWord(0), wholeWord, g.errno(ePERM), arm{[]uint32{0}, low})
}}

const (
	filterMode        = 1 // SECCOMP_SET_MODE_FILTER, linux/seccomp.h
	filterNewListener = 8 // SECCOMP_FILTER_FLAG_NEW_LISTENER
)

// seccomp(unsigned int op, unsigned int flags, void *). Only op 1 takes flags.
var seccompFlags = rule{"EPERM for a filter with SECCOMP_FILTER_FLAG_NEW_LISTENER", func(g graph, _ Options) *decision {
	return g.low32(0, g.allow(), arm{values[uint32](filterMode), g.anyBit(1, filterNewListener, g.errno(ePERM), g.allow())})
}}

const rlimitCore = 4 // asm-generic/resource.h

// setrlimit(unsigned int resource, struct rlimit *). The new limit lies in
// memory, so turning core files off (gpg does, and ends when it cannot) and
// turning them on look the same. The boundary's limit stays either way: the
// program has no core file, which is what the former asked for, and getrlimit
// tells the truth to the latter.
var setrlimitResource = rule{"no effect for RLIMIT_CORE", func(g graph, _ Options) *decision {
	return g.low32(0, g.allow(), arm{values[uint32](rlimitCore), g.errno(eNone)})
}}

// prlimit64(pid_t, unsigned int resource, const struct rlimit64 *new, struct
// rlimit64 *old): it only reads when new is a null pointer. Only the caller
// itself, pid 0, can be limited: a limit on the CPU time of process 1 would end
// the boundary from inside. A caller that wants the old core limit too would
// find nothing there, so it gets an error.
var prlimitResource = rule{"EPERM for limiting another process; no effect for setting RLIMIT_CORE, EPERM with reading the old limit", func(g graph, _ Options) *decision {
	core := g.zero64(3, g.errno(eNone), g.errno(ePERM))
	own := g.low32(1, g.allow(), arm{values[uint32](rlimitCore), core})
	return g.zero64(2, g.allow(), g.low32(0, g.errno(ePERM), arm{values[uint32](0), own}))
}}

// personality(unsigned int): 0xffffffff asks and changes nothing.
const (
	perLinux        = 0
	addrNoRandomize = 0x40000
	perQuery        = 0xffffffff
)

var personalityValue = rule{"EPERM but for PER_LINUX, ADDR_NO_RANDOMIZE and the query", func(g graph, _ Options) *decision {
	return g.low32(0, g.errno(ePERM), arm{values[uint32](perLinux, addrNoRandomize, perQuery), g.allow()})
}}
