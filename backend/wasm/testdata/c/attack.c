// Tries one thing that it may not do with files, by way of wasi-libc:
//
//	attack ACT IN RO OUT
//
// IN is a directory that it may write, RO one that it may read, OUT one that it
// must not reach. It exits with 0 if it did it, and with 1 and the error
// otherwise.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wasi/api.h>

static const char *in, *ro, *out;

static void end(int failed, const char *what) {
	if (failed) {
		printf("%s: %s\n", what, strerror(errno));
		exit(1);
	}
}

// at is a path below a directory.
static const char *at(const char *dir, const char *name) {
	char *path = malloc(strlen(dir) + strlen(name) + 2);
	sprintf(path, "%s/%s", dir, name);
	return path;
}

static void readit(const char *path) {
	char text[100];
	int fd = open(path, O_RDONLY);
	end(fd < 0, "open");
	ssize_t n = read(fd, text, sizeof text);
	end(n < 0, "read");
	fwrite(text, 1, n, stdout);
}

static void writeit(const char *path, int flags) {
	int fd = open(path, O_WRONLY | flags, 0644);
	end(fd < 0, "open");
	end(write(fd, "guest", 5) != 5, "write");
	end(close(fd) != 0, "close");
}

static void listit(const char *path) {
	DIR *d = opendir(path);
	end(!d, "opendir");
	for (struct dirent *e; (e = readdir(d));)
		puts(e->d_name);
}

static int directory(const char *path) {
	int fd = open(path, O_RDONLY | O_DIRECTORY);
	end(fd < 0, "open directory");
	return fd;
}

static int is(const char *act, const char *name) { return strcmp(act, name) == 0; }

// preopen is the number of the directory that was open from the start under a
// name.
static int preopen(const char *name) {
	for (int fd = 3;; fd++) {
		__wasi_prestat_t p;
		char have[4096] = "";
		errno = __wasi_fd_prestat_get(fd, &p);
		end(errno, name);
		errno = __wasi_fd_prestat_dir_name(fd, (uint8_t *)have, p.u.dir.pr_name_len);
		end(errno, name);
		if (is(have, name))
			return fd;
	}
}

int main(int argc, char **argv) {
	if (argc != 5)
		return 2;
	const char *act = argv[1];
	in = argv[2], ro = argv[3], out = argv[4];

	// Out of what is granted.
	if (is(act, "read-by-path"))
		readit(at(out, "secret"));
	else if (is(act, "read-by-dotdot"))
		readit(at(in, "../out/secret"));
	else if (is(act, "read-by-chdir")) {
		end(chdir(at(in, "sub")) != 0, "chdir");
		readit("../../out/secret");
	} else if (is(act, "read-by-planted-link"))
		readit(at(in, "planted"));
	else if (is(act, "write-by-planted-link"))
		writeit(at(in, "planted"), 0);
	else if (is(act, "list-by-planted-link"))
		listit(at(in, "planteddir"));
	else if (is(act, "remove-by-planted-link"))
		end(unlink(at(in, "planteddir/victim")) != 0, "unlink");
	else if (is(act, "make-by-planted-link"))
		end(mkdir(at(in, "planteddir/new"), 0755) != 0, "mkdir");
	else if (is(act, "stat-by-planted-link")) {
		struct stat st;
		end(stat(at(in, "planted"), &st) != 0, "stat");
	} else if (is(act, "write-by-own-link")) {
		end(symlink("../out/secret", at(in, "own")) != 0, "symlink");
		writeit(at(in, "own"), O_TRUNC);
	} else if (is(act, "create-by-own-link")) {
		end(symlink("../out", at(in, "owndir")) != 0, "symlink");
		writeit(at(in, "owndir/made"), O_CREAT);
	} else if (is(act, "rename-out"))
		end(rename(at(in, "file"), at(in, "../out/moved")) != 0, "rename");
	else if (is(act, "rename-in"))
		end(rename(at(in, "../out/victim"), at(in, "moved")) != 0, "rename");
	else if (is(act, "link-in"))
		end(link(at(in, "../out/secret"), at(in, "linked")) != 0, "link");

	// What may be read only.
	else if (is(act, "write"))
		writeit(at(ro, "file"), 0);
	else if (is(act, "append"))
		writeit(at(ro, "file"), O_APPEND);
	else if (is(act, "truncate"))
		end(truncate(at(ro, "file"), 0) != 0, "truncate");
	else if (is(act, "open-truncate"))
		end(open(at(ro, "file"), O_RDONLY | O_TRUNC) < 0, "open");
	else if (is(act, "create"))
		writeit(at(ro, "new"), O_CREAT);
	else if (is(act, "times")) {
		struct timespec t[2] = {{1, 0}, {1, 0}};
		end(utimensat(AT_FDCWD, at(ro, "file"), t, 0) != 0, "utimensat");
	} else if (is(act, "times-of-open")) {
		struct timespec t[2] = {{1, 0}, {1, 0}};
		int fd = open(at(ro, "file"), O_RDONLY);
		end(fd < 0, "open");
		end(futimens(fd, t) != 0, "futimens");
	} else if (is(act, "unlink"))
		end(unlink(at(ro, "file")) != 0, "unlink");
	else if (is(act, "rename-from"))
		end(rename(at(ro, "file"), at(in, "stolen")) != 0, "rename");
	else if (is(act, "rename-to"))
		end(rename(at(in, "file"), at(ro, "new")) != 0, "rename");
	else if (is(act, "link-from"))
		end(link(at(ro, "file"), at(in, "linked")) != 0, "link");
	else if (is(act, "link-to"))
		end(link(at(in, "file"), at(ro, "new")) != 0, "link");
	else if (is(act, "symlink"))
		end(symlink("file", at(ro, "new")) != 0, "symlink");

	// A number in the place of another.
	else if (is(act, "renumber")) {
		int from = preopen(ro), to = preopen(in);
		errno = __wasi_fd_renumber(from, to);
		end(errno, "renumber");
		writeit(at(in, "new"), O_CREAT); // wasi-libc takes the number for IN's
	} else if (is(act, "no-renumber")) // its control
		writeit(at(in, "new"), O_CREAT);

	// What is no file.
	else if (is(act, "fifo") || is(act, "device"))
		end(open(at(in, act), O_RDWR) < 0, "open");

	// A loop of calls that each do nearly nothing.
	else if (is(act, "tiny-readdir")) {
		int fd = directory(in);
		puts("looping");
		fflush(stdout);
		for (;;) {
			uint8_t one;
			__wasi_size_t used;
			errno = __wasi_fd_readdir(fd, &one, 1, 0, &used);
			end(errno, "readdir");
		}
	} else
		return 2;
	return 0;
}
