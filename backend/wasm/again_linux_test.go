package wasm_test

import (
	"os/exec"

	"github.com/bvisor/bvisor/internal/need"
)

func again() int {
	return need.Again(place.exe, func(c *exec.Cmd) error {
		c.Env = append(c.Env, guestVariable+"="+place.dir)
		return nil
	})
}
