package seccomp

import "strings"

// reference answers for one call like the filter for o should. It is written
// from the manual pages and not from policy.go: it knows what is denied, by
// name and by literal number, and takes the rest for allowed.
func reference(o Options, d Data) uint32 {
	const (
		allow  = 0x7fff0000
		eperm  = 0x00050001
		eacces = 0x0005000d
		einval = 0x00050016
		enosys = 0x00050026
		noop   = 0x00050000
		kill   = 0x80000000
	)
	table := map[string][]call{"amd64": callsAMD64, "arm64": callsARM64}[o.Arch]
	if d.Arch != map[string]uint32{"amd64": 0xc000003e, "arm64": 0xc00000b7}[o.Arch] {
		return kill
	}
	name := ""
	for _, c := range table {
		if uint32(c.number) == d.Number {
			name = c.name
		}
	}
	if name == "" || referenceAbsent[name] {
		return enosys
	}
	if referenceDenied[name] {
		return eperm
	}
	permit := func(ok bool) uint32 {
		if ok {
			return allow
		}
		return eperm
	}
	families := map[uint32]bool{}
	for _, f := range o.SocketFamilies {
		families[uint32(f)] = true
	}
	low := func(i int) uint32 { return uint32(d.Args[i]) }
	switch name {
	case "ioctl":
		c := low(1)
		return permit(c != 0x5412 && c != 0x541c && c != 0x541d && c != 0x5423)
	case "mknod", "mknodat":
		mode := low(1)
		if name == "mknodat" {
			mode = low(2)
		}
		kind := mode >> 12 & 0xf
		return permit(kind == 0 || kind == 1 || kind == 8 || kind == 12)
	case "memfd_create":
		return permit(o.ExecFiles || low(1)>>3&1 == 1)
	case "clone":
		namespaces := low(0)>>25&0x3f != 0 || low(0)>>17&1 == 1
		thread := low(0)>>16&1 == 1
		switch o.Spawn {
		case SpawnThreads:
			return permit(thread && !namespaces)
		case SpawnProcesses:
			return permit(!namespaces)
		}
		return eperm
	case "fork", "vfork":
		return permit(o.Spawn == SpawnProcesses)
	case "unshare":
		rest := d.Args[0]
		for _, harmless := range []uint64{0x200, 0x400, 0x40000} {
			rest &^= harmless
		}
		return permit(rest == 0)
	case "seccomp":
		return permit(low(0) != 1 || low(1)>>3&1 == 0)
	case "setrlimit":
		if low(0) == 4 {
			return noop
		}
		return allow
	case "prlimit64":
		if low(0) == 0 && low(1) == 4 && d.Args[2] != 0 && d.Args[3] == 0 {
			return noop
		}
		return permit(d.Args[2] == 0 || low(0) == 0 && low(1) != 4)
	case "personality":
		return permit(low(0) == 0 || low(0) == 0x40000 || int32(low(0)) == -1)
	case "socketpair":
		kind := low(1) % 16
		if low(0) == 1 && (families[1] || kind == 1 || kind == 5) {
			return allow
		}
		return eacces
	case "socket":
		kind, protocol := low(1)%16, low(2)
		ok := families[low(0)]
		switch low(0) {
		case 1:
		case 2, 10:
			ok = ok && (kind == 1 || kind == 2) && (protocol == 0 || protocol == 6 || protocol == 17)
		case 16:
			ok = ok && protocol == 0
		default:
			ok = false
		}
		if ok {
			return allow
		}
		return eacces
	case "prctl":
		switch option := low(0); {
		case option == 47: // PR_CAP_AMBIENT
			return permit(d.Args[1] == 1 || d.Args[1] == 3 || d.Args[1] == 4)
		case option == 0x41555856 || option == 0x53564d41:
			return allow
		case option == 0x59616d61:
			return eperm
		case option == 0 || option == 17 || option == 18 || option == 43 || option == 44 ||
			option == 48 || option == 49 || option > 81:
			return einval
		default:
			switch option {
			case 28, 31, 32, 33, 35, 57, 62, 67, 77:
				return eperm
			}
			return allow
		}
	}
	return allow
}

func set(names string) map[string]bool {
	m := map[string]bool{}
	for _, n := range strings.Fields(names) {
		m[n] = true
	}
	return m
}

var referenceDenied = set(`
	acct add_key adjtimex bpf chroot clock_adjtime clock_settime delete_module
	fanotify_init fanotify_mark finit_module fsconfig fsmount fsopen fspick
	init_module ioperm iopl kcmp kexec_file_load kexec_load keyctl
	lsm_set_self_attr migrate_pages mount mount_setattr move_mount move_pages
	name_to_handle_at open_by_handle_at open_tree open_tree_attr
	perf_event_open pidfd_getfd pivot_root process_madvise process_mrelease
	process_vm_readv process_vm_writev ptrace quotactl quotactl_fd reboot
	request_key setdomainname sethostname setns settimeofday swapoff swapon
	syslog umount2 userfaultfd vhangup`)

var referenceAbsent = set(`
	_sysctl afs_syscall clone3 create_module epoll_ctl_old epoll_wait_old
	get_kernel_syms get_thread_area getpmsg io_uring_enter io_uring_register
	io_uring_setup listmount listns lookup_dcookie memfd_secret modify_ldt
	nfsservctl putpmsg query_module security set_thread_area statmount sysfs
	tuxcall uselib ustat vserver`)
