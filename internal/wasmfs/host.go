package wasmfs

// hostDir is an open directory of the host. Every name is one component: not
// empty, not "." or "..", and without a separator. No call follows a link.
type hostDir interface {
	openDir(name string) (hostDir, error)
	openFile(name string, how openHow) (hostFile, error)
	readlink(name string) (string, error)
	stat(name string) (Stat, error)
	mkdir(name string) error
	unlink(name string) error
	rmdir(name string) error
	symlink(target, name string) error
	link(name string, to hostDir, newName string) error
	rename(name string, to hostDir, newName string) error
	setTimes(name string, atim, mtim Time) error

	again() (hostDir, error) // the same directory, opened once more
	self() (Stat, error)
	setOwnTimes(atim, mtim Time) error
	list(atMost int) ([]Entry, error) // in any order, without "." and ".."; errNoMemory for more bytes of names
	sync() error
	close() error
}

// openHow says how to open a regular file. The caller has looked: only what has
// taken its place since can be something else, and that is closed again.
type openHow struct {
	read, write bool
	create      bool // it must not exist: the caller has looked
}

// hostFile is an open regular file of the host. It has no position.
type hostFile interface {
	readAt(p []byte, off int64) (int, error)
	writeAt(p []byte, off int64) (int, error)
	appendTo(p []byte) (int, error)
	truncate(size int64) error
	allocate(off, size int64) error
	stat() (Stat, error)
	setTimes(atim, mtim Time) error
	sync() error
	datasync() error
	close() error
}

// newMode are the modes of what a guest makes: those of a program under the
// umask of 022 that native workloads start with.
const (
	newFileMode = 0o644
	newDirMode  = 0o755
)

var errSpecial = refusal{errno: Access, reason: Special}
