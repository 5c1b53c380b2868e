// Package wasip1 is WASI preview 1 (module wasi_snapshot_preview1) for guests
// of wazero: every function of it, written anew. wazero's own host module keeps
// its table of descriptors to itself, so that none of its file functions can be
// replaced alone; and it resolves paths by joining names, knows no rights and
// twenty errnos.
//
// A Process is what one guest sees: arguments, environment, streams, files,
// clocks, randomness. It travels in the context of the calls into the guest, so
// one host module serves all guests of a runtime. What the specification leaves
// open is answered as docs/wasi.md says.
package wasip1
