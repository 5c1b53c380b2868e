//go:build amd64 || arm64

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/bvisor/bvisor/spec"
)

// walk looks at every file of /usr and prints none.
var walk = []string{"/usr/bin/find", "/usr", "-xdev", "-type", "d", "!", "-readable", "-prune", "-o", "-newermt", "2200-01-01", "-print"}

// tarred is a directory of many small files that every boundary here shows.
const tarred = "/usr/include"

func (b *bench) stateDir() string {
	if b.noShm != nil {
		return b.dir
	}
	return b.memory
}

// steady is what the boundary costs while a program runs. No program prints
// much, so that relaying is not what is measured.
func (b *bench) steady() (*table, error) {
	type job struct {
		name                 string
		outside, floor, ours []string
		noPeer               error
	}
	same := func(name string, argv ...string) job { return job{name, argv, argv, argv, b.noPeer} }
	status := func(dir string) []string {
		return []string{"/bin/sh", "-c", "i=0; while [ $i -lt 30 ]; do i=$((i+1)); " +
			"/usr/bin/git -C " + dir + " --no-optional-locks -c safe.directory=* status --porcelain || exit; done"}
	}
	jobs := []job{
		same("find", walk...),
		same("tar", "/bin/sh", "-c", "/usr/bin/tar --numeric-owner -cf - "+tarred+" | /usr/bin/tail -c 1 >/dev/null"),
		same("loop", "/bin/sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"),
	}
	ours := filepath.Join(b.work(), "repository")
	g := job{"git", status(ours), status("/etc/repository"), status(ours), errors.New("its root shows no repository")}
	err := repository(ours)
	if err == nil && b.noFloor == nil {
		err = repository(filepath.Join(b.floor.root, "etc", "repository"))
	}
	if err == nil {
		jobs = slices.Insert(jobs, 2, g)
	}
	var all *table
	for _, w := range jobs {
		plain, floor := b.plainly(w.name+", outside", w.outside...), b.onFloor(w.name+", C floor", w.floor...)
		peer := process(w.name+", bubblewrap", w.noPeer, func() *exec.Cmd { return b.peer(w.outside...) })
		confined, done, err := b.inProcess(w.name+", Supervisor.Run in process", b.stateDir(), nil, w.ours...)
		if err != nil {
			return nil, err
		}
		subjects := []*subject{plain, floor, peer, confined}
		busy := interleave(subjects, b.rounds, 1, b.patience)
		done()
		t := comparison("Work inside", subjects, []*subject{plain, floor}, []string{"outside", "floor"})
		t.disturbed(busy, b.rounds)
		if all == nil {
			all = t
		} else {
			all.rows, all.notes = append(all.rows, t.rows...), append(all.notes, t.notes...)
		}
	}
	if err != nil {
		all.note("not measured: git: %v", err)
	}
	all.note("find: `find /usr -xdev -newermt 2200-01-01` without directories that cannot be read (the superuser inside has no capability to read them); tar: `tar -cf - %s` into a pipe; git: 30 times `git status` of 2,000 files in 50 directories; loop: 300000 turns of a shell loop; all with their launch", tarred)
	return all, nil
}

// mechanisms is what each of them costs the walk through /usr, and what more
// rules do.
func (b *bench) mechanisms() (*table, error) {
	accept := func(names ...spec.Weakening) func(*spec.Spec) {
		return func(s *spec.Spec) { s.Accept = names }
	}
	deeper := func(s *spec.Spec) {
		dirs, err := filepath.Glob("/usr/*/*")
		if err != nil {
			return
		}
		for _, dir := range dirs {
			if info, err := os.Lstat(dir); err == nil && info.IsDir() && len(s.Capabilities.Filesystem) < 120 {
				s.Capabilities.Filesystem = append(s.Capabilities.Filesystem, spec.Grant{Access: "rx", Paths: []string{dir}, Origin: spec.FromSpec})
			}
		}
	}
	plain := b.plainly("find, outside", walk...)
	subjects := []*subject{plain}
	for _, v := range []struct {
		name   string
		change func(*spec.Spec)
	}{
		{"the default boundary", func(*spec.Spec) {}},
		{"without Landlock", accept("no-landlock", "unscoped-ipc")},
		{"without the call filter", accept("host-network", "unfiltered-calls")},
		{"without both", accept("host-network", "no-landlock", "unfiltered-calls", "unscoped-ipc")},
		{"with a rule for each of up to 100 directories below /usr", deeper},
	} {
		c, err := b.confined(b.stateDir(), "mechanisms")
		if err != nil {
			return nil, err
		}
		defer c.close()
		c.change = v.change
		subjects = append(subjects, &subject{name: v.name, block: repeat(c.once(walk...))})
	}
	busy := interleave(subjects, b.rounds, 1, b.patience)
	t := comparison("What a mechanism costs a walk through /usr", subjects, []*subject{plain, subjects[1]}, []string{"outside", "default"})
	t.disturbed(busy, b.rounds)
	return t, nil
}

// repository makes a git repository with one commit. Its files are older than
// its index: git reads those again that may have changed in the same second.
func repository(dir string) error {
	before := time.Now().Add(-time.Hour)
	for i := range 2000 {
		sub := filepath.Join(dir, fmt.Sprintf("d%02d", i%50))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
		name := filepath.Join(sub, fmt.Sprintf("f%d.txt", i))
		if err := errors.Join(write(name, fmt.Appendf(nil, "file %d\n", i)), os.Chtimes(name, before, before)); err != nil {
			return err
		}
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"-c", "user.name=b", "-c", "user.email=b@example.com", "commit", "-qm", "b"}} {
		cmd := exec.Command("git", append([]string{"-C", dir}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("git: %w: %s", err, out)
		}
	}
	return nil
}
