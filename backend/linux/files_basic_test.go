//go:build linux && (amd64 || arm64)

package linux_test

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/plan"
)

func TestReadOutsideTheGrants(t *testing.T) {
	root := tree(t, "in/file", "out/secret")
	secret := filepath.Join(root, "out/secret")
	control(t, "read", secret).succeeds(t)
	run(t, mods{grant("r", filepath.Join(root, "in"))}, "read", filepath.Join(root, "in/file")).succeeds(t)
	run(t, mods{grant("r", filepath.Join(root, "in"))}, "read", secret).denied(t, plan.Filesystem, unix.ENOENT)
}
