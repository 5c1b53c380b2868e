package selftest

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

const (
	theFile  = "the file on the host"
	theToken = "a text that only the host has"
	canary   = "canary"
)

func files() []Attack {
	return []Attack{
		{"read-a-file", "read a file of the host", []plan.Kind{plan.Filesystem}, func(s *scene) (try, error) { return s.readIt("read") }},
		{"write-a-file", "overwrite a file of the host", []plan.Kind{plan.Filesystem}, func(s *scene) (try, error) {
			path, err := s.plant(canary, canary, 0o644)
			return s.changed(path, canary, "w", "write", path), err
		}},
		{"create-a-file", "make a file in a directory of the host", []plan.Kind{plan.Filesystem}, func(s *scene) (try, error) {
			path := s.path("new")
			t := s.changed(path, "", "w", "create", path)
			t.through = func(ending) bool { return exists(path) }
			return t, nil
		}},
		{"delete-a-file", "delete a file of the host", []plan.Kind{plan.Filesystem}, func(s *scene) (try, error) {
			path, err := s.plant(canary, canary, 0o644)
			return s.changed(path, canary, "w", "unlink", path), err
		}},
		{"change-a-mode", "change the mode of a file of the host", []plan.Kind{plan.MountNamespace}, func(s *scene) (try, error) {
			path, err := s.plant(canary, canary, 0o640)
			t := s.changed(path, canary, "w", "chmod", path) // to 0600
			t.through = func(ending) bool {
				info, err := os.Lstat(path)
				return err != nil || info.Mode().Perm() != 0o640
			}
			return t, err
		}},
		{"write-what-may-be-read", "overwrite a file of the host that was granted for reading", []plan.Kind{plan.Filesystem}, func(s *scene) (try, error) {
			path, err := s.plant("in/"+canary, canary, 0o644)
			t := s.changed(path, canary, "w", "write", path)
			t.change = grant("r", s.path("in"))
			return t, err
		}},
		{"follow-a-link-out", "read a file of the host through a symbolic link in a granted directory", []plan.Kind{plan.Filesystem}, func(s *scene) (try, error) {
			t, err := s.readIt("read")
			if err != nil {
				return t, err
			}
			if err := os.Mkdir(s.path("in"), 0o755); err != nil {
				return t, err
			}
			link := s.path("in/link")
			t.act, t.change = []string{"read", link}, grant("r", s.path("in"))
			return t, os.Symlink("../"+canary, link)
		}},
		{"climb-out", "leave the root by way of many times ..", []plan.Kind{plan.MountNamespace}, func(s *scene) (try, error) { return s.findIt("climb") }},
		{"climb-out-by-proc", "leave the root through the links below /proc", []plan.Kind{plan.MountNamespace, plan.PrivateProc}, func(s *scene) (try, error) { return s.findIt("proc-climb") }},
		{"open-by-handle", "open a file of the host by its number on the file system", []plan.Kind{plan.CallFilter, plan.NoCapabilities}, func(s *scene) (try, error) {
			t, err := s.findIt("open-handle")
			t.allowed = nil // no grant allows this way to a file
			return t, err
		}},
		{"read-the-signing-key", "read the key that seals bvisor's reports", []plan.Kind{plan.Filesystem}, func(s *scene) (try, error) {
			return try{act: []string{"may-read", s.Key}}, nil
		}},
		{"open-a-device", "open a device that is not in a minimal /dev: /dev/ptmx", []plan.Kind{plan.MinimalDev}, func(s *scene) (try, error) {
			return try{act: []string{"may-write", "/dev/ptmx"}, allowed: granted("/dev/ptmx", "w")}, nil
		}},
		{"change-a-kernel-setting", "open a setting of the kernel for writing: /proc/sys/kernel/core_pattern", []plan.Kind{plan.PrivateProc}, func(s *scene) (try, error) {
			return try{act: []string{"may-write", "/proc/sys/kernel/core_pattern"}}, nil
		}},
		{"move-to-another-cgroup", "open the list of processes of the topmost cgroup for writing", []plan.Kind{plan.NoSys}, func(s *scene) (try, error) {
			path, err := topCgroup()
			return try{act: []string{"may-write", path}, allowed: granted(path, "w")}, err
		}},
		{"run-from-memory", "execute a program that has no path", []plan.Kind{plan.CallFilter}, func(s *scene) (try, error) {
			word := token()
			return try{act: []string{"memfd-exec", s.Exe, "victim", "say", word}, witness: "the output of what was executed",
				through: func(e ending) bool { return e.stdout == word }, allowed: writesAndRuns}, nil
		}},
	}
}

// readIt is an act that prints a file of the host.
func (s *scene) readIt(act string) (try, error) {
	text := token()
	path, err := s.plant(canary, text, 0o644)
	return try{act: []string{act, path}, witness: theToken, allowed: granted(path, "r"),
		through: func(e ending) bool { return strings.Contains(e.stdout, text) }}, err
}

// findIt is an act that reaches a file of the host and prints nothing of it.
func (s *scene) findIt(act string) (try, error) {
	path, err := s.plant(canary, canary, 0o644)
	return try{act: []string{act, path}, allowed: granted(path, "r")}, err
}

// changed is an act after which a file of the host would not be what it was.
func (s *scene) changed(path, content string, need spec.Access, act ...string) try {
	return try{act: act, witness: theFile, allowed: granted(path, need),
		through: func(ending) bool { return differs(path, content) }}
}

// topCgroup is the file that takes processes, in the first hierarchy that is
// mounted here.
func topCgroup() (string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		fields, rest, _ := strings.Cut(line, " - ")
		if f := strings.Fields(fields); len(f) > 4 && strings.HasPrefix(rest, "cgroup") {
			return f[4] + "/cgroup.procs", nil
		}
	}
	return "", &notHere{"no cgroup file system is mounted here"}
}

// writesAndRuns says where the workload may execute what it wrote; then a file
// without a path gives it nothing more.
func writesAndRuns(p *plan.Plan) string {
	for _, t := range p.Resolved.Spec.Controls.Temp {
		if t.Access.Exec() {
			return "what is written to " + t.Path + " may be executed"
		}
	}
	for _, r := range p.Resolved.Roots {
		if r.Access.Write() && r.Access.Exec() {
			return "what is written to " + r.Dest + " may be executed"
		}
	}
	return ""
}

// leaked is a descriptor of this process that its children inherit.
func (s *scene) leaked(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND, 0) // not close-on-exec
	if err != nil {
		return "", err
	}
	s.later(func() { unix.Close(fd) })
	return strconv.Itoa(fd), nil
}
