package main

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// processorTime reads the first line of /proc/stat (proc_stat(5)): what all
// processors spent idle or waiting, and in all, in clock ticks.
func processorTime(stat string) (idle, all int64, ok bool) {
	line, _, _ := strings.Cut(stat, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, 0, false
	}
	for i, s := range f[1:9] { // guest time, after these, is in user time already
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, 0, false
		}
		all += n
		if i == 3 || i == 4 {
			idle += n
		}
	}
	return idle, all, true
}

// awaitIdle waits until others leave at least nine tenths of the machine
// alone, at most as long as patience lasts, and says whether they did. What it
// cannot see counts as idle.
func awaitIdle(patience time.Duration) bool {
	const look = 300 * time.Millisecond
	for end := time.Now().Add(patience); ; {
		before, _ := os.ReadFile("/proc/stat")
		time.Sleep(look)
		after, _ := os.ReadFile("/proc/stat")
		i0, a0, ok0 := processorTime(string(before))
		i1, a1, ok1 := processorTime(string(after))
		if !ok0 || !ok1 || a1 <= a0 || 10*(i1-i0) >= 9*(a1-a0) {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}
