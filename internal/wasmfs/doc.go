// Package wasmfs is the file system that a WebAssembly guest sees: the granted
// paths and nothing else, over open descriptors. It speaks in the terms of WASI
// preview 1 (its errno, its open flags) and knows neither the engine nor plans.
//
// Paths are walked here, one name at a time, each looked up beneath a directory
// that is already open and never through a link; links are read and their
// targets walked the same way. So ".." is answered from the directories that
// were passed, never by the kernel, and what changes on the disk meanwhile can
// make a walk fail but cannot lead it out. What is granted or taken out below a
// place is known by its place in the guest's view and, where it exists, by the
// identity of the file.
//
// A guest has one thread; an FS, its directories and its files are not safe for
// concurrent use. A Budget is.
package wasmfs
