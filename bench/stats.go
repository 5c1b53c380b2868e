package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// samples are the times of one subject, a block per round.
type samples struct{ blocks [][]time.Duration }

// all returns every sample, sorted.
func (s *samples) all() []time.Duration {
	list := slices.Concat(s.blocks...)
	slices.Sort(list)
	return list
}

// quantile of a sorted list by the nearest rank; 0 of an empty one.
func quantile[T any](sorted []T, q float64) T {
	var zero T
	if len(sorted) == 0 {
		return zero
	}
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank-1, 0), len(sorted)-1)]
}

func median(list []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(list))
	return quantile(sorted, 0.5)
}

// ratio is how many times longer a subject took than its reference: the
// median over the rounds, and the quartiles of the rounds' ratios.
type ratio struct {
	median, low, high float64
	rounds            int
}

// against divides block medians of the same round. Rounds that one side did
// not finish do not count.
func (s *samples) against(reference *samples) ratio {
	var list []float64
	for i := range min(len(s.blocks), len(reference.blocks)) {
		if d := median(reference.blocks[i]); d > 0 && len(s.blocks[i]) > 0 {
			list = append(list, float64(median(s.blocks[i]))/float64(d))
		}
	}
	return ratioOf(list)
}

func ratioOf(list []float64) ratio {
	slices.Sort(list)
	return ratio{quantile(list, 0.5), quantile(list, 0.25), quantile(list, 0.75), len(list)}
}

// String is the median with its quartiles, or a dash.
func (r ratio) String() string {
	if r.rounds == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", r.median, r.low, r.high)
}

// short prints a time with three digits, in the unit that suits it.
func short(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	case d >= time.Millisecond:
		return fmt.Sprintf("%.2f ms", float64(d)/1e6)
	case d >= 10*time.Microsecond:
		return fmt.Sprintf("%.0f µs", float64(d)/1e3)
	}
	return fmt.Sprintf("%.2f µs", float64(d)/1e3)
}
