// Package notify listens to what a seccomp filter tells of (seccomp_unotify(2)),
// for evidence only: every call goes on as if nobody had looked. The kernel
// reads a call's memory again after that, so what was seen is what was asked
// for at one moment, and never a reason for a decision.
package notify
