//go:build !linux

package durable

import "os"

func dataSync(f *os.File) error { return f.Sync() }
