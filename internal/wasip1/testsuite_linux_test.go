package wasip1

import (
	"fmt"
	"testing"

	"github.com/bvisor/bvisor/internal/wasmfs"
)

// scratch is a directory with the rights that the programs of WebAssembly's
// wasi-testsuite ask for theirs: fewer than a preopen has.
func (c *checker) scratch() uint32 {
	const (
		base = rightStat | rightReaddir | rightCreateFile | rightCreateDirectory | rightRemoveDirectory | rightOpen | rightUnlink |
			rightLinkSource | rightLinkTarget | rightReadlink | rightRenameSource | rightRenameTarget | rightPathStat |
			rightPathSetSize | rightPathSetTimes | rightSymlink
		inheriting = rightRead | rightWrite | rightReaddir | rightStat | rightSeek | rightLinkSource | rightLinkTarget | rightOpen |
			rightUnlink | rightPathStat | rightSetFlags | rightSync | rightTell | rightAdvise | rightAllocate | rightSetSize | rightSetTimes
	)
	c.t.Helper()
	c.want("make the directory", c.mkdir(workFD, "scratch"), ok)
	out := c.room(4)
	c.want("open it", c.call("path_open", workFD, 0, c.put([]byte("scratch")), 7, openDirectory, base, inheriting, 0, out), ok)
	return c.u32(out)
}

func (c *checker) must(errno wasmfs.Errno) {
	c.t.Helper()
	c.want("this", errno, ok)
}

// touch makes a file as the suite does: with no rights at all.
func (c *checker) touch(dir uint32, name string) {
	c.t.Helper()
	fd, errno := c.openLook(dir, 0, name, openCreate, 0, 0)
	c.must(errno)
	c.must(c.call("fd_close", fd))
}

// programs says what the programs of wasi-testsuite expect, one entry each, where it is
// more than TestConformance says. Its binaries are no part of this repository.
var programs = map[string]func(c *checker, dir uint32){
	"path_filestat": func(c *checker, dir uint32) {
		fd, errno := c.openLook(dir, 0, "file", openCreate, rightRead|rightWrite|rightPathStat, flagAppend|flagSync)
		c.must(errno)
		if _, flags, _, _, _ := c.fdstat(fd); flags != flagAppend|flagSync {
			c.t.Errorf("flags %#x", flags)
		}
		st, _ := c.stat(dir, 0, "file")
		c.must(c.setTimes(dir, 0, "file", int(st.mti)-100, setMtim))
		c.want("both ways", c.setTimes(dir, 0, "file", 0, setMtim|setMtimNow), wasmfs.Invalid)
		if again, _ := c.stat(dir, 0, "file"); again.mti != st.mti-100 || again.size != 0 {
			c.t.Errorf("%+v", again)
		}
	},
	"symlink_filestat": func(c *checker, dir uint32) {
		c.touch(dir, "file")
		c.must(c.symlink("file", dir, "symlink"))
		file, _ := c.stat(dir, 0, "file")
		link, _ := c.stat(dir, 0, "symlink")
		c.must(c.setTimes(dir, 0, "symlink", int(link.mti)-200, setMtim))
		now, _ := c.stat(dir, 0, "symlink")
		through, _ := c.stat(dir, lookupFollow, "symlink")
		if now.mti != link.mti-200 || through.mti != file.mti {
			c.t.Errorf("link %d, was %d; file %d, was %d", now.mti, link.mti, through.mti, file.mti)
		}
		c.must(c.setTimes(dir, lookupFollow, "symlink", int(link.mti), setMtim))
		if now, _ = c.stat(dir, 0, "file"); now.mti != link.mti {
			c.t.Errorf("file %d", now.mti)
		}
	},
	"path_link": func(c *checker, dir uint32) {
		const all = rightRead | rightLinkSource | rightLinkTarget | rightStat | rightOpen | rightUnlink
		open := func(in uint32, name string, oflags int) (uint32, wasmfs.Errno) {
			out := c.room(4)
			errno := c.call("path_open", in, 0, c.put([]byte(name)), len(name), oflags, all, all, 0, out)
			return c.u32(out), errno
		}
		file, errno := open(dir, "file", openCreate)
		c.must(errno)
		c.must(c.mkdir(dir, "subdir"))
		sub, errno := open(dir, "subdir", openDirectory)
		c.must(errno)
		for _, in := range []uint32{dir, sub} {
			c.must(c.link(dir, 0, "file", in, "link"))
			linked, errno := open(in, "link", 0)
			c.must(errno)
			a, _ := c.fstat(file)
			b, _ := c.fstat(linked)
			_, aFlags, aBase, aPasses, _ := c.fdstat(file)
			_, bFlags, bBase, bPasses, _ := c.fdstat(linked)
			if a != b || aFlags != bFlags || aBase != bBase || aPasses != bPasses {
				c.t.Errorf("%+v %#x, %+v %#x", a, aBase, b, bBase)
			}
			c.must(c.unlink(in, "link"))
		}
		c.must(c.symlink("target", dir, "symlink"))
		c.must(c.link(dir, 0, "symlink", dir, "link"))
		c.must(c.unlink(dir, "symlink"))
		c.must(c.unlink(dir, "link"))
		c.must(c.symlink("symlink", dir, "symlink"))
		c.must(c.link(dir, 0, "symlink", dir, "link"))
	},
	"path_rename_dir_trailing_slashes": func(c *checker, dir uint32) {
		c.must(c.mkdir(dir, "source"))
		c.must(c.rename(dir, "source/", dir, "target"))
		c.must(c.rename(dir, "target", dir, "source/"))
		c.must(c.rename(dir, "source/", dir, "target/"))
		c.must(c.rename(dir, "target", dir, "source"))
		c.must(c.rmdir(dir, "source"))
	},
	"truncation_rights": func(c *checker, dir uint32) {
		c.touch(dir, "file")
		_, flags, base, inheriting, _ := c.fdstat(dir)
		if flags != 0 || base&rightSetSize != 0 || base&rightPathSetSize == 0 {
			c.t.Errorf("%#x", base)
		}
		_, errno := c.openLook(dir, 0, "file", openTruncate, 0, 0)
		c.must(errno)
		c.must(c.call("fd_fdstat_set_rights", dir, base, inheriting&^rightSetSize))
		_, errno = c.openLook(dir, 0, "file", openTruncate, 0, 0)
		c.must(errno)
		c.must(c.call("fd_fdstat_set_rights", dir, base&^rightPathSetSize, inheriting&^rightSetSize))
		_, errno = c.openLook(dir, 0, "file", openTruncate, 0, 0)
		c.want("truncate without the right", errno, wasmfs.NotCapable)
		c.must(c.unlink(dir, "file"))
	},
	"file_truncation": func(c *checker, dir uint32) {
		fd, _ := c.openLook(dir, 0, "test.txt", openCreate, rightWrite, 0)
		c.write(fd, "this is cut")
		fd, errno := c.openLook(dir, 0, "test.txt", openCreate|openTruncate, rightRead|rightWrite, 0)
		c.must(errno)
		if got, errno := c.read(fd, 100); got != "" || errno != ok {
			c.t.Errorf("%q, %v", got, errno)
		}
	},
	"fd_flags_set": func(c *checker, dir uint32) {
		fd, errno := c.openLook(dir, 0, "file", openCreate, rightRead|rightWrite|rightSeek|rightTell|rightSetFlags, flagAppend)
		c.must(errno)
		c.write(fd, "one")
		c.seek(fd, 0, 0)
		if got, errno := c.read(fd, 3); got != "one" || errno != ok {
			c.t.Errorf("%q, %v", got, errno)
		}
		c.must(c.call("fd_fdstat_set_flags", fd, 0))
	},
	"path_open_read_write": func(c *checker, dir uint32) {
		c.touch(dir, "file")
		r, _ := c.openLook(dir, 0, "file", 0, rightRead, 0)
		w, _ := c.openLook(dir, 0, "file", 0, rightWrite, 0)
		both, _ := c.openLook(dir, 0, "file", 0, rightRead|rightWrite|rightStat, 0)
		for fd, has := range map[uint32]rights{r: rightRead, w: rightWrite, both: rightRead | rightWrite | rightStat} {
			if _, _, base, _, _ := c.fdstat(fd); base != has {
				c.t.Errorf("%#x, want %#x", base, has)
			}
		}
		c.write(w, "fifty")
		got, _ := c.read(both, 100)
		c.write(both, "more")
		if st, _ := c.fstat(both); got != "fifty" || st.size != 9 {
			c.t.Errorf("%q, %+v", got, st)
		}
	},
	"dangling_fd": func(c *checker, dir uint32) {
		c.touch(dir, "file")
		fd, errno := c.openLook(dir, 0, "file", 0, rightRead|rightWrite|rightStat, 0)
		c.must(errno)
		c.must(c.unlink(dir, "file"))
		c.touch(dir, "file")
		c.write(fd, "gone")
		old, _ := c.fstat(fd)
		now, _ := c.stat(dir, 0, "file")
		if old.nlink != 0 || old.size != 4 || now.size != 0 {
			c.t.Errorf("%+v, %+v", old, now)
		}
		c.must(c.mkdir(dir, "subdir"))
		_, errno = c.openLook(dir, 0, "subdir", openDirectory, rightCreateDirectory, 0)
		c.want("a right that is not passed on", errno, wasmfs.NotCapable)
		sub, errno := c.openLook(dir, 0, "subdir", openDirectory, rightOpen, 0)
		c.must(errno)
		c.must(c.rmdir(dir, "subdir"))
		c.must(c.mkdir(dir, "subdir"))
		_, errno = c.open(sub, "x", 0, 0, 0)
		c.want("in what is removed", errno, wasmfs.NotFound)
	},
	"overwrite_preopen": func(c *checker, dir uint32) {
		before, _ := c.fstat(dir)
		c.must(c.call("fd_renumber", dir, workFD))
		if after, errno := c.fstat(workFD); after != before || errno != ok {
			c.t.Errorf("%+v, %v", after, errno)
		}
		_, _, _, _, errno := c.fdstat(dir)
		c.want("its old number", errno, wasmfs.BadFile)
		c.must(c.call("fd_close", workFD))
	},
	"path_open_preopen": func(c *checker, dir uint32) {
		_, _, base, inheriting, _ := c.fdstat(rootFD)
		for _, o := range []struct {
			oflags int
			base   rights
			want   wasmfs.Errno
		}{{0, base, ok}, {0, 0, ok}, {openDirectory, 0, ok}, {openDirectory, rightRead, ok}, {openDirectory, rightRead | rightWrite, wasmfs.IsDir}} {
			c.want("open", c.call("path_open", rootFD, 0, c.put([]byte(".")), 1, o.oflags, o.base, inheriting, 0, c.room(4)), o.want)
		}
	},
	"fd_readdir": func(c *checker, dir uint32) {
		for i := range 1000 {
			c.top = 4096
			c.touch(dir, fmt.Sprintf("file.%d", i))
		}
		total, cookie := 0, uint64(0)
		for {
			c.top = 4096
			list, used, errno := c.readdir(dir, cookie, 256)
			c.must(errno)
			total += len(list)
			if used < 256 {
				break
			}
			cookie = list[len(list)-1].next
		}
		if total != 1002 {
			c.t.Errorf("%d entries", total)
		}
	},
	"remove_nonempty_directory": func(c *checker, dir uint32) {
		c.must(c.mkdir(dir, "dir"))
		c.must(c.mkdir(dir, "dir/nested"))
		c.want("not empty", c.rmdir(dir, "dir"), wasmfs.NotEmpty)
		c.must(c.rmdir(dir, "dir/nested"))
		c.must(c.rmdir(dir, "dir"))
	},
	"big_random_buf": func(c *checker, _ uint32) {
		g := newGuest(c.t, Config{Random: zeros{}})
		c.must(g.call("random_get", 1024, 1<<20))
	},
}

func TestSuitePrograms(t *testing.T) {
	for name, run := range programs {
		t.Run(name, func(t *testing.T) {
			g, dir := work(t, wasmfs.Config{})
			c := &checker{g, dir}
			run(c, c.scratch())
		})
	}
}
