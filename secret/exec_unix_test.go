//go:build unix

package secret

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const helperVar = "BVISOR_SECRET_HELPER"

// TestMain lets the test binary be the program of an exec reference.
func TestMain(m *testing.M) {
	if os.Getenv(helperVar) == "" {
		os.Exit(m.Run())
	}
	switch os.Args[1] {
	case "print":
		fmt.Print(strings.Join(os.Args[2:], "|"))
	case "fail":
		fmt.Print("hush")
		fmt.Fprint(os.Stderr, "hush")
		os.Exit(3)
	case "flood":
		for {
			if _, err := os.Stdout.WriteString(strings.Repeat("x", 4096)); err != nil {
				os.Exit(4)
			}
		}
	case "read":
		n, err := os.Stdin.Read(make([]byte, 1))
		fmt.Print(n, err)
	case "sleep":
		time.Sleep(time.Hour)
	case "leave":
		// A descendant that keeps standard output.
		_, err := os.StartProcess(os.Args[0], []string{os.Args[0], "linger"}, &os.ProcAttr{Files: []*os.File{nil, os.Stdout, nil}})
		fmt.Print(err)
	case "linger":
		time.Sleep(3 * time.Second)
	}
}

func resolveExec(t *testing.T, ctx context.Context, args string) (string, error) {
	t.Helper()
	t.Setenv(helperVar, "1")
	return Exec{}.Resolve(ctx, "'"+os.Args[0]+"' "+args)
}

func TestExec(t *testing.T) {
	for args, want := range map[string]string{
		"print a 'b c'":       "a|b c",
		"print 'a\n'":         "a",
		"print $HOME ; false": "$HOME|;|false",
		"read":                "0 EOF",
	} {
		if got, err := resolveExec(t, t.Context(), args); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", args, got, err, want)
		}
	}
}

func TestExecFailures(t *testing.T) {
	for args, want := range map[string]string{
		"fail":  "exit status 3 (4 bytes on its standard error",
		"flood": "more than 65536 bytes",
		"leave": "left behind",
	} {
		got, err := resolveExec(t, t.Context(), args)
		if err == nil || got != "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %.20q, %v; want %q", args, got, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: the error shows output: %v", args, err)
		}
	}
}

func TestExecEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := resolveExec(t, ctx, "sleep"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the deadline", err)
	}
}

func TestExecRefusesProgramsOthersCanChange(t *testing.T) {
	for path, want := range map[string]string{
		write(t, "#!/bin/sh\n", 0o777):          "chmod go-w",
		"sh":                                    "absolute",
		filepath.Join(t.TempDir(), "x"):         "no such file",
		t.TempDir():                             "not a regular file",
		write(t, "#!/bin/sh\necho hush", 0o600): "permission denied",
	} {
		if _, err := (Exec{}).Resolve(t.Context(), path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

func TestFileRefusesWhatOthersCanChange(t *testing.T) {
	for _, mode := range []os.FileMode{0o620, 0o602, 0o666} {
		if _, err := (File{}).Resolve(t.Context(), write(t, "x", mode)); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (File{}).Resolve(t.Context(), fifo); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("fifo: %v", err)
	}
}
