//go:build linux && (amd64 || arm64)

package linux_test

import (
	"os"
	"testing"

	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// The report says how large private memory was, by the kernel's word, and how
// much of it was in use in the end: what was written and removed again is not.
func TestStorageIsMeasured(t *testing.T) {
	const limit = 8 * mib
	places := mods{temp("rw", "/tmp"), budget(spec.Storage, limit)}
	for _, tt := range []struct {
		act  string
		args []string
		used int64
	}{
		{"exit", []string{"0"}, 0},
		{"eat-files", []string{"/tmp", "3"}, 3 * mib},
		{"eat-files", []string{"/dev/shm", "5"}, 5 * mib},
		{"sparse", []string{"/tmp/sparse"}, 0},
	} {
		o := run(t, places, tt.act, tt.args...)
		if b := o.bounded(t, spec.Storage); o.Code != 0 || b.ReadBack == nil || *b.ReadBack != limit || b.Used == nil || *b.Used != tt.used || b.Peak != nil || b.Finding != report.Within {
			t.Errorf("%s %q: %d, %+v, expected %d bytes in use; %s", tt.act, tt.args, o.Code, b, tt.used, o.Stderr)
		}
	}
	o := run(t, places, "eat-files", "/tmp", "20")
	if b := o.bounded(t, spec.Storage); o.Code == 0 || b.Used == nil || *b.Used != limit {
		t.Errorf("more than there is room for: %d, %+v", o.Code, b)
	}
	host := tree(t)
	control(t, "eat-files", host, "20").succeeds(t)
	control(t, "sparse", host+"/sparse").succeeds(t)
	// The kernel gives whole pages.
	if b := run(t, mods{temp("rw", "/tmp"), budget(spec.Storage, limit-1)}, "exit", "0").bounded(t, spec.Storage); b.ReadBack == nil || *b.ReadBack != limit || b.Set != limit-1 {
		t.Errorf("no whole pages: %+v", b)
	}
}

// A granted /dev/shm is the host's: its size is nothing that the report may say
// of the boundary.
func TestStorageBesideTheHostsMemory(t *testing.T) {
	const shm, limit = "/dev/shm", 8 * mib
	if st, err := os.Stat(shm); err != nil || !st.IsDir() {
		need.Missing(t, "file="+shm, "no such directory")
	}
	o := run(t, mods{grant("r", shm), budget(spec.Storage, limit)}, "exit", "0").succeeds(t)
	if b := o.bounded(t, spec.Storage); b.ReadBack != nil || b.Used != nil || b.Finding != report.NotObserved {
		t.Errorf("without any of the boundary's own: %+v", b)
	}
	o = run(t, mods{grant("r", shm), temp("rw", "/tmp"), budget(spec.Storage, limit)}, "eat-files", "/tmp", "2").succeeds(t)
	if b := o.bounded(t, spec.Storage); b.ReadBack == nil || *b.ReadBack != limit || b.Used == nil || *b.Used != 2*mib {
		t.Errorf("with a private directory: %+v", b)
	}
}
