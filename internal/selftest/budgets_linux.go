package selftest

import (
	"io"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

// budgets are attacks on what all processes of a run may have together. Where
// the host can hold none of it, they are not applicable.
func budgets() []Attack {
	return []Attack{
		{"start-processes-without-end", "start more processes than the budget has", []plan.Kind{plan.BudgetKind(spec.Processes)}, func(s *scene) (try, error) {
			const limit = 32
			text, err := manyProcesses(2 * limit)
			if err != nil {
				return try{}, err
			}
			path, err := s.plant("processes", text, 0o755)
			return try{program: path, apart: true, change: func(s *spec.Spec) {
				grant("rx", path)(s)
				s.Capabilities.Spawn = spec.SpawnProcesses
				bounded(spec.Processes, limit)(s)
			}}, err
		}},
		{"take-memory", "take more memory than the budget has", []plan.Kind{plan.BudgetKind(spec.Memory)}, func(s *scene) (try, error) {
			return try{act: []string{"take-memory", strconv.Itoa(128 * mib)}, change: bounded(spec.Memory, 64*mib)}, nil
		}},
		{"use-processor-time", "compute for longer than the budget has", []plan.Kind{plan.BudgetKind(spec.CPU)}, func(s *scene) (try, error) {
			return try{act: []string{"compute", "1s"}, change: bounded(spec.CPU, int64(200*time.Millisecond))}, nil
		}},
	}
}

// manyProcesses is a program that starts so many processes, which stay until
// their parent's pid namespace ends, and says what it met instead. It has no
// runtime, which would not survive that it gets no thread.
func manyProcesses(n int) (text string, err error) {
	p := &launcher.Program{}
	failed, other, child := p.NewLabel(), p.NewLabel(), p.NewLabel()
	p.OnFailure(other)
	p.Begin(launcher.RoleWorkload, "processes")
	pid, zero := p.Var("pid"), launcher.Int(0)
	exit := func(code int) { p.Call("exit_group", unix.SYS_EXIT_GROUP, launcher.Int(code)) }
	for range n {
		p.Call("clone", unix.SYS_CLONE, launcher.Int(int(unix.SIGCHLD)), zero, zero, zero, zero).To(launcher.Addr(pid)).OnError(failed)
		p.Copy(pid).If(zero, child)
	}
	exit(0)
	p.Mark(child)
	p.Call("ppoll", unix.SYS_PPOLL, zero, zero, zero, zero, zero).OnError(child).Jump(child)
	p.Mark(failed)
	again := -int64(unix.EAGAIN)
	p.Check(launcher.Addr(pid), ^uint64(0), uint64(again), "EAGAIN")
	said := victim.Prefix("processes") + unix.EAGAIN.Error() + "\n"
	p.Call("write", unix.SYS_WRITE, launcher.Int(2), p.Str(said), launcher.Int(len(said)))
	exit(int(unix.EAGAIN))
	p.Mark(other)
	exit(victim.ExitOther)
	image, err := p.Image().Seal()
	if err != nil {
		return "", err
	}
	defer image.Close()
	data, err := io.ReadAll(io.NewSectionReader(image, 0, 1<<30))
	return string(data), err
}

// takeMemory takes so many bytes and writes to each page of them.
func takeMemory(bytes string) error {
	return withNumber(bytes, func(n int) error {
		b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return err
		}
		for i := 0; i < n; i += 4096 {
			b[i] = 1
		}
		return unix.Munmap(b)
	})
}

// compute keeps a processor busy until it was for so long.
func compute(duration string) error {
	d, err := time.ParseDuration(duration)
	if err != nil {
		return err
	}
	for {
		var t unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
			return err
		}
		if t.Nano() >= int64(d) {
			return nil
		}
	}
}
