package selftest

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

// heldBack are attacks on a layer that takes a workload's writes.
func heldBack() []Attack {
	return []Attack{
		{"write-past-a-quarantine", "overwrite a file of the host whose directory's writes are held back", []plan.Kind{plan.CommitArtifact}, func(s *scene) (try, error) {
			path, err := s.plant("in/"+canary, canary, 0o644)
			return try{act: []string{"write-every-way", path}, witness: theFile, change: hold(s.path("in")),
				through: func(ending) bool { return differs(path, canary) }}, err
		}},
	}
}

// hold grants a directory for writing and holds back what is written there,
// until somebody decides.
func hold(dir string) func(*spec.Spec) {
	return func(s *spec.Spec) {
		grant("rw", dir)(s)
		a := spec.Artifacts{Paths: []string{dir}, Durability: "atomic"}
		if own := s.Controls.Artifacts; own != nil {
			a.Paths = append(a.Paths, own.Paths...)
		}
		a.Commit = "manual"
		s.Controls.Artifacts = &a
	}
}

// letGo discards what an attack left: nobody wants it.
func (t *Tester) letGo(e ending) error {
	if e.report == nil {
		return nil
	}
	for _, a := range e.report.Artifacts {
		if a.Created+a.Changed+a.Deleted+a.Refused > 0 {
			_, err := t.Supervisor.Decide(e.report.Identity.Attempt, bvisor.Decision{})
			return err
		}
	}
	return nil
}

// writeEveryWay overwrites a file: through a descriptor that was there before the
// first write, a mapping, another name, and by putting another file in its place.
func writeEveryWay(name string) error {
	before, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(before)
	if err := put(name, unix.O_WRONLY); err != nil {
		return err
	}
	if err := put("/proc/self/fd/"+strconv.Itoa(before), unix.O_WRONLY); err != nil {
		return err
	}
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	text, err := unix.Mmap(fd, 0, len(victim.Mark), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(text, victim.Mark)
	if err := unix.Munmap(text); err != nil {
		return err
	}
	if err := unix.Link(name, name+".link"); err != nil {
		return err
	}
	if err := put(name+".link", unix.O_WRONLY); err != nil {
		return err
	}
	if err := put(name+".new", unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL); err != nil {
		return err
	}
	return unix.Rename(name+".new", name)
}

func put(name string, flags int) error {
	fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(victim.Mark))
	return err
}
