package linux

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/backend"
	"github.com/bvisor/bvisor/spec"
)

// defaultPath is searched when the plan's environment has no PATH.
const defaultPath = "/usr/local/bin:/usr/bin:/bin"

// executable finds argv[0] in the boundary's own PATH and view, opens it once
// and hashes it.
func (r *resolver) executable(b *Backend) error {
	command := r.spec.Workload.Command
	if len(command) == 0 {
		return nil
	}
	r.resolved.Executable.Named = command[0]
	candidates := []string{command[0]}
	if !strings.Contains(command[0], "/") {
		candidates = candidates[:0]
		for _, dir := range strings.Split(r.searchPath(), ":") {
			if strings.HasPrefix(dir, "/") {
				candidates = append(candidates, path.Join(dir, command[0]))
			}
		}
	} else if !strings.HasPrefix(command[0], "/") {
		candidates[0] = path.Join(r.resolved.Spec.Workload.Dir, command[0])
	}
	best := &backend.CommandError{Command: command[0], NotFound: true, Why: "command not found in the boundary (searched " + strings.Join(candidates, ", ") + ")",
		Hint: "grant the directory that holds it for reading and executing, for example with --exec DIR, and put it into PATH"}
	for _, c := range candidates {
		err := r.tryExecutable(b, c)
		if err == nil {
			return nil
		}
		if !err.NotFound && best.NotFound {
			best = err
		}
	}
	return best
}

// ungranted says which grant lacks.
func ungranted(e *backend.CommandError, path string) *backend.CommandError {
	e.Grant, e.Hint = path, "grant it with --exec "+path
	return e
}

func (r *resolver) searchPath() string {
	for _, e := range r.spec.Capabilities.Environment {
		if e.Name == "PATH" && e.Lease == "" {
			return e.Value
		}
	}
	return defaultPath
}

func (r *resolver) tryExecutable(b *Backend, name string) *backend.CommandError {
	command := r.spec.Workload.Command[0]
	fail := func(notFound bool, why, hint string) *backend.CommandError {
		return &backend.CommandError{Command: command, NotFound: notFound, Why: name + " " + why, Hint: hint}
	}
	host, _ := r.hostPath(name)
	p, err := lookup(host)
	if err != nil {
		message, _ := describe(err)
		return fail(err == unix.ENOENT || err == unix.ENOTDIR, message, "")
	}
	keep := false
	defer func() {
		if !keep {
			unix.Close(p.fd)
		}
	}()
	inside, root := r.inside(p.path)
	switch {
	case inside == "":
		return ungranted(fail(false, "is not in the boundary", ""), p.path)
	case p.kind() != spec.KindFile:
		return fail(false, "is not a regular file", "")
	case !root.Access.Exec():
		return ungranted(fail(false, "is granted by "+root.Named+" without the right to execute", ""), p.path)
	case unix.Faccessat(unix.AT_FDCWD, p.path, unix.X_OK, unix.AT_EACCESS) != nil:
		return fail(false, "is not executable", "chmod +x it")
	}
	f, err := os.Open("/proc/self/fd/" + strconv.Itoa(p.fd))
	if err != nil {
		return fail(false, "cannot be read", "the kernel opens a program for reading to execute it under Landlock")
	}
	defer f.Close()
	head := make([]byte, 1024)
	n, _ := f.ReadAt(head, 0)
	script := strings.HasPrefix(string(head[:n]), "#!")
	if err := r.interpreter(interpreterOf(f, head[:n]), fail); err != nil {
		return err
	}
	sum, err := b.digests.of(f, &p.stat)
	if err != nil {
		return fail(false, "cannot be read: "+err.Error(), "")
	}
	keep = true
	r.exe = p
	r.links = append(r.links, p.links...)
	r.resolved.Executable = spec.Executable{Named: command, Path: inside, SHA256: sum, Size: p.stat.Size, Script: script}
	return nil
}

// interpreterOf returns what the kernel executes to run a program: what its "#!"
// line names (execve(2)), or its loader; "" is none.
func interpreterOf(f io.ReaderAt, head []byte) string {
	rest, script := strings.CutPrefix(string(head), "#!")
	if !script {
		return loader(f, head)
	}
	line, _, _ := strings.Cut(rest, "\n")
	fields := strings.FieldsFunc(line, func(c rune) bool { return c == ' ' || c == '\t' })
	if len(fields) == 0 {
		return ""
	}
	return fields[0]
}

// loader returns what an ELF program names as its interpreter (elf(5),
// PT_INTERP), or "".
func loader(f io.ReaderAt, head []byte) string {
	const headerSize, entrySize, interp = 64, 56, 3
	if len(head) < headerSize || string(head[:5]) != "\x7fELF\x02" {
		return ""
	}
	le := binary.LittleEndian
	at, count := le.Uint64(head[32:]), int(le.Uint16(head[56:]))
	if at > uint64(len(head)) {
		return ""
	}
	for i := range count {
		off := at + uint64(i)*entrySize // no more than a few MiB, so it cannot overflow
		if off+entrySize > uint64(len(head)) {
			return ""
		}
		if le.Uint32(head[off:]) == interp {
			name := make([]byte, min(le.Uint64(head[off+32:]), unix.PathMax))
			n, _ := f.ReadAt(name, int64(le.Uint64(head[off+8:])))
			text, _, _ := strings.Cut(string(name[:n]), "\x00")
			return text
		}
	}
	return ""
}

// interpreter checks that what a "#!" line or an ELF header names can be
// executed, too: otherwise execve(2) answers ENOENT for a file that is there.
func (r *resolver) interpreter(name string, fail func(bool, string, string) *backend.CommandError) *backend.CommandError {
	if !strings.HasPrefix(name, "/") {
		return nil // none, or the kernel looks it up its own way
	}
	host, _ := r.hostPath(path.Clean(name))
	p, err := lookup(host)
	if err != nil {
		message, _ := describe(err)
		return fail(false, "needs the interpreter "+name+", which "+message, "install it")
	}
	defer unix.Close(p.fd)
	r.links = append(r.links, p.links...)
	if inside, root := r.inside(p.path); inside == "" || !root.Access.Exec() {
		return ungranted(fail(false, "needs the interpreter "+p.path+", which the boundary does not let it execute", ""), p.path)
	}
	return nil
}

// digests remembers the hashes of files that have not changed since: same
// inode, size, and times of change of contents and of status. The status time
// is set by the kernel at every change and cannot be set back by a program.
type digests struct {
	mu    sync.Mutex
	known map[fileVersion]string
}

type fileVersion struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

func version(st *unix.Stat_t) fileVersion {
	return fileVersion{uint64(st.Dev), st.Ino, st.Size, st.Mtim, st.Ctim}
}

// cooled is how old a file's last change must be for its times to name its
// contents.
const cooled = 2 * time.Second

func (d *digests) of(f *os.File, st *unix.Stat_t) (string, error) {
	d.mu.Lock()
	sum, ok := d.known[version(st)]
	d.mu.Unlock()
	if ok {
		return sum, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	sum = hex.EncodeToString(h.Sum(nil))
	var after unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &after); err != nil {
		return "", err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil || len(d.known) > 1000 {
		d.known = map[fileVersion]string{}
	}
	// Two changes within one tick of the kernel's clock leave the same times.
	if version(&after) == version(st) && time.Since(time.Unix(st.Ctim.Unix())) > cooled {
		d.known[version(st)] = sum
	}
	return sum, nil
}
