//go:build amd64 || arm64

package launcher

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// twin is the machine in plain Go: it maps the program that it finds at
// descriptor 3 to the program's own address and walks it with raw calls. The
// collector is off and the thread locked, so that a child of clone(2), which
// has this one thread only, can go on walking.
func twin() {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	fail := func(what string, err error) {
		fmt.Fprintln(os.Stderr, "twin:", what, err)
		os.Exit(99)
	}
	var st unix.Stat_t
	if err := unix.Fstat(3, &st); err != nil {
		fail("fstat", err)
	}
	if _, _, e := syscall.RawSyscall6(unix.SYS_MMAP, dataBase, uintptr(st.Size), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_FIXED_NOREPLACE, 3, 0); e != 0 {
		fail("mmap", e)
	}
	if err := unix.CloseRange(dumpFD+1, 1<<32-1, 0); err != nil {
		fail("close_range", err)
	}
	walk(dataBase)
}

// walk never returns: a program ends with exit_group.
//
//go:nosplit
func walk(base uintptr) {
	op := uintptr(*word(base + 24))
	for {
		mode := *word(op + 64)
		var a [6]uint64
		for i := range a {
			a[i] = *word(op + 8 + uintptr(i)*8)
			if mode&(1<<i) != 0 {
				a[i] = *word(uintptr(a[i]))
			}
		}
		var r uint64
		switch nr := int64(*word(op)); {
		case nr == copyNumber:
			r = *word(uintptr(a[0]))
		case nr < 0:
			if *word(uintptr(a[0]))&a[1] != a[2] {
				r = ^uint64(unix.ESTALE) + 1
			}
		default:
			r1, _, e := syscall.RawSyscall6(uintptr(nr), uintptr(a[0]), uintptr(a[1]), uintptr(a[2]), uintptr(a[3]), uintptr(a[4]), uintptr(a[5]))
			r = uint64(r1)
			if e != 0 {
				r = ^uint64(e) + 1
			}
		}
		if to := *word(op + 56); to != 0 {
			*word(uintptr(to)) = r
		}
		target := uintptr(*word(op + 72))
		if r > ^uint64(4095) {
			switch {
			case mode&modeErrJump != 0:
				op = target
			case mode&modeIgnore != 0:
				op += opSize
			default:
				*word(base), *word(base + 8) = uint64(op), r
				op = uintptr(*word(base + 16))
			}
			continue
		}
		if mode&modeIf != 0 {
			want := *word(op + 80)
			if mode&modeExpectLoad != 0 {
				want = *word(uintptr(want))
			}
			if r == want {
				mode |= modeJump
			}
		}
		if mode&modeJump != 0 {
			op = target
		} else {
			op += opSize
		}
	}
}

// word is the memory at an address outside Go's heap.
//
//go:nosplit
func word(addr uintptr) *uint64 { return (*uint64)(*(*unsafe.Pointer)(unsafe.Pointer(&addr))) }
