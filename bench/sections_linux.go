//go:build amd64 || arm64

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

const block = 10 // launches in a block

// process is a subject that starts one process per launch, or says why not.
func process(name string, why error, make func() *exec.Cmd) *subject {
	if why != nil {
		return &subject{name: name, skip: why.Error()}
	}
	return &subject{name: name, block: repeat(command(make))}
}

// plainly, onFloor and byPeer run argv outside, on the floor, and in
// bubblewrap.
func (b *bench) plainly(name string, argv ...string) *subject {
	return process(name, nil, func() *exec.Cmd { return exec.Command(argv[0], argv[1:]...) })
}

func (b *bench) onFloor(name string, argv ...string) *subject {
	return process(name, b.noFloor, func() *exec.Cmd { return b.floor.command(argv...) })
}

func (b *bench) byPeer(name string, argv ...string) *subject {
	return process(name, b.noPeer, func() *exec.Cmd { return b.peer(argv...) })
}

// inProcess runs argv in the default boundary; records go below dir.
func (b *bench) inProcess(name, dir string, why error, argv ...string) (*subject, func(), error) {
	if why != nil {
		return &subject{name: name, skip: why.Error()}, func() {}, nil
	}
	state, err := os.MkdirTemp(dir, "state-")
	if err != nil {
		return nil, nil, err
	}
	c, err := openConfined(b.backend, state, b.work())
	if err != nil {
		return nil, nil, err
	}
	return &subject{name: name, block: repeat(c.once(argv...))}, func() { c.close() }, nil
}

// prepared runs argv in boundaries that are armed before; that is not counted.
func (b *bench) prepared(name string, argv ...string) (*subject, func(), error) {
	if b.noShm != nil {
		return &subject{name: name, skip: b.noShm.Error()}, func() {}, nil
	}
	c, err := b.confined(b.memory, "prepared")
	if err != nil {
		return nil, nil, err
	}
	p, err := c.supervisor.Prepare(context.Background(), spec.Default(c.dir, argv), 1)
	if err != nil {
		return nil, nil, err
	}
	s := &subject{name: name, block: repeatAfter(p.Wait, func() error {
		res, err := p.Run(context.Background(), bvisor.Request{})
		if err == nil && (res.Report.Outcome.Status != report.Completed || res.Report.Times.Prepared == nil) {
			err = fmt.Errorf("%s, prepared %v", res.Report.Outcome.Status, res.Report.Times.Prepared)
		}
		return err
	})}
	return s, func() { p.Close(); c.close() }, nil
}

// comparison is a table of times with ratios to references.
func comparison(title string, subjects []*subject, references []*subject, names []string) *table {
	t := &table{title: title, head: []string{"", "median", "p99"}}
	for _, name := range names {
		t.head = append(t.head, "× "+name)
	}
	for _, s := range subjects {
		if s.skip != "" {
			t.note("not measured: %s: %s", s.name, s.skip)
			continue
		}
		sorted := s.times.all()
		cells := []string{s.name, short(quantile(sorted, 0.5)), short(quantile(sorted, 0.99))}
		for _, r := range references {
			if r == s {
				cells = append(cells, "1")
			} else {
				cells = append(cells, s.times.against(&r.times).String())
			}
		}
		t.row(cells...)
	}
	return t
}

// launch is what starting a program that does nothing costs.
func (b *bench) launch() (*table, error) {
	plain := b.plainly("plain start", truth)
	floor := b.onFloor("C floor: the same mechanisms, nothing else", truth)
	peer := b.byPeer("bubblewrap: all namespaces, new root, filter", truth)
	shm, closeShm, err := b.inProcess("Supervisor.Run in process, records in memory", b.memory, b.noShm, truth)
	if err != nil {
		return nil, err
	}
	defer closeShm()
	disk, closeDisk, err := b.inProcess("Supervisor.Run in process, records on disk", b.dir, nil, truth)
	if err != nil {
		return nil, err
	}
	defer closeDisk()
	ahead, closeAhead, err := b.prepared("Prepared.Run in process, armed before, records in memory", truth)
	if err != nil {
		return nil, err
	}
	defer closeAhead()
	sync := &subject{name: "a bare 32 KiB write and fsync on that disk", block: repeat(bareSync(b.dir, 32<<10))}
	binary, why := buildCommand(b.module, b.dir)
	if why == nil {
		why = b.noShm
	}
	whole := process("`bvisor run -- /bin/true`, whole process, records in memory", why, func() *exec.Cmd {
		cmd := exec.Command(binary, "run", "--state-dir", filepath.Join(b.memory, "command"), "--", truth)
		cmd.Dir = b.work()
		return cmd
	})
	subjects := []*subject{plain, floor, peer, shm, ahead, disk, sync, whole}
	busy := interleave(subjects, b.rounds, block, b.patience)
	t := comparison("Launch of /bin/true", subjects, []*subject{plain, floor, peer}, []string{"plain", "floor", "bubblewrap"})
	t.note("%d rounds of blocks of %d, in turn; ratios are medians over the rounds, quartiles in parentheses", b.rounds, block)
	t.disturbed(busy, b.rounds)
	return t, nil
}

// heap is whether a launch costs more in a process with much memory.
func (b *bench) heap() (*table, error) {
	if b.noShm != nil {
		return nil, b.noShm
	}
	size, err := heapSize()
	if err != nil {
		return nil, err
	}
	small, endSmall, err := withHeap(0, filepath.Join(b.memory, "small"), b.work())
	if err != nil {
		return nil, err
	}
	defer endSmall()
	large, endLarge, err := withHeap(size, filepath.Join(b.memory, "large"), b.work())
	if err != nil {
		return nil, err
	}
	defer endLarge()
	small.name, large.name = "no more heap than it needs", fmt.Sprintf("and %d GiB of touched heap", size>>30)
	subjects := []*subject{small, large}
	busy := interleave(subjects, b.rounds, block, b.patience)
	t := comparison("Heap of the calling process", subjects, []*subject{small}, []string{"small"})
	t.disturbed(busy, b.rounds)
	t.note("two processes that call Supervisor.Run, in turn")
	return t, nil
}

// steps is what the parts of a run take alone, and when the launcher's phases
// ended.
func (b *bench) steps() (*table, error) {
	dir := b.memory
	if b.noShm != nil {
		dir = b.dir
	}
	c, err := b.confined(dir, "steps")
	if err != nil {
		return nil, err
	}
	defer c.close()
	subjects, err := steps(c, b.backend)
	if err != nil {
		return nil, err
	}
	busy := interleave(subjects, b.rounds, block, b.patience)
	t := comparison("Steps", subjects, nil, nil)
	t.disturbed(busy, b.rounds)
	spans := map[string][]time.Duration{}
	var order []string
	add := func(name string, d int64) {
		if spans[name] == nil {
			order = append(order, name)
		}
		spans[name] = append(spans[name], time.Duration(d))
	}
	for range b.rounds * block {
		res, err := c.run(truth)
		if err != nil {
			return nil, err
		}
		reportSpans(res.Report, add)
	}
	for _, name := range order {
		slices.Sort(spans[name])
		t.row(name, short(quantile(spans[name], 0.5)), short(quantile(spans[name], 0.99)))
	}
	t.note("the last rows are what reports say of themselves: a phase's time is the one since the phase before it ended, as the launcher's own clock saw it")
	return t, nil
}

func reportSpans(r *report.Report, add func(string, int64)) {
	var before int64
	for _, p := range r.Transcript {
		if p.Elapsed > 0 {
			add("launcher, "+p.Name, p.Elapsed-before)
			before = p.Elapsed
		}
	}
	add("launch begun to barrier opened", r.Times.Setup)
	add("barrier opened to workload reaped", r.Times.Run)
	add("workload reaped to tree empty", r.Times.Teardown)
}

// rate is how many launches a machine makes when several callers ask at once.
func (b *bench) rate() (*table, error) {
	for _, why := range []error{b.noFloor, b.noShm} {
		if why != nil {
			return nil, why
		}
	}
	c, err := b.confined(b.memory, "rate")
	if err != nil {
		return nil, err
	}
	defer c.close()
	const plain, floor, ours = "plain start", "C floor", "Supervisor.Run in process, records in memory"
	names := []string{plain, floor, ours}
	workers, rounds := []int{1, 2, 4}, max(b.rounds/3, 3)
	got, busy, err := throughput(names, map[string]func() error{
		plain: command(func() *exec.Cmd { return exec.Command(truth) }),
		floor: command(func() *exec.Cmd { return b.floor.command(truth) }),
		ours:  c.once(truth),
	}, workers, rounds, b.patience)
	if err != nil {
		return nil, err
	}
	t := &table{title: "Launches per second", head: []string{""}}
	for _, n := range workers {
		t.head = append(t.head, fmt.Sprintf("%d at a time", n), "× floor")
	}
	for _, name := range names {
		row := []string{name}
		for _, n := range workers {
			row = append(row, got[name][n].median(), got[name][n].against(*got[floor][n]).String())
		}
		t.row(row...)
	}
	t.note("windows of one second, in turn, %d of each; more is better", rounds)
	t.disturbed(busy, rounds)
	return t, nil
}
