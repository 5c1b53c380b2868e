package seccomp

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var golden = flag.Bool("golden", false, "rewrite the table in docs/mechanisms/seccomp.md")

// deniedTable is one line for each line of the policy that does not simply allow.
func deniedTable() string {
	var b strings.Builder
	b.WriteString("\n| calls | answer | reason |\n|---|---|---|\n")
	for _, p := range policy {
		if p.rule.words != allow.words {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", strings.Join(strings.Fields(p.calls), ", "), p.rule.words, p.reason)
		}
	}
	return b.String()
}

func TestDeniedTableIsCurrent(t *testing.T) {
	const path, mark = "../../docs/mechanisms/seccomp.md", "<!-- denied -->\n"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	before, have, found := strings.Cut(string(text), mark)
	if !found {
		t.Fatalf("%s has no line %q", path, mark)
	}
	want := deniedTable()
	if have == want {
		return
	}
	if !*golden {
		t.Fatalf("%s is not current; run go test ./internal/seccomp -run %s -golden", path, t.Name())
	}
	if err := os.WriteFile(path, []byte(before+mark+want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestExplain(t *testing.T) {
	o := Options{Arch: AMD64, Spawn: SpawnThreads, SocketFamilies: []uint16{AFUnix}}
	list, err := Explain(o)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != len(callsAMD64) {
		t.Errorf("%d explanations for %d calls", len(list), len(callsAMD64))
	}
	got := map[string]Explanation{}
	for _, e := range list {
		if e.Reason == "" {
			t.Errorf("%s has no reason", e.Call)
		}
		got[e.Call] = e
		// Where the explanation names one action, the filter gives that one.
		d := Data{Number: e.Number, Arch: NativeArch(AMD64)}
		if action := actionText(reference(o, d)); !looksAtArguments[e.Call] && e.Action != action {
			t.Errorf("%s is explained as %s and gets %s", e.Call, e.Action, action)
		}
	}
	for call, want := range map[string]string{
		"read": "allow", "fork": "EPERM", "clone3": "ENOSYS", "ptrace": "EPERM", "ioctl": ioctlCommand.words,
	} {
		if got[call].Action != want {
			t.Errorf("%s: %q, want %q", call, got[call].Action, want)
		}
	}
	// The same call under the other options.
	o.ExecFiles = true
	if list, err = Explain(o); err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.Call == "memfd_create" && e.Action != "allow" {
			t.Errorf("memfd_create with ExecFiles: %q, want allow", e.Action)
		}
	}
}
