//go:build amd64 || arm64

package seccomp

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// load installs f on the calling thread, for good, and keeps the goroutine on
// it. Other threads of the process stay without it; an exec ends them.
func load(f Filter) error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	code := f.Bytes()
	prog := struct {
		length uint16
		code   *byte
	}{uint16(len(f)), &code[0]}
	if _, _, e := unix.RawSyscall(unix.SYS_SECCOMP, filterMode, 0, uintptr(unsafe.Pointer(&prog))); e != 0 {
		return fmt.Errorf("seccomp: %w", e)
	}
	return nil
}

// pointers the attempts hand to the kernel.
var (
	missingPath = append([]byte("/nonexistent/by/this/test"), 0)
	coreLimits  = unix.Rlimit{Cur: 1, Max: 1}
	pairFDs     [2]int32
)

func missingPathPtr() uintptr { return uintptr(unsafe.Pointer(&missingPath[0])) }
func coreLimitsPtr() uintptr  { return uintptr(unsafe.Pointer(&coreLimits)) }
func pairPtr() uintptr        { return uintptr(unsafe.Pointer(&pairFDs)) }
