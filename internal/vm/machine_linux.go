package vm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Machine is what suites are run in.
type Machine struct {
	Kernel  Kernel
	Cache   string // directory of packages
	Module  Module
	CPUs    int
	Memory  int    // MiB
	Console string // file for what the kernel says
}

// modules are loaded in this order; one that a kernel's package does not have is
// built in.
var modules = []string{
	"virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk", // the disk
	"overlay", "tun", "veth", // what boundaries may use
	"fuse", // a file system that does not answer
}

// Result is how one suite ended.
type Result struct {
	Suite  Suite
	Output []byte
	Ended  *Ended // nil: it did not end
}

// hardware is what differs between architectures.
type hardware struct {
	emulator string
	cpu      string
	boot     string // words for the kernel
	args     []string
	port     string // where the guest finds the second serial line
	console  string
}

var hardwares = map[string]hardware{
	// The kernel does not trust the time stamp counter of a machine like this one,
	// and asking another clock is a system call and an act of the emulator.
	"amd64": {"qemu-system-x86_64", "max", " tsc=reliable", []string{"-machine", "pc", "-serial", "chardev:console", "-serial", "chardev:results"}, "/dev/ttyS1", "ttyS0"},
	// "virt" has one line for everybody; a card with one more is on the bus.
	// The architecture's own algorithm that signs pointers is dear to emulate.
	"arm64": {"qemu-system-aarch64", "max,pauth-impdef=on", "", []string{"-machine", "virt", "-serial", "chardev:console", "-device", "pci-serial,chardev=results"}, "/dev/ttyS0", "ttyAMA0"},
}

// Emulator is the program that a kernel needs on this machine.
func (k Kernel) Emulator() string { return hardwares[k.Arch].emulator }

// Run starts a machine, has it run the suites, and gives each piece of output
// to out as it comes. It is an error if the machine ended, or ctx did, before
// every suite had.
func (m Machine) Run(ctx context.Context, suites []Suite, binaries []Binary, out func(s Suite, output []byte)) ([]Result, error) {
	dir, err := os.MkdirTemp("", "bvisor-vm-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	p, err := Fetch(ctx, m.Cache, m.Kernel)
	if err != nil {
		return nil, err
	}
	boot, err := p.Open(ctx, modules)
	if err != nil {
		return nil, err
	}
	hw := hardwares[m.Kernel.Arch]
	guest, kernel, root, disk := filepath.Join(dir, "guest"), filepath.Join(dir, "kernel"), filepath.Join(dir, "root"), filepath.Join(dir, "disk")
	if err := m.Module.buildGuest(ctx, m.Kernel.Arch, guest); err != nil {
		return nil, err
	}
	if err := write(kernel, boot.Image); err != nil {
		return nil, err
	}
	if err := makeDisk(ctx, disk); err != nil {
		return nil, err
	}
	job := Job{Port: hw.port, Suites: suites}
	for _, name := range modules {
		for _, suffix := range []string{".ko", ".ko.xz"} {
			if boot.Modules[name+suffix] != nil {
				job.Modules = append(job.Modules, modulePath(name+suffix))
			}
		}
	}
	if err := m.pack(root, guest, boot, job, binaries); err != nil {
		return nil, err
	}
	console := m.Console
	if console == "" {
		console = filepath.Join(dir, "console")
	}
	args := append([]string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-accel", "tcg", "-cpu", hw.cpu, "-smp", strconv.Itoa(m.CPUs), "-m", strconv.Itoa(m.Memory),
		"-kernel", kernel, "-initrd", root, "-append", "console=" + hw.console + " panic=-1 quiet loglevel=4 mitigations=off" + hw.boot,
		// What is on it is thrown away, so nobody waits until it is written.
		"-drive", "file=" + disk + ",format=raw,if=none,id=disk,cache=unsafe", "-device", "virtio-blk-pci,drive=disk",
		"-chardev", "file,id=console,path=" + console,
		"-chardev", "stdio,id=results,signal=off",
	}, hw.args...)
	results := make([]Result, len(suites))
	for i := range results {
		results[i].Suite = suites[i]
	}
	const boots = 3
	var done, heard bool
	for n := 0; n < boots && !heard && ctx.Err() == nil; n++ {
		done, heard, err = emulate(ctx, exec.CommandContext(ctx, hw.emulator, args...), results, out)
	}
	if done {
		return results, err
	}
	if err = errors.Join(context.Cause(ctx), err); err == nil {
		err = errors.New("the emulator had no complaint")
	}
	said, _ := os.ReadFile(console)
	return results, fmt.Errorf("the machine with %s %s ended early: %w\nits console's end:\n%s", p.Name, p.Version, err, tail(said, 60))
}

// emulate starts a machine and listens until it ends: whether it was done, and
// whether it said anything at all. A kernel may die in its own boot, since it
// changes its instructions while other processors execute them, and an emulator
// is not always as careful as a processor (asm_exc_int3 where nothing is patched
// any more). Nothing of ours has run then, and it is started once more.
func emulate(ctx context.Context, cmd *exec.Cmd, results []Result, out func(Suite, []byte)) (done, heard bool, err error) {
	cmd.WaitDelay = 5 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	port, err := cmd.StdoutPipe()
	if err != nil {
		return false, false, err
	}
	if err := cmd.Start(); err != nil {
		return false, true, err // which another start does not change
	}
	said := &counter{Reader: port}
	done, err = listen(said, results, out)
	done = done && err == nil
	io.Copy(io.Discard, said)
	err = errors.Join(err, cmd.Wait())
	if err != nil && stderr.Len() > 0 {
		err = fmt.Errorf("%w: %s", err, stderr.String())
	}
	return done, said.n > 0, err
}

// counter counts what is read.
type counter struct {
	io.Reader
	n int
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += n
	return n, err
}

// mkfs is not on the path of ordinary users.
const mkfs = "/sbin/mkfs.ext4"

// makeDisk makes the disk that /tmp is on: a tmpfs has no extended attributes of
// users before Linux 6.6, and is not what most hosts have there.
func makeDisk(ctx context.Context, name string) error {
	const size = "2G" // a sparse file
	out, err := exec.CommandContext(ctx, mkfs, "-q", "-F", "-m", "0", "-O", "^has_journal", name, size).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", mkfs, err, out)
	}
	return nil
}

// listen reads messages until the machine has nothing more to say.
func listen(port io.Reader, results []Result, out func(Suite, []byte)) (done bool, err error) {
	r := bufio.NewReader(port)
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			if len(line) > 0 {
				return false, fmt.Errorf("the last message has no end: %.200q", line)
			}
			return done, nil
		}
		if err != nil {
			return false, err
		}
		var m Message
		if err := json.Unmarshal(line, &m); err != nil {
			return false, fmt.Errorf("%w: %.200q", err, line)
		}
		switch {
		case m.Failed != "":
			return false, errors.New("inside: " + m.Failed)
		case m.Done:
			done = true
		case m.Suite < 0 || m.Suite >= len(results):
			return false, fmt.Errorf("no suite %d", m.Suite)
		default:
			s := &results[m.Suite]
			s.Output = append(s.Output, m.Output...)
			if len(m.Output) > 0 {
				out(s.Suite, m.Output)
			}
			if m.Ended != nil {
				s.Ended = m.Ended
			}
		}
	}
}

func tail(text []byte, lines int) string {
	all := strings.Split(strings.ReplaceAll(strings.TrimSpace(string(text)), "\r", ""), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Places inside the machine.
const (
	moduleDir = "/vm/modules"
	suiteDir  = "/vm/suites"
	treeDir   = "/src"
)

func modulePath(name string) string { return filepath.Join(moduleDir, name) }

// Suite is a binary with arguments, as the machine sees it.
func (b Binary) Suite(uid int, args, env []string) Suite {
	return Suite{Name: b.Package, Path: filepath.Join(suiteDir, filepath.Base(b.File)), Dir: filepath.Join(treeDir, b.Dir), Args: args, Env: env, UID: uid}
}

// packages of this host whose programs suites confine or compare with.
// Libraries come with them. What more a suite needs it skips by name.
var packages = []string{
	"bash", "coreutils", "dash", "diffutils", "findutils", "grep", "gzip", "mount", "procps", "sed", "strace", "tar", "util-linux",
}

// etc are the files of the machine's own.
var etc = map[string]string{
	"/etc/passwd":        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/sh\n",
	"/etc/group":         "root:x:0:\nnogroup:x:65534:\n",
	"/etc/hosts":         "127.0.0.1 localhost\n",
	"/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
	"/etc/resolv.conf":   "",
	"/etc/os-release":    "ID=debian\nPRETTY_NAME=\"a machine for tests\"\n",
}

// pack writes the archive that becomes the machine's root.
func (m Machine) pack(name, guest string, boot Boot, job Job, binaries []Binary) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	a := newArchive(w)
	for _, dir := range []string{"/dev", "/proc", "/sys", "/run", "/root", "/home", "/mnt", "/var/tmp", "/usr/lib", "/usr/share", "/vm/root"} {
		a.dir(dir, 0o755)
	}
	a.dir("/tmp", 0o1777)
	for _, name := range []string{"/etc/passwd", "/etc/group", "/etc/hosts", "/etc/nsswitch.conf", "/etc/resolv.conf", "/etc/os-release"} {
		a.file(name, 0o644, []byte(etc[name]))
	}
	for name, data := range boot.Modules {
		a.file(modulePath(name), 0o644, data)
	}
	for inside, outside := range m.executables(guest, binaries) {
		data, err := os.ReadFile(outside)
		if err != nil {
			return err
		}
		a.file(inside, 0o755, data)
	}
	text, err := json.Marshal(job)
	if err != nil {
		return err
	}
	a.file(JobFile, 0o644, text)
	if m.Kernel.hasPrograms() {
		for _, p := range packages {
			if err := a.hostPrograms(p); err != nil {
				return err
			}
		}
	}
	if err := a.hostTree(m.Module.Dir, treeDir, func(rel string) bool { return rel == ".git" || rel == "bin" }); err != nil {
		return err
	}
	return errors.Join(a.close(), w.Flush(), f.Close())
}

func (m Machine) executables(guest string, binaries []Binary) map[string]string {
	list := map[string]string{"/init": guest}
	for _, b := range binaries {
		list[b.Suite(0, nil, nil).Path] = b.File
	}
	return list
}
