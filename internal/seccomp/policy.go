package seccomp

import "strings"

// group is one line of the policy: calls that get the same verdict for the
// same reason.
type group struct {
	calls  string // names, separated by spaces; an architecture has those in its table
	rule   rule
	reason string
}

// policy is what a program in a boundary may call. Every call that the tables
// name stands here once, so that a new one is a decision and not an accident;
// what stands nowhere does not exist (ENOSYS).
//
// A call may stand in an allowed line for one of two reasons: it reaches only
// what the program holds already (its memory, its descriptors, its children),
// or something else decides about what it reaches (paths: mounts and Landlock;
// other processes: the pid namespace; System V IPC and message queues: the ipc
// namespace; anything privileged: the empty capability sets).
var policy = []group{
	// Descriptors.
	{"read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 lseek", allow, "use of a descriptor the program holds"},
	{"close close_range dup dup2 dup3 fcntl flock pipe pipe2", allow, "the program's own descriptor table"},
	{"sendfile splice tee vmsplice copy_file_range", allow, "copies between descriptors the program holds"},
	{"ftruncate fallocate fadvise64 readahead sync_file_range fsync fdatasync syncfs cachestat", allow, "size, flushing and caching of an open file"},
	{"sync", allow, "flushes all file systems: slow for others, shows nothing, and package tools insist on it"},
	{"io_setup io_submit io_getevents io_pgetevents io_cancel io_destroy", allow, "databases use it; it reads, writes, syncs and polls descriptors and can neither open files nor make sockets"},
	{"poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2", allow, "waiting for descriptors"},
	{"eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_settime timerfd_gettime", allow, "events as descriptors"},
	{"inotify_init inotify_init1 inotify_add_watch inotify_rm_watch", allow, "watches files the program may read"},
	{"ioctl", ioctlCommand, "terminal commands that type into, redirect or re-drive a terminal the program shares are refused (ioctl_tty(2); CVE-2017-5226); device access is decided by what /dev holds"},

	// Files by name. Mounts and Landlock decide which.
	{"open openat openat2 creat access faccessat faccessat2 truncate", allow, "paths are decided by mounts and Landlock"},
	{"stat lstat fstat newfstatat statx statfs fstatfs readlink readlinkat getdents getdents64", allow, "paths are decided by mounts and Landlock"},
	{"getcwd chdir fchdir umask", allow, "the program's own working directory and mask"},
	{"mkdir mkdirat rmdir link linkat unlink unlinkat symlink symlinkat rename renameat renameat2", allow, "paths are decided by mounts and Landlock"},
	{"chmod fchmod fchmodat fchmodat2 chown lchown fchown fchownat utime utimes utimensat futimesat", allow, "the kernel asks for ownership; read-only mounts refuse"},
	{"setxattr lsetxattr fsetxattr setxattrat getxattr lgetxattr fgetxattr getxattrat listxattr llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat", allow, "the kernel asks for ownership; trusted and security names need a Linux capability"},
	{"file_getattr file_setattr", allow, "the same as FS_IOC_FSSETXATTR, which any file descriptor takes"},
	{"mknod", mknodMode(1), "a device node is a door to the device; regular files, FIFOs and sockets are ordinary (mknod(2) gives EPERM for the rest, too)"},
	{"mknodat", mknodMode(2), "as mknod"},

	// Memory.
	{"brk mmap munmap mremap mprotect msync madvise mincore mseal remap_file_pages", allow, "the program's own address space"},
	{"mlock mlock2 munlock mlockall munlockall", allow, "bounded by RLIMIT_MEMLOCK and the memory budget"},
	{"pkey_alloc pkey_free pkey_mprotect map_shadow_stack membarrier", allow, "the program's own address space"},
	{"mbind set_mempolicy get_mempolicy set_mempolicy_home_node", allow, "placement of the program's own pages; Java, databases and numactl use it"},
	{"memfd_create", memfdFlags, "a file without a path: where the boundary grants no writable place to execute from, it must be sealed against execution (MFD_NOEXEC_SEAL, Linux 6.3)"},

	// Threads and processes.
	{"execve execveat", allow, "paths are decided by mounts and Landlock, rights by no_new_privs; the launcher's own exec runs under this filter"},
	{"exit exit_group wait4 waitid restart_syscall", allow, "end of the program and of its children; the kernel itself restarts calls with restart_syscall"},
	{"clone", cloneFlags, "threads and processes as the spec's spawn says; new namespaces never, they open kernel code meant for root (CVE-2022-0185, CVE-2023-32233, CVE-2024-1086)"},
	{"fork vfork", forkRule, "processes as the spec's spawn says"},
	{"clone3", enosys, "its flags lie in memory, where a filter cannot look; C libraries fall back to clone when it does not exist"},
	{"unshare", unshareFlags, "a thread may stop sharing its own tables (files, working directory, semaphore undo); new namespaces never"},
	{"getpid getppid gettid getpgid getpgrp getsid setpgid setsid set_tid_address", allow, "within the pid namespace"},
	{"getuid geteuid getgid getegid getgroups getresuid getresgid setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups", allow, "without Linux capabilities the kernel grants only the identities the program has"},
	{"capget capset", allow, "sets can only shrink"},
	{"kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_send_signal", allow, "other processes are out of sight: pid namespace and Landlock's signal scope"},
	{"rt_sigaction rt_sigprocmask rt_sigpending rt_sigsuspend rt_sigtimedwait rt_sigreturn sigaltstack pause", allow, "the program's own signals"},
	{"futex futex_wait futex_wake futex_waitv futex_requeue set_robust_list get_robust_list rseq rseq_slice_yield", allow, "locks of threads"},
	{"arch_prctl", allow, "thread-local storage and other state of the calling thread"},
	{"uprobe uretprobe", allow, "the kernel's own trampolines for a tracer on the host end in these; refusing them kills the traced program, and any other caller gets a signal from the kernel (Linux 6.11)"},
	{"prctl", prctlOption, "settings of the calling process; those that widen what others may do to it, falsify what /proc says of it or need privilege are refused"},
	{"seccomp", seccompFlags, "a further filter can only tighten; a listener could hold other processes' calls for as long as it likes"},
	{"landlock_create_ruleset landlock_add_rule landlock_restrict_self", allow, "a further domain can only tighten"},
	{"lsm_get_self_attr lsm_list_modules", allow, "reads what /proc/self/attr shows"},

	// Scheduling, limits, clocks, facts about the machine.
	{"sched_yield sched_getaffinity sched_setaffinity sched_getparam sched_setparam sched_getscheduler sched_setscheduler sched_getattr sched_setattr sched_get_priority_max sched_get_priority_min sched_rr_get_interval", allow, "within the pid namespace; raising priority needs a Linux capability"},
	{"getpriority setpriority ioprio_get ioprio_set", allow, "within the pid namespace; raising priority needs a Linux capability"},
	{"getrlimit getrusage times sysinfo uname getcpu getrandom", allow, "facts about the program and the machine"},
	{"setrlimit", setrlimitResource, "limits can only shrink, but a core limit of 0 gives more than the boundary's 1: with 1 the kernel does not start a piped core handler either (fs/coredump.c)"},
	{"prlimit64", prlimitResource, "as setrlimit, and process 1 is in sight"},
	{"clock_gettime clock_getres gettimeofday time clock_nanosleep nanosleep alarm getitimer setitimer", allow, "reading clocks and the program's own timers"},
	{"timer_create timer_settime timer_gettime timer_getoverrun timer_delete", allow, "the program's own timers"},
	{"personality", personalityValue, "the ordinary execution domain, the query, and no address randomisation for the program itself, as debuggers and sanitizers ask for; the others revive old bugs for old programs"},

	// Sockets and System V / POSIX IPC.
	{"socket", socketFamily, "families the spec does not grant do not exist for the program; of a granted family, the ordinary types and protocols (MPTCP and SCTP would pass rules made for TCP)"},
	{"socketpair", socketpairType, "an anonymous stream pair is a pipe; a datagram pair can still be pointed at other sockets (sendto(2), connect(2)), so it needs the unix family"},
	{"bind connect listen accept accept4 shutdown getsockname getpeername getsockopt setsockopt sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg", allow, "families are decided at socket; addresses by the network namespace and Landlock"},
	{"shmget shmat shmctl shmdt semget semop semtimedop semctl msgget msgsnd msgrcv msgctl", allow, "within the ipc namespace"},
	{"mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr", allow, "within the ipc namespace"},

	// Denied: the answer is "not permitted", since a program that calls these
	// should say so and not look for an older way.
	{"mount umount2 pivot_root chroot move_mount open_tree open_tree_attr fsopen fsconfig fsmount fspick mount_setattr", eperm, "mounts are the boundary's walls"},
	{"setns", eperm, "enters another namespace, through any descriptor that names one"},
	{"ptrace process_vm_readv process_vm_writev process_madvise process_mrelease pidfd_getfd kcmp", eperm, "reaches into another process"},
	{"bpf perf_event_open userfaultfd", eperm, "large kernel interfaces of many past escapes; they observe the host or stall the kernel at a chosen point"},
	{"add_key request_key keyctl", eperm, "keyrings of one user are shared by its processes and outlive the run (CVE-2016-0728)"},
	{"open_by_handle_at name_to_handle_at", eperm, "a file handle names a file of the whole file system, past any mount (the container escape of 2014 called shocker)"},
	{"fanotify_init fanotify_mark", eperm, "watches whole mounts, and could hold other processes' opens"},
	{"move_pages migrate_pages", eperm, "moves other processes' pages and tells where shared ones lie"},
	{"init_module finit_module delete_module kexec_load kexec_file_load reboot", eperm, "replaces or extends the kernel"},
	{"swapon swapoff acct quotactl quotactl_fd syslog vhangup", eperm, "administers the host"},
	{"settimeofday clock_settime", eperm, "clocks belong to the host"},
	{"adjtimex clock_adjtime", eperm, "clocks belong to the host; whether the call reads or sets lies in memory, where a filter cannot look"},
	{"sethostname setdomainname", eperm, "names belong to the boundary"},
	{"iopl ioperm", eperm, "direct access to I/O ports"},
	{"lsm_set_self_attr", eperm, "changes the security label the host gave"},

	// Absent: callers are prepared for a kernel without them.
	{"io_uring_setup io_uring_enter io_uring_register", enosys, "performs opens, sockets and sends that no filter sees; callers fall back"},
	{"memfd_secret", enosys, "memory that the host cannot look into; off in most kernels"},
	{"modify_ldt", enosys, "segments for 16-bit programs; many kernels are built without it"},
	{"listns statmount listmount", enosys, "list namespaces and mounts by number; callers read /proc/self/mountinfo instead"},
	{"uselib ustat sysfs _sysctl lookup_dcookie nfsservctl create_module get_kernel_syms query_module", enosys, "obsolete, removed from Linux or about to be"},
	{"afs_syscall getpmsg putpmsg security tuxcall vserver epoll_ctl_old epoll_wait_old set_thread_area get_thread_area", enosys, "numbers without a call behind them"},
}

// policyByName returns each named call's group.
func policyByName() map[string]group {
	m := make(map[string]group, 512)
	for _, p := range policy {
		for _, name := range strings.Fields(p.calls) {
			m[name] = p
		}
	}
	return m
}
