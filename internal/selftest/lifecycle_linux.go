package selftest

import (
	"strconv"
	"time"

	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

func lifecycle() []Attack {
	return []Attack{
		{"leave-a-process-behind", "leave a process in a session of its own that ignores signals", []plan.Kind{plan.KillTree, plan.SpawnThreads}, func(s *scene) (try, error) {
			word := token()
			s.later(func() { end(word) })
			return try{act: []string{"leave-behind", word}, witness: theProcesses, through: func(ending) bool { return len(withToken(word)) > 0 }}, nil
		}},
		{"outstay-the-deadline", "ignore the request to end and run past the wall deadline", []plan.Kind{plan.BudgetKind(spec.Wall)}, func(s *scene) (try, error) {
			word := token()
			s.later(func() { end(word) })
			return try{act: []string{"stay", word}, witness: theProcesses, control: "nothing would end it",
				change: func(s *spec.Spec) {
					bounded(spec.Wall, int64(250*time.Millisecond))(s)
					s.Controls.Kill.Grace = min(s.Controls.Kill.Grace, 10*time.Millisecond)
				},
				through: func(e ending) bool { return len(withToken(word)) > 0 }}, nil
		}},
		{"flood-the-output", "write without end", []plan.Kind{plan.BudgetKind(spec.Output)}, func(s *scene) (try, error) {
			return try{act: []string{"flood"}, witness: "the bytes that arrived", control: "it would fill a file of a gigabyte",
				change: bounded(spec.Output, mib), through: func(e ending) bool { return e.relayed > mib }}, nil
		}},
		{"exhaust-descriptors", "open more files than the budget has", []plan.Kind{plan.BudgetKind(spec.Handles)}, func(s *scene) (try, error) {
			const limit = 64
			return try{act: []string{"dup", strconv.Itoa(2 * limit)}, change: bounded(spec.Handles, limit)}, nil
		}},
		{"fill-the-storage", "write more to a private directory than the budget has", []plan.Kind{plan.BudgetKind(spec.Storage)}, func(s *scene) (try, error) {
			dir := "/bvisor-selftest"
			if s.outside {
				dir = s.dir
			}
			return try{act: []string{"fill-some", dir, strconv.Itoa(2 * mib)}, change: func(s *spec.Spec) {
				s.Controls.Temp = append(s.Controls.Temp[:len(s.Controls.Temp):len(s.Controls.Temp)], spec.Temp{Path: dir, Access: "rw"})
				bounded(spec.Storage, mib)(s)
			}}, nil
		}},
	}
}

const (
	theProcesses = "the processes of the host"
	mib          = 1 << 20
)
