package ledger

import (
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// frontier are the roots of the largest perfect subtrees of a tree, from the
// left: one for each bit of its size. It is all that adding to a tree needs.
type frontier []tlog.Hash

// add returns the frontier with one leaf more. f is not changed.
func (f frontier) add(size int64, leaf tlog.Hash) frontier {
	out := append(frontier(nil), f...)
	for n := size; n&1 != 0; n >>= 1 {
		last := len(out) - 1
		leaf = tlog.NodeHash(out[last], leaf)
		out = out[:last]
	}
	return append(out, leaf)
}

// root is the tree's.
func (f frontier) root() tlog.Hash {
	if len(f) == 0 {
		h, _ := tlog.TreeHash(0, nil) // reads nothing
		return h
	}
	h := f[len(f)-1]
	for i := len(f) - 2; i >= 0; i-- {
		h = tlog.NodeHash(f[i], h)
	}
	return h
}

// fits says whether f can be that of a tree of size.
func (f frontier) fits(size int64) bool { return len(f) == bits.OnesCount64(uint64(size)) }

// Bundles, tiles and segments hold width entries or hashes each, as
// https://c2sp.org/tlog-tiles has it.
const (
	height = 8
	width  = 1 << height
)

// tilePath is a tile's name: that of the Go checksum database without the
// height, which is 8 always.
func tilePath(t tlog.Tile) string {
	const prefix = "tile/8/"
	return "tile/" + t.Path()[len(prefix):]
}

// bundlePath is the name of the entry bundle n with w entries.
func bundlePath(n int64, w int) string {
	const prefix = "tile/8/data/"
	return "tile/entries/" + tlog.Tile{H: height, L: -1, N: n, W: w}.Path()[len(prefix):]
}

// hashReader answers from a function that knows the hash at a place in a tree.
type hashReader func(level int, n int64) (tlog.Hash, error)

func (r hashReader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		level, n := tlog.SplitStoredHashIndex(x)
		h, err := r(level, n)
		if err != nil {
			return nil, err
		}
		hashes[i] = h
	}
	return hashes, nil
}

// subtree is the root of a perfect subtree over hashes.
func subtree(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	half := len(hashes) / 2
	return tlog.NodeHash(subtree(hashes[:half]), subtree(hashes[half:]))
}

// splitTile reads a tile's hashes.
func splitTile(data []byte, w int) ([]tlog.Hash, error) {
	if len(data) != w*tlog.HashSize {
		return nil, fmt.Errorf("%d bytes, expected %d", len(data), w*tlog.HashSize)
	}
	hashes := make([]tlog.Hash, w)
	for i := range hashes {
		hashes[i] = tlog.Hash(data[i*tlog.HashSize:])
	}
	return hashes, nil
}

func joinTile(hashes []tlog.Hash) []byte {
	data := make([]byte, 0, len(hashes)*tlog.HashSize)
	for _, h := range hashes {
		data = append(data, h[:]...)
	}
	return data
}
