//go:build !unix

package durable

import (
	"io/fs"
	"os"
)

// Access lists are not read here: what a new directory inherits from the
// user's profile decides.
func private(fs.FileInfo, string) error { return nil }

// FlushFileBuffers fails on a handle of a directory.
func syncDir(*os.File) error { return nil }
