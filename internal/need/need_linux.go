package need

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/cgroup"
	"github.com/bvisor/bvisor/internal/sys"
)

// Landlock needs Landlock, of this ABI or a newer one.
func Landlock(t testing.TB, abi int) {
	t.Helper()
	have, err := sys.LandlockABI()
	if err != nil || have < abi {
		Missing(t, "landlock:"+strconv.Itoa(abi), fmt.Sprintf("this kernel has ABI %d (%v)", have, err))
	}
}

// UserNamespace needs user namespaces that own other namespaces.
func UserNamespace(t testing.TB) {
	t.Helper()
	if err := userNamespace(); err != nil {
		Missing(t, "userns", err.Error())
	}
}

// userNamespace has a child made in new namespaces that cannot become a
// program: which of the two fails tells whether there are any.
var userNamespace = sync.OnceValue(func() error {
	const nothing = "/proc/self/nothing"
	p, err := os.StartProcess(nothing, []string{nothing}, &os.ProcAttr{
		Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID},
	})
	if err == nil {
		p.Kill()
		_, err = p.Wait()
		return err
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
})

// MountNamespace needs what the boundary's own root is made of: namespaces and
// the mount interface of Linux 5.12.
func MountNamespace(t testing.TB) {
	t.Helper()
	UserNamespace(t)
	if err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{}); err == unix.ENOSYS {
		Missing(t, "mount_setattr", err.Error())
	}
}

// Cgroup needs a group of the second hierarchy that is delegated to this
// process, with the controllers of memory and processes.
func Cgroup(t testing.TB) {
	t.Helper()
	if _, err := cgroup.Find(""); err != nil {
		Missing(t, "cgroup", err.Error())
	}
}
