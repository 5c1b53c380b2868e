//go:build !linux || !(amd64 || arm64)

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: native launches need linux on amd64 or arm64; run it there")
	os.Exit(2)
}
