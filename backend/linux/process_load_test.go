//go:build linux && (amd64 || arm64)

package linux_test

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// echo is a program that writes its argument's place in the row of runs: its
// standard input, by way of its standard output.
func echo(t testing.TB) string {
	c := newCalls()
	buf := c.Bytes(make([]byte, 16), "text")
	c.quiet(unix.SYS_READ, num(0), buf, num(16))
	c.quiet(unix.SYS_WRITE, num(1), buf, num(16))
	return c.file(t)
}

// once runs the program with a text of its own and checks that it comes back.
func once(t testing.TB, sup *bvisor.Supervisor, path string, i int) error {
	text := fmt.Sprintf("run number %5d", i)
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	write.WriteString(text)
	write.Close()
	req := request(mods{preset(), grant("rx", path), command(path), stdin(spec.StdinInherit), spawn(spec.SpawnNone)}, "hold")
	req.Stdin = read
	res, err := sup.Run(t.Context(), req)
	if err != nil {
		return err
	}
	if res.Report.Outcome.Status != report.Completed || string(res.Output["stdout"]) != text {
		return fmt.Errorf("run %d: %+v, output %q", i, res.Report.Outcome, res.Output["stdout"])
	}
	v, err := report.Verify(res.Envelope, states.keys)
	if err != nil {
		return fmt.Errorf("run %d: its report does not verify: %v", i, err)
	}
	if s := v.Report.Streams; len(s) != 2 || s[1].SHA256 != digest([]byte(text)) {
		return fmt.Errorf("run %d: its report says %+v of its streams", i, s)
	}
	return nil
}

// Runs beside each other get their own streams, ends and reports.
func TestManyAtOnce(t *testing.T) {
	need.MountNamespace(t)
	sup, path := supervisor(t), echo(t)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if err := once(t, sup, path, i); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
