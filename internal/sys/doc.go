// Package sys holds the few system calls that golang.org/x/sys/unix does not
// wrap, one family per file. It is the only place outside the launcher with
// unsafe or raw system calls.
package sys
