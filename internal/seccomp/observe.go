package seccomp

import "fmt"

// ActionNotify hands a call to the filter's listener and waits for its answer.
// Every refusal goes before it (seccomp(2)): of a call that another filter
// answers with an error the listener never hears.
const ActionNotify uint32 = 0x7fc00000

// Want is what a call asks of what it names.
type Want uint8

// What a call asks for.
const (
	WantLook    Want = iota // that it is there; with AT_SYMLINK_NOFOLLOW in Extra, of a link itself
	WantLink                // that it is there, of a link itself
	WantOpen                // reading, writing or both, by the flags in Extra
	WantOpenHow             // likewise, by a struct open_how of Extra bytes behind the path
	WantExec                // execution
	WantWrite               // a change of the file itself
	WantCreate              // writing, and making it where it is not
	WantMake                // a new name
	WantRemove              // a name that goes
	WantPlace               // a name that comes, or leads elsewhere
	WantConnect             // a socket address of Extra bytes, as the peer
	WantBind                // a socket address of Extra bytes, as a new name
)

// Named is one path or address of a call, by the numbers of its arguments.
type Named struct {
	Want  Want
	Dir   int // the directory at which a relative path begins; none: the working directory
	Path  int
	Extra int
}

// Watched is a call that names something.
type Watched struct {
	Call   string
	Names  []Named
	unless test
}

// None stands for an argument that a call does not have.
const None = -1

// test leaves calls out: those with one of the bits set in an argument, or
// those whose argument is zero if bits is.
type test struct {
	arg  int
	bits uint32
}

const atEmptyPath = 0x1000 // linux/fcntl.h

var always = test{arg: None}

// Observed lists the calls that an observer is told of. It leaves out what
// names nothing: fstat(2) by its newer names, futimens(3), send(2).
var Observed = []Watched{
	{"open", []Named{{WantOpen, None, 0, 1}}, always},
	{"openat", []Named{{WantOpen, 0, 1, 2}}, always},
	{"openat2", []Named{{WantOpenHow, 0, 1, 3}}, always},
	{"creat", []Named{{WantCreate, None, 0, None}}, always},
	{"execve", []Named{{WantExec, None, 0, None}}, always},
	{"execveat", []Named{{WantExec, 0, 1, None}}, always},

	{"access", look, always},
	{"faccessat", lookAt, always},
	{"faccessat2", lookAt, always},
	{"stat", look, always},
	{"lstat", link, always},
	{"newfstatat", []Named{{WantLook, 0, 1, 3}}, test{3, atEmptyPath}},
	{"statx", []Named{{WantLook, 0, 1, 2}}, test{2, atEmptyPath}},
	{"statfs", look, always},
	{"readlink", link, always},
	{"readlinkat", []Named{{WantLink, 0, 1, None}}, always},
	{"chdir", look, always},
	{"getxattr", look, always},
	{"lgetxattr", link, always},
	{"listxattr", look, always},
	{"llistxattr", link, always},

	{"truncate", write, always},
	{"chmod", write, always},
	{"fchmodat", writeAt, always},
	{"fchmodat2", writeAt, always},
	{"chown", write, always},
	{"lchown", write, always},
	{"fchownat", writeAt, always},
	{"utime", write, always},
	{"utimes", write, always},
	{"futimesat", writeAt, always},
	{"utimensat", writeAt, test{arg: 1}},
	{"setxattr", write, always},
	{"lsetxattr", write, always},
	{"removexattr", write, always},
	{"lremovexattr", write, always},

	{"mkdir", []Named{{WantMake, None, 0, None}}, always},
	{"mkdirat", []Named{{WantMake, 0, 1, None}}, always},
	{"mknod", []Named{{WantMake, None, 0, None}}, always},
	{"mknodat", []Named{{WantMake, 0, 1, None}}, always},
	{"symlink", []Named{{WantMake, None, 1, None}}, always},
	{"symlinkat", []Named{{WantMake, 1, 2, None}}, always},
	{"link", []Named{{WantLink, None, 0, None}, {WantMake, None, 1, None}}, always},
	{"linkat", []Named{{WantLink, 0, 1, None}, {WantMake, 2, 3, None}}, always},
	{"rename", []Named{{WantRemove, None, 0, None}, {WantPlace, None, 1, None}}, always},
	{"renameat", renameAt, always},
	{"renameat2", renameAt, always},
	{"rmdir", []Named{{WantRemove, None, 0, None}}, always},
	{"unlink", []Named{{WantRemove, None, 0, None}}, always},
	{"unlinkat", []Named{{WantRemove, 0, 1, None}}, always},

	{"connect", []Named{{WantConnect, None, 1, 2}}, always},
	{"bind", []Named{{WantBind, None, 1, 2}}, always},
	{"sendto", []Named{{WantConnect, None, 4, 5}}, test{arg: 4}},
}

var (
	look     = []Named{{WantLook, None, 0, None}}
	link     = []Named{{WantLink, None, 0, None}}
	lookAt   = []Named{{WantLook, 0, 1, None}}
	write    = []Named{{WantWrite, None, 0, None}}
	writeAt  = []Named{{WantWrite, 0, 1, None}}
	renameAt = []Named{{WantRemove, 0, 1, None}, {WantPlace, 2, 3, None}}
)

// ObservedByNumber is Observed for one architecture; arm64 has only the calls
// that take a directory.
func ObservedByNumber(arch string) map[uint32]Watched {
	m := map[uint32]Watched{}
	for _, w := range Observed {
		if nr, ok := Number(arch, w.Call); ok {
			m[nr] = w
		}
	}
	return m
}

// CompileObserver makes the filter that tells its listener of the calls in
// Observed and lets everything through. It refuses nothing: it is loaded beside
// a filter that does.
func CompileObserver(arch string) (Filter, error) {
	m, ok := machines[arch]
	if !ok {
		return nil, fmt.Errorf("seccomp: architecture %q: expected %q or %q", arch, AMD64, ARM64)
	}
	g := graph{}
	notify := g.leaf(ActionNotify)
	var arms []arm
	for nr, w := range ObservedByNumber(arch) {
		to := notify
		switch {
		case w.unless.arg == None:
		case w.unless.bits != 0:
			to = g.anyBit(w.unless.arg, w.unless.bits, g.allow(), notify)
		default:
			to = g.zero64(w.unless.arg, g.allow(), notify)
		}
		arms = append(arms, arm{[]uint32{nr}, to})
	}
	byNumber := g.look(wordNumber, wholeWord, g.allow(), arms...)
	e := emitter{at: map[*decision]int{}}
	e.decision(g.look(wordArch, wholeWord, g.allow(), arm{values(m.audit), byNumber}))
	return e.finish()
}
