package wasmfs

import "os"

// Filetype is the filetype of preview 1.
type Filetype uint8

// File types.
const (
	TypeUnknown   Filetype = 0 // a FIFO, for one, has no type of its own
	TypeBlock     Filetype = 1
	TypeChar      Filetype = 2
	TypeDirectory Filetype = 3
	TypeFile      Filetype = 4
	TypeSocket    Filetype = 6
	TypeLink      Filetype = 7
)

// Stat is what is known of a file. Times are nanoseconds since 1970.
type Stat struct {
	Dev, Ino         uint64
	Type             Filetype
	Nlink            uint64
	Size             uint64
	Atim, Mtim, Ctim uint64

	info os.FileInfo // where the system has no inode numbers to compare
}

// same says whether two are of one file.
func same(a, b Stat) bool {
	if a.info != nil && b.info != nil {
		return os.SameFile(a.info, b.info)
	}
	return a.Dev == b.Dev && a.Ino == b.Ino
}

// Time is a time to set.
type Time struct {
	Set  bool // or it stays as it is
	Now  bool
	Nano uint64
}

// Entry is one name of a directory.
type Entry struct {
	Name string
	Ino  uint64
	Type Filetype
}
