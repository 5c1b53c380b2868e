package vm

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// hostPrograms puts the programs of a Debian package into the archive, if it is
// installed.
func (a *archive) hostPrograms(name string) error {
	list, err := os.ReadFile("/var/lib/dpkg/info/" + name + ".list")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for file := range strings.Lines(string(list)) {
		file = strings.TrimSuffix(file, "\n")
		if dir := filepath.Base(filepath.Dir(file)); dir != "bin" && dir != "sbin" {
			continue
		}
		if err := a.hostFile(file); err != nil {
			return err
		}
	}
	return err
}

// hostFile puts a file of this host into the archive under its own name, with
// the symbolic links on the way to it, its interpreter and its libraries.
func (a *archive) hostFile(name string) error {
	name, err := a.hostLinks(name)
	if err != nil || a.made[name] {
		return err
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	a.file(name, uint32(info.Mode().Perm()), data)
	return a.libraries(name)
}

// hostLinks puts the links of a path into the archive and returns where they
// lead.
func (a *archive) hostLinks(name string) (string, error) {
	rest, done := strings.Split(strings.Trim(filepath.Clean(name), "/"), "/"), "/"
	for n := 0; len(rest) > 0; n++ {
		if n > 100 {
			return "", fmt.Errorf("%s: too many links", name)
		}
		at := filepath.Join(done, rest[0])
		target, err := os.Readlink(at)
		if err != nil {
			done, rest = at, rest[1:]
			continue
		}
		a.link(at, target)
		if !filepath.IsAbs(target) {
			target = filepath.Join(done, target)
		}
		rest = append(strings.Split(strings.Trim(filepath.Clean(target), "/"), "/"), rest[1:]...)
		done = "/"
	}
	return done, nil
}

// libraryDirs are where ld.so(8) looks without a cache.
var libraryDirs = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"}

// libraries follows what a program says it needs.
func (a *archive) libraries(name string) error {
	f, err := elf.Open(name)
	if err != nil {
		if _, ok := errors.AsType[*elf.FormatError](err); ok {
			return nil // a script, or data
		}
		return err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		interp := make([]byte, p.Filesz)
		if _, err := p.ReadAt(interp, 0); err != nil {
			return err
		}
		if err := a.hostFile(strings.TrimRight(string(interp), "\x00")); err != nil {
			return err
		}
	}
	needed, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	for _, lib := range needed {
		i := slices.IndexFunc(libraryDirs, func(dir string) bool { _, err := os.Stat(filepath.Join(dir, lib)); return err == nil })
		if i < 0 {
			return fmt.Errorf("%s needs %s, which is in none of %q", name, lib, libraryDirs)
		}
		if err := a.hostFile(filepath.Join(libraryDirs[i], lib)); err != nil {
			return err
		}
	}
	return nil
}

// hostTree puts a directory of this host into the archive below another name.
func (a *archive) hostTree(from, to string, leaveOut func(rel string) bool) error {
	return filepath.WalkDir(from, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		if leaveOut(rel) {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		switch at := filepath.Join(to, rel); {
		case e.IsDir():
			a.dir(at, 0o755)
		case e.Type() == fs.ModeSymlink:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			a.link(at, target)
		case e.Type().IsRegular():
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			a.file(at, uint32(info.Mode().Perm()|0o444), data)
		}
		return nil
	})
}
