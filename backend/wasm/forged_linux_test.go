package wasm_test

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// Workers that were taken over: one says of every run what it was started with,
// one wants input.
func init() {
	workers["greedy"] = func(in, out *os.File) int {
		go func() { _, _ = io.Copy(io.Discard, in) }() // or neither would get on
		frame(out, 'H', nil)
		frame(out, 'R', nil)
		for range 1000 {
			frame(out, 'W', []byte{0, 1, 0, 0})
		}
		select {}
	}
	workers["forge"] = func(in, out *os.File) int {
		over := make(chan struct{})
		go func() {
			_, _ = io.Copy(io.Discard, in) // or neither would get on
			close(over)
		}()
		frame(out, 'H', nil)
		frame(out, 'R', nil)
		frame(out, 'X', []byte(strings.NewReplacer("LONG", strings.Repeat("n", 700<<10), "RAW", "\xff").Replace(os.Args[2])))
		<-over
		return 0
	}
}

// A worker asks for input a thousand times before there is any: it is ended, and
// nobody waits with a buffer for each.
func TestWorkerThatAsksAndAsks(t *testing.T) {
	o := options(t, "worker")
	o.Worker[1] = "greedy"
	read, write, err := os.Pipe()
	must(t, err)
	defer read.Close()
	defer write.Close()
	s := request("worker", place.guest, []string{"copy"}, budget(spec.Wall, int64(time.Minute)), func(s *spec.Spec) { s.Controls.Stdin.Mode = spec.StdinInherit })
	got := newTakenOver(t, o).try(t.Context(), bvisor.Request{Spec: s, Stdin: read})
	if got.Outcome.Status != report.SupervisorFault || !strings.Contains(got.Outcome.Reason, "asks for input again") {
		t.Errorf("outcome %+v", got.Outcome)
	}
}

// Whatever a worker says of a run, there is a report, and it verifies. What
// cannot have been is the supervisor's fault, and of such a run nothing is claimed
// that only the worker knew.
func TestForgedResults(t *testing.T) {
	for what, c := range map[string]struct {
		says string
		want report.Status
	}{
		"the truth":           {`{"exited":true,"code":7,"fuel":5,"cpu":1,"memory":65536}`, report.Failed},
		"nothing":             {`{}`, report.SupervisorFault},
		"two ends":            {`{"exited":true,"trap":{"kind":"unreachable"}}`, report.SupervisorFault},
		"a trap of no kind":   {`{"trap":{"kind":""}}`, report.SupervisorFault},
		"a long trap":         {`{"trap":{"kind":"LONG"}}`, report.SupervisorFault},
		"a long stack":        {`{"trap":{"kind":"unreachable","stack":["LONG"]}}`, report.SupervisorFault},
		"a long fault":        {`{"fault":"LONG"}`, report.SupervisorFault},
		"less than nothing":   {`{"exited":true,"fuel":-1}`, report.SupervisorFault},
		"more than there is":  {`{"exited":true,"memory":9007199254740992}`, report.SupervisorFault},
		"depth below zero":    {`{"exited":true,"depth":-1}`, report.SupervisorFault},
		"handles beyond":      {`{"exited":true,"handles":9007199254740992}`, report.SupervisorFault},
		"an unknown budget":   {`{"exceeded":"luck"}`, report.SupervisorFault},
		"a budget not asked":  {`{"exceeded":"storage-of-others"}`, report.SupervisorFault},
		"a budget that is":    {`{"exceeded":"fuel","fuel":2000}`, report.BudgetExceeded},
		"denied never":        {`{"exited":true,"denied":[{"act":"x","mechanism":"wasi"}]}`, report.SupervisorFault},
		"denied below zero":   {`{"exited":true,"denied":[{"act":"x","mechanism":"wasi","times":-1}]}`, report.SupervisorFault},
		"denied beyond":       {`{"exited":true,"denied":[{"act":"x","mechanism":"wasi","times":9007199254740993}]}`, report.SupervisorFault},
		"denied by others":    {`{"exited":true,"denied":[{"act":"x","mechanism":"landlock","times":1}]}`, report.SupervisorFault},
		"denied at length":    {`{"exited":true,"denied":[{"act":"LONG","mechanism":"wasi","times":1}]}`, report.SupervisorFault},
		"no text":             {`{"exited":true,"denied":[{"act":"RAW","mechanism":"wasi","times":1}]}`, report.Completed},
		"a number too large":  {`{"exited":true,"code":4294967296}`, report.SupervisorFault},
		"what is no object":   {`[]`, report.SupervisorFault},
		"done and not begun":  {`{"exited":true,"unmade":"x"}`, report.SupervisorFault},
		"done and the fault":  {`{"exited":true,"fault":"x"}`, report.SupervisorFault},
		"a text of controls":  {`{"trap":{"kind":"\u0000\u001b[2J\ud800"}}`, report.Failed},
		"denied with nothing": {`{"exited":true,"denied":[{"act":"\u0000","mechanism":"wasi","times":1}]}`, report.Completed},
	} {
		o := options(t, "worker")
		o.Worker = append(o.Worker[:1:1], "forge", c.says)
		h := newTakenOver(t, o)
		s := request("worker", place.guest, []string{"nothing"}, budget(spec.Wall, int64(time.Minute)), budget(spec.Fuel, 1000), budget(spec.Handles, 100))
		got := h.try(t.Context(), bvisor.Request{Spec: s})
		if got.Outcome.Status != c.want || len(got.Outcome.Reason) > 10_000 {
			t.Errorf("%s: outcome %.1000v, expected %s", what, got.Outcome, c.want)
		}
		if _, err := report.Verify(got.result.Envelope, []report.PublicKey{h.Key.Public()}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		fuel, level := got.used(spec.Fuel), report.LevelComplete
		if c.want == report.SupervisorFault {
			level = report.LevelPartial
			if fuel.Finding != report.NotObserved || fuel.Used != nil {
				t.Errorf("%s: fuel %+v", what, fuel)
			}
		}
		if got.Completeness.Level != level {
			t.Errorf("%s: the list of denied attempts is %s", what, got.Completeness.Level)
		}
	}
}
