package vm

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Kernel is one that Debian builds, and what a suite may demand under it.
type Kernel struct {
	Name    string // version
	Arch    string // as Go names it, and Debian, too
	Package string // of which the kernel's own package is the dependency
	Has     []string
}

// Kernels are those that suites run under. 6.1 is an old host: its Landlock
// holds neither truncation (ABI 3) nor a device's ioctls (5) nor signals (6), and
// its tmpfs keeps no marks of an overlay, so it cannot hold writes back.
var Kernels = []Kernel{
	{"6.1", "amd64", "linux-image-cloud-amd64", demands("landlock:2")},
	{"6.12", "amd64", "linux-image-6.12-cloud-amd64", append(demands("landlock:6"), "overlay")},
	{"6.12", "arm64", "linux-image-6.12-cloud-arm64", append(demands("landlock:6"), "overlay")},
}

// demands are what every kernel has, and its Landlock.
func demands(landlock string) []string {
	return []string{landlock, "root", "confine", "namespaces", "userns", "mount_setattr", "cgroup2", "cgroup", "pty", "suid", "file-capabilities", "keyrings", "file=/dev/fuse"}
}

// Find is the kernel of that name.
func Find(name, arch string) (Kernel, error) {
	i := slices.IndexFunc(Kernels, func(k Kernel) bool { return k.Name == name && k.Arch == arch })
	if i < 0 {
		return Kernel{}, fmt.Errorf("no kernel %s for %s", name, arch)
	}
	return Kernels[i], nil
}

// CacheVariable is the environment variable with the directory that packages
// are kept in between runs.
const CacheVariable = "BVISOR_VM_CACHE"

// CacheDir is that directory: below the user's own unless the variable says.
func CacheDir() (string, error) {
	if dir := os.Getenv(CacheVariable); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "bvisor", "vm"), err
}

// Package is a Debian package on disk.
type Package struct {
	Name, Version, SHA256 string
	File                  string
}

// The archive's lists are signed, its newest kernel has the fixes that users'
// kernels have, and older ones are removed from it: so the version is not
// pinned, and the checksum is the one that the signed list gives. The security
// archive alone holds every kernel of the release, and its lists are small.
const (
	keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
	source  = "deb [signed-by=" + keyring + "] http://deb.debian.org/debian-security bookworm-security main\n"
)

// fresh is how long lists are used without asking again.
const fresh = 24 * time.Hour

// Fetch returns the newest package of a kernel, from dir if it is there. apt
// has lists of its own below dir, so it needs no root, knows the other
// architecture and changes nothing on this machine. Without a network it takes
// what it saw last.
func Fetch(ctx context.Context, dir string, k Kernel) (Package, error) {
	for _, program := range []string{"apt-get", "apt-cache"} {
		if _, err := exec.LookPath(program); err != nil {
			return Package{}, err
		}
	}
	if _, err := os.Stat(keyring); err != nil {
		return Package{}, err
	}
	a := apt{ctx, filepath.Join(dir, k.Arch), k.Arch}
	if err := os.MkdirAll(filepath.Join(a.dir, "lists", "partial"), 0o755); err != nil {
		return Package{}, err
	}
	unlock, err := lock(a.dir)
	if err != nil {
		return Package{}, err
	}
	defer unlock()
	updateErr := a.update()
	p, err := a.resolve(k.Package)
	if err != nil {
		return Package{}, errors.Join(updateErr, err)
	}
	p.File = filepath.Join(a.dir, k.Name+"-"+p.SHA256+".deb")
	if err := p.check(); err == nil {
		return p, nil
	}
	if err := a.download(p); err != nil {
		return Package{}, errors.Join(updateErr, err)
	}
	return p, a.drop(k, p)
}

// lock keeps two fetches apart.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// check compares the package with its checksum.
func (p Package) check() error {
	f, err := os.Open(p.File)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != p.SHA256 {
		return fmt.Errorf("%s has SHA-256 %s, the signed list says %s", p.File, got, p.SHA256)
	}
	return nil
}

// apt is Debian's package manager with a state of its own.
type apt struct {
	ctx       context.Context
	dir, arch string
}

func (a apt) run(program string, args ...string) ([]byte, error) {
	return a.runIn(a.dir, program, args...)
}

func (a apt) runIn(cwd, program string, args ...string) ([]byte, error) {
	options := []string{
		"-q",
		"-o", "Dir::State=" + a.dir,
		"-o", "Dir::State::Lists=" + filepath.Join(a.dir, "lists"),
		"-o", "Dir::State::Status=/dev/null", // nothing is installed there
		"-o", "Dir::Cache=" + a.dir,
		"-o", "Dir::Etc::SourceList=" + a.sources(),
		"-o", "Dir::Etc::SourceParts=/dev/null",
		"-o", "APT::Architecture=" + a.arch,
		"-o", "APT::Architectures=" + a.arch,
		"-o", "APT::Sandbox::User=", // apt's own user may not write here
		"-o", "APT::Update::Error-Mode=any", // a list that cannot be fetched is an error
		"-o", "Acquire::Languages=none",
	}
	cmd := exec.CommandContext(a.ctx, program, append(options, args...)...)
	cmd.Dir = cwd
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

func (a apt) sources() string { return filepath.Join(a.dir, "sources.list") }

// update fetches the lists unless they are fresh.
func (a apt) update() error {
	have, _ := os.ReadFile(a.sources())
	if info, err := os.Stat(filepath.Join(a.dir, "updated")); err == nil && time.Since(info.ModTime()) < fresh && string(have) == source {
		return nil
	}
	if err := write(a.sources(), []byte(source)); err != nil {
		return err
	}
	if _, err := a.run("apt-get", "update"); err != nil {
		return err
	}
	return write(filepath.Join(a.dir, "updated"), nil)
}

// resolve finds the kernel's package behind the one that always names the
// newest.
func (a apt) resolve(meta string) (Package, error) {
	fields, err := a.show(meta)
	if err != nil {
		return Package{}, err
	}
	name, version, ok := strings.Cut(fields["Depends"], " (= ")
	if !ok || !strings.HasPrefix(name, "linux-image-") {
		return Package{}, fmt.Errorf("%s depends on %q, expected one linux-image package", meta, fields["Depends"])
	}
	name += "=" + strings.TrimSuffix(version, ")")
	if fields, err = a.show(name); err != nil {
		return Package{}, err
	}
	p := Package{Name: fields["Package"], Version: fields["Version"], SHA256: fields["SHA256"]}
	if len(p.SHA256) != sha256.Size*2 {
		return Package{}, fmt.Errorf("the list gives no SHA-256 for %s", name)
	}
	return p, nil
}

// show is what the signed list says of a package (deb-control(5)).
func (a apt) show(name string) (map[string]string, error) {
	out, err := a.run("apt-cache", "show", "--no-all-versions", name)
	if err != nil {
		return nil, err
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if key, value, ok := strings.Cut(line, ": "); ok && line[0] != ' ' {
			fields[key] = strings.TrimSpace(value)
		}
	}
	return fields, nil
}

// download fetches a package beside its place, checks it and puts it there.
func (a apt) download(p Package) error {
	tmp, err := os.MkdirTemp(a.dir, "download-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if _, err := a.runIn(tmp, "apt-get", "download", p.Name+"="+p.Version); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(files) != 1 {
		return fmt.Errorf("apt-get download left %q (%v), expected one package", files, err)
	}
	got := p
	got.File = files[0]
	if err := got.check(); err != nil {
		return err
	}
	return os.Rename(got.File, p.File)
}

// drop removes what a newer package of the same kernel replaces.
func (a apt) drop(k Kernel, p Package) error {
	files, err := filepath.Glob(filepath.Join(a.dir, k.Name+"-*.deb"))
	for _, f := range files {
		if f != p.File {
			err = errors.Join(err, os.Remove(f))
		}
	}
	return err
}

// Boot is what of a package a machine starts with.
type Boot struct {
	Image   []byte
	Modules map[string][]byte // by name, without the directory and ".xz"
}

// Open takes the kernel and those of the modules that are not built in out of
// the package.
func (p Package) Open(ctx context.Context, modules []string) (Boot, error) {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", p.File)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return Boot{}, err
	}
	if err := cmd.Start(); err != nil {
		return Boot{}, err
	}
	b := Boot{Modules: map[string][]byte{}}
	readErr := b.read(tar.NewReader(out), modules)
	io.Copy(io.Discard, out)
	if err := errors.Join(readErr, cmd.Wait()); err != nil {
		return Boot{}, fmt.Errorf("%s: %w", p.File, err)
	}
	if b.Image == nil {
		return Boot{}, fmt.Errorf("%s holds no kernel", p.File)
	}
	return b, nil
}

func (b *Boot) read(r *tar.Reader, modules []string) error {
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		base := path.Base(h.Name)
		module := strings.TrimSuffix(strings.TrimSuffix(base, ".xz"), ".ko")
		switch {
		case strings.HasPrefix(base, "vmlinuz-"):
			if b.Image, err = io.ReadAll(r); err != nil {
				return err
			}
		case module != base && slices.Contains(modules, module):
			if b.Modules[base], err = io.ReadAll(r); err != nil {
				return err
			}
		}
	}
}

func write(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// hasPrograms says whether this host's programs run under the kernel.
func (k Kernel) hasPrograms() bool { return k.Arch == runtime.GOARCH }

// Nobody is the ordinary user of a machine.
const Nobody = 65534

// Env is the environment of suites under this kernel.
func (k Kernel) Env(uid int) []string {
	home, demands := "/root", slices.Clone(k.Has)
	if k.hasPrograms() {
		demands = append(demands, "program=bash", "program=find", "program=sh", "program=sort", "program=tar")
	}
	if uid != 0 {
		home = "/nonexistent"
		demands = slices.DeleteFunc(demands, func(d string) bool { return d == "root" })
	}
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + home, "TMPDIR=/tmp",
		"BVISOR_NEED=" + strings.Join(demands, ","),
	}
}
