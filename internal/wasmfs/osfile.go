package wasmfs

import "os"

// osFile is a regular file behind an *os.File. times sets its times, which
// os.File cannot.
type osFile struct {
	*os.File
	times func(atim, mtim Time) error
}

// grantedFile is a file that is granted by itself. It stays its owner's.
func grantedFile(f *os.File) hostFile {
	return osFile{File: f, times: func(atim, mtim Time) error { return setFileTimes(f, atim, mtim) }}
}

func (f osFile) readAt(p []byte, off int64) (int, error)  { return f.ReadAt(p, off) }
func (f osFile) writeAt(p []byte, off int64) (int, error) { return f.WriteAt(p, off) }
func (f osFile) appendTo(p []byte) (int, error)           { return appendToFile(f.File, p) }
func (f osFile) truncate(size int64) error                { return f.Truncate(size) }
func (f osFile) allocate(off, size int64) error           { return allocate(f.File, off, size) }
func (f osFile) setTimes(atim, mtim Time) error           { return f.times(atim, mtim) }
func (f osFile) sync() error                              { return f.Sync() }
func (f osFile) datasync() error                          { return datasync(f.File) }
func (f osFile) close() error                             { return f.Close() }

func (f osFile) stat() (Stat, error) {
	info, err := f.Stat()
	if err != nil {
		return Stat{}, err
	}
	return statOf(info), nil
}

func typeOf(m os.FileMode) Filetype {
	switch {
	case m.IsRegular():
		return TypeFile
	case m.IsDir():
		return TypeDirectory
	case m&os.ModeSymlink != 0:
		return TypeLink
	case m&os.ModeCharDevice != 0:
		return TypeChar
	case m&os.ModeDevice != 0:
		return TypeBlock
	case m&os.ModeSocket != 0:
		return TypeSocket
	}
	return TypeUnknown
}
