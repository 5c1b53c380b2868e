//go:build amd64 || arm64

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/bvisor/bvisor/backend/linux"
)

// worker is the first argument that makes this program a process with a heap;
// BYTES STATE DIR follow. It makes the launches it is told to and answers with
// their times, so that two heaps can be measured in turn.
const worker = "worker"

const chunk = 64 << 20

// ballast allocates and touches n bytes without pointers, so that they cost
// the collector nothing and only the size of the address space remains.
func ballast(n int64) [][]byte {
	var list [][]byte
	for ; n > 0; n -= chunk {
		b := make([]byte, min(n, chunk))
		for i := 0; i < len(b); i += os.Getpagesize() {
			b[i] = 1
		}
		list = append(list, b)
	}
	return list
}

func work(task []string) error {
	if len(task) != 3 {
		return fmt.Errorf("%s has %d arguments, expected BYTES STATE DIR", worker, len(task))
	}
	n, err := strconv.ParseInt(task[0], 10, 64)
	if err != nil {
		return err
	}
	heap := ballast(n)
	defer runtime.KeepAlive(heap)
	c, err := openConfined(linux.New(), task[1], task[2])
	if err != nil {
		return err
	}
	defer c.close()
	launch := repeat(c.once(truth))
	in := bufio.NewScanner(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		k, err := strconv.Atoi(in.Text())
		if err != nil {
			return err
		}
		times, err := launch(k)
		if err != nil {
			return err
		}
		if err := out.Encode(times); err != nil {
			return err
		}
	}
	return in.Err()
}

// withHeap starts a worker with n bytes of touched heap.
func withHeap(n int64, state, dir string) (*subject, func(), error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(self, worker, strconv.FormatInt(n, 10), state, dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	answers := json.NewDecoder(out)
	s := &subject{block: func(k int) ([]time.Duration, error) {
		if _, err := fmt.Fprintln(in, k); err != nil {
			return nil, err
		}
		var times []time.Duration
		err := answers.Decode(&times)
		if errors.Is(err, io.EOF) {
			err = errors.New("the worker ended; its error stands above")
		}
		return times, err
	}}
	return s, func() { in.Close(); cmd.Wait() }, nil
}

// heapSize is 4 GiB, or 1 GiB where that would not leave half of what is free.
func heapSize() (int64, error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				return 0, err
			}
			switch free := kib << 10; {
			case free >= 8<<30:
				return 4 << 30, nil
			case free >= 2<<30:
				return 1 << 30, nil
			default:
				return 0, fmt.Errorf("%d MiB of memory are available, expected 2 GiB", kib>>10)
			}
		}
	}
	return 0, errors.New("/proc/meminfo has no MemAvailable")
}
