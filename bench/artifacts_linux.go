//go:build amd64 || arm64

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/spec"
)

// keptFiles are how many files of 4 KiB a run of this section leaves.
const keptFiles = 1000

// artifacts is what it costs to hold a program's writes back, and to put them
// into place. The program is cp, which makes a tree.
func (b *bench) artifacts() (*table, error) {
	from, to := filepath.Join(b.work(), "from"), filepath.Join(b.dir, "to")
	for n := range keptFiles {
		name := filepath.Join(from, fmt.Sprint(n%10), fmt.Sprint(n))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return nil, err
		}
		if err := write(name, bytes.Repeat([]byte{byte(n)}, 4096)); err != nil {
			return nil, err
		}
	}
	fresh := func() error {
		if err := os.RemoveAll(to); err != nil {
			return err
		}
		return os.Mkdir(to, 0o755)
	}
	state, err := bvisor.OpenState(filepath.Join(b.dir, "artifacts"))
	if err != nil {
		return nil, err
	}
	defer state.Log.Close()
	s := state.Supervisor(b.backend)
	defer s.Wait()
	c := &confined{supervisor: s, dir: b.work()}
	command := []string{"/bin/cp", "-r", from, to}
	granted := func(s *spec.Spec) {
		s.Capabilities.Filesystem = append(s.Capabilities.Filesystem, spec.Grant{Access: "rw", Paths: []string{to}, Origin: spec.FromSpec})
	}
	held := func(durability string) func(*spec.Spec) {
		return func(s *spec.Spec) {
			granted(s)
			s.Controls.Artifacts = &spec.Artifacts{Paths: []string{to}, Commit: "manual", Durability: durability}
		}
	}
	into := func(change func(*spec.Spec)) func() error {
		return func() error {
			c.change = change
			_, err := c.run(command...)
			return err
		}
	}
	// What was held back is decided over by what is measured then.
	attempt := ""
	left := func(durability string) func() error {
		return func() error {
			if err := fresh(); err != nil {
				return err
			}
			c.change = held(durability)
			res, err := c.run(command...)
			if err == nil {
				attempt = res.Report.Identity.Attempt
			}
			return err
		}
	}
	decide := func(commit bool) func() error {
		return func() error {
			d, err := state.Decide(attempt, bvisor.Decision{Commit: commit})
			if err == nil && d.Phase != bvisor.Applied {
				err = fmt.Errorf("the decision came to %+v", d)
			}
			return err
		}
	}
	run := &subject{name: "cp -r of 1,000 files of 4 KiB, confined", block: repeatAfter(fresh, into(granted))}
	kept := &subject{name: "the same, held back and kept", block: repeatAfter(fresh, into(held("atomic")))}
	atomic := &subject{name: "commit of that, atomic", block: repeatAfter(left("atomic"), decide(true))}
	durable := &subject{name: "commit of that, durable", block: repeatAfter(left("durable"), decide(true))}
	discard := &subject{name: "discard of that", block: repeatAfter(left("atomic"), decide(false))}
	subjects := []*subject{run, kept, atomic, durable, discard}
	busy := interleave(subjects, max(b.rounds/3, 3), 3, b.patience)
	t := comparison("Artifacts", subjects, []*subject{run}, []string{"confined"})
	t.note("records and files on disk; a commit that is atomic flushes the file system once, a durable one every file")
	t.disturbed(busy, max(b.rounds/3, 3))
	return t, os.RemoveAll(to)
}
