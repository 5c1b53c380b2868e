package main

import (
	"bytes"
	"os"
	"testing"
)

func TestCommittedTablesAreCurrent(t *testing.T) {
	want, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../calls_generated.go")
	if err != nil {
		t.Fatal(err)
	}
	// A checkout may have rewritten the line ends.
	if !bytes.Equal(bytes.ReplaceAll(got, []byte("\r\n"), []byte("\n")), want) {
		t.Error("calls_generated.go differs from what golang.org/x/sys says; run go generate ./internal/seccomp")
	}
}
