package wasm

import "golang.org/x/sys/unix"

// cpuKnown says that a thread's own time can be had.
const cpuKnown = true

// threadTime is the processor time of one thread, from clock_gettime(2). The
// goroutine is locked to it.
type threadTime struct{ began int64 }

func startThreadTime() threadTime { return threadTime{threadClock()} }

func (t threadTime) elapsed() int64 { return threadClock() - t.began }

func threadClock() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) // cannot fail for this clock
	return ts.Nano()
}
