//go:build linux && (amd64 || arm64)

package bvisor_test

import (
	"context"
	"fmt"
	"os"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

func ExampleSupervisor() {
	dir, _ := os.MkdirTemp("", "state-")
	defer os.RemoveAll(dir)
	state, err := bvisor.OpenState(dir) // the key that seals, and the records
	if err != nil {
		fmt.Println(err)
		return
	}
	defer state.Log.Close()

	boundary := spec.Default("/usr", []string{"sh", "-c", "cat /etc/shadow || echo $0 has pid $$", "sh"})
	result, err := state.Supervisor(linux.New()).Run(context.Background(), bvisor.Request{Spec: boundary})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s: %s", result.Report.Outcome.Status, result.Output["stdout"])
	_, err = report.Verify(result.Envelope, []report.PublicKey{state.Key.Public()})
	fmt.Println("seal:", err)
	// Output:
	// completed: sh has pid 2
	// seal: <nil>
}

func ExampleRunConfined() {
	state, _ := os.MkdirTemp("", "state-")
	defer os.RemoveAll(state)
	os.Setenv("BVISOR_STATE_DIR", state) // otherwise it is the user's own
	defer os.Unsetenv("BVISOR_STATE_DIR")

	boundary, err := spec.Parse("job.yaml", []byte(`
version: 1
workload: {command: [head, -n, "1", /etc/passwd]}
presets: [system]
controls: {capture: [stdout]}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := bvisor.RunConfined(context.Background(), boundary, linux.New())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s: %s", result.Report.Outcome.Status, result.Output["stdout"])
	// Output:
	// completed: root:x:0:0:root:/:/bin/sh
}
