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

// Image makes the image of the program's boot.
func (p *Program) Image() Image {
	data, _ := p.encode()
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
	return seal("bvisor-launcher", unix.MFD_EXEC, map[int64][]byte{0: i.header, page: Machine, 2 * page: i.data})
}

// SealBody writes the program's body to a sealed memfd that cannot be executed.
// The caller closes the file.
func (p *Program) SealBody() (*os.File, error) {
	_, body := p.encode()
	if len(body) > BodyRoom {
		return nil, fmt.Errorf("the program takes %d bytes, expected at most %d: grant fewer paths", len(body), BodyRoom)
	}
	return seal("bvisor-program", unix.MFD_NOEXEC_SEAL, map[int64][]byte{0: body})
}

// seal makes a memfd of parts at their offsets. mode is one of Linux 6.3; before
// it every memfd can be executed.
func seal(name string, mode int, parts map[int64][]byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|mode)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	for at, part := range parts {
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

// Start starts a sealed image with exactly these files and returns its pid, for
// Wait. syscall.ForkExec moves descriptors about in the child before it
// executes, so an image whose number is in the way is executed through another
// one. It is not simply given a high number: growing the descriptor table of a
// process with threads waits for an RCU grace period, milliseconds
// (expand_fdtable in fs/file.c).
//
// Not os.StartProcess: its first use in a process starts two more, to learn
// whether pidfds work. A child that only Wait reaps keeps its number until then.
func Start(image *os.File, name string, files []*os.File, sys *syscall.SysProcAttr) (int, error) {
	fd, next := int(image.Fd()), len(files)
	numbers := make([]uintptr, len(files))
	for i, f := range files {
		numbers[i] = ^uintptr(0) // closed
		if f != nil {
			numbers[i] = f.Fd()
			next = max(next, int(f.Fd())+1)
		}
	}
	// The child uses the slots below len(files) and, for a moment, about as
	// many numbers from next on.
	if spare := next + len(files) + 1; fd < len(files) || fd >= next && fd < spare {
		other, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, spare)
		if err != nil {
			return 0, fmt.Errorf("descriptor for the launcher from %d on: %w (raise RLIMIT_NOFILE)", spare, err)
		}
		defer unix.Close(other)
		fd = other
	}
	pid, err := syscall.ForkExec("/proc/self/fd/"+strconv.Itoa(fd), []string{name}, &syscall.ProcAttr{Env: []string{}, Files: numbers, Sys: sys})
	runtime.KeepAlive(files)
	if err != nil {
		return 0, fmt.Errorf("start the launcher: %w", err)
	}
	return pid, nil
}

// Wait reaps a process that Start started.
func Wait(pid int) error {
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
			return err
		}
	}
}
