//go:build amd64 || arm64

package linux

import (
	"fmt"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/procfs"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

// privateMemory is the tmpfs of a boundary, seen from outside. Its descriptor
// keeps it until the run has been observed.
type privateMemory struct {
	fd    int
	size  int64 // bytes that a budget gave it
	taken int64 // bytes that bvisor itself had put there before the workload ran
}

// privateDir is where a boundary with this plan shows its private memory; "" is
// nowhere. What is granted at /dev/shm is the host's.
func privateDir(p plan.Plan) string {
	if !holds(p, plan.MountNamespace) {
		return ""
	}
	const always = "/dev/shm"
	if !slices.ContainsFunc(p.Resolved.Roots, func(r spec.Root) bool { return r.Dest == always }) {
		return always
	}
	if temps := p.Resolved.Spec.Controls.Temp; len(temps) > 0 {
		return path.Clean(temps[0].Path)
	}
	return ""
}

// readStorage opens the private memory and compares its size with the plan.
func (s *settled) readStorage(of *procfs.Process, p plan.Plan) {
	dir := privateDir(p)
	i := slices.IndexFunc(p.Budgets, func(b plan.BudgetPlan) bool { return b.Dimension == spec.Storage })
	if dir == "" || i < 0 {
		return
	}
	fd, err := of.Pin(dir)
	if err != nil {
		s.lacks = append(s.lacks, "the size of private memory cannot be read: "+err.Error())
		return
	}
	s.memory = &privateMemory{fd: fd}
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		s.lacks = append(s.lacks, fmt.Sprintf("%s is no private memory: file system %#x, %v", dir, st.Type, err))
		return
	}
	s.memory.size = int64(st.Blocks)*st.Bsize - skeleton(p)
	s.memory.taken = int64(st.Blocks-st.Bfree) * st.Bsize
	page := int64(os.Getpagesize())
	if want := (p.Budgets[i].Limit + page - 1) / page * page; s.memory.size != want { // shmem_parse_one rounds up
		s.lacks = append(s.lacks, fmt.Sprintf("private memory has %d bytes, expected %d", s.memory.size, want))
	}
}

// used is how much the workload has put there and not removed.
func (m *privateMemory) used() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(m.fd, &st); err != nil {
		return 0, err
	}
	return max(int64(st.Blocks-st.Bfree)*st.Bsize-m.taken, 0), nil
}

// measureStorage is for when everything inside has ended.
func (r *run) measureStorage() {
	if r.settled == nil || r.settled.memory == nil {
		return
	}
	used, err := r.settled.memory.used()
	if err != nil {
		r.fault = fmt.Errorf("read the use of private memory: %w", err)
		return
	}
	r.stored = &used
}
