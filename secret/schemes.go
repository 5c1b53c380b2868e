package secret

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxValue bounds a value from a file or a program. Linux takes no more than
// 128 KiB in one variable (execve(2), MAX_ARG_STRLEN).
const maxValue = 64 << 10

// Env resolves "env:NAME" from the supervisor's own environment.
type Env struct{}

// Resolve implements Resolver.
func (Env) Resolve(_ context.Context, name string) (string, error) {
	if strings.Contains(name, "=") {
		return "", fmt.Errorf("%q is not a variable's name: it contains '='", name)
	}
	value, ok := os.LookupEnv(name)
	if !ok {
		return "", fmt.Errorf("%s is not set in the environment of bvisor; export it", name)
	}
	return value, nil
}

// File resolves "file:/path" to the contents of a regular file, without one
// newline at its end, which editors and echo add.
//
// A file that another user can write to is refused: they would choose the
// workload's secret. One that others can read is not, since the places where
// orchestrators mount secrets are often mode 0444 inside a private directory.
type File struct{}

// Resolve implements Resolver.
func (File) Resolve(_ context.Context, path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%s: want an absolute path", path)
	}
	// Looked at before it is opened, because opening a FIFO would wait for a
	// writer; and again afterwards, because it may have been replaced.
	info, err := os.Stat(path)
	if err == nil {
		err = trusted(info, path)
	}
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err = f.Stat(); err == nil {
		err = trusted(info, path)
	}
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxValue+1))
	if err != nil {
		return "", err
	}
	if len(data) > maxValue {
		return "", fmt.Errorf("%s: more than %d bytes", path, maxValue)
	}
	return cutNewline(string(data)), nil
}

// trusted fails unless info is a regular file that only its owner can change,
// and that owner is the caller or root.
func trusted(info fs.FileInfo, path string) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: not a regular file", path)
	}
	if perm := info.Mode().Perm(); hasModes && perm&0o022 != 0 {
		return fmt.Errorf("%s: its mode %04o lets others change it; run chmod go-w on it", path, perm)
	}
	if uid, ok := owner(info); ok && uid != 0 && uid != os.Geteuid() {
		return fmt.Errorf("%s: it belongs to uid %d, want uid %d or root", path, uid, os.Geteuid())
	}
	return nil
}

func cutNewline(s string) string {
	s, found := strings.CutSuffix(s, "\n")
	if found {
		s = strings.TrimSuffix(s, "\r")
	}
	return s
}
