/*
 * floor starts one program behind the mechanisms of the default boundary and
 * does nothing else: what this takes is what the kernel takes.
 *
 *	floor ROOT FILTER PROGRAM [ARGUMENT...]
 *
 * ROOT is a prepared directory (see prepareRoot in floor_linux.go), FILTER a
 * seccomp program as an array of struct sock_filter. All namespaces are new,
 * the ids map to themselves, /usr is bound read-only, /proc and /tmp are
 * fresh, the domain has six rules, no Linux capability is left.
 *
 * A product needs more: a process 1 that reaps, captured streams, a posture
 * read back, a deadline, a report.
 *
 * Without a libc, because the start of one (some thirty CPUID instructions,
 * each an exit to the hypervisor in a virtual machine) would count as floor:
 *
 *	cc -O2 -static -nostdlib -ffreestanding -fno-stack-protector -o floor floor.c
 */
#include <asm/unistd.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>

/* from linux/sched.h, linux/mount.h and linux/fcntl.h, which clash among libcs */
enum {
	CLONE_VM = 0x100, CLONE_VFORK = 0x4000, CLONE_NEWNS = 0x20000, CLONE_NEWCGROUP = 0x2000000,
	CLONE_NEWUTS = 0x4000000, CLONE_NEWIPC = 0x8000000, CLONE_NEWUSER = 0x10000000,
	CLONE_NEWPID = 0x20000000, CLONE_NEWNET = 0x40000000,
	SIGCHLD = 17,
	MS_RDONLY = 1, MS_NOSUID = 2, MS_NODEV = 4, MS_NOEXEC = 8, MS_REMOUNT = 32, MS_BIND = 4096,
	MNT_DETACH = 2,
	AT_FDCWD = -100,
	O_RDONLY = 0, O_WRONLY = 1, O_CLOEXEC = 02000000, O_PATH = 010000000,
	CLOSE_RANGE_CLOEXEC = 4,
	RLIMIT_CORE = 4,
};

/* linux/landlock.h of Linux 6.12; older headers lack the later members. */
struct ruleset { unsigned long fs, net, scoped; };
struct rule { unsigned long allowed; int parent; } __attribute__((packed));
enum { FS_ALL = (1 << 16) - 1, NET_ALL = 3, SCOPE_ALL = 3 };
enum { EXECUTE = 1, WRITE_FILE = 2, READ_FILE = 4, READ_DIR = 8, MAKE_CHAR = 1 << 6, MAKE_BLOCK = 1 << 11 };

static long call(long nr, long a, long b, long c, long d, long e)
{
#if defined(__x86_64__)
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
	return ret;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
	return x0;
#else
#error "no system calls for this architecture"
#endif
}

#define call5(nr, a, b, c, d, e) call(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e))
#define call3(nr, a, b, c) call5(nr, a, b, c, 0, 0)

static unsigned long length(const char *s)
{
	unsigned long n = 0;
	while (s[n])
		n++;
	return n;
}

static void leave(int status)
{
	for (;;)
		call3(__NR_exit_group, status, 0, 0);
}

/* must ends the process with what failed: a floor with a step missing would be too low. */
static long must(long result, const char *what)
{
	if (result < 0) {
		call3(__NR_write, 2, "floor: ", 7);
		call3(__NR_write, 2, what, length(what));
		call3(__NR_write, 2, "\n", 1);
		leave(125);
	}
	return result;
}

static void put(const char *name, const char *text)
{
	long fd = must(call5(__NR_openat, AT_FDCWD, name, O_WRONLY | O_CLOEXEC, 0, 0), name);
	must(call3(__NR_write, fd, text, length(text)), name);
	call3(__NR_close, fd, 0, 0);
}

static void mount(const char *source, const char *target, const char *type, long flags, const char *options)
{
	must(call5(__NR_mount, source, target, type, flags, options), target);
}

static char identity[2][32]; /* the lines of uid_map and gid_map */

static void mapToItself(char *line, unsigned long id)
{
	char digits[24];
	int n = 0;
	do
		digits[n++] = '0' + id % 10;
	while (id /= 10);
	for (int round = 0; round < 2; round++) {
		for (int i = n; i > 0; i--)
			*line++ = digits[i - 1];
		*line++ = ' ';
	}
	*line++ = '1';
	*line = 0;
}

static void newRoot(const char *root)
{
	static const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/urandom"};

	mount(root, root, 0, MS_BIND, 0);
	must(call3(__NR_chdir, root, 0, 0), root);
	mount("/usr", "usr", 0, MS_BIND, 0);
	mount(0, "usr", 0, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, 0);
	for (int i = 0; i < 3; i++)
		mount(devices[i], devices[i] + 1, 0, MS_BIND, 0);
	mount("proc", "proc", "proc", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, 0);
	mount("tmpfs", "tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=16m");
	mount(0, ".", 0, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, 0);
	must(call3(__NR_pivot_root, ".", ".", 0), "pivot_root");
	must(call3(__NR_umount2, ".", MNT_DETACH, 0), "umount2");
	must(call3(__NR_chdir, "/", 0, 0), "/");
}

static void domain(void)
{
	static const struct ruleset all = {FS_ALL, NET_ALL, SCOPE_ALL};
	static const struct { const char *path; unsigned long allowed; } rules[] = {
		{"/usr", EXECUTE | READ_FILE | READ_DIR},
		{"/usr/lib", EXECUTE | READ_FILE | READ_DIR},
		{"/etc", READ_FILE | READ_DIR},
		{"/proc", READ_FILE | READ_DIR},
		{"/dev", READ_FILE | WRITE_FILE | READ_DIR},
		{"/tmp", FS_ALL & ~(EXECUTE | MAKE_CHAR | MAKE_BLOCK)},
	};
	long ruleset = must(call3(__NR_landlock_create_ruleset, &all, sizeof all, 0), "landlock_create_ruleset");

	for (int i = 0; i < 6; i++) {
		struct rule r = {rules[i].allowed, must(call5(__NR_openat, AT_FDCWD, rules[i].path, O_PATH | O_CLOEXEC, 0, 0), rules[i].path)};
		must(call5(__NR_landlock_add_rule, ruleset, 1, &r, 0, 0), rules[i].path);
		call3(__NR_close, r.parent, 0, 0);
	}
	must(call3(__NR_landlock_restrict_self, ruleset, 0, 0), "landlock_restrict_self");
	call3(__NR_close, ruleset, 0, 0);
}

static struct sock_fprog filter;

/* confined runs on the suspended parent's stack and memory, like after vfork(2). */
static __attribute__((noinline, noreturn)) void confined(char **argv)
{
	static const struct { unsigned long soft, hard; } one = {1, 1};
	static const struct __user_cap_header_struct version = {_LINUX_CAPABILITY_VERSION_3, 0};
	static const struct __user_cap_data_struct none[2];
	static const char *const environment[] = {"PATH=/usr/bin:/bin", 0};

	put("/proc/self/setgroups", "deny");
	put("/proc/self/uid_map", identity[0]);
	put("/proc/self/gid_map", identity[1]);
	newRoot(argv[1]);
	must(call3(__NR_setsid, 0, 0, 0), "setsid");
	must(call5(__NR_prlimit64, 0, RLIMIT_CORE, &one, 0, 0), "prlimit64");
	must(call5(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	domain();
	must(call3(__NR_capset, &version, none, 0), "capset");
	must(call3(__NR_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC), "close_range");
	must(call3(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter), "seccomp");
	must(call3(__NR_execve, argv[3], argv + 3, environment), argv[3]);
	leave(125);
	__builtin_unreachable();
}

static struct sock_filter instructions[4096];

static __attribute__((used, noreturn)) void start(long *stack)
{
	char **argv = (char **)(stack + 1);

	if (stack[0] < 4)
		must(-1, "usage: floor ROOT FILTER PROGRAM [ARGUMENT...]");
	long fd = must(call5(__NR_openat, AT_FDCWD, argv[2], O_RDONLY | O_CLOEXEC, 0, 0), argv[2]);
	filter.len = must(call3(__NR_read, fd, instructions, sizeof instructions), argv[2]) / sizeof instructions[0];
	filter.filter = instructions;
	call3(__NR_close, fd, 0, 0);
	mapToItself(identity[0], call3(__NR_geteuid, 0, 0, 0));
	mapToItself(identity[1], call3(__NR_getegid, 0, 0, 0));

	long pid = must(call5(__NR_clone, CLONE_VM | CLONE_VFORK | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC |
		CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_NEWNET | SIGCHLD, 0, 0, 0, 0), "clone");
	if (pid == 0)
		confined(argv);
	int status = 0;
	must(call5(__NR_wait4, pid, &status, 0, 0, 0), "wait4");
	leave(status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff);
	__builtin_unreachable();
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall start\n");
#else
__asm__(".globl _start\n_start:\n\tmov x0, sp\n\tbl start\n");
#endif
