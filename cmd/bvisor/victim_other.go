//go:build !linux

package main

// actAsVictim does nothing: no selftest starts anything on this system.
func actAsVictim() {}
