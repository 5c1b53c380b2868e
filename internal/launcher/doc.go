// Package launcher turns a plan, lowered to a list of system calls, into a
// process.
//
// A Go process cannot safely run Go code between fork and exec, and a Go
// program that executes itself pays for a runtime start and is a large,
// writable target. So the list is data (Program), and what carries it out is
// the machine: one assembly routine per architecture that loads a number and
// six arguments, makes the call, stores the result and goes on. It uses no
// stack, no allocator and no library. Machine and program together are a
// static ELF image in a sealed memfd; see Image and Seal.
//
// One program is walked by three processes, told apart by where they are in
// it: the launcher makes the namespaces and the root, init is process 1 of the
// new pid namespace, and the workload confines itself, waits at the barrier
// and executes the program. docs/processes.md has the picture.
package launcher
