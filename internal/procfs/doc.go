// Package procfs reads what the kernel says about one process: proc_pid_status(5),
// proc_pid_ns(5), proc_pid_limits(5), proc_pid_fd(5).
package procfs
