//go:build linux && (amd64 || arm64)

package linux_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// This file reads /proc for tests. It shares nothing with what bvisor reads it
// with, so that the two cannot be wrong together.

// seenMount is one line of a mountinfo file (proc_pid_mountinfo(5)).
type seenMount struct {
	point   string
	fstype  string
	flags   string // of ro, nosuid, nodev, noexec those that are set, in this order
	private bool   // nothing propagates to it or from it
}

var mountFlags = []string{"ro", "nosuid", "nodev", "noexec"}

func mountsOf(t testing.TB, pid int) []seenMount {
	t.Helper()
	var list []seenMount
	for line := range strings.Lines(readText(t, fmt.Sprintf("/proc/%d/mountinfo", pid))) {
		f := strings.Fields(line)
		dash := slices.Index(f, "-")
		if dash < 6 || len(f) < dash+3 {
			t.Fatalf("not a line of mountinfo: %q", line)
		}
		options := strings.Split(f[5], ",")
		list = append(list, seenMount{point: unescape(f[4]), fstype: f[dash+1], private: dash == 6,
			flags: strings.Join(slices.DeleteFunc(slices.Clone(mountFlags), func(n string) bool { return !slices.Contains(options, n) }), ",")})
	}
	return list
}

// unescape undoes what the kernel does to blanks and backslashes: \ooo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// seenDescriptor is what an open descriptor is.
type seenDescriptor struct {
	link string // where /proc/PID/fd/N leads
	mode string // r, w or rw
}

// class is the kind of file behind a descriptor, by its link.
func (d seenDescriptor) class() string {
	for prefix, class := range map[string]string{"pipe:": "pipe", "socket:": "socket", "anon_inode:": "other", "/dev/": "device", "/": "file"} {
		if strings.HasPrefix(d.link, prefix) && (class != "file" || !strings.HasPrefix(d.link, "/dev/")) {
			return class
		}
	}
	return "unknown"
}

func descriptorsOf(t testing.TB, dir string) map[int]seenDescriptor {
	t.Helper()
	m := map[int]seenDescriptor{}
	for _, name := range names(dir + "/fd") {
		n, err := strconv.Atoi(name)
		must(t, err)
		link, err := os.Readlink(dir + "/fd/" + name)
		must(t, err)
		d := seenDescriptor{link: link}
		for line := range strings.Lines(readText(t, dir+"/fdinfo/"+name)) {
			if v, ok := strings.CutPrefix(line, "flags:"); ok {
				flags, err := strconv.ParseUint(strings.TrimSpace(v), 8, 64)
				must(t, err)
				d.mode = []string{"r", "w", "rw", "?"}[flags&3]
			}
		}
		m[n] = d
	}
	return m
}

// limitsOf are soft and hard limit by name.
func limitsOf(t testing.TB, pid int) map[string]string {
	t.Helper()
	m := map[string]string{}
	text := readText(t, fmt.Sprintf("/proc/%d/limits", pid))
	header, rest, _ := strings.Cut(text, "\n")
	soft := strings.Index(header, "Soft")
	for line := range strings.Lines(rest) {
		f := strings.Fields(line[soft:])
		m[strings.TrimSpace(line[:soft])] = f[0] + " " + f[1]
	}
	return m
}

// statOf are the fields of proc_pid_stat(5) behind the name: 0 is the state.
func statOf(t testing.TB, dir string) []string {
	t.Helper()
	text := readText(t, dir+"/stat")
	return strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
}

// threadsOf are the directories of a process's threads.
func threadsOf(t testing.TB, pid int) []string {
	t.Helper()
	dirs, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid))
	must(t, err)
	return dirs
}
