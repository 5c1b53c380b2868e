// Package hostmatrix tests the same specs on many hosts: the one it runs on, and
// others that are made of it with namespaces, mounts and system call filters.
// What it finds stands in docs/host-matrix.md. There is nothing but tests here.
package hostmatrix
