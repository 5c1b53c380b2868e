//go:build linux && (amd64 || arm64)

package linux_test

import (
	"slices"
	"testing"
	"time"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// BenchmarkGroup compares launches with budgets that take a group of their own
// with launches without, taking turns: medians, and their ratio.
func BenchmarkGroup(b *testing.B) {
	need.Cgroup(b)
	need.MountNamespace(b)
	sup := supervisor(b)
	without := request(mods{preset("system"), spawn(spec.SpawnProcesses), command("/usr/bin/true")}, "exit")
	with := request(mods{preset("system"), spawn(spec.SpawnProcesses), command("/usr/bin/true"),
		budget(spec.Memory, 256*mib), budget(spec.Processes, 64), budget(spec.CPU, int64(time.Minute))}, "exit")
	one := func(req bvisor.Request) time.Duration {
		began := time.Now()
		res, err := sup.Run(b.Context(), req)
		took := time.Since(began)
		if err != nil || res.Report.Outcome.Status != report.Completed {
			b.Fatalf("%+v, %v", res.Report.Outcome, err)
		}
		sup.Wait()
		return took
	}
	for range 5 {
		one(without)
		one(with)
	}
	var plain, grouped []time.Duration
	for b.Loop() {
		plain = append(plain, one(without))
		grouped = append(grouped, one(with))
	}
	median := func(d []time.Duration) time.Duration { slices.Sort(d); return d[len(d)/2] }
	p, g := median(plain), median(grouped)
	b.ReportMetric(float64(p.Microseconds()), "without-us")
	b.ReportMetric(float64(g.Microseconds()), "with-us")
	b.ReportMetric(float64(g)/float64(p), "ratio")
}
