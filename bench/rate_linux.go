//go:build amd64 || arm64

package main

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// rates are launches per second of one subject, per round.
type rates struct{ perSecond []float64 }

// perSecond launches with n workers for about window and counts.
func perSecond(once func() error, workers int, window time.Duration) (float64, error) {
	var count atomic.Int64
	var failed atomic.Pointer[error]
	var group sync.WaitGroup
	start := time.Now()
	for range workers {
		group.Go(func() {
			for time.Since(start) < window && failed.Load() == nil {
				if err := once(); err != nil {
					failed.Store(&err)
					return
				}
				count.Add(1)
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(count.Load()) / time.Since(start).Seconds(), nil
}

// against divides rates of the same round.
func (r rates) against(reference rates) ratio {
	var list []float64
	for i := range min(len(r.perSecond), len(reference.perSecond)) {
		if reference.perSecond[i] > 0 {
			list = append(list, r.perSecond[i]/reference.perSecond[i])
		}
	}
	return ratioOf(list)
}

func (r rates) median() string {
	q := ratioOf(slices.Clone(r.perSecond))
	if q.rounds == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f", q.median)
}

// throughput measures every subject at every number of workers, in turn. busy
// is as with interleave.
func throughput(names []string, once map[string]func() error, workers []int, rounds int, patience time.Duration) (got map[string]map[int]*rates, busy int, err error) {
	got = map[string]map[int]*rates{}
	for _, name := range names {
		got[name] = map[int]*rates{}
		for _, n := range workers {
			got[name][n] = &rates{}
		}
	}
	for round := range rounds {
		if !awaitIdle(patience) {
			busy++
		}
		for _, n := range workers {
			for _, name := range names {
				rate, err := perSecond(once[name], n, time.Second)
				if err != nil {
					return nil, 0, fmt.Errorf("%s, %d at a time: %w", name, n, err)
				}
				got[name][n].perSecond = append(got[name][n].perSecond, rate)
			}
		}
		progress(round, rounds)
	}
	return got, busy, nil
}
