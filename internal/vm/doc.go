// Package vm is for tests: it runs test binaries under kernels other than this
// machine's, in virtual machines that qemu emulates in software.
//
// A machine has a Debian kernel (Fetch), an archive in memory as its root (the
// test binaries, the tree, a few ordinary programs of this host) and one
// process that starts the suites one after the other (internal/vm/guest). Its
// disk is thrown away and it has no network. What it says comes back over a serial port.
package vm
