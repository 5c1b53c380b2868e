package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bvisor/bvisor/ledger"
	"github.com/bvisor/bvisor/report"
)

const checkpointTo = "keep the log's checkpoint in `FILE` too, which never goes back; with a | before it, give it to a shell command"

func ed25519Keys(list []report.PublicKey) []ed25519.PublicKey {
	var keys []ed25519.PublicKey
	for _, k := range list {
		keys = append(keys, k.Ed25519())
	}
	return keys
}

// kept checks that the log continues the checkpoint that is kept elsewhere. No
// file there yet is no objection.
func (c *cli) kept(log *ledger.Dir, to string) error {
	if to == "" || strings.HasPrefix(to, "|") {
		return nil
	}
	old, err := os.ReadFile(to)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return usage("--checkpoint-to: %w", err)
	}
	trusted, err := c.trusted(nil)
	if err != nil {
		return err
	}
	if _, err := log.Since(old, ed25519Keys(trusted)); err != nil {
		return fault("the ledger %s does not continue the checkpoint in %s: %w", log.Path(), to, err).
			hinted("find out what happened to the ledger; %s stays as it is", to)
	}
	return nil
}

// keepCheckpoint hands the log's checkpoint to a second place, so that what
// happens to the log can be told from there.
func (c *cli) keepCheckpoint(log *ledger.Dir, to string) error {
	if command, ok := strings.CutPrefix(to, "|"); ok {
		head, err := log.Head()
		if err != nil {
			return fault("%w", err)
		}
		cmd := exec.Command("/bin/sh", "-c", command)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(head), c.stderr, c.stderr
		if err := cmd.Run(); err != nil {
			return fault("--checkpoint-to: %s: %w", command, err)
		}
		return nil
	}
	// One after the other, or the file could go back.
	return log.Alone("keep", func() error {
		if err := c.kept(log, to); err != nil {
			return err
		}
		head, err := log.Head()
		if err != nil {
			return fault("%w", err)
		}
		if err := putInPlace(to, head); err != nil {
			return fault("--checkpoint-to: %w", err)
		}
		return nil
	})
}

// putInPlace makes name hold data, in one step, durably.
func putInPlace(name string, data []byte) error {
	temp := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+"."+rand.Text())
	if err := writeNew(temp, data); err != nil {
		return err
	}
	if err := os.Rename(temp, name); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("flush %s: %w", dir.Name(), err)
	}
	return nil
}
