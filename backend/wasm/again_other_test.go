//go:build !linux

package wasm_test

func again() int { return 0 }
