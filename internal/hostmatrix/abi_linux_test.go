//go:build amd64 || arm64

package hostmatrix

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/sys"
)

// wordAnswer makes this binary the one that says which Landlock ABI there is.
const wordAnswer = "answer"

// older is a host whose Landlock is of an earlier ABI: a listener answers who
// asks for the version. A right that a domain does not handle is not held
// (landlock(7)), so a domain that was made for the earlier one is as it was there.
func older(abi int) host {
	return host{name: fmt.Sprint("landlock-", abi), abi: abi,
		what: fmt.Sprintf("Landlock ABI %d, as a listener tells; a process can have only one, so evidence of denials has none", abi)}
}

const (
	landlockVersion = 1 << 0 // LANDLOCK_CREATE_RULESET_VERSION
	landlockErrata  = 1 << 1 // since ABI 7
)

// pretend loads the filter of an older host, and starts who listens to it.
func pretend(abi int) error {
	have, err := sys.LandlockABI()
	if err != nil || have <= abi {
		return &unmade{fmt.Sprintf("this kernel has Landlock ABI %d, %v", have, err)}
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	theirs := os.NewFile(uintptr(pair[1]), "theirs")
	cmd := exec.Command(exeOf(), wordAnswer, strconv.Itoa(abi))
	cmd.Stderr, cmd.ExtraFiles = os.Stderr, []*os.File{theirs}
	if err := cmd.Start(); err != nil {
		return err
	}
	theirs.Close()
	flags := func(values ...uint32) rule {
		return rule{calls: []uintptr{unix.SYS_LANDLOCK_CREATE_RULESET}, arg: 2, values: values, errno: unix.EINVAL}
	}
	asked := flags(landlockVersion)
	asked.listener = true
	listener, err := load(filter{asked, flags(landlockErrata)}.compile(), unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
	if err != nil {
		return &unmade{err.Error()}
	}
	defer unix.Close(listener)
	return unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(listener), nil, 0)
}

// answerABI serves the listener until nobody is left under its filter.
func answerABI(text string) int {
	err := func() error {
		abi, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		oob := make([]byte, unix.CmsgSpace(4))
		_, n, _, _, err := unix.Recvmsg(3, make([]byte, 1), oob, 0)
		if err != nil {
			return err
		}
		messages, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil || len(messages) != 1 {
			return fmt.Errorf("%d messages with a listener, %v", len(messages), err)
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil {
			return err
		}
		for {
			fds := []unix.PollFd{{Fd: int32(fds[0]), Events: unix.POLLIN}}
			if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
				return err
			}
			switch {
			case fds[0].Revents&unix.POLLIN != 0:
				call, err := sys.NotifyReceive(int(fds[0].Fd))
				if err == nil {
					err = answerCall(int(fds[0].Fd), call.ID, int64(abi))
				}
				if err != nil && err != unix.ENOENT && err != unix.EINTR { // its caller was killed
					return err
				}
			case fds[0].Revents != 0:
				return nil
			}
		}
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "answer:", err)
		return 1
	}
	return 0
}
