package main

import (
	"errors"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"path"
	"strconv"
)

// change does everything to a directory once that a module can do. There are
// written, cut, longer, removed, moved, over, linked, link, dir/in, gone/in,
// empty/ and beside.
func change(dir string) error {
	at := func(name string) string { return path.Join(dir, name) }
	appended := func(name string) error {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
		if err == nil {
			_, err = f.WriteString(" and more")
			err = errors.Join(err, f.Close())
		}
		return err
	}
	return errors.Join(
		os.WriteFile(at("new"), []byte("new"), 0o644),
		os.WriteFile(at("written"), []byte("other"), 0o644),
		os.Truncate(at("cut"), 1),
		appended(at("longer")),
		os.Remove(at("removed")),
		os.Rename(at("moved"), at("dir/moved")),
		os.Rename(at("over"), at("dir/in")),
		os.Link(at("linked"), at("other-name")),
		os.Remove(at("link")),
		os.Symlink("dir/in", at("new-link")),
		os.MkdirAll(at("a/b/c"), 0o755),
		os.WriteFile(at("a/b/c/deep"), []byte("deep"), 0o644),
		os.RemoveAll(at("gone")),
		os.Remove(at("empty")),
		os.WriteFile(at("empty"), []byte("a file now"), 0o644),
		os.Remove(at("beside")),
		os.Mkdir(at("beside"), 0o755),
	)
}

// stir changes a tree by a seed: two trees that are alike are alike afterwards.
func stir(dir, seed string) error {
	n, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		return err
	}
	r := mathrand.New(mathrand.NewPCG(n, 1))
	for i := range 40 {
		var all []string
		if err := fs.WalkDir(os.DirFS(dir), ".", func(name string, _ fs.DirEntry, err error) error {
			if name != "." {
				all = append(all, path.Join(dir, name))
			}
			return err
		}); err != nil {
			return err
		}
		pick := func() string {
			if len(all) == 0 {
				return path.Join(dir, "none")
			}
			return all[r.IntN(len(all))]
		}
		a, b, fresh := pick(), pick(), "n"+strconv.Itoa(i)
		kind := fs.ModeIrregular
		if info, err := os.Lstat(a); err == nil {
			kind = info.Mode().Type()
		}
		into := a // a directory to make something in
		if !kind.IsDir() {
			into = path.Dir(a)
		}
		// What cannot be done is not done, in one tree as in the other.
		switch r.IntN(10) {
		case 0:
			_ = os.WriteFile(path.Join(into, fresh), []byte(fresh), 0o644)
		case 1:
			if kind.IsRegular() {
				_ = os.WriteFile(a, []byte(fresh+"\n"), 0o644)
			}
		case 2:
			if size := int64(r.IntN(20)); kind.IsRegular() {
				_ = os.Truncate(a, size)
			}
		case 3:
			_ = os.Remove(a)
		case 4:
			_ = os.RemoveAll(a)
		case 5:
			_ = os.Mkdir(path.Join(into, fresh), 0o755)
		case 6:
			_ = os.Symlink(fresh, path.Join(into, fresh))
		case 7:
			if !kind.IsDir() { // of the host's they cannot be moved in a layer
				_ = os.Rename(a, path.Join(into, fresh))
			}
		case 8:
			if !kind.IsDir() {
				_ = os.Rename(a, b)
			}
		case 9:
			if kind.IsDir() {
				_ = os.RemoveAll(a)
				_ = os.Mkdir(a, 0o755)
				_ = os.WriteFile(path.Join(a, fresh), []byte(fresh), 0o644)
			}
		}
	}
	return nil
}
