package main

import (
	"fmt"
	"os"
	"time"
)

// subject is one thing that is measured. Exactly one of block and skip is set.
type subject struct {
	name  string
	block func(n int) ([]time.Duration, error) // n times, one after the other
	skip  string                               // why it cannot be measured here
	times samples
}

// repeat makes a block of what is done once.
func repeat(once func() error) func(n int) ([]time.Duration, error) {
	return repeatAfter(func() error { return nil }, once)
}

// repeatAfter does something else before each time, which is not counted.
func repeatAfter(before, once func() error) func(n int) ([]time.Duration, error) {
	return func(n int) ([]time.Duration, error) {
		times := make([]time.Duration, 0, n)
		for range n {
			if err := before(); err != nil {
				return nil, err
			}
			start := time.Now()
			if err := once(); err != nil {
				return nil, err
			}
			times = append(times, time.Since(start))
		}
		return times, nil
	}
}

// interleave gives every subject one block per round, and returns how many
// rounds began while others kept the machine busy. A subject that fails is
// left out from then on, with its error as the reason: a figure of a launch
// that did not work is no figure.
func interleave(subjects []*subject, rounds, block int, patience time.Duration) (busy int) {
	for _, s := range subjects {
		if s.skip == "" {
			if _, err := s.block(min(block, 3)); err != nil { // caches and first faults
				s.skip = "failed: " + err.Error()
			}
		}
	}
	for round := range rounds {
		if !awaitIdle(patience) {
			busy++
		}
		for _, s := range subjects {
			if s.skip != "" {
				continue
			}
			times, err := s.block(block)
			if err != nil {
				s.skip, s.times = "failed: "+err.Error(), samples{}
				continue
			}
			s.times.blocks = append(s.times.blocks, times)
		}
		progress(round, rounds)
	}
	return busy
}

// progress keeps one line on standard error.
func progress(round, rounds int) {
	end := ""
	if round+1 == rounds {
		end = "\n"
	}
	fmt.Fprintf(os.Stderr, "\rbench: round %d of %d%s", round+1, rounds, end)
}
