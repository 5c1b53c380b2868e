//go:build amd64 || arm64

package launcher

import (
	"bytes"
	"debug/elf"
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

// Image makes the program's image.
func (p *Program) Image() Image {
	data := p.encode(true)
	machine := elf.EM_X86_64
	if runtime.GOARCH == "arm64" {
		machine = elf.EM_AARCH64
	}
	var h bytes.Buffer
	header := elf.Header64{
		Ident:     [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:      uint16(elf.ET_EXEC),
		Machine:   uint16(machine),
		Version:   uint32(elf.EV_CURRENT),
		Entry:     codeBase + page,
		Phoff:     64,
		Ehsize:    64,
		Phentsize: 56,
		Phnum:     3,
	}
	segments := []elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Off: page, Vaddr: codeBase + page, Filesz: uint64(len(Machine)), Memsz: uint64(len(Machine)), Align: page},
		{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W), Off: 2 * page, Vaddr: dataBase, Filesz: uint64(len(data)), Memsz: uint64(len(data)), Align: page},
		{Type: uint32(elf.PT_GNU_STACK), Flags: uint32(elf.PF_R | elf.PF_W)},
	}
	// Writes to a bytes.Buffer of fixed-size values cannot fail.
	_ = binary.Write(&h, binary.LittleEndian, header)
	_ = binary.Write(&h, binary.LittleEndian, segments)
	return Image{header: h.Bytes(), data: data}
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
