// Package tty makes pseudo-terminals, pty(7), and asks about the terminal of
// whoever started this process, ioctl_tty(2).
package tty
