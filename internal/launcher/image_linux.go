//go:build amd64 || arm64

package launcher

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// page is the largest page size of the two architectures (arm64 knows 64 KiB),
// so that one layout loads on every kernel. The holes between the parts take
// no memory.
const page = 0x10000

// Image is a static ELF: header, machine and, one page further, the program as
// its data segment.
type Image struct{ header, data []byte }

// ELF constants, elf(5). debug/elf has them too, and brings decompressors along
// whose start-up every run would pay for.
const (
	elfIdent   = "\x7fELF\x02\x01\x01" // 64 bits, little-endian, version 1
	elfExec    = 2
	elfX86_64  = 62
	elfAArch64 = 183
	elfLoad    = 1
	elfStack   = 0x6474e551 // PT_GNU_STACK: not executable
	elfX       = 1
	elfW       = 2
	elfR       = 4
	elfHeader  = 64
	elfSegment = 56
)

// Image makes the program's image.
func (p *Program) Image() Image {
	data := p.encode(true)
	machine := uint16(elfX86_64)
	if runtime.GOARCH == "arm64" {
		machine = elfAArch64
	}
	le := binary.LittleEndian
	h := make([]byte, 16, elfHeader+3*elfSegment)
	copy(h, elfIdent)
	h = le.AppendUint16(h, elfExec)
	h = le.AppendUint16(h, machine)
	h = le.AppendUint32(h, 1)
	h = le.AppendUint64(h, codeBase+page) // entry
	h = le.AppendUint64(h, elfHeader)     // program headers follow
	h = le.AppendUint64(h, 0)             // no sections
	h = le.AppendUint32(h, 0)
	for _, v := range []uint16{elfHeader, elfSegment, 3, 0, 0, 0} {
		h = le.AppendUint16(h, v)
	}
	for _, s := range []struct {
		kind, flags        uint32
		offset, addr, size uint64
	}{
		{elfLoad, elfR | elfX, page, codeBase + page, uint64(len(Machine))},
		{elfLoad, elfR | elfW, 2 * page, dataBase, uint64(len(data))},
		{elfStack, elfR | elfW, 0, 0, 0},
	} {
		h = le.AppendUint32(le.AppendUint32(h, s.kind), s.flags)
		for _, v := range []uint64{s.offset, s.addr, s.addr, s.size, s.size, page} {
			h = le.AppendUint64(h, v)
		}
	}
	return Image{header: h, data: data}
}

// Seal writes the image to an executable memfd that nobody, its maker included,
// can change afterwards: /proc/PID/exe of the launcher is no target
// (CVE-2019-5736). The caller closes the file.
func (i Image) Seal() (*os.File, error) {
	// MFD_EXEC is Linux 6.3; before it every memfd is executable.
	fd, err := unix.MemfdCreate("bvisor-launcher", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate("bvisor-launcher", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "launcher")
	for at, part := range map[int64][]byte{0: i.header, page: Machine, 2 * page: i.data} {
		if _, err := f.WriteAt(part, at); err != nil {
			f.Close()
			return nil, fmt.Errorf("write the launcher: %w", err)
		}
	}
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal the launcher: %w", err)
	}
	return f, nil
}

// Start starts a sealed image with exactly these files. os.StartProcess moves
// descriptors about in the child before it executes, so an image whose number
// is in the way is executed through another one. It is not simply given a high
// number: growing the descriptor table of a process with threads waits for an
// RCU grace period, milliseconds (expand_fdtable in fs/file.c).
func Start(image *os.File, name string, files []*os.File, sys *syscall.SysProcAttr) (*os.Process, error) {
	fd, next := int(image.Fd()), len(files)
	for _, f := range files {
		if f != nil {
			next = max(next, int(f.Fd())+1)
		}
	}
	// The child uses the slots below len(files) and, for a moment, about as
	// many numbers from next on.
	if spare := next + len(files) + 1; fd < len(files) || fd >= next && fd < spare {
		other, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, spare)
		if err != nil {
			return nil, fmt.Errorf("descriptor for the launcher from %d on: %w (raise RLIMIT_NOFILE)", spare, err)
		}
		defer unix.Close(other)
		fd = other
	}
	p, err := os.StartProcess("/proc/self/fd/"+strconv.Itoa(fd), []string{name}, &os.ProcAttr{Env: []string{}, Files: files, Sys: sys})
	if err != nil {
		return nil, fmt.Errorf("start the launcher: %w", err)
	}
	return p, nil
}
