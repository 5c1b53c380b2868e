package wasm_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/bvisor/bvisor/internal/need"
)

const nobody = 65534

// again runs the suite a second time as an ordinary user, if it is run by root.
func again() int {
	if os.Geteuid() != 0 {
		return 0
	}
	fmt.Fprintln(os.Stderr, "once more as uid", nobody)
	var args []string
	for _, name := range []string{"run", "skip", "v", "count", "failfast", "timeout"} {
		if v := flag.Lookup("test." + name).Value.String(); v != "" {
			args = append(args, "-test."+name+"="+v)
		}
	}
	cmd := exec.Command(place.exe, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	env := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "HOME=") || strings.HasPrefix(e, "XDG_") })
	demands := slices.DeleteFunc(strings.Split(os.Getenv(need.Variable), ","), func(d string) bool { return d == "root" })
	cmd.Env = append(env, "HOME=/nonexistent", guestVariable+"="+place.dir, need.Variable+"="+strings.Join(demands, ","))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{}}}
	if err := cmd.Run(); err != nil {
		fmt.Fprintf(os.Stderr, "as uid %d: %v\n", nobody, err)
		return 1
	}
	return 0
}
