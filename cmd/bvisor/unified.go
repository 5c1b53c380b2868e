package main

import (
	"bytes"
	"fmt"
	"io"
)

// around is how many lines around a change are shown.
const around = 3

// maxEdits is the largest number of lines that differ for which the shortest
// way is looked for; of two texts that differ more, all is replaced.
const maxEdits = 1000

// edit is a line of a comparison: of both texts, or of one.
type edit struct {
	kind byte // ' ', '-' or '+'
	line []byte
}

// splitLines cuts a text behind its newlines.
func splitLines(text []byte) [][]byte {
	if len(text) == 0 {
		return nil
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	if len(lines[len(lines)-1]) == 0 {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// compare is the shortest way from a to b, by Myers' greedy algorithm ("An
// O(ND) Difference Algorithm and Its Variations", 1986), between what they have
// in common at both ends.
func compare(a, b [][]byte) []edit {
	head, tail := 0, 0
	for head < min(len(a), len(b)) && bytes.Equal(a[head], b[head]) {
		head++
	}
	for tail < min(len(a), len(b))-head && bytes.Equal(a[len(a)-1-tail], b[len(b)-1-tail]) {
		tail++
	}
	var list []edit
	add := func(kind byte, lines [][]byte) {
		for _, l := range lines {
			list = append(list, edit{kind, l})
		}
	}
	add(' ', a[:head])
	list = append(list, shortest(a[head:len(a)-tail], b[head:len(b)-tail])...)
	add(' ', a[len(a)-tail:])
	return list
}

func shortest(a, b [][]byte) []edit {
	n, m := len(a), len(b)
	limit := min(n+m, maxEdits)
	// furthest[d][k+d] is how far into a one gets with d edits on the diagonal k.
	var furthest [][]int32
	at := func(d, k int) int {
		if d < 0 || k < -d || k > d {
			return -1
		}
		return int(furthest[d][k+d])
	}
	for d := 0; d <= limit; d++ {
		row := make([]int32, 2*d+1)
		furthest = append(furthest, row)
		for k := -d; k <= d; k += 2 {
			x := 0
			switch {
			case d == 0:
			case k == -d || k != d && at(d-1, k-1) < at(d-1, k+1):
				x = at(d-1, k+1)
			default:
				x = at(d-1, k-1) + 1
			}
			for x < n && x-k < m && x-k >= 0 && bytes.Equal(a[x], b[x-k]) {
				x++
			}
			row[k+d] = int32(x)
			if x >= n && x-k >= m {
				return backtrack(a, b, at, d)
			}
		}
	}
	var list []edit
	for _, l := range a {
		list = append(list, edit{'-', l})
	}
	for _, l := range b {
		list = append(list, edit{'+', l})
	}
	return list
}

// backtrack walks from both ends of the texts to their beginnings.
func backtrack(a, b [][]byte, at func(d, k int) int, d int) []edit {
	var back []edit
	x, y := len(a), len(b)
	for ; d >= 0; d-- {
		k := x - y
		fromX, fromK := 0, 0
		if d > 0 {
			if fromK = k - 1; k == -d || k != d && at(d-1, k-1) < at(d-1, k+1) {
				fromK = k + 1
			}
			fromX = at(d-1, fromK)
		}
		fromY := fromX - fromK
		startX := fromX // where the diagonal begins
		if d > 0 && fromK == k-1 {
			startX++
		}
		for x > startX && (d > 0 || x > 0) {
			x--
			y--
			back = append(back, edit{' ', a[x]})
		}
		switch {
		case d == 0:
		case fromK == k+1:
			y--
			back = append(back, edit{'+', b[y]})
		default:
			x--
			back = append(back, edit{'-', a[x]})
		}
		if d > 0 {
			x, y = fromX, fromY
		}
	}
	list := make([]edit, 0, len(back))
	for i := len(back) - 1; i >= 0; i-- {
		list = append(list, back[i])
	}
	return list
}

// unified writes a comparison the way diff -u and patch(1) have it. show turns
// a line, without its newline, into what is printed.
func unified(w io.Writer, list []edit, show func(kind byte, line []byte) string) {
	for i := 0; i < len(list); {
		if list[i].kind == ' ' {
			i++
			continue
		}
		begin := max(i-around, 0)
		end, quiet := i, 0 // the hunk ends where enough lines are the same
		for ; end < len(list) && quiet <= 2*around; end++ {
			if quiet++; list[end].kind != ' ' {
				quiet = 0
			}
		}
		end -= max(quiet-around, 0)
		hunk(w, list, begin, end, show)
		i = end
	}
}

func hunk(w io.Writer, list []edit, begin, end int, show func(kind byte, line []byte) string) {
	var from, to, had, has int
	for i, e := range list[:end] {
		inside := i >= begin
		if e.kind != '+' {
			if inside {
				had++
			} else {
				from++
			}
		}
		if e.kind != '-' {
			if inside {
				has++
			} else {
				to++
			}
		}
	}
	side := func(before, count int) string {
		if count > 0 {
			before++ // a side without lines names the line before it
		}
		return fmt.Sprintf("%d,%d", before, count)
	}
	fmt.Fprintln(w, show('@', fmt.Appendf(nil, "@@ -%s +%s @@", side(from, had), side(to, has))))
	for _, e := range list[begin:end] {
		line, whole := bytes.CutSuffix(e.line, []byte("\n"))
		fmt.Fprintln(w, show(e.kind, line))
		if !whole {
			fmt.Fprintln(w, `\ No newline at end of file`)
		}
	}
}
