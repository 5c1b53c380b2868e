//go:build !linux

package quarantine

import "errors"

var errLinux = errors.New("writes are held back, and committed, on Linux only")

// Check needs Linux: elsewhere nothing is held back.
func Check(dir string, n int, digest string, o Options) (Result, error) { return Result{}, errLinux }

// Commit needs Linux: elsewhere nothing is held back.
func Commit(dir string, n int, digest string, o Options) (Result, error) { return Result{}, errLinux }

// Host needs Linux: elsewhere nothing is held back.
func (m *Manifest) Host(rel string, limit int64) ([]byte, error) { return nil, errLinux }

func flushed(string) error { return errLinux }

// Lock needs Linux: elsewhere nothing is held back.
func Lock(dir string, wait bool) (unlock func(), err error) { return nil, errLinux }
