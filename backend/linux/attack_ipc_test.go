//go:build linux && (amd64 || arm64)

package linux_test

import (
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/plan"
)

// Semaphores, message queues of both kinds and /dev/shm are the boundary's
// own. What the host has under the same names is made by a program of its own,
// for want of wrappers.
func TestPrivateQueuesSemaphoresAndSharedFiles(t *testing.T) {
	key, marked := num(0x62770000|os.Getpid()&0xffff), token()
	host := newCalls()
	host.try("sem", unix.SYS_SEMGET, key, num(1), num(unix.IPC_CREAT|0o600))
	host.try("msg", unix.SYS_MSGGET, key, num(unix.IPC_CREAT|0o600))
	host.try("mq", unix.SYS_MQ_OPEN, host.Str(marked), num(unix.O_RDWR|unix.O_CREAT), num(0o600), num(0))
	out, err := exec.Command(host.file(t)).Output()
	must(t, err)
	made := host.read(t, "the host", string(out))
	defer func() {
		c := newCalls()
		c.quiet(unix.SYS_SEMCTL, num(int(made["sem"])), num(0), num(0)) // IPC_RMID
		c.quiet(unix.SYS_MSGCTL, num(int(made["msg"])), num(0), num(0))
		c.quiet(unix.SYS_MQ_UNLINK, c.Str(marked))
		must(t, exec.Command(c.file(t)).Run())
	}()

	c := newCalls()
	c.try("sem", unix.SYS_SEMGET, key, num(1), num(0))
	c.try("sem by number", unix.SYS_SEMCTL, num(int(made["sem"])), num(0), num(12)) // GETVAL
	c.try("msg", unix.SYS_MSGGET, key, num(0))
	c.try("mq", unix.SYS_MQ_OPEN, c.Str(marked), num(unix.O_RDONLY), num(0), num(0))
	without, within, o := c.both(t, false)
	for name, want := range map[string]unix.Errno{"sem": unix.ENOENT, "sem by number": unix.EINVAL, "msg": unix.ENOENT, "mq": unix.ENOENT} {
		if without[name] < 0 {
			t.Errorf("control: %s gave %v", name, unix.Errno(-without[name]))
		}
		if within[name] != -int64(want) {
			t.Errorf("confined: %s gave %d, expected %v", name, within[name], want)
		}
	}
	o.heldBy(t, plan.IPCNamespace)

	file := "/dev/shm/" + marked
	if err := os.WriteFile(file, []byte(marked), 0o644); err != nil {
		need.Missing(t, "file=/dev/shm", err.Error())
	}
	defer os.Remove(file)
	if o := control(t, "read", file).succeeds(t); o.Stdout != marked {
		t.Errorf("control: read %q", o.Stdout)
	}
	run(t, nil, "read", file).denied(t, plan.MinimalDev, unix.ENOENT)
	run(t, nil, "create", file).succeeds(t) // in its own
	holds(t, file, marked)
}

// A key that the user has in a keyring of the kernel is not handed to the
// workload, nor anything it would leave there to a later one.
func TestKeyringsAreOutOfReach(t *testing.T) {
	const search, read, unlink, userKeyring = 10, 11, 9, -4 // keyctl(2)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	secret := token()
	id, err := unix.AddKey("user", secret, []byte(secret), userKeyring)
	if err != nil {
		need.Missing(t, "keyrings", err.Error())
	}
	defer unix.KeyctlInt(unlink, id, userKeyring, 0, 0)
	c := newCalls()
	found := c.try("search", unix.SYS_KEYCTL, num(search), num(userKeyring), c.Str("user"), c.Str(secret), num(0))
	c.try("read", unix.SYS_KEYCTL, num(read), found, c.Bytes(make([]byte, 64), "text"), num(64))
	c.try("read by number", unix.SYS_KEYCTL, num(read), num(id), c.Bytes(make([]byte, 64), "text"), num(64))
	c.try("request", unix.SYS_REQUEST_KEY, c.Str("user"), c.Str(secret), num(0), num(0))
	c.try("leave", unix.SYS_ADD_KEY, c.Str("user"), c.Str(secret+"-left"), c.Str("x"), num(1), num(userKeyring))
	without, within, o := c.both(t, false)
	for _, name := range []string{"search", "read", "leave"} {
		if without[name] < 0 {
			t.Errorf("control: %s gave %v", name, unix.Errno(-without[name]))
		}
	}
	left, err := unix.KeyctlSearch(userKeyring, "user", secret+"-left", 0)
	if err != nil {
		t.Errorf("control: what it left is not found: %v", err)
	}
	_, err = unix.KeyctlInt(unlink, left, userKeyring, 0, 0)
	must(t, err)
	for name, got := range within {
		if got != -int64(unix.EPERM) {
			t.Errorf("confined: %s gave %d, expected EPERM", name, got)
		}
	}
	o.heldBy(t, plan.CallFilter)
	c = newCalls()
	c.try("leave", unix.SYS_ADD_KEY, c.Str("user"), c.Str(secret+"-left"), c.Str("x"), num(1), num(userKeyring))
	if got := c.read(t, "confined", runCommand(t, c.file(t)).Stdout)["leave"]; got != -int64(unix.EPERM) {
		t.Errorf("confined: leaving a key gave %d", got)
	}
	if n, err := unix.KeyctlSearch(userKeyring, "user", secret+"-left", 0); err == nil {
		t.Errorf("the workload left key %d", n)
	}
}
