//go:build !linux

package durable

import "io/fs"

// Only Linux has files without a name.
func (d *Dir) createNameless(string, []byte, fs.FileMode) (done bool, err error) { return false, nil }
func (d *Dir) tryNameless(int) (done bool, err error)                            { return false, nil }
