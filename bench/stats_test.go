package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

func TestQuantileIsNearestRank(t *testing.T) {
	list := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for q, want := range map[float64]int{0: 1, 0.1: 1, 0.25: 3, 0.5: 5, 0.75: 8, 0.99: 10, 1: 10} {
		if got := quantile(list, q); got != want {
			t.Errorf("quantile %v of 1 to 10 is %d, want %d", q, got, want)
		}
	}
	if got := quantile([]int{}, 0.5); got != 0 {
		t.Errorf("quantile of nothing is %d, want 0", got)
	}
}

// A machine that is three times slower in one round must not change the ratio.
func TestRatiosAreOfTheSameRound(t *testing.T) {
	reference := samples{blocks: [][]time.Duration{{10 * ms, 11 * ms, 500 * ms}, {30 * ms, 31 * ms, 33 * ms}, {9 * ms, 10 * ms, 11 * ms}}}
	subject := samples{blocks: [][]time.Duration{{22 * ms, 21 * ms, 900 * ms}, {62 * ms, 60 * ms, 63 * ms}, {20 * ms, 19 * ms, 25 * ms}}}
	got := subject.against(&reference)
	if got.median != 2 || got.low != 2 || got.high != 2 || got.rounds != 3 {
		t.Errorf("ratio is %+v, want 2 in all of 3 rounds", got)
	}
	if got := subject.against(&samples{}); got.rounds != 0 || got.String() != "–" {
		t.Errorf("ratio to nothing is %v, want a dash", got)
	}
}

func TestMedianLeavesTheBlockAsItWas(t *testing.T) {
	block := []time.Duration{3, 1, 2}
	if got := median(block); got != 2 || !slices.Equal(block, []time.Duration{3, 1, 2}) {
		t.Errorf("median is %d and the block now %v, want 2 and 3 1 2", got, block)
	}
}

func TestShortKeepsThreeDigits(t *testing.T) {
	for d, want := range map[time.Duration]string{
		120: "0.12 µs", 9_500: "9.50 µs", 15_400: "15 µs", 999_000: "999 µs",
		1_234_000: "1.23 ms", 45_670_000: "45.7 ms", 2_346_000_000: "2.35 s",
	} {
		if got := short(d); got != want {
			t.Errorf("%d ns is printed %q, want %q", d, got, want)
		}
	}
}

// A subject that fails is named with its reason and has no figure, and the
// others go on.
func TestAFailureIsNoFigure(t *testing.T) {
	calls := 0
	bad := &subject{name: "bad", block: repeat(func() error {
		if calls++; calls > 5 {
			return errBroken
		}
		return nil
	})}
	good := &subject{name: "good", block: repeat(func() error { return nil })}
	interleave([]*subject{bad, good}, 3, 2, 0)
	if bad.skip != "failed: broken" || len(bad.times.blocks) != 0 {
		t.Errorf("the failing subject has %d blocks and says %q", len(bad.times.blocks), bad.skip)
	}
	if good.skip != "" || len(good.times.blocks) != 3 || len(good.times.all()) != 6 {
		t.Errorf("the other one has %v and says %q, want 3 blocks of 2", good.times.blocks, good.skip)
	}
}

type broken struct{}

func (broken) Error() string { return "broken" }

var errBroken = broken{}

func TestTableIsMarkdown(t *testing.T) {
	tab := &table{title: "T", head: []string{"", "a", "b"}}
	tab.row("x", "1")
	tab.note("n %d", 1)
	var b strings.Builder
	if err := tab.print(&b); err != nil {
		t.Fatal(err)
	}
	const want = "### T\n\n|  | a | b |\n| --- | --: | --: |\n| x | 1 |  |\n\n- n 1\n\n"
	if b.String() != want {
		t.Errorf("printed %q, want %q", b.String(), want)
	}
}

func TestProcessorTime(t *testing.T) {
	const stat = "cpu  10 20 30 400 50 6 7 8 9 10\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
	if idle, all, ok := processorTime(stat); !ok || idle != 450 || all != 531 {
		t.Errorf("idle %d of %d (%v), want 450 of 531", idle, all, ok)
	}
	for _, bad := range []string{"", "cpu 1 2 3", "cpu0 1 2 3 4 5 6 7 8\n", "cpu  a 2 3 4 5 6 7 8\n"} {
		if _, _, ok := processorTime(bad); ok {
			t.Errorf("%q was read", bad)
		}
	}
}
