//go:build amd64 || arm64

package launcher

import (
	"bytes"
	"unsafe"
)

// machine is the routine of machine_*.s. It is never called in this process:
// its bytes become the code of the generated image.
func machine()

func machineAddr() uintptr

// machineEnd follows the machine's last instruction in the assembly sources.
var machineEnd = []byte{0xde, 0xad, 0xbe, 0xef, 0xb0, 0x07, 0x15, 0x0e}

// Machine returns the machine's code, read out of this program's own text.
var Machine = func() []byte {
	addr := machineAddr()
	text := unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&addr))), 1024)
	n := bytes.Index(text, machineEnd)
	if n < 0 {
		panic("bug: the end of the launcher's machine is not in the text")
	}
	return bytes.Clone(text[:n])
}()
