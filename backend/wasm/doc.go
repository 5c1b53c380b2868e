// Package wasm holds boundaries around WebAssembly modules: what a module can
// reach are the functions that its host gives it, and these are those of WASI
// preview 1, each bounded by the plan.
//
// A module is counted and made interruptible by internal/wasmmeter, compiled by
// wazero and run either in a worker, which is bvisor's own program inside a
// boundary of the outer backend, or, where the spec accepts in-process, in the
// caller's own process. The plan says which.
package wasm

// Name is the backend's name.
const Name = "wasm"

// mechanismName is what refuses an attempt of a guest.
const mechanismName = "wasi"
