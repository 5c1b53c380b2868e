package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// inherited opens the descriptors that bvisor was started with and is to hand
// over. What bvisor opened itself is close-on-exec, and what it was started
// with cannot be (execve(2)): the flag tells them apart.
func inherited(numbers []int) (map[int]*os.File, error) {
	files := map[int]*os.File{}
	for _, n := range numbers {
		info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(n)) // proc_pid_fdinfo(5)
		if errors.Is(err, fs.ErrNotExist) || err == nil && closeOnExec(string(info)) {
			return nil, usage("descriptor %d was not handed to bvisor", n).hinted("open it for bvisor, for example with %d< FILE", n)
		}
		if err != nil {
			return nil, fault("descriptor %d: %w", n, err)
		}
		files[n] = os.NewFile(uintptr(n), fmt.Sprintf("descriptor %d", n))
	}
	return files, nil
}

func closeOnExec(info string) bool {
	for line := range strings.Lines(info) {
		if text, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, err := strconv.ParseInt(strings.TrimSpace(text), 8, 64)
			return err != nil || flags&syscall.O_CLOEXEC != 0
		}
	}
	return true
}
