//go:build amd64 || arm64

package linux

import (
	"os"
	"slices"
	"sync"

	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/secret"
)

// image is a lowered program, its body in a sealed memfd. It is the same for
// every launch of a plan whose paths still lead to the same inodes.
type image struct {
	program *launcher.Program
	body    *os.File // kept open; closed when nothing refers to it any more
	digest  func() string
}

// images remembers the last few: compile once, launch many times.
type images struct {
	mu    sync.Mutex
	known []knownImage
}

type knownImage struct {
	plan  string // its identity
	files []fileID
	image *image
}

// fileID names an inode as long as it is pinned.
type fileID struct{ dev, ino uint64 }

const maxImages = 16

// of returns the image of a plan. One that depends on more than the plan and
// the inodes is not kept.
func (k *images) of(p plan.Plan, res *resolution, env []secret.Value, s slots) (*image, error) {
	var files []fileID
	for i, pin := range res.pins {
		if pin != nil {
			files = append(files, fileID{uint64(pin.stat.Dev), pin.stat.Ino})
		}
		if p.Resolved.Roots[i].NonRecursive || p.Resolved.Roots[i].Held {
			return newImage(p, res, env, s)
		}
	}
	files = append(files, fileID{uint64(res.exe.stat.Dev), res.exe.stat.Ino})
	id := p.ID()
	k.mu.Lock()
	for _, o := range k.known {
		if o.plan == id && slices.Equal(o.files, files) {
			k.mu.Unlock()
			return o.image, nil
		}
	}
	k.mu.Unlock()
	img, err := newImage(p, res, env, s)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.known) == maxImages {
		k.known = slices.Delete(k.known, 0, 1)
	}
	k.known = append(k.known, knownImage{id, files, img})
	return img, nil
}

func newImage(p plan.Plan, res *resolution, env []secret.Value, s slots) (*image, error) {
	program, err := lower(p, res, env, s)
	if err != nil {
		return nil, err
	}
	f, err := program.SealBody()
	if err != nil {
		return nil, err
	}
	return &image{program: program, body: f, digest: sync.OnceValue(program.Digest)}, nil
}
