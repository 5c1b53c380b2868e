//go:build !linux

package wasm

// cpuKnown says that a thread's own time can be had.
const cpuKnown = false

type threadTime struct{}

func startThreadTime() threadTime { return threadTime{} }

func (threadTime) elapsed() int64 { return -1 }
