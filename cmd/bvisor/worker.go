package main

import (
	"os"

	"github.com/bvisor/bvisor/backend/wasm"
)

// workerWord makes this program a worker for WebAssembly modules. Nobody types
// it: the wasm backend starts "bvisor wasm-worker" inside a boundary.
const workerWord = "wasm-worker"

// actAsWorker ends this process if it was started as a worker.
func actAsWorker() {
	if len(os.Args) != 2 || os.Args[1] != workerWord {
		return
	}
	in, out := os.NewFile(wasm.WorkerIn, "jobs"), os.NewFile(wasm.WorkerOut, "results")
	if in == nil || out == nil || wasm.Work(in, out) != nil {
		os.Exit(exitFault)
	}
	os.Exit(0)
}
