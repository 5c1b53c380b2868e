package sys

import "golang.org/x/sys/unix"

// LandlockABI returns the Landlock ABI version of the running kernel:
// landlock_create_ruleset(2) with LANDLOCK_CREATE_RULESET_VERSION. ENOSYS and
// EOPNOTSUPP mean that Landlock is not built in or not enabled.
func LandlockABI() (int, error) {
	const version = 1 << 0
	v, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, version)
	if e != 0 {
		return 0, e
	}
	return int(v), nil
}

// LandlockErrata returns the bit set of fixed errata, Linux 6.15;
// LANDLOCK_CREATE_RULESET_ERRATA. Older kernels answer EINVAL.
func LandlockErrata() (int, error) {
	const errata = 1 << 1
	v, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, errata)
	if e != 0 {
		return 0, e
	}
	return int(v), nil
}
