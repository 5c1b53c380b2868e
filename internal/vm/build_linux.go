package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Binary is the test binary of one package.
type Binary struct {
	Package string // import path
	Dir     string // of its sources, below the module's root
	File    string
}

// Module is a module's name and root.
type Module struct{ Path, Dir string }

// FindModule is the module that dir is in.
func FindModule(ctx context.Context, dir string) (Module, error) {
	var m Module
	out, err := goTool(ctx, dir, "", "list", "-m", "-json")
	if err == nil {
		err = json.Unmarshal(out, &m)
	}
	return m, err
}

// Build makes the test binaries of packages below cwd, for an architecture. A
// package without tests has none.
func (m Module) Build(ctx context.Context, cwd, arch, to string, packages ...string) ([]Binary, error) {
	out, err := goTool(ctx, cwd, arch, append([]string{"list", "-json=ImportPath,Dir"}, packages...)...)
	if err != nil {
		return nil, err
	}
	var list []Binary
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct{ ImportPath, Dir string }
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, err
		}
		rel, err := filepath.Rel(m.Dir, p.Dir)
		if err != nil {
			return nil, err
		}
		file := filepath.Join(to, strings.ReplaceAll(p.ImportPath, "/", "-")+".test")
		// Without symbols a binary is a third smaller; what a panic prints is
		// not among them.
		if _, err := goTool(ctx, p.Dir, arch, "test", "-c", "-ldflags=-s -w", "-o", file, "."); err != nil {
			return nil, err
		}
		if _, err := os.Stat(file); err == nil {
			list = append(list, Binary{p.ImportPath, rel, file})
		}
	}
}

// buildGuest makes the machine's first process.
func (m Module) buildGuest(ctx context.Context, arch, to string) error {
	_, err := goTool(ctx, m.Dir, arch, "build", "-trimpath", "-ldflags=-s -w", "-o", to, "./internal/vm/guest")
	return err
}

func goTool(ctx context.Context, dir, arch string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if arch != "" {
		cmd.Env = append(cmd.Env, "GOARCH="+arch)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return out, nil
}
