//go:build amd64 || arm64

package launcher

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// attacks are what could change a file; each names what it did when it worked.
var attacks = []struct {
	name string
	try  func(f *os.File) error
}{
	{"write", func(f *os.File) error { _, err := f.WriteAt([]byte("x"), 0); return err }},
	{"grow", func(f *os.File) error { _, err := f.WriteAt([]byte("x"), 1<<20); return err }},
	{"truncate", func(f *os.File) error { return f.Truncate(0) }},
	{"extend", func(f *os.File) error { return f.Truncate(1 << 20) }},
	{"punch a hole", func(f *os.File) error {
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096)
	}},
	{"map shared", func(f *os.File) error {
		m, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err == nil {
			m[0]++
			err = unix.Munmap(m)
		}
		return err
	}},
	{"map shared, then allow writing", func(f *os.File) error {
		m, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		defer unix.Munmap(m)
		return unix.Mprotect(m, unix.PROT_READ|unix.PROT_WRITE)
	}},
	{"open anew for writing", func(f *os.File) error {
		again, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer again.Close()
		_, err = again.WriteAt([]byte("x"), 0)
		return err
	}},
	{"truncate by opening", func(f *os.File) error {
		again, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_WRONLY|os.O_TRUNC, 0)
		if err == nil {
			again.Close()
		}
		return err
	}},
	{"another seal", func(f *os.File) error {
		_, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_GROW)
		return err
	}},
}

// Nobody can change the launcher's image once it is sealed, not even who made
// it (CVE-2019-5736). The same acts change a memfd that is not sealed.
func TestSealedImageCannotBeChanged(t *testing.T) {
	image, err := assemble(func(*Program) {}).Image().Seal()
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	contents := func() []byte {
		b := make([]byte, 1<<20)
		n, _ := image.ReadAt(b, 0)
		return b[:n]
	}
	before := contents()
	for _, a := range attacks {
		fd, err := unix.MemfdCreate("control", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		if err != nil {
			t.Fatal(err)
		}
		control := os.NewFile(uintptr(fd), "control")
		if err := control.Truncate(4096); err != nil {
			t.Fatal(err)
		}
		if err := a.try(control); err != nil {
			t.Errorf("control: %s: %v", a.name, err)
		}
		control.Close()
		if err := a.try(image); err == nil {
			t.Errorf("%s: it worked", a.name)
		}
		if !bytes.Equal(contents(), before) {
			t.Fatalf("%s: the image changed", a.name)
		}
	}
	flags, err := unix.FcntlInt(image.Fd(), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("the image's descriptor has flags %d, %v; want close-on-exec", flags, err)
	}
}

// The image is what an ELF reader expects, with nothing both writable and
// executable.
func TestImageIsAnELF(t *testing.T) {
	p := assemble(func(*Program) {})
	f, err := elf.Open(writeImage(t, p))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	code, data := false, false
	for _, s := range f.Progs {
		if s.Flags&elf.PF_W != 0 && s.Flags&elf.PF_X != 0 {
			t.Errorf("segment at %#x is writable and executable", s.Vaddr)
		}
		if s.Type != elf.PT_LOAD {
			continue
		}
		b := make([]byte, s.Filesz)
		if _, err := s.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		if s.Vaddr%s.Align != s.Off%s.Align {
			t.Errorf("segment at %#x cannot be mapped from offset %#x", s.Vaddr, s.Off)
		}
		switch {
		case s.Flags&elf.PF_X != 0:
			code = s.Vaddr == f.Entry && bytes.Equal(b, Machine)
		case s.Vaddr == dataBase:
			boot, _ := p.encode()
			data = bytes.Equal(b, boot)
		}
	}
	if !code || !data {
		t.Errorf("machine at the entry: %v, program at %#x: %v", code, uint64(dataBase), data)
	}
	if len(Machine) == 0 || len(Machine) > 400 {
		t.Errorf("the machine has %d bytes", len(Machine))
	}
}
