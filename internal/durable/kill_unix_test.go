//go:build unix

package durable

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// roleVar turns the test binary into one of the helper processes below.
const roleVar = "BVISOR_DURABLE_ROLE"

var roles = map[string]func(path string) int{"writer": writer}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		os.Exit(roles[role](os.Args[1]))
	}
	os.Exit(m.Run())
}

func helper(role, path string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], path)
	cmd.Env = append(os.Environ(), roleVar+"="+role)
	return cmd
}

// writer makes files and replaces one, without end. It acknowledges each file
// on standard output once the call returned.
func writer(path string) int {
	d, err := OpenDir(path)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for i := 0; ; i++ {
		data := sealedBytes(i)
		if err := d.Create(fmt.Sprintf("new-%d", i), data, 0o600); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Printf("%d\n", i)
		if err := d.createNamed(fmt.Sprintf("named-%d", i), data, 0o600); err != nil {
			fmt.Println(err)
			return 1
		}
		if err := d.WriteFile("replaced", data, 0o600); err != nil {
			fmt.Println(err)
			return 1
		}
	}
}

// sealedBytes carries its own digest, so that a reader can tell a whole file.
func sealedBytes(i int) []byte {
	body := bytes.Repeat([]byte{byte(i)}, 1+(i*7919)%60_000)
	sum := sha256.Sum256(body)
	return append(sum[:], body...)
}

func whole(data []byte) bool {
	if len(data) <= sha256.Size {
		return false
	}
	sum := sha256.Sum256(data[sha256.Size:])
	return bytes.Equal(sum[:], data[:sha256.Size])
}

// A process killed at any moment leaves whole files only, and every file it
// acknowledged. (A killed process is not a power cut: what fsync adds cannot
// be seen from here.)
func TestKilledWriterLeavesWholeFiles(t *testing.T) {
	const kills = 200
	seen := 0
	for range kills {
		path := filepath.Join(t.TempDir(), "d")
		if err := MkdirAll(path); err != nil {
			t.Fatal(err)
		}
		acks := killWriter(t, path)
		entries, err := os.ReadDir(path)
		if err != nil {
			t.Fatal(err)
		}
		there := map[string]bool{}
		for _, e := range entries {
			if plainName(e.Name()) != nil {
				continue // a temporary file; never shown
			}
			seen++
			there[e.Name()] = true
			data, err := os.ReadFile(filepath.Join(path, e.Name()))
			if err != nil || !whole(data) {
				t.Errorf("%s: %d bytes, not whole (%v)", e.Name(), len(data), err)
			}
		}
		for _, i := range acks {
			if !there["new-"+i] {
				t.Errorf("new-%s was acknowledged and is not there", i)
			}
		}
		if t.Failed() {
			return
		}
		os.RemoveAll(path)
	}
	t.Logf("%d files in %d rounds", seen, kills)
}

// killWriter runs a writer, kills it at a random moment after its first
// acknowledgement and returns what it acknowledged.
func killWriter(t *testing.T, path string) []string {
	t.Helper()
	cmd := helper("writer", path)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, len("0\n"))
	_, err = io.ReadFull(pipe, first)
	if err == nil {
		time.Sleep(rand.N(15 * time.Millisecond))
	}
	cmd.Process.Kill()
	rest, rerr := io.ReadAll(pipe)
	out := append(first, rest...)
	if werr := cmd.Wait(); err != nil || rerr != nil || cmd.ProcessState.Exited() {
		t.Fatalf("the writer ended by itself: %v, %v, %v: %s", err, rerr, werr, out)
	}
	var acks []string
	for line := range bytes.Lines(out) {
		// The last line may have been cut off by the kill.
		if i, ok := bytes.CutSuffix(line, []byte("\n")); ok {
			if _, err := strconv.Atoi(string(i)); err != nil {
				t.Fatalf("the writer said %q", line)
			}
			acks = append(acks, string(i))
		}
	}
	return acks
}
