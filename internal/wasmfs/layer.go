package wasmfs

import "math"

// layer is what the layer over a held grant has copies of. The kernel copies a
// file or a link whole when it is changed for the first time, be it by opening
// it for writing (overlayfs, "Non-directories").
type layer map[identity]bool

// identity tells files apart. An overlay shows that of the host's file before
// and after it was copied, but for a file with several names: each is copied by
// itself, and then shows its own (fs/overlayfs/inode.c, ovl_getattr).
type identity struct{ dev, ino uint64 }

func (g *grant) has(st Stat) bool { return g.layer[identity{st.Dev, st.Ino}] }

// keeps notes that the layer has what a name leads to now.
func (g *grant) keeps(stat func() (Stat, error)) {
	if !g.Held {
		return
	}
	if st, err := stat(); err == nil {
		if g.layer == nil {
			g.layer = layer{}
		}
		g.layer[identity{st.Dev, st.Ino}] = true
	}
}

// copying counts what a change of a file makes the layer copy, as if the guest
// had written it. now says what the file is after that.
func (g *grant) copying(st Stat, change func() error, now func() (Stat, error)) error {
	if !g.Held || st.Type == TypeDirectory || g.has(st) {
		return change()
	}
	cost := int64(EntryCost)
	if st.Type == TypeFile {
		cost += int64(min(st.Size, math.MaxInt64-EntryCost))
	}
	if err := g.Storage.take(cost); err != nil {
		return err
	}
	if err := change(); err != nil {
		g.Storage.giveBack(cost)
		return err
	}
	g.keeps(now)
	return nil
}
