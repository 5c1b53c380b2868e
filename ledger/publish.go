package ledger

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Publish completes public/ for the log as it is now, so that a static file
// server can publish it (https://c2sp.org/tlog-tiles): the partial tile and
// bundle, and last the checkpoint. It returns the checkpoint, nil for an empty log.
func (d *Dir) Publish() ([]byte, error) {
	d.turn.Lock()
	defer d.turn.Unlock()
	var head []byte
	err := d.locked(true, func() error {
		if d.tail == nil || d.tail.mark == nil {
			return nil
		}
		t := d.tail
		if err := t.file.Sync(); err != nil {
			return err
		}
		if w := len(t.entries); w == width {
			if err := d.finish(); err != nil {
				return err
			}
		} else {
			for _, f := range []file{
				{"public/" + bundlePath(t.number, w), bundle(t.entries)},
				{"public/" + tilePath(tlog.Tile{H: height, L: 0, N: t.number, W: w}), bundleHashes(t.entries)},
			} {
				if err := d.put(f); err != nil {
					return err
				}
			}
		}
		dir, err := d.below("public")
		if err != nil {
			return err
		}
		defer dir.Close()
		head = t.note
		return dir.WriteFile("checkpoint", head, 0o600)
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: publish: %w", err)
	}
	return head, nil
}

// Published lists the files of public/ that the checkpoint of a log of size
// entries needs, besides itself.
func Published(size int64) []string {
	var names []string
	for _, t := range tlog.NewTiles(height, 0, size) {
		names = append(names, tilePath(t))
		if t.L == 0 {
			names = append(names, bundlePath(t.N, t.W))
		}
	}
	return names
}

// Alone calls do while no other process calls it for the same name.
func (d *Dir) Alone(name string, do func() error) error {
	dir, err := d.below()
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	defer dir.Close()
	lock, err := dir.OpenLock("lock-" + name)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	defer lock.Close()
	if err := lock.Lock(true); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return do()
}
