package vm

import (
	"fmt"
	"io"
	"path"
	"strings"
)

// archive writes a cpio archive in the "newc" form, which the kernel unpacks
// into its first root (Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	w    io.Writer
	err  error
	n    int             // inodes so far
	made map[string]bool // names
}

func newArchive(w io.Writer) *archive { return &archive{w: w, made: map[string]bool{"/": true}} }

// File types of inode(7).
const (
	typeDir  = 0o040000
	typeFile = 0o100000
	typeLink = 0o120000
)

func (a *archive) dir(name string, mode uint32) { a.add(name, typeDir|mode, nil) }

func (a *archive) file(name string, mode uint32, data []byte) { a.add(name, typeFile|mode, data) }

func (a *archive) link(name, target string) { a.add(name, typeLink|0o777, []byte(target)) }

// add writes one entry, and the directories above it. What is there already
// stays.
func (a *archive) add(name string, mode uint32, data []byte) {
	name = path.Clean(name)
	if a.made[name] {
		return
	}
	a.dir(path.Dir(name), 0o755)
	a.made[name] = true
	a.entry(strings.TrimPrefix(name, "/"), mode, data)
}

func (a *archive) entry(name string, mode uint32, data []byte) {
	a.n++
	// Inode, mode, uid, gid, links, time, size, device, device it stands for,
	// length of the name, checksum.
	fields := []int{a.n, int(mode), 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0}
	header := "070701"
	for _, f := range fields {
		header += fmt.Sprintf("%08x", f)
	}
	a.write([]byte(header + name + "\x00"))
	a.pad(len(header) + len(name) + 1)
	a.write(data)
	a.pad(len(data))
}

// close ends the archive.
func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, nil)
	return a.err
}

func (a *archive) pad(n int) { a.write(make([]byte, -n&3)) }

func (a *archive) write(p []byte) {
	if a.err == nil {
		_, a.err = a.w.Write(p)
	}
}
